// SPDX-License-Identifier: BSD-3-Clause
//
// Random transactions against a model that knows only which blocks are in use. UDAX_SEED=<n> runs one seed.
#include <cstdlib>
#include <random>
#include <set>

#include "pool_fixture.h"

namespace udax::alloc {
namespace {

using format::kGroupBlocks;

class Model {
 public:
  explicit Model(uint64_t seed, uint64_t size) : random_(seed), pool_(size) {
    const media::Geometry& g = pool_.geometry();
    for (DeviceBlock b = g.data_start; b < g.replica(); b += 1) {
      if (pool_.used_on_medium(b)) fixed_.insert(b.value);
    }
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      step();
      if (::testing::Test::HasFatalFailure()) return;
      if (i % 200 == 199) compare();
      if (i % 500 == 499) {
        pool_.remount(random_() % 2 == 0);
        compare();
        pending_.clear();
      }
      if (::testing::Test::HasFatalFailure()) return;
    }
    compare();
  }

 private:
  struct Freed {
    DeviceRun run;
    Lsn lsn;
  };

  uint64_t below(uint64_t n) { return random_() % n; }

  Request random_request() {
    Request r;
    const uint64_t kind = below(20);
    r.count = 1 + below(kind < 12 ? 8 : kind < 17 ? 300 : 3000);
    r.count_min = below(3) == 0 ? 1 + below(std::min<uint64_t>(r.count, 20)) : 1;
    if (below(2) == 0) r.goal = DeviceBlock(below(pool_.geometry().block_count));
    if (below(3) == 0 && !live_.empty()) r.goal = live_[below(live_.size())].end();
    if (below(2) == 0) r.file_block = below(3) == 0 ? 0 : below(100000);
    r.purpose = static_cast<Purpose>(below(3));
    return r;
  }

  // Some runs, or parts of runs, that are in use; taken out of live_.
  std::vector<DeviceRun> pick_for_free() {
    std::vector<DeviceRun> out;
    for (uint64_t n = below(6); n > 0 && !live_.empty(); --n) {
      const size_t at = below(live_.size());
      const DeviceRun run = live_[at];
      live_[at] = live_.back();
      live_.pop_back();
      const uint64_t from = below(run.count);
      const uint64_t count = 1 + below(run.count - from);
      if (below(2) == 0) {
        out.push_back(run);
        continue;
      }
      out.push_back({run.start + from, count});
      if (from > 0) live_.push_back({run.start, from});
      if (from + count < run.count) live_.push_back({run.start + (from + count), run.count - from - count});
    }
    return out;
  }

  void step() {
    BlockTx tx(pool_.allocator());
    const std::vector<DeviceRun> live_before = live_;
    std::vector<DeviceRun> taken;
    std::vector<DeviceRun> freed;
    for (uint64_t n = below(5); n > 0; --n) {
      const Result<DeviceRun> run = tx.allocate(random_request());
      if (!run) {
        ASSERT_TRUE(run.error() == Error::kNoSpace || run.error() == Error::kAgain);
        continue;
      }
      ASSERT_NO_FATAL_FAILURE(check_new(*run, taken));
      taken.push_back(*run);
    }
    for (const DeviceRun& run : pick_for_free()) {
      const Status done = tx.free(run);
      if (done) {
        freed.push_back(run);
      } else {
        ASSERT_EQ(done.error(), Error::kAgain);
        live_.push_back(run);
      }
    }
    if (below(4) == 0 && !taken.empty()) {  // gives a part of its own back
      DeviceRun& own = taken[below(taken.size())];
      const uint64_t keep = below(own.count);
      ASSERT_TRUE(tx.free({own.start + keep, own.count - keep}));
      own.count = keep;
    }
    if (below(4) == 0) {
      tx.abort();
      live_ = live_before;
      return;
    }
    const Result<Lsn> lsn = tx.commit();
    ASSERT_TRUE(lsn);
    for (const DeviceRun& run : taken) {
      if (run.count > 0) live_.push_back(run);
      for (uint64_t b = 0; b < run.count; ++b) used_.insert(run.start.value + b);
    }
    for (const DeviceRun& run : freed) {
      for (uint64_t b = 0; b < run.count; ++b) used_.erase(run.start.value + b);
      pending_.push_back({run, *lsn});
    }
  }

  void check_new(DeviceRun run, const std::vector<DeviceRun>& taken) {
    ASSERT_GT(run.count, 0U);
    ASSERT_TRUE(pool_.geometry().is_data(run.start, run.count));
    ASSERT_EQ(run.start.value / kGroupBlocks, (run.end().value - 1) / kGroupBlocks);
    for (uint64_t b = run.start.value; b < run.end().value; ++b) {
      ASSERT_EQ(used_.count(b), 0U) << "block " << b << " is in use";
      ASSERT_EQ(fixed_.count(b), 0U) << "block " << b << " is mkfs's";
    }
    const auto apart = [run](DeviceRun other) { return other.end() <= run.start || run.end() <= other.start; };
    for (const DeviceRun& other : taken) ASSERT_TRUE(apart(other));
    std::erase_if(pending_, [this](const Freed& f) { return pool_.journal().tail() > f.lsn; });
    for (const Freed& f : pending_) ASSERT_TRUE(apart(f.run)) << "handed out before the tail had passed";
  }

  void compare() {
    pool_.check_groups();
    const media::Geometry& g = pool_.geometry();
    uint64_t free = 0;
    for (DeviceBlock b = g.data_start; b < g.replica(); b += 1) {
      const bool used = used_.count(b.value) + fixed_.count(b.value) > 0;
      ASSERT_EQ(pool_.used_on_medium(b), used) << "block " << b.value;
      free += used ? 0 : 1;
    }
    ASSERT_EQ(pool_.allocator().stats().blocks_free, free);
  }

  std::mt19937_64 random_;
  Pool pool_;
  std::set<uint64_t> fixed_;  // in use since mkfs
  std::set<uint64_t> used_;
  std::vector<DeviceRun> live_;
  std::vector<Freed> pending_;
};

std::vector<uint64_t> seeds() {
  if (const char* seed = std::getenv("UDAX_SEED")) return {std::strtoull(seed, nullptr, 0)};
  return {1, 2, 3};
}

TEST(AllocModel, OneSmallPool) {
  for (const uint64_t seed : seeds()) {
    SCOPED_TRACE("UDAX_SEED=" + std::to_string(seed));
    Model(seed, 24 * Pool::kMiB).run(2500);
  }
}

TEST(AllocModel, SeveralGroups) {
  for (const uint64_t seed : seeds()) {
    SCOPED_TRACE("UDAX_SEED=" + std::to_string(seed));
    Model(seed, 420 * Pool::kMiB).run(1500);
  }
}

}  // namespace
}  // namespace udax::alloc
