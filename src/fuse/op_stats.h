// SPDX-License-Identifier: BSD-3-Clause
//
// Counts and latencies of requests by opcode. One OpStats a serving thread, so that counting shares no cache line.
//
// Latency classes are powers of two of nanoseconds: class k counts what took 2^k ... 2^(k+1)-1 ns.
//
// Thread safety: one writer each (record); anyone may read meanwhile and sees each number whole.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "fuse/wire.h"

namespace udax::fuse {

struct OpTotals {
  static constexpr uint32_t kClasses = 40;
  uint64_t count = 0;
  uint64_t errors = 0;
  uint64_t time_ns = 0;
  std::array<uint64_t, kClasses> classes{};

  /// Upper bound, in ns, of the class that the given share (0... 100) of the requests does not exceed.
  [[nodiscard]] uint64_t percentile_ns(uint32_t percent) const {
    uint64_t left = count * percent / 100;
    for (uint32_t k = 0; k < kClasses; ++k) {
      if (classes[k] > left) return (uint64_t{2} << k) - 1;
      left -= classes[k];
    }
    return 0;
  }
};

class OpStats {
 public:
  void record(uint32_t opcode, uint64_t time_ns, bool failed) {
    if (opcode >= wire::kOpcodeCount) return;
    Line& line = lines_[opcode];
    add(line.count, 1);
    if (failed) add(line.errors, 1);
    add(line.time_ns, time_ns);
    const auto width = static_cast<uint32_t>(std::bit_width(time_ns | 1)) - 1;
    add(line.classes[width < OpTotals::kClasses ? width : OpTotals::kClasses - 1], 1);
  }
  void add_to(uint32_t opcode, OpTotals& totals) const {
    const Line& line = lines_[opcode];
    totals.count += line.count.load(std::memory_order_relaxed);
    totals.errors += line.errors.load(std::memory_order_relaxed);
    totals.time_ns += line.time_ns.load(std::memory_order_relaxed);
    for (uint32_t k = 0; k < OpTotals::kClasses; ++k) {
      totals.classes[k] += line.classes[k].load(std::memory_order_relaxed);
    }
  }

 private:
  // Only one thread writes: a load and a store, not a locked instruction.
  static void add(std::atomic<uint64_t>& to, uint64_t n) {
    to.store(to.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  struct Line {
    std::atomic<uint64_t> count{0};
    std::atomic<uint64_t> errors{0};
    std::atomic<uint64_t> time_ns{0};
    std::array<std::atomic<uint64_t>, OpTotals::kClasses> classes{};
  };
  std::array<Line, wire::kOpcodeCount> lines_;
};

}  // namespace udax::fuse
