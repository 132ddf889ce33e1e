// SPDX-License-Identifier: BSD-3-Clause
//
// Ranges of files of which no views are made for the moment: who changes such a file has them taken back before he takes the
// file's locks (mapping::HeldViews), so that with the locks there is nothing to wait for a client for.
//
// Thread safety: everything. Locks: its own, a leaf.
#pragma once

#include <atomic>
#include <vector>

#include "base/mutex.h"
#include "base/types.h"
#include "mapping/mapper.h"

namespace udax::direct {

class HoldList {
 public:
  /// Throws std::bad_alloc.
  void add(Ino ino, mapping::ByteRange range);
  /// One that add() was called for; if that had failed, nothing.
  void remove(Ino ino, mapping::ByteRange range);
  [[nodiscard]] bool covers(Ino ino, uint64_t offset) const;

 private:
  struct Hold {
    Ino ino{};
    mapping::ByteRange range;
  };
  std::atomic<size_t> count_{0};
  mutable Mutex mutex_;
  std::vector<Hold> holds_ UDAX_GUARDED_BY(mutex_);
};

}  // namespace udax::direct
