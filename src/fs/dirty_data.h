// SPDX-License-Identifier: BSD-3-Clause
//
// File data that was stored and not yet made durable, by inode: needed only where the medium's granularity is a
// page, since there making data durable is a system call a page; elsewhere every write drains at once.
//
// Ranges are of the device: one whose blocks have gone to another file since is flushed in vain, not wrongly.
//
// Locks: sharded mutexes. `flushing` is held while a medium syncs; `mutex` is a leaf.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/types.h"

namespace udax::fs {

class DirtyData {
 public:
  struct Range {
    uint64_t start = 0;  // bytes
    uint64_t end = 0;
  };

  /// Notes a range. Neighbours are merged, and when there are many, gaps between them swallowed. False when memory
  /// ran out: the caller makes the range durable itself.
  [[nodiscard]] bool add(Ino ino, Range range);
  /// Takes all ranges of `ino`.
  [[nodiscard]] std::vector<Range> take(Ino ino);
  /// Forgets them: its blocks are free.
  void forget(Ino ino);
  /// Held from take() until what was taken is durable: whoever comes meanwhile finds nothing, and must wait.
  [[nodiscard]] Mutex& flushing(Ino ino) { return shard(ino).flushing; }

 private:
  static constexpr size_t kShards = 64;
  static constexpr size_t kRangesMax = 256;
  struct Shard {
    Mutex flushing UDAX_ACQUIRED_BEFORE(mutex);
    Mutex mutex;
    std::unordered_map<Ino, std::vector<Range>> ranges UDAX_GUARDED_BY(mutex);
  };
  Shard& shard(Ino ino) { return shards_[(ino.value ^ (ino.value >> 4)) % kShards]; }
  std::array<Shard, kShards> shards_;
};

}  // namespace udax::fs
