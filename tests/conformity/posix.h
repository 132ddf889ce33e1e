// SPDX-License-Identifier: BSD-3-Clause
//
// What programs may rely on, through system calls: for any filesystem, run on a mount of ours. The environment's
// UDAX_TEST_DIR, or the program's argument, is the folder to work in; tests/integration/conformity.sh sets it.
//
// Each test works in a folder of its own, which is its current directory. Expectations are those of POSIX and of
// Linux's manual pages; what the running kernel cannot do is skipped by name.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace udax::conformity {

inline constexpr uint32_t kUser = 65534;   // an ordinary user, in no group but that of the same number
inline constexpr uint32_t kOther = 65533;  // another

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  operator int() const { return fd_; }  // NOLINT(google-explicit-constructor): for system calls
 private:
  int fd_;
};

/// 0, or the errno of a system call that gave `result`.
inline int err(int64_t result) { return result < 0 ? errno : 0; }

class Posix : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

 private:
  std::string folder_;
};

/// Runs `body` in a child process, as user and group `id` unless that is 0; gives its exit status, or 128 + signal.
int in_child(uint32_t id, const std::function<int()>& body);

/// The exit status of a child, or 128 + signal; -1 if there is none such.
int wait_for(pid_t child);

struct stat stat_of(const std::string& path);  // of a symlink itself
uint32_t mode_of(const std::string& path);     // permission bits
void make_file(const std::string& path, const std::string& content = "", uint32_t mode = 0644);
std::string read_file(const std::string& path);
std::string at(int fd, int64_t offset, size_t length);  // shorter at the end of the file
void put(int fd, int64_t offset, const std::string& bytes);
int64_t blocks(int fd);                                    // of 512 bytes
std::vector<std::string> list(const std::string& folder);  // sorted, without . and ..
bool exists(const std::string& path);
int64_t ns(const timespec& t);

#define UDAX_NEEDS_ROOT() \
  if (::geteuid() != 0) GTEST_SKIP() << "takes root"

/// Whether this is another filesystem than ours, on which the tests are tested.
inline bool is_peer() { return std::getenv("UDAX_PEER") != nullptr; }

/// For what others need not promise: a limit of ours, or when space comes back.
#define UDAX_NEEDS_OURS() \
  if (is_peer()) GTEST_SKIP() << "a promise of ours, not of every filesystem"

}  // namespace udax::conformity
