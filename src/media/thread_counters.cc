// SPDX-License-Identifier: BSD-3-Clause
#include "media/thread_counters.h"

#include <bit>

namespace udax::media {
namespace {

constexpr uint64_t kShared = uint64_t{1} << (ThreadCounters::kSlots - 1);
static_assert(ThreadCounters::kSlots == 64);
std::atomic<uint64_t> g_taken{kShared};  // bit i: slot i belongs to a thread

/// A slot for as long as the thread lives.
class Claim {
 public:
  Claim() {
    uint64_t taken = g_taken.load(std::memory_order_relaxed);
    while (~taken != 0) {
      const auto i = static_cast<uint32_t>(std::countr_one(taken));
      // Acquires what the slot's last owner released, so that its adds are not lost.
      if (g_taken.compare_exchange_weak(taken, taken | uint64_t{1} << i, std::memory_order_acq_rel)) {
        index_ = i;
        return;
      }
    }
  }
  ~Claim() {
    if (index_ != ThreadCounters::kSlots - 1) {
      g_taken.fetch_and(~(uint64_t{1} << index_), std::memory_order_acq_rel);
    }
    index_ = ThreadCounters::kSlots - 1;
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  [[nodiscard]] uint32_t index() const { return index_; }

 private:
  uint32_t index_ = ThreadCounters::kSlots - 1;
};

thread_local Claim t_claim;

}  // namespace

uint32_t ThreadCounters::slot_index() { return t_claim.index(); }

Counters ThreadCounters::sum() const {
  Counters c;
  for (const Slot& s : slots_) {
    c.stores += s.stores.load(std::memory_order_relaxed);
    c.stored_bytes += s.stored_bytes.load(std::memory_order_relaxed);
    c.flushed_lines += s.flushed_lines.load(std::memory_order_relaxed);
    c.drains += s.drains.load(std::memory_order_relaxed);
    c.deep_flushes += s.deep_flushes.load(std::memory_order_relaxed);
  }
  return c;
}

}  // namespace udax::media
