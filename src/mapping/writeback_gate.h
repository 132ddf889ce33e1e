// SPDX-License-Identifier: BSD-3-Clause
//
// Keeps one fsync from returning on the strength of another that is still at it.
//
// A writeback clears an entry's DIRTY mark when its lines are flushed, but they are durable only after the drain at its
// end. Another fsync that comes between finds nothing dirty, and must wait for that drain.
//
// Thread safety: everything. Locks: its own, a leaf.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <set>

namespace udax::mapping {

class WritebackGate {
 public:
  /// One writeback, from before it looks for dirty entries until what it flushed is durable.
  class Pass {
   public:
    /// Throws std::bad_alloc.
    explicit Pass(WritebackGate& gate) : gate_(gate) {
      const std::lock_guard guard(gate_.mutex_);
      number_ = gate_.next_;
      gate_.active_.insert(number_);
      ++gate_.next_;
      failures_before_ = gate_.failures_;
    }
    ~Pass() { leave(); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    /// Drained. Waits for all others that have begun by now. False: one of them, or one that has ended since this one
    /// began, failed: it may have cleared marks that this one would have acted on.
    [[nodiscard]] bool finish(bool drained) {
      std::unique_lock lock(gate_.mutex_);
      if (!drained) ++gate_.failures_;
      const uint64_t limit = gate_.next_;
      gate_.active_.erase(number_);
      left_ = true;
      gate_.ended_.notify_all();
      gate_.ended_.wait(lock, [&] { return gate_.active_.empty() || *gate_.active_.begin() >= limit; });
      return gate_.failures_ == failures_before_;
    }

   private:
    void leave() {
      if (left_) return;
      const std::lock_guard guard(gate_.mutex_);
      gate_.active_.erase(number_);
      gate_.ended_.notify_all();
    }
    WritebackGate& gate_;
    uint64_t number_ = 0;
    uint64_t failures_before_ = 0;
    bool left_ = false;
  };

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  std::set<uint64_t> active_;
  uint64_t next_ = 0;
  uint64_t failures_ = 0;
};

}  // namespace udax::mapping
