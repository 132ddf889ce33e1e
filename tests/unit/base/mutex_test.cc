// SPDX-License-Identifier: BSD-3-Clause
#include "base/mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <thread>
#include <vector>

namespace udax {
namespace {

constexpr int kThreads = 4;
constexpr int kRounds = 20000;

void in_threads(int count, const auto& body) {
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) threads.emplace_back(body);
  for (std::thread& t : threads) t.join();
}

template <typename M>
struct Counter {
  M mutex;
  int value UDAX_GUARDED_BY(mutex) = 0;  // not atomic: lost updates, and TSan, would tell

  void add() {
    LockGuard lock(mutex);
    ++value;
  }
  int get() {
    LockGuard lock(mutex);
    return value;
  }
};

template <typename M>
class ExclusionTest : public testing::Test {};
using Mutexes = testing::Types<Mutex, SharedMutex, SpinLock>;
TYPED_TEST_SUITE(ExclusionTest, Mutexes);

TYPED_TEST(ExclusionTest, NoUpdateIsLost) {
  Counter<TypeParam> counter;
  in_threads(kThreads, [&] {
    for (int i = 0; i < kRounds; ++i) counter.add();
  });
  EXPECT_EQ(counter.get(), kThreads * kRounds);
}

TYPED_TEST(ExclusionTest, TryLockFailsWhileAnotherHolds) {
  TypeParam mutex;
  mutex.lock();
  in_threads(1, [&] {
    if (mutex.try_lock()) {
      ADD_FAILURE() << "locked twice";
      mutex.unlock();
    }
  });
  mutex.unlock();
  in_threads(1, [&] {
    if (mutex.try_lock()) {
      mutex.unlock();
    } else {
      ADD_FAILURE() << "still locked";
    }
  });
}

TYPED_TEST(ExclusionTest, WhatWasWrittenUnderTheLockIsSeenUnderIt) {
  TypeParam mutex;
  int a = 0;
  int b = 0;
  std::atomic<bool> torn{false};
  in_threads(kThreads, [&] {
    for (int i = 0; i < kRounds; ++i) {
      LockGuard lock(mutex);
      if (a != b) torn = true;
      ++a;
      ++b;
    }
  });
  EXPECT_FALSE(torn);
  EXPECT_EQ(a, kThreads * kRounds);
}

TEST(SpinLockTest, AWaiterYieldsToAHolderThatSleeps) {
  SpinLock lock;
  std::atomic<bool> waiting{false};
  bool done = false;
  lock.lock();
  std::thread waiter([&] {
    waiting = true;
    LockGuard guard(lock);
    done = true;
  });
  while (!waiting) std::this_thread::yield();
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  EXPECT_FALSE(done);
  lock.unlock();
  waiter.join();
  EXPECT_TRUE(done);
}

TEST(SharedMutexTest, ReadersShareAndKeepWritersOut) {
  SharedMutex mutex;
  std::atomic<int> inside{0};
  std::atomic<bool> leave{false};
  std::thread readers([&] {
    // Each reader waits for the other within the section: both must be let in.
    in_threads(2, [&] {
      SharedLockGuard lock(mutex);
      ++inside;
      while (!leave) std::this_thread::yield();
    });
  });
  while (inside < 2) std::this_thread::yield();
  if (mutex.try_lock()) {
    ADD_FAILURE() << "a writer came in beside readers";
    mutex.unlock();
  }
  leave = true;
  readers.join();
  LockGuard lock(mutex);  // all have left
  EXPECT_EQ(inside, 2);
}

TEST(MutexTest, WorksWithAConditionVariable) {
  Mutex mutex;
  std::condition_variable_any changed;
  bool ready = false;
  std::thread setter([&] {
    LockGuard lock(mutex);
    ready = true;
    changed.notify_one();
  });
  {
    LockGuard lock(mutex);
    while (!ready) changed.wait(mutex);
  }
  setter.join();
  EXPECT_TRUE(ready);
}

}  // namespace
}  // namespace udax
