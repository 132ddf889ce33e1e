// SPDX-License-Identifier: BSD-3-Clause
//
// What fsync flushes, what it costs, what it promises, and whom it tells of an error.
#include <thread>

#include "base/sync_point.h"
#include "tests/support/pool.h"
#include "tests/unit/dax/dax_pool.h"

namespace udax::dax {
namespace {

using mapping::Mark;
using sync_point::Gate;
using test::bytes;
using test::DaxPool;
using test::kMiB;
using test::kRoot;
using test::Mapping;
using test::ModelMapper;

constexpr uint64_t kLines = kBlockSize / kCacheLine;  // of a page

class Writeback : public DaxPool {
 protected:
  explicit Writeback(media::Granularity granularity = media::Granularity::kCacheLine)
      : DaxPool(64 * kMiB, granularity) {}
  Error fsync(fs::OpenFile& file) {
    const Status done = pool_->fsync(file, false);
    return done ? kFine : done.error();
  }
  static constexpr Error kFine = Error::kNoTty;
};

TEST_F(Writeback, CostsWhatIsDirty) {
  const Ino f = hole("f", 4096 * kBlockSize);
  ModelMapper mapper(pool_.fs());
  Mapping mapping(mapper, f);
  const auto file = open(f);
  for (const uint64_t pages : {0U, 1U, 10U, 100U}) {
    for (uint64_t i = 0; i < pages; ++i) mapping.put(i * 37 * kBlockSize + 5, "dirty");
    const media::Counters before = medium_->counters();
    const CounterValues dax_before = counters();
    const uint64_t protections = mapper.protections();
    EXPECT_EQ(fsync(*file), kFine);
    EXPECT_EQ(medium_->counters().flushed_lines - before.flushed_lines, pages * kLines);
    EXPECT_EQ(medium_->counters().drains - before.drains, pages == 0 ? 0U : 1U);
    EXPECT_EQ(mapper.protections() - protections, pages);
    EXPECT_EQ(counters().entries_flushed - dax_before.entries_flushed, pages);
    EXPECT_EQ(counters().bytes_flushed - dax_before.bytes_flushed, pages * kBlockSize);
    EXPECT_EQ(counters().writebacks - dax_before.writebacks, pages == 0 ? 0U : 1U);
    for (uint64_t i = 0; i < pages; ++i) EXPECT_EQ(after_power_failure(f, i * 37 * kBlockSize + 5, 5), "dirty");
  }
}

// A deep flush does not reach into the CPUs' caches: syncfs and unmounting must flush what was stored through views.
TEST_F(Writeback, SyncOfTheWholeFlushesWhatIsMapped) {
  const Ino files[] = {hole("one", kBlockSize), hole("two", 2 * kBlockSize)};
  ModelMapper mapper(pool_.fs());
  Mapping one(mapper, files[0]);
  Mapping two(mapper, files[1]);
  one.put(5, "synced");
  two.put(kBlockSize, "synced");
  ASSERT_TRUE(pool_->sync());
  EXPECT_EQ(after_power_failure(files[0], 5, 6), "synced");
  EXPECT_EQ(after_power_failure(files[1], kBlockSize, 6), "synced");
  EXPECT_FALSE(one.pte(FileBlock(0)).is_writable);
  const uint64_t protections = mapper.protections();
  ASSERT_TRUE(pool_->sync());
  EXPECT_EQ(mapper.protections(), protections) << "nothing was dirty any more";
}

TEST_F(Writeback, WhatNobodySyncsIsFlushedNowAndThen) {
  const Ino f = hole("f", kBlockSize);
  ModelMapper mapper(pool_.fs());
  Mapping mapping(mapper, f);
  mapping.put(5, "stored");
  const auto file = open(f);
  EXPECT_TRUE(file->inode().has_dirty_data());
  pool_->flush_dirty();
  EXPECT_FALSE(file->inode().has_dirty_data());
  EXPECT_EQ(after_power_failure(f, 5, 6), "stored");
  // Who stored it is told that it may not be there.
  mapping.put(5, "failed");
  medium_->fail_drains(1);
  pool_->flush_dirty();
  EXPECT_EQ(fsync(*file), Error::kIo);
  EXPECT_EQ(fsync(*file), kFine);
}

TEST_F(Writeback, UnmountingFlushesWhatWasMapped) {
  const Ino f = hole("f", kBlockSize);
  {
    ModelMapper mapper(pool_.fs());
    Mapping mapping(mapper, f);
    mapping.put(5, "stored");
  }
  EXPECT_NE(after_power_failure(f, 5, 6), "stored");
  pool_.unmount();
  EXPECT_EQ(after_power_failure(f, 5, 6), "stored");
}

TEST_F(Writeback, AHugeEntryIsFlushedAsOne) {
  const Ino f = hole("f", kHugeSize);
  ModelMapper mapper(pool_.fs(), ModelMapper::Pages::kHuge);
  Mapping mapping(mapper, f);
  mapping.put(5, "first");
  mapping.put(kHugeSize - 4, "last");
  const auto file = open(f);
  const CounterValues before = counters();
  EXPECT_EQ(fsync(*file), kFine);
  EXPECT_EQ(counters().entries_flushed - before.entries_flushed, 1U);
  EXPECT_EQ(counters().bytes_flushed - before.bytes_flushed, kHugeSize);
  EXPECT_EQ(after_power_failure(f, 5, 5), "first");
  EXPECT_EQ(after_power_failure(f, kHugeSize - 4, 4), "last");
  EXPECT_FALSE(mapping.pte(FileBlock(0)).is_writable);
  mapping.put(0, "again");
  EXPECT_EQ(fsync(*file), kFine);
  EXPECT_EQ(after_power_failure(f, 0, 5), "again");
}

TEST_F(Writeback, ARangeIsFlushedAndNothingElse) {
  const Ino f = hole("f", 10 * kBlockSize);
  ModelMapper mapper(pool_.fs());
  Mapping mapping(mapper, f);
  for (uint64_t i = 0; i < 10; ++i) mapping.put(i * kBlockSize, "x");
  const auto file = open(f);
  EXPECT_TRUE(pool_->dax().writeback(file->inode(), FileBlock(3), FileBlock(5)));
  EXPECT_EQ(entries(*file).dirty_blocks(), 8U);
  EXPECT_FALSE(entries(*file).any(FileBlock(3), FileBlock(5), Mark::kDirty));
  EXPECT_FALSE(entries(*file).any(FileBlock(0), FileBlock(10), Mark::kToWrite));
  EXPECT_TRUE(pool_->dax().writeback(file->inode(), FileBlock(5), FileBlock(5)));
  EXPECT_EQ(entries(*file).dirty_blocks(), 8U);
}

TEST_F(Writeback, AnErrorIsToldToEachOpenerOnce) {
  const Ino f = hole("f", kBlockSize);
  ModelMapper mapper(pool_.fs());
  Mapping mapping(mapper, f);
  const auto first = open(f);
  const auto second = open(f);
  mapping.put(0, "x");
  medium_->fail_drains(1);
  EXPECT_EQ(fsync(*first), Error::kIo);
  EXPECT_EQ(fsync(*first), kFine);
  const auto later = open(f);
  EXPECT_EQ(fsync(*later), kFine) << "opened after it";
  EXPECT_EQ(fsync(*second), Error::kIo) << "on whoever's behalf";
  EXPECT_EQ(fsync(*second), kFine);
  mapping.put(0, "y");
  EXPECT_EQ(fsync(*second), kFine);
  EXPECT_EQ(after_power_failure(f, 0, 1), "y");
}

// Regression: one writeback had cleared the marks, and failed to drain, before another, which found nothing dirty, looked
// whether anybody fails: that one said that all was durable.
TEST_F(Writeback, WhoFindsNothingDirtyTellsOfAFailureMeanwhile) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "sync points are not compiled in";
  const Ino f = hole("f", kBlockSize);
  ModelMapper mapper(pool_.fs());
  Mapping mapping(mapper, f);
  mapping.put(0, "x");
  const auto file = open(f);
  const auto writeback = [&] { return pool_->dax().writeback(file->inode(), FileBlock(0), FileBlock(1)); };
  Status first;
  Status second;
  std::thread a;
  std::thread b;
  {
    Gate before_drain("dax.writeback.before_drain");
    Gate tagged("dax.writeback.tagged", 1);  // the second that gets there
    medium_->fail_drains(1);
    a = std::thread([&] { first = writeback(); });
    EXPECT_TRUE(before_drain.wait_reached());
    b = std::thread([&] { second = writeback(); });
    EXPECT_TRUE(tagged.wait_reached());
    // `a` fails, and then waits for `b`, which has begun.
    Gate drained("dax.writeback.drained");
    before_drain.open();
    EXPECT_TRUE(drained.wait_reached());
    drained.open();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    tagged.open();
  }
  a.join();
  b.join();
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error(), Error::kIo);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error(), Error::kIo);
}

// --- a medium whose granularity is a page -------------------------------------------------------------------------

class PageWriteback : public Writeback {
 protected:
  PageWriteback() : Writeback(media::Granularity::kPage) {}
};

TEST_F(PageWriteback, OverwrittenBytesAreDurableAfterFsync) {
  const Ino f = pool_.file(kRootIno, "f", std::string(20 * kBlockSize, 'o'));
  const auto file = open(f);
  EXPECT_EQ(fsync(*file), kFine);
  pool_.write(f, 5 * kBlockSize + 100, "new");
  pool_.write(f, 8 * kBlockSize - 2, "over a border");
  EXPECT_EQ(entries(*file).dirty_blocks(), 3U);
  EXPECT_EQ(after_power_failure(f, 5 * kBlockSize + 100, 3), "ooo");
  EXPECT_EQ(fsync(*file), kFine);
  EXPECT_EQ(entries(*file).dirty_blocks(), 0U);
  EXPECT_EQ(after_power_failure(f, 5 * kBlockSize + 100, 3), "new");
  EXPECT_EQ(after_power_failure(f, 8 * kBlockSize - 2, 13), "over a border");
  EXPECT_EQ(counters().entries_flushed, 3U);
}

TEST_F(PageWriteback, AFileMarkedSyncIsDurableAtOnce) {
  const Ino f = pool_.file(kRootIno, "f", std::string(kBlockSize, 'o'));
  ASSERT_TRUE(pool_->set_flags(f, format::kFlagSync, format::kFlagSync, {}, kRoot));
  pool_.write(f, 10, "new");
  EXPECT_EQ(after_power_failure(f, 10, 3), "new");
  ASSERT_TRUE(pool_->set_flags(f, 0, format::kFlagSync, {}, kRoot));
  pool_.write(f, 20, "newer");
  EXPECT_EQ(after_power_failure(f, 20, 5), "ooooo");
}

TEST_F(PageWriteback, AWriteOverADirtyMappedPageLeavesItDirty) {
  const Ino f = hole("f", kBlockSize);
  ModelMapper mapper(pool_.fs());
  Mapping mapping(mapper, f);
  mapping.put(0, "stored");
  pool_.write(f, 100, "written");
  const auto file = open(f);
  EXPECT_EQ(entries(*file).dirty_blocks(), 1U);
  EXPECT_EQ(mapping.get(100, 7), "written");
  EXPECT_EQ(fsync(*file), kFine);
  EXPECT_EQ(after_power_failure(f, 0, 6), "stored");
  EXPECT_EQ(after_power_failure(f, 100, 7), "written");
}

TEST_F(PageWriteback, DirtyPagesOutliveTheirHandle) {
  const Ino f = pool_.file(kRootIno, "f", std::string(kBlockSize, 'o'));
  pool_.write(f, 0, "new");  // opens and closes
  const auto file = open(f);
  EXPECT_EQ(entries(*file).dirty_blocks(), 1U);
  EXPECT_EQ(fsync(*file), kFine);
  EXPECT_EQ(after_power_failure(f, 0, 3), "new");
}

}  // namespace
}  // namespace udax::dax
