// SPDX-License-Identifier: BSD-3-Clause
//
// Each kind of fault: what is mapped, what entry is left, what is allocated, and what is counted.
#include "base/sync_point.h"
#include "tests/support/pool.h"
#include "tests/unit/dax/dax_pool.h"

namespace udax::dax {
namespace {

using mapping::kHugeOrder;
using mapping::Mark;
using test::bytes;
using test::DaxPool;
using test::Faulted;
using test::kMiB;
using test::kRoot;

class Fault : public DaxPool {
 protected:
  static void expect_mapped(const Faulted& f, uint64_t start, uint64_t count, bool is_zero, bool is_writable) {
    ASSERT_TRUE(f.result) << to_string(f.result.error());
    EXPECT_EQ(*f.result, FaultResult::kMapped);
    ASSERT_TRUE(f.view);
    EXPECT_EQ(f.view->start, FileBlock(start));
    EXPECT_EQ(f.view->count, count);
    EXPECT_EQ(f.view->is_zero(), is_zero);
    EXPECT_EQ(f.view->is_writable, is_writable);
  }
  static void expect_error(const Faulted& f, Error error) {
    ASSERT_FALSE(f.result);
    EXPECT_EQ(f.result.error(), error);
    EXPECT_FALSE(f.view);
  }
  bool is_dirty(fs::OpenFile& file, uint64_t at) {
    return entries(file).any(FileBlock(at), FileBlock(at + 1), Mark::kDirty);
  }
};

TEST_F(Fault, ReadOfDataMapsIt) {
  const Ino f = pool_.file(kRootIno, "f", std::string(2 * kBlockSize, 'd'));
  const auto file = open(f);
  const Faulted fault1 = fault(*file, 1, Access::kRead);
  expect_mapped(fault1, 1, 1, false, false);
  EXPECT_EQ(static_cast<char>(*medium_->block(fault1.view->device)), 'd');
  EXPECT_FALSE(is_dirty(*file, 1));
  EXPECT_EQ(entries(*file).entries(), 1U);
  EXPECT_EQ(counters().read_data, 1U);
}

TEST_F(Fault, ReadOfAHoleOrUnwrittenBlocksAllocatesNothing) {
  const Ino f = hole("f", 2 * kBlockSize);
  fallocate(f, fs::kFallocKeepSize, kBlockSize, kBlockSize);
  const auto file = open(f);
  const uint64_t free = pool_.free_blocks();
  expect_mapped(fault(*file, 0, Access::kRead), 0, 1, true, false);
  expect_mapped(fault(*file, 1, Access::kRead), 1, 1, true, false);
  EXPECT_EQ(pool_.free_blocks(), free);
  EXPECT_EQ(counters().read_zero, 2U);
  EXPECT_EQ(pool_->getattr(f)->blocks, 1U);
}

TEST_F(Fault, WriteToAHoleAllocatesZeroedAndDurable) {
  const Ino f = hole("f", 2 * kBlockSize);
  const auto file = open(f);
  const Faulted fault1 = fault(*file, 1, Access::kWrite);
  expect_mapped(fault1, 1, 1, false, true);
  EXPECT_EQ(pool_.read(f, kBlockSize, kBlockSize), std::string(kBlockSize, '\0'));
  EXPECT_EQ(after_power_failure(f, 0, 2 * kBlockSize), std::string(2 * kBlockSize, '\0'));
  EXPECT_TRUE(is_dirty(*file, 1));
  EXPECT_EQ(pool_->getattr(f)->blocks, 1U);
  EXPECT_EQ(counters().write_filled, 1U);
  EXPECT_EQ(counters().zero_views_dropped, 0U) << "there were none";
}

TEST_F(Fault, WriteToUnwrittenBlocksTakesThoseBlocks) {
  const Ino f = hole("f", 3 * kBlockSize);
  fallocate(f, 0, 0, 3 * kBlockSize);
  const auto file = open(f);
  const auto before = *pool_->extents(f, 0, 8);
  const Faulted fault1 = fault(*file, 1, Access::kWrite);
  expect_mapped(fault1, 1, 1, false, true);
  EXPECT_EQ(offset_of(fault1.view->device), before[0].device_offset + kBlockSize);
  EXPECT_EQ(pool_->getattr(f)->blocks, 3U);
  EXPECT_EQ(pool_.content(f), std::string(3 * kBlockSize, '\0'));
  EXPECT_EQ(pool_->extents(f, 0, 8)->size(), 3U) << "only the middle one is written";
}

TEST_F(Fault, WriteAfterAReadOfAHoleTakesTheZeroViewsBack) {
  const Ino f = hole("f", kBlockSize);
  test::ModelMapper mapper(pool_.fs());
  const auto file = open(f);
  expect_mapped(fault(*file, 0, Access::kRead), 0, 1, true, false);
  const uint64_t before = mapper.invalidations();
  expect_mapped(fault(*file, 0, Access::kWrite), 0, 1, false, true);
  EXPECT_EQ(mapper.invalidations(), before + 1);
  EXPECT_EQ(counters().zero_views_dropped, 1U);
}

TEST_F(Fault, WriteOfDataMarksItDirtyAndChangesTheTimes) {
  const Ino f = pool_.file(kRootIno, "f", std::string(kBlockSize, 'd'));
  const auto file = open(f);
  expect_mapped(fault(*file, 0, Access::kRead), 0, 1, false, false);
  const auto make_old = [&] {
    fs::SetAttr s;
    s.mtime = format::TimeStamp{1, 2};
    EXPECT_TRUE(pool_->setattr(f, s, kRoot));
  };
  for (int round = 0; round < 2; ++round) {
    make_old();
    expect_mapped(fault(*file, 0, Access::kWrite), 0, 1, false, true);
    EXPECT_TRUE(is_dirty(*file, 0));
    EXPECT_GT(pool_->getattr(f)->mtime.seconds, 1);
    EXPECT_EQ(pool_->getattr(f)->mtime, pool_->getattr(f)->ctime);
    EXPECT_TRUE(pool_->fsync(*file, false));
    EXPECT_FALSE(is_dirty(*file, 0));
  }
  make_old();
  expect_mapped(fault(*file, 0, Access::kRead), 0, 1, false, false);
  EXPECT_EQ(pool_->getattr(f)->mtime.seconds, 1);
  EXPECT_EQ(counters().write_data, 2U);
}

TEST_F(Fault, WriteToAHoleChangesTheTimes) {
  const Ino f = hole("f", kBlockSize);
  fs::SetAttr s;
  s.mtime = format::TimeStamp{1, 2};
  EXPECT_TRUE(pool_->setattr(f, s, kRoot));
  expect_mapped(fault(*open(f), 0, Access::kWrite), 0, 1, false, true);
  EXPECT_GT(pool_->getattr(f)->mtime.seconds, 1);
}

TEST_F(Fault, CopyLeavesNoEntry) {
  const Ino f = hole("f", 2 * kBlockSize);
  pool_.write(f, 0, "data");
  const auto file = open(f);
  expect_mapped(fault(*file, 0, Access::kCopy, kHugeOrder), 0, 1, false, false);
  expect_mapped(fault(*file, 1, Access::kCopy, kHugeOrder), 1, 1, true, false);
  EXPECT_TRUE(entries(*file).empty());
  EXPECT_EQ(counters().copied, 2U);
  EXPECT_EQ(pool_->getattr(f)->blocks, 1U);
}

TEST_F(Fault, BehindTheEnd) {
  const Ino f = pool_.file(kRootIno, "f", std::string(kBlockSize + 1, 'd'));
  const auto file = open(f);
  for (const Access access : {Access::kRead, Access::kWrite, Access::kCopy}) {
    expect_mapped(fault(*file, 1, access), 1, 1, false, access == Access::kWrite);
    const Faulted behind = fault(*file, 2, access, kHugeOrder);
    ASSERT_TRUE(behind.result);
    EXPECT_EQ(*behind.result, FaultResult::kBeyondEnd);
    EXPECT_FALSE(behind.view);
    EXPECT_EQ(*fault(*file, mapping::kFileBlockEnd - 1, access).result, FaultResult::kBeyondEnd);
  }
  EXPECT_EQ(counters().beyond_end, 6U);
  EXPECT_EQ(pool_->getattr(f)->blocks, 2U);
  resize(f, 0);
  EXPECT_EQ(*fault(*file, 0, Access::kRead).result, FaultResult::kBeyondEnd);
}

// --- 2 MiB -------------------------------------------------------------------------------------------------------

TEST_F(Fault, HugeHoleIsFilledWhole) {
  const Ino f = hole("f", 2 * kHugeSize);
  const auto file = open(f);
  expect_mapped(fault(*file, 600, Access::kRead, kHugeOrder), 512, 512, true, false);
  EXPECT_EQ(entries(*file).entries(), 1U);
  const Faulted filled = fault(*file, 700, Access::kWrite, kHugeOrder);
  expect_mapped(filled, 512, 512, false, true);
  EXPECT_EQ(filled.view->device.value % kHugeBlocks, 0U);
  EXPECT_EQ(pool_->getattr(f)->blocks, 512U);
  EXPECT_EQ(pool_.read(f, kHugeSize, kHugeSize), std::string(kHugeSize, '\0'));
  EXPECT_EQ(entries(*file).dirty_blocks(), 512U);
  EXPECT_EQ(counters().huge, 2U);
  expect_mapped(fault(*file, 513, Access::kRead, kHugeOrder), 512, 512, false, false);
}

TEST_F(Fault, HugeUnwrittenWindow) {
  const Ino f = hole("f", kHugeSize);
  fallocate(f, 0, 0, kHugeSize);
  const auto extents = *pool_->extents(f, 0, 8);
  ASSERT_EQ(extents.size(), 1U);
  ASSERT_EQ(extents[0].device_offset % kHugeSize, 0U);
  const auto file = open(f);
  expect_mapped(fault(*file, 5, Access::kRead, kHugeOrder), 0, 512, true, false);
  const Faulted filled = fault(*file, 5, Access::kWrite, kHugeOrder);
  expect_mapped(filled, 0, 512, false, true);
  EXPECT_EQ(offset_of(filled.view->device), extents[0].device_offset);
  EXPECT_EQ(pool_.content(f), std::string(kHugeSize, '\0'));
}

TEST_F(Fault, HugeDataOnlyWhereItIsAlignedOnTheDevice) {
  const Ino aligned = pool_.file(kRootIno, "aligned");
  fallocate(aligned, 0, 0, kHugeSize);
  pool_.write(aligned, 0, std::string(kHugeSize, 'd'));
  const auto file = open(aligned);
  expect_mapped(fault(*file, 511, Access::kRead, kHugeOrder), 0, 512, false, false);

  const Ino crooked = pool_.file(kRootIno, "crooked");
  for (uint64_t i = 0; i < 512; ++i) pool_.write(crooked, i * kBlockSize, std::string(kBlockSize, 'd'));
  const auto extents = *pool_->extents(crooked, 0, 8);
  const auto file2 = open(crooked);
  const Faulted small = fault(*file2, 7, Access::kRead, kHugeOrder);
  if (extents.size() > 1 || extents[0].device_offset % kHugeSize != 0) {
    expect_mapped(small, 7, 1, false, false);
  }
}

TEST_F(Fault, NoHugeViewAcrossTheEnd) {
  const Ino f = hole("f", kHugeSize - kBlockSize);
  const auto file = open(f);
  expect_mapped(fault(*file, 510, Access::kRead, kHugeOrder), 510, 1, true, false);
  expect_mapped(fault(*file, 509, Access::kWrite, kHugeOrder), 509, 1, false, true);
  EXPECT_EQ(pool_->getattr(f)->blocks, 1U);
  const Ino g = hole("g", kHugeSize - 1);
  expect_mapped(fault(*open(g), 0, Access::kRead, kHugeOrder), 0, 512, true, false);
}

TEST_F(Fault, NoHugeViewWhereAPageIsInUse) {
  const Ino f = hole("f", kHugeSize);
  const auto file = open(f);
  expect_mapped(fault(*file, 100, Access::kRead), 100, 1, true, false);
  expect_mapped(fault(*file, 200, Access::kRead, kHugeOrder), 200, 1, true, false);
  expect_mapped(fault(*file, 200, Access::kWrite, kHugeOrder), 200, 1, false, true);
  EXPECT_EQ(pool_->getattr(f)->blocks, 1U);
}

// A window that is not one thing any more when it is written to: its zero views go, a page comes.
TEST_F(Fault, HugeZeroViewOverAWindowThatIsNoHoleAnyMore) {
  const Ino f = hole("f", kHugeSize);
  test::ModelMapper mapper(pool_.fs(), test::ModelMapper::Pages::kHuge);
  test::Mapping mapping(mapper, f);
  EXPECT_EQ(mapping.get(0, 1), std::string(1, '\0'));
  EXPECT_TRUE(mapping.pte(FileBlock(300)).is_huge);
  pool_.write(f, 300 * kBlockSize, "written");
  EXPECT_EQ(mapping.get(300 * kBlockSize, 7), "written");
  mapping.put(5, "stored");
  EXPECT_FALSE(mapping.pte(FileBlock(0)).is_huge);
  EXPECT_EQ(pool_->getattr(f)->blocks, 2U);
}

TEST_F(Fault, AMapperOfPagesIsGivenPagesOfA2MiBEntry) {
  const Ino f = hole("f", kHugeSize);
  const auto file = open(f);
  expect_mapped(fault(*file, 0, Access::kRead, kHugeOrder), 0, 512, true, false);
  expect_mapped(fault(*file, 9, Access::kRead), 9, 1, true, false);
  const Faulted huge = fault(*file, 0, Access::kWrite, kHugeOrder);
  expect_mapped(huge, 0, 512, false, true);
  const Faulted page = fault(*file, 9, Access::kWrite);
  expect_mapped(page, 9, 1, false, true);
  EXPECT_EQ(page.view->device, huge.view->device + 9);
  EXPECT_EQ(counters().huge, 2U);
}

TEST_F(Fault, WithoutAnAlignedRunAPageIsFilled) {
  // All of the pool, of which every other block is given back.
  const Ino big = pool_.file(kRootIno, "big");
  for (uint64_t size = pool_.free_blocks() * kBlockSize; size > kBlockSize; size -= 16 * kBlockSize) {
    if (pool_->fallocate(*open(big), 0, 0, size)) break;
  }
  const uint64_t blocks = pool_->getattr(big)->size / kBlockSize;
  ASSERT_GT(blocks, 4000U);
  for (uint64_t i = 0; i + 1 < blocks; i += 2) {
    fallocate(big, fs::kFallocPunchHole | fs::kFallocKeepSize, i * kBlockSize, kBlockSize);
  }
  const Ino f = hole("f", kHugeSize);
  const auto file = open(f);
  expect_mapped(fault(*file, 3, Access::kRead, kHugeOrder), 0, 512, true, false);
  expect_mapped(fault(*file, 3, Access::kWrite, kHugeOrder), 3, 1, false, true);
  EXPECT_EQ(pool_->getattr(f)->blocks, 1U);
  expect_mapped(fault(*file, 4, Access::kRead, kHugeOrder), 4, 1, true, false);
}

// --- errors ------------------------------------------------------------------------------------------------------

TEST_F(Fault, NoSpaceLeavesNothingBehind) {
  const Ino f = hole("f", 2 * kHugeSize);
  const auto file = open(f);
  expect_mapped(fault(*file, 0, Access::kRead, kHugeOrder), 0, 512, true, false);
  const Ino big = pool_.file(kRootIno, "big");
  {
    const auto filler = open(big);
    const std::string block(kBlockSize, 'b');
    for (uint64_t at = 0;; at += kBlockSize) {
      if (!pool_->write(*filler, at, bytes(block), false, false)) break;
    }
  }
  const uint64_t free = pool_.free_blocks();
  expect_error(fault(*file, 600, Access::kWrite), Error::kNoSpace);
  expect_error(fault(*file, 601, Access::kWrite, kHugeOrder), Error::kNoSpace);
  expect_error(fault(*file, 3, Access::kWrite, kHugeOrder), Error::kNoSpace);
  EXPECT_EQ(pool_.free_blocks(), free);
  EXPECT_EQ(pool_->getattr(f)->blocks, 0U);
  EXPECT_EQ(entries(*file).dirty_blocks(), 0U);
  EXPECT_EQ(counters().failed, 3U);
  EXPECT_EQ(entries(*file).audit(), "");
  ASSERT_TRUE(pool_->unlink(kRootIno, "big"));
  expect_mapped(fault(*file, 600, Access::kWrite), 600, 1, false, true);
}

TEST_F(Fault, CorruptedExtentsAreCountedAndNotTrusted) {
  const Ino f = pool_.file(kRootIno, "f", std::string(kBlockSize, 'd'));
  const auto file = open(f);
  inode::Inode& inode = file->inode();
  const format::Inode good = inode.snapshot();
  const auto publish = [&](const format::Inode& image) {
    const LockGuard guard(inode.extent_lock);
    inode.publish(image);
  };
  using Break = void (*)(format::Extent&);
  const Break breaks[] = {
      [](format::Extent& e) { e.device_block = uint64_t{1} << 40; },  // outside of the pool
      [](format::Extent& e) { e.device_block = 0; },                  // the superblock
      [](format::Extent& e) { e.count = 0; },                         // shorter than a page
  };
  uint64_t corruptions = pool_->stats().corruptions;
  for (const Break& broken : breaks) {
    format::Inode bad = good;
    format::Extent extent;
    std::memcpy(&extent, bad.payload, sizeof extent);
    broken(extent);
    std::memcpy(bad.payload, &extent, sizeof extent);
    publish(bad);
    for (const Access access : {Access::kRead, Access::kWrite, Access::kCopy}) {
      expect_error(fault(*file, 0, access), Error::kCorrupted);
    }
    EXPECT_GT(pool_->stats().corruptions, corruptions);
    corruptions = pool_->stats().corruptions;
  }
  publish(good);
  EXPECT_EQ(entries(*file).audit(), "");
  expect_mapped(fault(*file, 0, Access::kRead), 0, 1, false, false);
}

TEST_F(Fault, LostMediaAreAnErrorOfTheirPageOnly) {
  const Ino f = pool_.file(kRootIno, "f", std::string(2 * kBlockSize, 'd'));
  const auto file = open(f);
  const Faulted good = fault(*file, 1, Access::kRead);
  medium_->lose(good.view->device);
  expect_mapped(fault(*file, 0, Access::kWrite), 0, 1, false, true);
  for (const Access access : {Access::kRead, Access::kWrite, Access::kCopy}) {
    expect_error(fault(*file, 1, access), Error::kIo);
  }
  medium_->lose(kNoBlock);
  expect_mapped(fault(*file, 1, Access::kRead), 1, 1, false, false);
}

TEST_F(Fault, OnlyFilesCanBeMapped) {
  const auto fifo = pool_->make(kRootIno, "fifo", 0010644, 0, 0, kRoot);
  const auto file = *pool_->open(fifo->ino, O_RDONLY, false);
  expect_error(fault(*file, 0, Access::kRead), Error::kInvalid);
  expect_error(fault(**pool_->open(kRootIno, O_RDONLY, false), 0, Access::kRead), Error::kInvalid);
}

TEST_F(Fault, AMapperThatRefusesGivesItsError) {
  const Ino f = hole("f", kBlockSize);
  const auto file = open(f);
  const auto refuse = [](const View&) -> Status { return Error::kNoMemory; };
  for (const Access access : {Access::kRead, Access::kWrite, Access::kCopy}) {
    const auto result = pool_->dax().fault(file->inode(), FileBlock(0), access, 0, refuse);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error(), Error::kNoMemory);
  }
  EXPECT_EQ(entries(*file).audit(), "");
  expect_mapped(fault(*file, 0, Access::kWrite), 0, 1, false, true);
}

// Regression: only the medium was asked, so that a store to a read-only mount of a writable pool changed it.
TEST(FaultReadOnly, AReadOnlyMountOfAWritablePoolIsNotStoredTo) {
  const auto medium = std::make_shared<media::MemoryMedium>(16 * kMiB);
  Ino f;
  {
    test::TestPool pool(medium, true);
    f = pool.file(kRootIno, "f", std::string(kBlockSize, 'd'));
  }
  fs::MountOptions options;
  options.read_only = true;
  test::TestPool pool(medium, false, options);
  test::ModelMapper mapper(pool.fs());
  test::Mapping mapping(mapper, f);
  EXPECT_EQ(mapping.get(0, 4), "dddd");
  EXPECT_EQ(mapping.store(0, "x", 1), test::Touch::kFailed);
  EXPECT_EQ(mapping.error(), Error::kReadOnly);
  test::Mapping own(mapper, f, test::Mapping::Kind::kPrivate);
  own.put(0, "mine");
  EXPECT_EQ(own.get(0, 5), "mined");
  EXPECT_EQ(pool.content(f), std::string(kBlockSize, 'd'));
}

}  // namespace
}  // namespace udax::dax
