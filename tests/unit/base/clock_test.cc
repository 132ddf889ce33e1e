// SPDX-License-Identifier: BSD-3-Clause
#include "base/clock.h"

#include <gtest/gtest.h>

#include <ctime>

namespace udax {
namespace {

TEST(ClockTest, MonotonicNeverStepsBack) {
  uint64_t last = monotonic_ns();
  for (int i = 0; i < 10000; ++i) {
    const uint64_t now = monotonic_ns();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(ClockTest, RealTimeIsTheSystems) {
  const time_t before = time(nullptr) - 1;  // time(2) may lead or lag the coarse clock by a tick
  const RealTime now = realtime_coarse();
  EXPECT_GE(now.seconds, before);
  EXPECT_LE(now.seconds, time(nullptr) + 1);
  EXPECT_LT(now.nanoseconds, 1'000'000'000U);
}

TEST(ClockTest, TimesOrderBySecondsFirst) {
  EXPECT_LT((RealTime{1, 999'999'999}), (RealTime{2, 0}));
  EXPECT_LT((RealTime{-1, 5}), (RealTime{0, 0}));
  EXPECT_LT((RealTime{3, 4}), (RealTime{3, 5}));
}

}  // namespace
}  // namespace udax
