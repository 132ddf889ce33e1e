// SPDX-License-Identifier: BSD-3-Clause
//
// A pool in memory with a filesystem on it, for tests: made, mounted, crashed, re-mounted, checked.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "fs/filesystem.h"
#include "media/memory_medium.h"

namespace udax::test {

class TestPool {
 public:
  explicit TestPool(uint64_t size, fs::MountOptions options = {});
  /// On a medium of the test's own (a RecordingMedium); made into a pool if `make`.
  TestPool(std::shared_ptr<media::Medium> medium, bool make, fs::MountOptions options = {});
  /// Unmounts, and checks the whole pool.
  ~TestPool();
  TestPool(const TestPool&) = delete;
  TestPool& operator=(const TestPool&) = delete;

  [[nodiscard]] fs::Filesystem& fs() { return *fs_; }
  fs::Filesystem* operator->() { return fs_.get(); }
  [[nodiscard]] media::Medium& medium() { return *medium_; }

  void unmount();
  void mount();
  /// Clean unmount, check, mount.
  void remount();
  /// As kill -9: the filesystem is dropped without unmounting; then mounted again. Open files must be gone.
  void crash();
  /// The whole-filesystem check on a copy of the medium: EXPECTs no problem.
  void check();

  // Shorthands that expect success.
  Ino mkdir(Ino parent, const std::string& name, uint32_t mode = 0755);
  Ino file(Ino parent, const std::string& name, std::string_view content = {});
  void write(Ino ino, uint64_t offset, std::string_view content);
  [[nodiscard]] std::string read(Ino ino, uint64_t offset, uint64_t size);
  [[nodiscard]] std::string content(Ino ino);
  [[nodiscard]] std::vector<std::string> list(Ino dir);  // sorted, without . and ..
  [[nodiscard]] uint64_t free_blocks();

 private:
  fs::MountOptions options_;
  std::shared_ptr<media::Medium> medium_;
  std::unique_ptr<fs::Filesystem> fs_;
};

inline const fs::Caller kRoot{0, 0, 1, 022};
inline const fs::Caller kUser{1000, 1000, 2, 022};

/// Reads through fs::read into a string.
[[nodiscard]] Result<std::string> read_file(fs::Filesystem& fs, fs::OpenFile& file, uint64_t offset,
                                            uint64_t size);
[[nodiscard]] inline std::span<const std::byte> bytes(std::string_view s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}

}  // namespace udax::test
