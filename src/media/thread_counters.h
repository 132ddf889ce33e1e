// SPDX-License-Identifier: BSD-3-Clause
//
// Running totals that cost a thread two unlocked adds on a cache line of its own.
//
// Locks: none. Up to kSlots - 1 threads at a time have a slot to themselves; those beyond share the last one,
// with atomic adds.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "media/medium.h"

namespace udax::media {

class ThreadCounters {
 public:
  static constexpr uint32_t kSlots = 64;

  void add_store(uint64_t bytes, uint64_t lines) {
    const uint32_t i = slot_index();
    Slot& s = slots_[i];
    bump(i, s.stores, 1);
    bump(i, s.stored_bytes, bytes);
    if (lines != 0) bump(i, s.flushed_lines, lines);
  }
  void add_flush(uint64_t lines) {
    const uint32_t i = slot_index();
    bump(i, slots_[i].flushed_lines, lines);
  }
  void add_drain() {
    const uint32_t i = slot_index();
    bump(i, slots_[i].drains, 1);
  }
  void add_deep_flush() {
    const uint32_t i = slot_index();
    bump(i, slots_[i].deep_flushes, 1);
  }
  [[nodiscard]] Counters sum() const;

 private:
  struct alignas(kCacheLine) Slot {
    std::atomic<uint64_t> stores{0};
    std::atomic<uint64_t> stored_bytes{0};
    std::atomic<uint64_t> flushed_lines{0};
    std::atomic<uint64_t> drains{0};
    std::atomic<uint64_t> deep_flushes{0};
  };

  static void bump(uint32_t index, std::atomic<uint64_t>& counter, uint64_t by) {
    if (index == kSlots - 1) [[unlikely]] {
      counter.fetch_add(by, std::memory_order_relaxed);
    } else {
      counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
    }
  }
  /// This thread's; the same for every ThreadCounters.
  static uint32_t slot_index();

  std::array<Slot, kSlots> slots_;
};

}  // namespace udax::media
