// SPDX-License-Identifier: BSD-3-Clause
//
// A file of any filesystem, with its descriptors and its held mapping.
//
// SIGBUS within a mapped load or store is caught; the handler is installed by the first object and stays.
// Not thread-safe, and one object a process: a process that forks leaves it to its child.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "tools/fsx/dax_flag.h"
#include "tools/fsx/op.h"
#include "tools/fsx/target.h"

namespace udax::fsx {

struct FileOptions {
  uint64_t max_size = 0;     // bytes; the held mapping is two pages longer
  std::string second_path;   // the file for copies; made anew
  bool verify_flips = true;  // nobody else flips
  DaxStates dax_states;
};

class FileTarget : public Target {
 public:
  /// Opens the file, which must be there.
  FileTarget(std::string path, FileOptions options);
  ~FileTarget() override;

  /// 0, or the errno with which a file could not be opened (O_DIRECT apart: that shows in what uses it).
  [[nodiscard]] int error() const { return error_; }

  int64_t read(int fd, uint64_t offset, std::span<std::byte> out) override;
  int64_t write(int fd, uint64_t offset, std::span<const std::byte> data) override;
  int64_t map_load(int fd, uint64_t offset, std::span<std::byte> out) override;
  int64_t map_store(int fd, uint64_t offset, std::span<const std::byte> data) override;
  int64_t map_private(int fd, uint64_t offset, std::span<std::byte> before, std::span<const std::byte> data,
                      std::span<std::byte> after) override;
  int64_t hold(int fd) override;
  int64_t hold_load(uint64_t offset, std::span<std::byte> out) override;
  int64_t hold_store(uint64_t offset, std::span<const std::byte> data) override;
  int64_t hold_sync(uint64_t offset, uint64_t length) override;
  int64_t truncate(int fd, uint64_t size) override;
  int64_t truncate_path(uint64_t size) override;
  int64_t fallocate(int fd, int mode, uint64_t offset, uint64_t length) override;
  int64_t copy(bool from_second, int fd, uint64_t from, bool to_second, uint64_t to, uint64_t length) override;
  int64_t read_second(uint64_t offset, std::span<std::byte> out) override;
  int64_t sync(int fd, bool data_only) override;
  int64_t drop(int fd) override;
  int64_t reopen(int fd) override;
  int64_t rename() override;
  int64_t seek(int fd, uint64_t offset, int whence) override;
  int64_t size(int fd) override;
  FlipResult flip(int fd, bool dax) override;

 private:
  class Aligned;

  int64_t open_one(int fd);
  [[nodiscard]] int fd_of(int fd) const { return fds_[static_cast<size_t>(fd)]; }
  [[nodiscard]] uint64_t hold_length() const;

  std::string path_;
  const FileOptions options_;
  bool renamed_ = false;
  int error_ = 0;
  std::array<int, kFds> fds_;
  int second_ = -1;
  std::byte* held_ = nullptr;
};

/// The name that kRename gives the file, and takes from it the next time.
[[nodiscard]] std::string other_name(const std::string& path);

}  // namespace udax::fsx
