// SPDX-License-Identifier: BSD-3-Clause
//
// A file's path for a test whose process is to die: "threadsafe" death tests run their program again up to the statement
// that ends it, so that the dying process would choose a name of its own and never remove it. It uses its parent's.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace udax::test {

class DeathFile {
 public:
  explicit DeathFile(const std::string& name) : variable_("UDAX_DEATH_FILE_" + name) {
    (void)::setenv(variable_.c_str(), ("/dev/shm/udax-" + name + "." + std::to_string(::getpid())).c_str(), 0);
    path_ = ::getenv(variable_.c_str());
  }
  ~DeathFile() {
    (void)::unsetenv(variable_.c_str());
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  DeathFile(const DeathFile&) = delete;
  DeathFile& operator=(const DeathFile&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string variable_;
  std::string path_;
};

}  // namespace udax::test
