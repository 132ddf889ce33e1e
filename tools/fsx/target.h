// SPDX-License-Identifier: BSD-3-Clause
//
// What the operations are done to: a file (file_target.h), or in the tests one in memory that does something wrong.
//
// All calls give what the system call gives, or -errno. A load or store through a mapping that raised SIGBUS gives
// -EFAULT. `fd` is one of the descriptors of op.h; kAppendFd ignores the offset.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace udax::fsx {

struct FlipResult {
  int64_t result = 0;
  std::string complaint;  // the flip "succeeded", but this is wrong with it
};

class Target {
 public:
  Target() = default;
  virtual ~Target() = default;
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  [[nodiscard]] virtual int64_t read(int fd, uint64_t offset, std::span<std::byte> out) = 0;
  [[nodiscard]] virtual int64_t write(int fd, uint64_t offset, std::span<const std::byte> data) = 0;

  // By a shared mapping made for this and unmapped after.
  [[nodiscard]] virtual int64_t map_load(int fd, uint64_t offset, std::span<std::byte> out) = 0;
  [[nodiscard]] virtual int64_t map_store(int fd, uint64_t offset, std::span<const std::byte> data) = 0;
  /// By a private mapping: loads into `before`, stores `data`, loads into `after`. REQUIRES: all of one length.
  [[nodiscard]] virtual int64_t map_private(int fd, uint64_t offset, std::span<std::byte> before,
                                            std::span<const std::byte> data, std::span<std::byte> after) = 0;
  /// Makes the held mapping anew, by that descriptor. The others make it if there is none.
  [[nodiscard]] virtual int64_t hold(int fd) = 0;
  [[nodiscard]] virtual int64_t hold_load(uint64_t offset, std::span<std::byte> out) = 0;
  [[nodiscard]] virtual int64_t hold_store(uint64_t offset, std::span<const std::byte> data) = 0;
  [[nodiscard]] virtual int64_t hold_sync(uint64_t offset, uint64_t length) = 0;

  [[nodiscard]] virtual int64_t truncate(int fd, uint64_t size) = 0;
  [[nodiscard]] virtual int64_t truncate_path(uint64_t size) = 0;
  [[nodiscard]] virtual int64_t fallocate(int fd, int mode, uint64_t offset, uint64_t length) = 0;
  /// copy_file_range(2) between the file and the second one. May copy less.
  [[nodiscard]] virtual int64_t copy(bool from_second, int fd, uint64_t from, bool to_second, uint64_t to,
                                     uint64_t length) = 0;
  [[nodiscard]] virtual int64_t read_second(uint64_t offset, std::span<std::byte> out) = 0;

  [[nodiscard]] virtual int64_t sync(int fd, bool data_only) = 0;
  [[nodiscard]] virtual int64_t drop(int fd) = 0;
  [[nodiscard]] virtual int64_t reopen(int fd) = 0;
  [[nodiscard]] virtual int64_t rename() = 0;
  [[nodiscard]] virtual int64_t seek(int fd, uint64_t offset, int whence) = 0;
  [[nodiscard]] virtual int64_t size(int fd) = 0;
  [[nodiscard]] virtual FlipResult flip(int fd, bool dax) = 0;
};

}  // namespace udax::fsx
