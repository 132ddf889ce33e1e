// SPDX-License-Identifier: BSD-3-Clause
//
// Runs that committed transactions have freed, and that nobody may use before the journal's tail has passed the
// record that freed them.
//
// A queue in about the journal's order: two transactions may enter in the other order than they were logged in,
// then the earlier one waits for the later, which costs a little time and nothing else.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <vector>

#include "base/mutex.h"
#include "base/types.h"

namespace udax::alloc {

class PendingFrees {
 public:
  struct Batch {
    Lsn lsn;                      // of the record
    std::vector<DeviceRun> runs;  // each within one group
  };
  using Batches = std::list<Batch>;

  /// Moves `batches` to the end. Allocates nothing: it is called when a commit can no longer fail.
  void push(Batches& batches) noexcept;
  /// Those at the head whose records lie below `tail`.
  [[nodiscard]] Batches take_below(Lsn tail) noexcept;
  /// The caller has made `runs` runs of `blocks` blocks usable, which take_below() had given it.
  void done(uint64_t runs, uint64_t blocks) noexcept;

  /// True if take_below(tail) would give something. A look without a lock.
  [[nodiscard]] bool ready(Lsn tail) const { return oldest_.load(std::memory_order_acquire) < tail.value; }
  [[nodiscard]] uint64_t blocks() const { return blocks_.load(std::memory_order_acquire); }
  [[nodiscard]] uint64_t runs() const { return runs_.load(std::memory_order_relaxed); }

 private:
  static constexpr uint64_t kNone = ~uint64_t{0};
  Mutex mutex_;
  Batches queue_ UDAX_GUARDED_BY(mutex_);
  std::atomic<uint64_t> oldest_{kNone};  // lsn at the head
  std::atomic<uint64_t> blocks_{0};      // until done()
  std::atomic<uint64_t> runs_{0};
};

}  // namespace udax::alloc
