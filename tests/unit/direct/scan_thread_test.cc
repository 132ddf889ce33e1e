// SPDX-License-Identifier: BSD-3-Clause
#include "direct/scan_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <memory>

namespace udax::direct {
namespace {

using Clock = ScanThread::Clock;
constexpr std::chrono::seconds kLong{60};

TEST(ScanThread, WhoWaitsGetsWhatWasFound) {
  ScanThread scans;
  for (int i = 0; i < 3; ++i) {
    int found = 0;
    bool awaited = false;
    ASSERT_TRUE(scans.reserve(Clock::now() + kLong));
    EXPECT_TRUE(
        scans.scan({[&] { found = 7; }, [&](bool is_awaited) { awaited = is_awaited; }}, Clock::now() + kLong));
    EXPECT_EQ(found, 7);
    EXPECT_TRUE(awaited);
  }
}

TEST(ScanThread, OneAtATime) {
  ScanThread scans;
  ASSERT_TRUE(scans.reserve(Clock::now() + kLong));
  EXPECT_FALSE(scans.reserve(Clock::now()));
  scans.cancel();
  ASSERT_TRUE(scans.reserve(Clock::now()));
  scans.cancel();
}

// What the kernel was asked for is told nobody else, so who finishes it must note it; and the next waits until that is done.
TEST(ScanThread, OneThatIsGivenUpIsFinishedByTheThread) {
  struct Run {
    std::latch go{1};
    std::atomic<int> finished{0};
    std::atomic<bool> awaited{true};
  };
  const auto run = std::make_shared<Run>();
  ScanThread scans;
  ASSERT_TRUE(scans.reserve(Clock::now() + kLong));
  const auto finish = [run](bool is_awaited) {
    run->awaited = is_awaited;
    ++run->finished;
  };
  EXPECT_FALSE(scans.scan({[run] { run->go.wait(); }, finish}, Clock::now()));
  EXPECT_FALSE(scans.reserve(Clock::now())) << "it is still at it";
  run->go.count_down();
  ASSERT_TRUE(scans.reserve(Clock::now() + kLong));
  EXPECT_GE(run->finished.load(), 1);
  EXPECT_FALSE(run->awaited.load());
  scans.cancel();
}

}  // namespace
}  // namespace udax::direct
