// SPDX-License-Identifier: BSD-3-Clause
//
// Several threads on one allocator; meant for ThreadSanitizer as well.
#include <atomic>
#include <random>
#include <thread>

#include "pool_fixture.h"

namespace udax::alloc {
namespace {

constexpr int kThreads = 4;

// Who owns a block: each thread puts its mark when it gets one, and finds it again when it frees it.
class Owners {
 public:
  explicit Owners(uint64_t blocks) : owner_(blocks) {}
  void take(DeviceRun run, int who) {
    for (uint64_t b = run.start.value; b < run.end().value; ++b) {
      int nobody = 0;
      ASSERT_TRUE(owner_[b].compare_exchange_strong(nobody, who))
          << "block " << b << " is thread " << nobody << "'s";
    }
  }
  void give(DeviceRun run, int who) {
    for (uint64_t b = run.start.value; b < run.end().value; ++b) ASSERT_EQ(owner_[b].exchange(0), who);
  }
  [[nodiscard]] uint64_t owned() const {
    uint64_t n = 0;
    for (const auto& owner : owner_) n += owner.load() != 0 ? 1 : 0;
    return n;
  }

 private:
  std::vector<std::atomic<int>> owner_;
};

void churn(Pool& pool, Owners& owners, int who, int steps, uint64_t count_max) {
  std::mt19937 random(static_cast<unsigned>(who));
  std::vector<DeviceRun> mine;
  for (int i = 0; i < steps; ++i) {
    BlockTx tx(pool.allocator());
    std::vector<DeviceRun> taken;
    std::vector<DeviceRun> freed;
    for (auto n = random() % 3; n > 0; --n) {
      Request request = data_request(1 + random() % count_max);
      if (!mine.empty() && random() % 2 == 0) request.goal = mine.back().end();
      if (random() % 4 == 0) request.purpose = Purpose::kMetadata;
      const Result<DeviceRun> run = tx.allocate(request);
      if (run) {
        owners.take(*run, who);
        taken.push_back(*run);
      } else {
        ASSERT_TRUE(run.error() == Error::kNoSpace || run.error() == Error::kAgain);
      }
    }
    for (auto n = random() % 3; n > 0 && !mine.empty(); --n) {
      std::swap(mine[random() % mine.size()], mine.back());
      ASSERT_TRUE(tx.free(mine.back()));
      freed.push_back(mine.back());
      mine.pop_back();
    }
    if (random() % 5 == 0) {
      for (const DeviceRun& run : taken) owners.give(run, who);
      mine.insert(mine.end(), freed.begin(), freed.end());
      tx.abort();
    } else {
      for (const DeviceRun& run : freed) owners.give(run, who);
      mine.insert(mine.end(), taken.begin(), taken.end());
      ASSERT_TRUE(tx.commit());
    }
    static_cast<void>(pool.allocator().stats());
  }
}

void churn_in_threads(Pool& pool, int steps, uint64_t count_max) {
  const uint64_t free = pool.allocator().stats().blocks_free;
  Owners owners(pool.geometry().block_count);
  std::vector<std::thread> threads;
  for (int t = 1; t <= kThreads; ++t) {
    threads.emplace_back([&, t] { churn(pool, owners, t, steps, count_max); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pool.allocator().stats().blocks_free, free - owners.owned());
  ASSERT_TRUE(pool.allocator().reclaim());
  EXPECT_EQ(pool.allocator().stats().blocks_pending, 0U);
  EXPECT_EQ(pool.allocator().stats().blocks_free, free - owners.owned());
  pool.remount(true);
  EXPECT_EQ(pool.allocator().stats().blocks_free, free - owners.owned());
}

TEST(AllocConcurrency, ChurnInRoomyPool) {
  Pool pool(5 * 128 * Pool::kMiB);
  churn_in_threads(pool, 1500, 64);
}

TEST(AllocConcurrency, ChurnInFullPool) {
  Pool pool(12 * Pool::kMiB);
  churn_in_threads(pool, 1500, 40);
}

TEST(AllocConcurrency, TheLastBlockIsFoundByEveryone) {
  Pool pool(12 * Pool::kMiB);
  Owners owners(pool.geometry().block_count);
  const uint64_t free = pool.allocator().stats().blocks_free;
  std::atomic<uint64_t> taken{0};
  std::vector<std::thread> threads;
  for (int t = 1; t <= kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (;;) {
        BlockTx tx(pool.allocator());
        const Result<DeviceRun> run = tx.allocate(must_succeed(7));
        if (!run) {
          ASSERT_EQ(run.error(), Error::kNoSpace);
          return;
        }
        owners.take(*run, t);
        ASSERT_TRUE(tx.commit());
        taken += run->count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(taken, free);
  EXPECT_EQ(pool.allocator().stats().blocks_free, 0U);
}

TEST(AllocConcurrency, LoadingAndDroppingBitmaps) {
  Pool pool(uint64_t{5000} * 128 * Pool::kMiB);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&pool, t] {
      std::mt19937_64 random(t);
      for (int i = 0; i < 3000; ++i) {
        const DeviceBlock goal(format::kGroupBlocks * (200 + random() % 4700));
        const DeviceRun run = take(pool, data_request(512, 512, goal, 0));
        ASSERT_EQ(run.count, 512U);
        if (i % 3 == 0) give(pool, run);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace udax::alloc
