// SPDX-License-Identifier: BSD-3-Clause
#include "base/sync_point.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace udax::sync_point {
namespace {

using std::chrono_literals::operator""ms;

TEST(SyncPointTest, MacrosFollowTheBuild) {
  int runs = 0;
  ScopedHandler handler("test.macro", [&] { ++runs; });
  ScopedKnob knob_on("test.knob");
  UDAX_SYNC_POINT("test.macro");
  EXPECT_EQ(runs, kCompiledIn ? 1 : 0);
  EXPECT_EQ(UDAX_KNOB("test.knob"), kCompiledIn);
  EXPECT_FALSE(UDAX_KNOB("test.other"));
}

TEST(SyncPointTest, HandlerRunsForItsNameAndLife) {
  int runs = 0;
  {
    ScopedHandler handler("test.a", [&] { ++runs; });
    reach("test.a");
    reach("test.b");
    reach("test.");
    EXPECT_EQ(runs, 1);
  }
  reach("test.a");
  EXPECT_EQ(runs, 1);
}

TEST(SyncPointTest, HandlersMayReachOtherPoints) {
  int runs = 0;
  ScopedHandler inner("test.inner", [&] { ++runs; });
  ScopedHandler outer("test.outer", [&] { reach("test.inner"); });
  reach("test.outer");
  EXPECT_EQ(runs, 1);
}

TEST(SyncPointTest, DestructorWaitsForThreadsInTheHandler) {
  std::atomic<bool> inside{false};
  std::atomic<bool> go{false};
  std::atomic<bool> left{false};
  std::thread thread;
  {
    ScopedHandler handler("test.slow", [&] {
      inside = true;
      while (!go) std::this_thread::yield();
      left = true;
    });
    thread = std::thread([] { reach("test.slow"); });
    while (!inside) std::this_thread::yield();
    go = true;
  }
  EXPECT_TRUE(left);
  thread.join();
}

TEST(SyncPointTest, DestructorIsNotHeldUpByThreadsThatKeepComing) {
  std::atomic<bool> stop{false};
  std::atomic<int> runs{0};
  std::vector<std::thread> threads;
  {
    ScopedHandler handler("test.busy", [&] { ++runs; });
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        while (!stop) reach("test.busy");
      });
    }
    while (runs < 100) std::this_thread::yield();
  }
  const int at_end = runs;
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_EQ(runs, at_end);
  stop = true;
  for (std::thread& t : threads) t.join();
}

TEST(KnobTest, OnForItsLife) {
  EXPECT_FALSE(knob("test.fence"));
  {
    ScopedKnob on("test.fence");
    EXPECT_TRUE(knob("test.fence"));
    EXPECT_FALSE(knob("test.flush"));
  }
  EXPECT_FALSE(knob("test.fence"));
}

TEST(GateTest, HoldsOneThreadUntilOpened) {
  Gate gate("test.gate");
  std::atomic<bool> passed{false};
  std::thread thread([&] {
    reach("test.gate");
    passed = true;
  });
  ASSERT_TRUE(gate.wait_reached());
  reach("test.gate");  // a second thread goes through
  EXPECT_FALSE(passed);
  gate.open();
  thread.join();
  EXPECT_TRUE(passed);
}

TEST(GateTest, LetsTheFirstOnesPass) {
  Gate gate("test.gate", 2);
  std::atomic<int> passed{0};
  std::thread thread([&] {
    for (int i = 0; i < 4; ++i) {
      reach("test.gate");
      ++passed;
    }
  });
  ASSERT_TRUE(gate.wait_reached());
  EXPECT_EQ(passed, 2);
  gate.open();
  thread.join();
  EXPECT_EQ(passed, 4);
}

TEST(GateTest, WaitGivesUp) {
  Gate gate("test.gate");
  EXPECT_FALSE(gate.wait_reached(10ms));
}

TEST(GateTest, OpenedBeforehandHoldsNobody) {
  Gate gate("test.gate");
  gate.open();
  reach("test.gate");
  EXPECT_TRUE(gate.wait_reached(0ms));
}

TEST(GateTest, DestructorOpens) {
  std::thread thread;
  {
    Gate gate("test.gate");
    thread = std::thread([] { reach("test.gate"); });
    ASSERT_TRUE(gate.wait_reached());
  }
  thread.join();
}

TEST(SyncPointDeathTest, OneHandlerAName) {
  ScopedHandler first("test.twice", [] {});
  EXPECT_DEATH(ScopedHandler("test.twice", [] {}), "broken invariant");
}

}  // namespace
}  // namespace udax::sync_point
