// SPDX-License-Identifier: BSD-3-Clause
//
// The two clocks in use: wall time for inode times, monotonic time for intervals and statistics.
#pragma once

#include <compare>
#include <cstdint>

namespace udax {

/// Wall time since 1970-01-01 UTC; earlier times have negative seconds and nanoseconds that still count upward.
struct RealTime {
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;  // 0 ... 999,999,999
  constexpr auto operator<=>(const RealTime&) const = default;
};

/// The time of the last timer tick (a few milliseconds old at most), as kernel filesystems stamp inodes with: it
/// costs no clock read. Follows the system's clock, hence may step back.
[[nodiscard]] RealTime realtime_coarse();

/// Nanoseconds since an arbitrary start. Never steps back.
[[nodiscard]] uint64_t monotonic_ns();

}  // namespace udax
