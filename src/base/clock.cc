// SPDX-License-Identifier: BSD-3-Clause
#include "base/clock.h"

#include <ctime>

#include "base/error.h"

namespace udax {
namespace {

timespec read_clock(clockid_t clock) {
  timespec now{};
  UDAX_ASSERT(clock_gettime(clock, &now) == 0);  // fails only for a clock that the kernel does not know
  return now;
}

}  // namespace

RealTime realtime_coarse() {
  const timespec now = read_clock(CLOCK_REALTIME_COARSE);
  return {now.tv_sec, static_cast<uint32_t>(now.tv_nsec)};
}

uint64_t monotonic_ns() {
  const timespec now = read_clock(CLOCK_MONOTONIC);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace udax
