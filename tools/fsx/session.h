// SPDX-License-Identifier: BSD-3-Clause
//
// Runs operations on a target and on a copy of the file in memory, and compares.
//
// Invariants: the copy's bytes past its size are zero, up to `max_size` rounded up to pages.
// With several processes on one file, each has a session. The first `shared_size` bytes are dealt out in units, unit
// u to process u modulo the number of processes; what lies behind them, and with it the file's size, is process 0's.
// A session changes and compares its own bytes only, and so knows them all.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tools/fsx/op.h"
#include "tools/fsx/target.h"

namespace udax::fsx {

/// What a log says in its head: the same operations mean the same only with the same setup.
struct Setup {
  uint64_t max_size = 0;  // bytes
  uint64_t direct_align = 4096;
  uint32_t processes = 1;
  uint64_t unit = 0;         // bytes; of ownership
  uint64_t shared_size = 0;  // bytes; 0 with one process
  bool mmap = true;          // checks look through mappings as well
  bool past_end = false;     // kHoldPollute may happen: what mappings show past the end says nothing
  bool msync_seek = false;   // msync before SEEK_DATA and SEEK_HOLE
  uint64_t seed = 0;         // for the report
  uint64_t round = 0;
};

struct Failure {
  std::string what;
  uint64_t offset = 0;
  std::vector<std::byte> expected;  // from `offset`; empty if it is not about bytes
  std::vector<std::byte> actual;
  int error = 0;  // the errno of a call that failed
};
/// The failure says nothing of the filesystem: no space, no memory, no descriptors.
[[nodiscard]] bool is_environment(const Failure& failure);

class Session {
 public:
  /// `me`: which of the processes. The target's file is empty, or of shared_size zeroes.
  Session(Target& target, const Setup& setup, uint8_t me);

  /// Does it, and checks the size (and the bytes, where it reads).
  [[nodiscard]] std::optional<Failure> run(const Op& op);

  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] uint64_t operations() const { return operations_; }
  [[nodiscard]] uint64_t flips() const { return flips_; }
  [[nodiscard]] uint64_t flips_refused() const { return flips_refused_; }
  /// The numbers (from 0, in the order of run()) of the last operations that changed a byte in the range.
  [[nodiscard]] std::vector<uint64_t> who_touched(uint64_t offset, uint64_t length, size_t most) const;

 private:
  using Verdict = std::optional<Failure>;
  struct Touch {
    uint64_t operation;
    uint64_t begin;
    uint64_t end;
  };

  Verdict dispatch(const Op& op);
  Verdict read(const Op& op);
  Verdict write(const Op& op);
  Verdict append(const Op& op);
  Verdict direct_read(const Op& op);
  Verdict direct_write(const Op& op);
  Verdict map_read(const Op& op, bool held);
  Verdict map_write(const Op& op, bool held);
  Verdict map_private(const Op& op);
  Verdict hold_past_end();
  Verdict hold_pollute(const Op& op);
  Verdict truncate(const Op& op);
  Verdict allocate(const Op& op);
  Verdict collapse(const Op& op);
  Verdict insert(const Op& op);
  Verdict copy(const Op& op);
  Verdict copy_bytes(bool from_second, int fd, uint64_t from, bool to_second, uint64_t to, uint64_t length);
  Verdict copy_out(const Op& op);
  Verdict copy_in(const Op& op);
  Verdict sync(const Op& op);
  Verdict seek(const Op& op);
  Verdict seek_step(int fd, uint64_t& at);
  Verdict flip(const Op& op);
  Verdict check(const Op& op);
  Verdict all(const Op& op);
  Verdict check_size(const Op& op);
  Verdict compare(const std::string& by, uint64_t offset, std::span<const std::byte> actual);
  Verdict no_wrong(const std::string& what, int64_t result);

  [[nodiscard]] bool owns(uint64_t offset) const;
  /// The end of an access at `offset`, cut so that all of it is the session's own.
  [[nodiscard]] uint64_t own_end(uint64_t offset, uint64_t end) const;
  [[nodiscard]] bool knows_size() const { return me_ == 0; }
  [[nodiscard]] uint64_t mapped_end(const Op& op) const;
  [[nodiscard]] std::span<std::byte> buffer(uint64_t length);
  void put(uint64_t offset, std::span<const std::byte> data);
  void clear(uint64_t begin, uint64_t end);
  void resize(uint64_t size);
  void touch(uint64_t begin, uint64_t end);

  Target& target_;
  const Setup setup_;
  const uint8_t me_;
  std::vector<std::byte> bytes_;
  uint64_t size_ = 0;
  std::vector<std::byte> second_;  // the second file
  std::vector<std::byte> buffer_;
  std::vector<std::byte> data_;
  std::vector<Touch> touches_;
  uint64_t operations_ = 0;
  uint64_t flips_ = 0;
  uint64_t flips_refused_ = 0;
};

}  // namespace udax::fsx
