// SPDX-License-Identifier: BSD-3-Clause
//
// A write, transaction by transaction; and what was stored in place meanwhile.
#pragma once

#include <array>
#include <span>
#include <utility>

#include "fs/ops.h"

namespace udax::fs {

/// What was stored in place, to be noted once extent_lock is free. Holds a few pieces, and flushes what does not fit.
class StoredPieces {
 public:
  StoredPieces(const Ops& ops, inode::Inode& inode) : ops_(ops), inode_(inode) {}

  void add(uint64_t offset, uint64_t device_offset, uint64_t size) {
    if (count_ < pieces_.size()) {
      pieces_[count_++] = {offset, device_offset, size};
    } else {
      ops_.medium().flush(device_offset, size);
      flushed_ = true;
    }
  }
  /// REQUIRES: rwsem; not extent_lock.
  [[nodiscard]] Status note() {
    for (const Piece& piece : std::span(pieces_).first(std::exchange(count_, 0))) {
      UDAX_CHECK(ops_.note_stored(inode_, piece.offset, piece.device_offset, piece.size));
    }
    return std::exchange(flushed_, false) ? ops_.medium().drain() : Status();
  }

 private:
  struct Piece {
    uint64_t offset = 0;
    uint64_t device_offset = 0;
    uint64_t size = 0;
  };
  const Ops& ops_;
  inode::Inode& inode_;
  std::array<Piece, 16> pieces_{};
  size_t count_ = 0;
  bool flushed_ = false;
};

/// Writes as much of `data` at `offset` as one transaction takes, and commits it. Gives the bytes done, at least one.
/// `first`: of a write(2): clears privileges as well. REQUIRES: rwsem exclusive, resume_truncate() done.
[[nodiscard]] Result<uint64_t> write_transaction(const Ops& ops, inode::Inode& inode, uint64_t offset,
                                                 std::span<const std::byte> data, bool first, bool kill_suidgid,
                                                 Tearing tearing);

}  // namespace udax::fs
