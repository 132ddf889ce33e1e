// SPDX-License-Identifier: BSD-3-Clause
//
// A file that is open both ways: through a page cache, and directly. No byte is lost in either direction, and a direct
// write that has returned is seen through the cache; also over flips of the flag, truncation and punches.
//
// The random model: every other 64 bytes are stored to through the cache's mapping or written through the cache, the
// others are written directly. What a step leaves to another (a recall of stale copies) is done later, with other steps
// between, and some between the pages of one recall.
#include <cstdio>
#include <cstdlib>

#include "base/random.h"
#include "base/sync_point.h"
#include "tests/support/model_page_cache.h"
#include "tests/support/pool.h"
#include "tests/unit/dax/dax_pool.h"

namespace udax::dax {
namespace {

using test::bytes;
using test::kMiB;
using test::kRoot;
using test::ModelPageCache;
using test::TestPool;

constexpr uint32_t kDax = format::kFlagDax;

class BothWays {
 public:
  explicit BothWays(uint64_t seed) : random_(seed), pool_(16 * kMiB), ino_(pool_.file(kRootIno, "f")) {
    resize(kSize);
    cached_ = *pool_->open(ino_, O_RDWR, false);
    EXPECT_TRUE(pool_->set_flags(ino_, kDax, kDax, {}, kRoot));
    direct_ = *pool_->open(ino_, O_RDWR, false);
    cache_ = std::make_unique<ModelPageCache>(pool_.fs(), *cached_);
  }
  ~BothWays() {
    cache_.reset();
    cached_.reset();
    direct_.reset();
  }
  BothWays(const BothWays&) = delete;
  BothWays& operator=(const BothWays&) = delete;

  /// Empty, or what was wrong first.
  std::string run(int steps) {
    for (int i = 0; i < steps && wrong_.empty(); ++i) step(true);
    while (!stale_.empty()) recall();
    pool_->mappers().drop_copies(ino_, {});
    const std::string file = pool_.content(ino_);
    for (uint64_t i = 0; i < kSize && wrong_.empty(); ++i) {
      if (file[i] != model_[i]) wrong_ = "lost at " + std::to_string(i);
    }
    return wrong_;
  }

 private:
  static constexpr uint64_t kPages = 5;
  static constexpr uint64_t kSize = kPages * kBlockSize;
  static constexpr uint64_t kPart = 64;
  struct Range {
    uint64_t offset = 0;
    uint64_t size = 0;
  };
  Range pick(bool is_cached) {
    const uint64_t part = random_.below(kSize / kPart / 2) * 2 + (is_cached ? 0 : 1);
    const uint64_t skip = random_.below(kPart);
    return {part * kPart + skip, random_.between(1, kPart - skip)};
  }
  std::string text(const Range& r) {
    std::string out(r.size, '\0');
    for (char& c : out) c = static_cast<char>(random_.between('a', 'z'));
    model_.replace(r.offset, r.size, out);
    return out;
  }
  void resize(uint64_t size) {
    fs::SetAttr s;
    s.size = size;
    EXPECT_TRUE(pool_->setattr(ino_, s, kRoot));
  }

  void step(bool is_outermost) {
    const uint64_t pick = random_.below(is_outermost ? 100 : 85);
    if (pick < 25) return store();
    if (pick < 35) return look();
    if (pick < 40) return cache_->write_back(random_.below(kPages));
    if (pick < 65) return direct_write();
    if (pick < 85) return write();
    if (pick < 96) return recall();
    if (pick < 97) return cut_and_grow();
    if (pick < 98) return punch();
    flip();
  }
  void store() {
    const Range r = pick(true);
    cache_->store(r.offset, text(r));
  }
  void write() {
    const Range r = pick(true);
    cache_->write(r.offset, text(r));
  }
  void direct_write() {
    const Range r = pick(false);
    fs::StaleCopies stale;
    const auto done = pool_->write(*direct_, r.offset, bytes(text(r)), false, false, &stale);
    EXPECT_TRUE(done && *done == r.size);
    if (stale.any()) stale_.push_back(stale);
  }
  void recall() {
    if (stale_.empty()) return;
    const fs::StaleCopies stale = stale_.front();
    stale_.erase(stale_.begin());
    with_others_between([&] { pool_->recall(*direct_, stale); });
  }
  void flip() {
    const bool is_on = pool_->dax_state(ino_)->flag;
    EXPECT_TRUE(pool_->set_flags(ino_, is_on ? 0 : kDax, kDax, {}, kRoot));
  }
  void cut_and_grow() {
    const uint64_t size = random_.below(kSize);
    resize(size);
    cache_->cut(size);
    resize(kSize);
    model_.replace(size, kSize - size, kSize - size, '\0');
  }
  void punch() {
    const uint64_t from = random_.below(kSize);
    const uint64_t to = random_.between(from + 1, kSize);
    // As the kernel: writes the range back before, and drops it after.
    pool_->mappers().drop_copies(ino_, {from, to});
    EXPECT_TRUE(pool_->fallocate(*cached_, fs::kFallocPunchHole | fs::kFallocKeepSize, from, to - from));
    model_.replace(from, to - from, to - from, '\0');
  }
  void with_others_between(const std::function<void()>& what) {
    bool is_over = false;
    cache_->between([this, &is_over] {
      if (is_over || random_.one_in(2)) return;
      is_over = true;
      step(false);
    });
    what();
    cache_->between({});
  }

  /// Own bytes always; those of the direct writer where nothing stale waits to be recalled.
  void look() {
    const bool all = stale_.empty();
    const Range r = pick(!all || random_.one_in(2));
    if (cache_->load(r.offset, r.size) != model_.substr(r.offset, r.size)) {
      wrong_ = "the cache shows something else at " + std::to_string(r.offset);
    }
  }

  Random random_;
  TestPool pool_;
  Ino ino_;
  fs::OpenFilePtr cached_;
  fs::OpenFilePtr direct_;
  std::unique_ptr<ModelPageCache> cache_;
  std::vector<fs::StaleCopies> stale_;
  std::string model_ = std::string(kSize, '\0');
  std::string wrong_;
};

TEST(Copies, NothingIsLostBetweenACacheAndDirectWrites) {
  uint64_t first = 0;
  fill_random(&first, sizeof first);
  first %= 1'000'000;
  if (const char* const text = std::getenv("UDAX_SEED")) first = std::strtoull(text, nullptr, 10);
  std::printf("UDAX_SEED=%llu\n", static_cast<unsigned long long>(first));
  for (uint64_t seed = first; seed < first + 30; ++seed) {
    ASSERT_EQ(BothWays(seed).run(600), "") << "UDAX_SEED=" << seed;
  }
}

TEST(Copies, ControlWithoutTwinsBytesAreLost) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "knobs are not compiled in";
  const sync_point::ScopedKnob knob("mapping.copies.no_twins");
  uint64_t wrong = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) wrong += BothWays(seed).run(600).empty() ? 0 : 1;
  EXPECT_EQ(wrong, 5U);
}

// The thread of August 2017 once more, with a cache on the other side: what was stored to its pages is there after.
TEST(Copies, AFlipTakesThemBack) {
  TestPool pool(16 * kMiB);
  const Ino f = pool.file(kRootIno, "f", std::string(2 * kBlockSize, 'd'));
  const auto cached = *pool->open(f, O_RDWR, false);
  ModelPageCache cache(pool.fs(), *cached);
  cache.store(100, "stored");
  EXPECT_EQ(pool.read(f, 100, 6), "dddddd") << "not written back yet";
  ASSERT_TRUE(pool->set_flags(f, kDax, kDax, {}, kRoot));
  EXPECT_FALSE(cache.has(0));
  EXPECT_EQ(pool.read(f, 100, 6), "stored");
  pool.write(f, 200, "written");
  EXPECT_EQ(cache.load(200, 7), "written");
}

}  // namespace
}  // namespace udax::dax
