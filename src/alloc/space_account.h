// SPDX-License-Identifier: BSD-3-Clause
//
// The pool's count of blocks that can be handed out at once: free, not reserved, not pending.
//
// Blocks are taken from the account before they are looked for, and given back after their bits are clear again,
// so that whoever holds n blocks of the account can count on n free bits somewhere. (A group found corrupted
// breaks that: its blocks leave the account, which may go below zero for a while.)
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace udax::alloc {

class SpaceAccount {
 public:
  /// Takes `count` if `floor` blocks are left after it.
  [[nodiscard]] bool take(uint64_t count, uint64_t floor) { return take_up_to(count, count, floor) != 0; }
  /// Takes `most` blocks, or fewer, but `least` at least; 0 if that would leave fewer than `floor`.
  [[nodiscard]] uint64_t take_up_to(uint64_t least, uint64_t most, uint64_t floor) {
    int64_t seen = available_.load(std::memory_order_relaxed);
    for (;;) {
      const int64_t spare = seen - static_cast<int64_t>(floor);
      if (spare < static_cast<int64_t>(least) || spare <= 0) return 0;
      const uint64_t got = std::min(most, static_cast<uint64_t>(spare));
      if (available_.compare_exchange_weak(seen, seen - static_cast<int64_t>(got))) return got;
    }
  }
  void give(uint64_t count) { available_.fetch_add(static_cast<int64_t>(count)); }
  /// Takes `count` blocks out for good, whether or not they are there.
  void write_off(uint64_t count) { available_.fetch_sub(static_cast<int64_t>(count)); }
  [[nodiscard]] uint64_t available() const {
    const int64_t value = available_.load();
    return value < 0 ? 0 : static_cast<uint64_t>(value);
  }

 private:
  std::atomic<int64_t> available_{0};
};

}  // namespace udax::alloc
