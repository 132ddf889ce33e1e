// SPDX-License-Identifier: BSD-3-Clause
//
// A file that is open in all ways: through a page cache, directly, and mapped by a mapper. No byte is lost in any
// direction, a direct write that has returned is seen through the cache, and a mapper and the cache see each other's
// stores at once; also over flips of the flag, truncation and punches.
//
// The random model: every other 64 bytes are stored to through the cache's mapping or written through the cache, the
// others are written directly or stored to through the mapper while the file is DAX. Of some files the handle for direct
// writes goes with the flag: no note is taken of copies until it comes back. What a step leaves to another (a recall of stale copies) is done later, with other steps
// between, and some between the pages of one recall.
#include <cstdio>
#include <cstdlib>

#include "base/random.h"
#include "base/sync_point.h"
#include "tests/support/model_mapper.h"
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
  explicit BothWays(uint64_t seed)
      : random_(seed),
        pool_(16 * kMiB),
        ino_(pool_.file(kRootIno, "f")),
        keeps_direct_(random_.one_in(2)),
        returns_late_(random_.one_in(2)) {
    resize(kSize);
    cached_ = *pool_->open(ino_, O_RDWR, false);
    EXPECT_TRUE(pool_->set_flags(ino_, kDax, kDax, {}, kRoot));
    direct_ = *pool_->open(ino_, O_RDWR, false);
    cache_ = std::make_unique<ModelPageCache>(pool_.fs(), *cached_, returns_late_);
    if (!keeps_direct_ || random_.one_in(2)) {
      mapper_ = std::make_unique<test::ModelMapper>(pool_.fs());
      reopen();
    }
  }
  ~BothWays() {
    mapping_.reset();
    mapper_.reset();
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
    cache_->arrive_all();
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
    const uint64_t pick = random_.below(is_outermost ? 115 : 85);
    if (pick >= 100) return mapping_ == nullptr || direct_ == nullptr ? direct_write() : map();
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
    // The kernel's inode lock keeps other writes and flips away meanwhile, but not who maps the file for direct access.
    is_writing_ = true;
    cache_->under_way([this] {
      if (direct_ == nullptr || !random_.one_in(4)) return;
      const uint64_t page = random_.below(kPages);
      pool_->mappers().drop_copies(ino_, {page * kBlockSize, (page + 1) * kBlockSize});
      (void)cache_->load(random_.below(kSize), 1);
    });
    cache_->write(r.offset, text(r));
    is_writing_ = false;
  }
  void direct_write() {
    if (direct_ == nullptr) return;
    const Range r = pick(false);
    // The kernel waits for what it has sent back before it sends the write; what it sends back then may come after it.
    for (uint64_t page = r.offset / kBlockSize; page < blocks_for(r.offset + r.size); ++page) {
      cache_->write_back(page);
      cache_->arrive(page);
    }
    if (random_.one_in(4)) {
      store();
      cache_->write_back(r.offset / kBlockSize);
    }
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
  void map() {
    if (!pool_->dax_state(ino_)->flag) return;  // such a file is not mapped directly
    const Range r = pick(false);
    if (random_.one_in(2)) {
      mapping_->put(r.offset, text(r));
      return;
    }
    const uint64_t from = random_.below(kSize - 100);
    bool is_right = mapping_->get(from, 100) == model_.substr(from, 100);
    if (!is_right && returns_late_) {
      // What is on its way to the pool cannot be seen there yet.
      cache_->arrive_all();
      is_right = mapping_->get(from, 100) == model_.substr(from, 100);
    }
    if (!is_right) {
      wrong_ = "the mapper shows something else at " + std::to_string(from);
    }
  }
  void flip() {
    const bool is_on = pool_->dax_state(ino_)->flag;
    is_leaving_ = is_on;
    if (!keeps_direct_ && is_on) {
      while (!stale_.empty()) recall();
      mapping_.reset();
      direct_.reset();
    }
    with_others_between([&] { EXPECT_TRUE(pool_->set_flags(ino_, is_on ? 0 : kDax, kDax, {}, kRoot)); });
    is_leaving_ = false;
    reopen();
  }
  /// With the flag on, files are opened for direct access; also while others of the same are being taken back.
  void reopen() {
    if (is_leaving_ || !pool_->dax_state(ino_)->flag) return;
    if (direct_ == nullptr) direct_ = *pool_->open(ino_, O_RDWR, false);
    if (mapping_ == nullptr && mapper_ != nullptr) mapping_ = std::make_unique<test::Mapping>(*mapper_, ino_);
  }
  void cut_and_grow() {
    const uint64_t size = random_.below(kSize);
    cache_->arrive_all();  // truncate(2) waits for them
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
    cache_->arrive_all();
    EXPECT_TRUE(pool_->fallocate(*cached_, fs::kFallocPunchHole | fs::kFallocKeepSize, from, to - from));
    model_.replace(from, to - from, to - from, '\0');
  }
  void with_others_between(const std::function<void()>& what) {
    uint64_t left = random_.between(1, 4);
    cache_->between([this, &left] {
      if (left == 0 || is_writing_ || random_.one_in(2)) return;
      --left;
      reopen();
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
  const bool keeps_direct_;
  const bool returns_late_;
  bool is_writing_ = false;  // through the cache
  bool is_leaving_ = false;  // the flag is being taken off
  fs::OpenFilePtr cached_;
  fs::OpenFilePtr direct_;
  std::unique_ptr<ModelPageCache> cache_;
  std::unique_ptr<test::ModelMapper> mapper_;
  std::unique_ptr<test::Mapping> mapping_;
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

// fs.flip.no_suspicion is found by one seed in a thousand, 1581 the first: begun near it, for what it costs under sanitizers.
TEST(Copies, ControlOneSideBlindToTheOther) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "knobs are not compiled in";
  for (const char* const name : {"dax.fault.ignore_copies", "dax.revoke.skip", "fs.flip.no_suspicion"}) {
    const sync_point::ScopedKnob knob(name);
    uint64_t wrong = 0;
    for (uint64_t seed = 1500; seed <= 4500 && wrong == 0; ++seed)
      wrong += BothWays(seed).run(600).empty() ? 0 : 1;
    EXPECT_EQ(wrong, 1U) << name;
  }
}

/// Does something at a time when copies are being dropped: before the cache proper, or after it.
struct DuringRecalls final : mapping::CopyHolder {
  explicit DuringRecalls(std::function<void(int)> does) : what(std::move(does)) {}
  void drop_copies(Ino /*ino*/, mapping::ByteRange /*range*/) override { what(++count); }
  void drop_copies_unlike(Ino, uint64_t, std::span<const std::byte>) override {}
  std::function<void(int)> what;
  int count = 0;
};

// A page that the cache fills and a process stores to after a flip's first recall: nobody has taken note of it, and yet what
// is written directly before the second recall is there after it.
TEST(Copies, APageThatComesDuringAFlip) {
  TestPool pool(16 * kMiB);
  const Ino f = pool.file(kRootIno, "f", std::string(kBlockSize, 'd'));
  const auto cached = *pool->open(f, O_RDWR, false);
  DuringRecalls before([&](int n) {
    if (n != 2) return;
    const auto direct = *pool->open(f, O_RDWR, false);
    EXPECT_TRUE(direct->dax());
    fs::StaleCopies stale;
    EXPECT_TRUE(pool->write(*direct, 200, bytes("direct"), false, false, &stale));
    EXPECT_TRUE(stale.any());
  });
  pool->mappers().add(&before);
  ModelPageCache cache(pool.fs(), *cached);
  DuringRecalls after([&](int n) {
    if (n == 1) cache.store(100, "cached");
  });
  pool->mappers().add(&after);
  ASSERT_TRUE(pool->set_flags(f, kDax, kDax, {}, kRoot));
  EXPECT_EQ(pool.read(f, 100, 6), "cached");
  EXPECT_EQ(pool.read(f, 200, 6), "direct");
  EXPECT_TRUE(cached->inode().space()->copies.empty());
  EXPECT_EQ(cached->inode().space()->copies.twins(), 0U);
  pool->mappers().remove(&before);
  pool->mappers().remove(&after);
}

// A process that goes over all the pages of a file through the cache does not keep another from mapping one of them: that one is
// taken back, and what is filled meanwhile of the others is no reason to begin again. (It was: neither came on, see docs/dax.md.)
TEST(Copies, AFaultBesideOneThatFillsTheOtherPages) {
  constexpr uint64_t kPages = 64;
  constexpr uint64_t kMine = 3;
  TestPool pool(16 * kMiB);
  const Ino f = pool.file(kRootIno, "f", std::string(kPages * kBlockSize, 'd'));
  const auto cached = *pool->open(f, O_RDWR, false);
  ASSERT_TRUE(pool->set_flags(f, kDax, kDax, {}, kRoot));
  ModelPageCache cache(pool.fs(), *cached);
  (void)cache.load(0, kPages * kBlockSize);
  DuringRecalls after([&](int n) {
    for (uint64_t at = 0; at < kPages && n < 20; ++at) {
      if (at != kMine) (void)cache.load(at * kBlockSize, 1);
    }
  });
  pool->mappers().add(&after);
  int installed = 0;
  const auto result = pool->fault(cached->inode(), FileBlock(kMine), dax::Access::kWrite, mapping::kHugeOrder,
                                  [&](const dax::View&) { return ++installed, Status(); });
  pool->mappers().remove(&after);
  ASSERT_TRUE(result);
  EXPECT_EQ(*result, dax::FaultResult::kMapped);
  EXPECT_EQ(installed, 1);
  EXPECT_EQ(after.count, 1);
}

/// A cached write of which the cache drops the page, and fills it anew, before the write comes to the filesystem: as Linux may,
/// which unlocks pages that are up to date before it sends what was written to them.
class AWriteUnderWay {
 public:
  explicit AWriteUnderWay(uint64_t size) : size_(size) {
    EXPECT_TRUE(pool_->set_flags(file_, kDax, kDax, {}, kRoot));
    if (size == 0) return;
    fs::SetAttr s;
    s.size = size;
    EXPECT_TRUE(pool_->setattr(file_, s, kRoot));
  }
  /// Empty, or what is wrong.
  std::string run(uint64_t offset, bool is_stored_to) {
    (void)cache_.load(0, size_);
    cache_.under_way([&] {
      pool_->mappers().drop_copies(file_, {});
      (void)cache_.load(0, size_);
      if (is_stored_to) cache_.store(10, "stored");
    });
    cache_.write(offset, "written");
    cache_.under_way({});
    if (cache_.load(offset, 7) != "written") return "the cache shows " + cache_.load(offset, 7);
    // And what is stored to the page later does not bring the old bytes back.
    cache_.store(20, "later");
    pool_->mappers().drop_copies(file_, {});
    if (pool_.read(file_, offset, 7) != "written") return "the file has " + pool_.read(file_, offset, 7);
    if (pool_.read(file_, 20, 5) != "later") return "a store is lost";
    if (is_stored_to && pool_.read(file_, 10, 6) != "stored") return "the first store is lost";
    return "";
  }

 private:
  TestPool pool_{16 * kMiB};
  const uint64_t size_;
  const Ino file_ = pool_.file(kRootIno, "f", std::string(kBlockSize, 'o'));
  const fs::OpenFilePtr cached_ = *pool_->open(file_, O_RDWR, false);
  ModelPageCache cache_{pool_.fs(), *cached_};
};

TEST(Copies, AWriteUnderWayWhilePagesAreFilledAnew) {
  for (const bool is_stored_to : {false, true}) {
    EXPECT_EQ(AWriteUnderWay(kBlockSize).run(100, is_stored_to), "");
    EXPECT_EQ(AWriteUnderWay(2 * kBlockSize).run(kBlockSize - 3, is_stored_to), "") << "over two pages";
    EXPECT_EQ(AWriteUnderWay(100).run(96, is_stored_to), "") << "over the end of the file";
    EXPECT_EQ(AWriteUnderWay(100).run(100, is_stored_to), "") << "behind it";
  }
}

TEST(Copies, ControlAWriteUnderWayIsTakenForWhatCopiesHave) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "knobs are not compiled in";
  const sync_point::ScopedKnob knob("fs.copies.no_doubt");
  EXPECT_EQ(AWriteUnderWay(kBlockSize).run(100, false), "the cache shows ooooooo");
}

// A page that was handed out before the last write through the cache is not looked at again.
TEST(Copies, WritesInARowAreNotDoubted) {
  TestPool pool(16 * kMiB);
  const Ino f = pool.file(kRootIno, "f", std::string(kBlockSize, 'o'));
  const auto cached = *pool->open(f, O_RDWR, false);
  ASSERT_TRUE(pool->set_flags(f, kDax, kDax, {}, kRoot));
  ModelPageCache cache(pool.fs(), *cached);
  const auto doubted = [&] { return pool->dax().counters().copies_doubted.load(); };
  (void)cache.load(0, 1);
  cache.write(0, "first");
  EXPECT_EQ(doubted(), 1U);
  for (int i = 0; i < 10; ++i) cache.write(100, "again");
  EXPECT_EQ(doubted(), 1U);
  pool->mappers().drop_copies(f, {});
  cache.write(100, "to no page that is here");
  EXPECT_EQ(doubted(), 1U);
  (void)cache.load(0, 1);
  cache.write(100, "once more");
  EXPECT_EQ(doubted(), 2U);
}

TEST(Copies, AMapperAndACacheSeeEachOther) {
  TestPool pool(16 * kMiB);
  const Ino f = pool.file(kRootIno, "f", std::string(kBlockSize, 'd'));
  const auto cached = *pool->open(f, O_RDWR, false);
  ASSERT_TRUE(pool->set_flags(f, kDax, kDax, {}, kRoot));
  ModelPageCache cache(pool.fs(), *cached);
  test::ModelMapper mapper(pool.fs());
  test::Mapping m(mapper, f);
  EXPECT_EQ(cache.load(0, 1), "d");
  m.put(10, "mapped");
  EXPECT_FALSE(cache.has(0));
  EXPECT_EQ(cache.load(10, 6), "mapped");
  EXPECT_FALSE(m.pte(FileBlock(0)).is_there);
  cache.store(100, "cached");
  EXPECT_EQ(m.get(100, 6), "cached");
  m.put(10, "MAPPED");
  EXPECT_EQ(cache.load(10, 6), "MAPPED");
  cache.write(200, "written");
  EXPECT_EQ(m.get(200, 7), "written");
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
