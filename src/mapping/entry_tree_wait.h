// SPDX-License-Identifier: BSD-3-Clause
//
// Where threads sleep that wait for a locked entry: a table of queues shared by all trees, as Linux's
// wait_table of DAX entries, because a queue in each tree would cost more than the tree.
//
// A queue is picked by tree and by the first block of the entry as the waiter saw it. Whoever unlocks, removes or
// splits the entry wakes all sleepers of that queue; each walks its tree anew, so that a wake-up for somebody else does
// no harm. No wake-up is lost: a waiter marks the entry as waited for, and enters its queue, under the tree lock while it
// sees the entry locked; the holder reads that mark as it changes the entry under the same lock, and wakes after.
#pragma once

#include <cstdint>

namespace udax::mapping {

class EntryWait {
 public:
  /// Enters the queue. REQUIRES: the tree lock is held, the entry at `start` is locked.
  EntryWait(const void* tree, uint64_t start);
  EntryWait(const EntryWait&) = delete;
  EntryWait& operator=(const EntryWait&) = delete;

  /// Returns once the queue was woken after the constructor. REQUIRES: the tree lock is not held.
  void sleep();
  /// Wakes all who entered this entry's queue so far. REQUIRES: the tree lock is not held.
  static void wake_all(const void* tree, uint64_t start);

  struct Queue;

 private:
  Queue& queue_;
  uint64_t wakes_seen_;
};

}  // namespace udax::mapping
