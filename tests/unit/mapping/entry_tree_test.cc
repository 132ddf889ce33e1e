// SPDX-License-Identifier: BSD-3-Clause
//
// Each operation of the entry tree by itself, on one thread.
#include "mapping/entry_tree.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace udax::mapping {
namespace {

using Kind = Entry::Kind;

constexpr uint64_t kLast = kFileBlockEnd - 1;

Entry data(uint64_t device) { return {Kind::kData, DeviceBlock(device)}; }
constexpr Entry kZeroes{Kind::kZero, DeviceBlock(0)};

class EntryTreeTest : public ::testing::Test {
 protected:
  ~EntryTreeTest() override { EXPECT_EQ(tree_.audit(), ""); }

  void put(uint64_t at, uint32_t order, Entry entry, const std::vector<Mark>& marks = {}) {
    auto locked = tree_.grab(FileBlock(at), order);
    ASSERT_TRUE(locked);
    ASSERT_EQ(locked->order(), order);
    locked->set(entry);
    for (const Mark mark : marks) locked->set_mark(mark);
  }
  [[nodiscard]] bool has(uint64_t from, uint64_t to) const { return tree_.any(FileBlock(from), FileBlock(to)); }
  [[nodiscard]] bool has(uint64_t from, uint64_t to, Mark mark) const {
    return tree_.any(FileBlock(from), FileBlock(to), mark);
  }
  // (start, order) of all entries in the range.
  std::vector<std::pair<uint64_t, uint32_t>> list(uint64_t from = 0, uint64_t to = kFileBlockEnd) {
    std::vector<std::pair<uint64_t, uint32_t>> found;
    while (auto e = tree_.grab_next(FileBlock(from), FileBlock(to))) {
      found.emplace_back(e->start().value, e->order());
      from = e->end().value;
    }
    return found;
  }

  EntryTree tree_;
};

TEST_F(EntryTreeTest, EmptyTreeHasNothing) {
  EXPECT_TRUE(tree_.empty());
  EXPECT_EQ(tree_.entries(), 0U);
  EXPECT_FALSE(tree_.grab_existing(FileBlock(0)));
  EXPECT_FALSE(tree_.grab_next(FileBlock(0), FileBlock(kFileBlockEnd)));
  EXPECT_FALSE(has(0, kFileBlockEnd));
  EXPECT_EQ(tree_.tag(FileBlock(0), FileBlock(kFileBlockEnd), Mark::kDirty, Mark::kToWrite), 0U);
  EXPECT_TRUE(tree_.erase_range(FileBlock(0), FileBlock(~uint64_t{0})));
}

TEST_F(EntryTreeTest, GrabInsertsAPlaceholderThatUnlockingErases) {
  for (const uint64_t at : {uint64_t{0}, uint64_t{1}, uint64_t{64}, uint64_t{1} << 40, kLast}) {
    {
      auto locked = tree_.grab(FileBlock(at), kPageOrder);
      ASSERT_TRUE(locked);
      EXPECT_EQ(locked->start(), FileBlock(at));
      EXPECT_EQ(locked->count(), 1U);
      EXPECT_EQ(locked->entry(), Entry{});
      EXPECT_EQ(tree_.entries(), 1U);
      EXPECT_TRUE(has(at, at + 1));
      EXPECT_EQ(tree_.audit(), "");
    }
    EXPECT_TRUE(tree_.empty());
    EXPECT_FALSE(has(0, kFileBlockEnd));
  }
}

TEST_F(EntryTreeTest, ValuesStay) {
  put(0, kPageOrder, data(7));
  put(5, kPageOrder, kZeroes);
  put(kLast, kPageOrder, data((uint64_t{1} << 51) - 1));
  EXPECT_EQ(tree_.grab_existing(FileBlock(0))->entry(), data(7));
  EXPECT_EQ(tree_.grab_existing(FileBlock(5))->entry(), kZeroes);
  EXPECT_EQ(tree_.grab(FileBlock(kLast), kHugeOrder)->entry(), data((uint64_t{1} << 51) - 1));
  EXPECT_FALSE(tree_.grab_existing(FileBlock(1)));
  EXPECT_FALSE(tree_.grab_existing(FileBlock(kLast - 1)));
  EXPECT_EQ(tree_.entries(), 3U);
}

TEST_F(EntryTreeTest, BlocksPastTheEndOfTheLargestFileAreRefused) {
  EXPECT_EQ(tree_.grab(FileBlock(kFileBlockEnd), kPageOrder).error(), Error::kFileTooBig);
  EXPECT_EQ(tree_.grab(FileBlock(~uint64_t{0}), kHugeOrder).error(), Error::kFileTooBig);
  EXPECT_EQ(tree_.mark_dirty_run(FileBlock(kLast), DeviceBlock(1), 2).error(), Error::kFileTooBig);
  EXPECT_EQ(tree_.mark_dirty_run(FileBlock(5), DeviceBlock(1), ~uint64_t{0}).error(), Error::kFileTooBig);
  put(kLast, kPageOrder, data(1));
  put(0, kPageOrder, data(1));
  EXPECT_FALSE(tree_.grab_existing(FileBlock(kFileBlockEnd)));
  EXPECT_FALSE(tree_.grab_existing(FileBlock(~uint64_t{0})));
  EXPECT_FALSE(tree_.grab_next(FileBlock(kFileBlockEnd), FileBlock(~uint64_t{0})));
  EXPECT_TRUE(tree_.mark_dirty_run(FileBlock(kLast), DeviceBlock(9), 1));
  EXPECT_EQ(tree_.entries(), 2U);
}

TEST_F(EntryTreeTest, HugeEntryCoversItsBlocks) {
  put(1024 + 77, kHugeOrder, data(5120));
  for (const uint64_t at : {1024U, 1025U, 1087U, 1088U, 1535U}) {
    auto found = tree_.grab_existing(FileBlock(at));
    ASSERT_TRUE(found);
    EXPECT_EQ(found->start(), FileBlock(1024));
    EXPECT_EQ(found->end(), FileBlock(1536));
    EXPECT_EQ(found->entry(), data(5120));
  }
  EXPECT_FALSE(tree_.grab_existing(FileBlock(1023)));
  EXPECT_FALSE(tree_.grab_existing(FileBlock(1536)));
  EXPECT_EQ(tree_.grab(FileBlock(1300), kPageOrder)->order(), kHugeOrder);
  EXPECT_EQ(tree_.entries(), 1U);
  EXPECT_TRUE(has(1535, 1536));
  EXPECT_TRUE(has(0, 1025));
  EXPECT_FALSE(has(0, 1024));
}

TEST_F(EntryTreeTest, HugeIsAskedForButPagesAreThere) {
  for (const uint64_t there : {uint64_t{0}, uint64_t{511}, uint64_t{100}}) {
    put(there, kPageOrder, kZeroes);
    EXPECT_EQ(tree_.grab(FileBlock(300), kHugeOrder)->order(), kPageOrder);
    tree_.grab_existing(FileBlock(there))->erase();
    EXPECT_TRUE(tree_.empty());
    EXPECT_EQ(tree_.audit(), "");
  }
  EXPECT_EQ(tree_.grab(FileBlock(300), kHugeOrder)->order(), kHugeOrder);
}

TEST_F(EntryTreeTest, LockedEntryOfBlock0StaysInReachWhileTheTreeGrows) {
  auto first = tree_.grab(FileBlock(0), kPageOrder);
  ASSERT_TRUE(first);
  put(kLast, kPageOrder, data(3), {Mark::kDirty});
  first->set(data(9));
  first->set_mark(Mark::kDirty);
  EXPECT_TRUE(first->marked(Mark::kDirty));
  EXPECT_EQ(tree_.audit(), "");
  tree_.grab_existing(FileBlock(kLast))->erase();
  first->unlock();
  EXPECT_EQ(tree_.grab_existing(FileBlock(0))->entry(), data(9));
  EXPECT_EQ(tree_.dirty_blocks(), 1U);
}

TEST_F(EntryTreeTest, MarksOfTheEntryInTheTreeItselfMoveWithIt) {
  put(0, kPageOrder, data(4), {Mark::kDirty, Mark::kToWrite});
  put(512, kHugeOrder, data(512));
  EXPECT_EQ(tree_.audit(), "");
  EXPECT_TRUE(has(0, 1, Mark::kDirty));
  EXPECT_TRUE(has(0, kFileBlockEnd, Mark::kToWrite));
  EXPECT_FALSE(has(1, kFileBlockEnd, Mark::kDirty));
}

TEST_F(EntryTreeTest, MarksAreFoundInOrderAndCounted) {
  put(3, kPageOrder, data(3), {Mark::kDirty});
  put(4, kPageOrder, data(4));
  put(1024, kHugeOrder, data(1024), {Mark::kDirty});
  put(uint64_t{1} << 30, kPageOrder, data(9), {Mark::kDirty});
  EXPECT_EQ(tree_.dirty_blocks(), 514U);
  std::vector<uint64_t> found;
  FileBlock from(0);
  while (auto e = tree_.grab_next_marked(from, FileBlock(kFileBlockEnd), Mark::kDirty)) {
    EXPECT_TRUE(e->marked(Mark::kDirty));
    found.push_back(e->start().value);
    from = e->end();
    e->clear_mark(Mark::kDirty);
    EXPECT_FALSE(e->marked(Mark::kDirty));
  }
  EXPECT_EQ(found, (std::vector<uint64_t>{3, 1024, uint64_t{1} << 30}));
  EXPECT_EQ(tree_.dirty_blocks(), 0U);
  EXPECT_EQ(tree_.entries(), 4U);
}

TEST_F(EntryTreeTest, WalkByMarkBeginsWithinAHugeEntry) {
  put(512, kHugeOrder, data(512), {Mark::kToWrite});
  const auto e = tree_.grab_next_marked(FileBlock(1023), FileBlock(1024), Mark::kToWrite);
  ASSERT_TRUE(e);
  EXPECT_EQ(e->start(), FileBlock(512));
}

TEST_F(EntryTreeTest, TagTakesWhatIsMarkedInTheRange) {
  for (uint64_t at = 0; at < 300; ++at)
    put(at, kPageOrder, data(at + 1), at % 3 == 0 ? std::vector{Mark::kDirty} : std::vector<Mark>{});
  put(1024, kHugeOrder, data(1024), {Mark::kDirty});
  EXPECT_EQ(tree_.tag(FileBlock(1), FileBlock(101), Mark::kDirty, Mark::kToWrite), 33U);
  EXPECT_TRUE(has(99, 100, Mark::kToWrite));
  EXPECT_FALSE(has(0, 3, Mark::kToWrite));
  EXPECT_FALSE(has(100, kFileBlockEnd, Mark::kToWrite));
  EXPECT_EQ(tree_.tag(FileBlock(1500), FileBlock(1501), Mark::kDirty, Mark::kToWrite), 1U);
  EXPECT_TRUE(has(1024, 1025, Mark::kToWrite));
  EXPECT_EQ(tree_.tag(FileBlock(0), FileBlock(kFileBlockEnd), Mark::kToWrite, Mark::kDirty), 34U);
  EXPECT_EQ(tree_.dirty_blocks(), 100U + 512U);
}

TEST_F(EntryTreeTest, TagMarksLockedEntries) {
  put(6, kPageOrder, data(6), {Mark::kDirty});
  auto held = tree_.grab_existing(FileBlock(6));
  EXPECT_EQ(tree_.tag(FileBlock(0), FileBlock(10), Mark::kDirty, Mark::kToWrite), 1U);
  EXPECT_TRUE(held->marked(Mark::kToWrite));
}

TEST_F(EntryTreeTest, OnlyDataKeepsItsMarks) {
  put(2, kPageOrder, data(2), {Mark::kDirty, Mark::kToWrite});
  auto e = tree_.grab_existing(FileBlock(2));
  e->set(data(8));
  EXPECT_TRUE(e->marked(Mark::kDirty));
  e->set(kZeroes);
  EXPECT_FALSE(e->marked(Mark::kDirty));
  EXPECT_FALSE(e->marked(Mark::kToWrite));
  EXPECT_EQ(tree_.dirty_blocks(), 0U);
  e->set(Entry{});
  e->unlock();
  EXPECT_TRUE(tree_.empty());
}

TEST_F(EntryTreeTest, SplitGivesPagesThatInherit) {
  put(512, kHugeOrder, data(1000), {Mark::kDirty});
  auto e = tree_.grab_existing(FileBlock(700));
  ASSERT_TRUE(e->split(FileBlock(700)));
  EXPECT_EQ(e->start(), FileBlock(700));
  EXPECT_EQ(e->order(), kPageOrder);
  EXPECT_EQ(e->entry(), data(1188));
  EXPECT_TRUE(e->marked(Mark::kDirty));
  EXPECT_FALSE(e->marked(Mark::kToWrite));
  EXPECT_EQ(tree_.entries(), 512U);
  EXPECT_EQ(tree_.dirty_blocks(), 512U);
  EXPECT_EQ(tree_.audit(), "");
  EXPECT_EQ(tree_.grab_existing(FileBlock(512))->entry(), data(1000));
  EXPECT_EQ(tree_.grab_existing(FileBlock(1023))->entry(), data(1511));
  e->erase();
  EXPECT_EQ(tree_.entries(), 511U);
  EXPECT_EQ(tree_.dirty_blocks(), 511U);
}

TEST_F(EntryTreeTest, SplitOfAPlaceholderNarrowsIt) {
  auto e = tree_.grab(FileBlock(1000), kHugeOrder);
  ASSERT_EQ(e->order(), kHugeOrder);
  ASSERT_TRUE(e->split(FileBlock(1000)));
  EXPECT_EQ(e->start(), FileBlock(1000));
  EXPECT_EQ(tree_.entries(), 1U);
  EXPECT_EQ(tree_.audit(), "");
  EXPECT_FALSE(tree_.grab_existing(FileBlock(512)));
  e->set(data(4));
  e->unlock();
  EXPECT_EQ(list(), (std::vector<std::pair<uint64_t, uint32_t>>{{1000, kPageOrder}}));
}

TEST_F(EntryTreeTest, EraseRangeCutsHugeEntriesAtItsEnds) {
  put(0, kHugeOrder, data(4096), {Mark::kDirty});
  put(512, kHugeOrder, kZeroes);
  put(1024, kHugeOrder, data(8192), {Mark::kDirty});
  ASSERT_TRUE(tree_.erase_range(FileBlock(100), FileBlock(1100)));
  EXPECT_EQ(tree_.entries(), 100U + 436U);
  EXPECT_EQ(tree_.dirty_blocks(), 536U);
  EXPECT_FALSE(has(100, 1100));
  EXPECT_EQ(tree_.grab_existing(FileBlock(99))->entry(), data(4195));
  EXPECT_EQ(tree_.grab_existing(FileBlock(1100))->entry(), data(8268));
}

TEST_F(EntryTreeTest, EraseRangeWithinOneHugeEntry) {
  put(512, kHugeOrder, data(512), {Mark::kToWrite});
  ASSERT_TRUE(tree_.erase_range(FileBlock(600), FileBlock(601)));
  EXPECT_EQ(tree_.entries(), 511U);
  EXPECT_TRUE(has(599, 600, Mark::kToWrite));
  EXPECT_FALSE(has(600, 601));
}

TEST_F(EntryTreeTest, EraseRangeLeavesWholeHugeEntriesWhole) {
  put(512, kHugeOrder, data(512));
  put(1024, kHugeOrder, data(1024));
  ASSERT_TRUE(tree_.erase_range(FileBlock(1024), FileBlock(~uint64_t{0})));
  EXPECT_EQ(list(), (std::vector<std::pair<uint64_t, uint32_t>>{{512, kHugeOrder}}));
}

TEST_F(EntryTreeTest, DirtyRunFillsAndKeepsMarks) {
  put(70, kPageOrder, data(1), {Mark::kToWrite});
  put(71, kPageOrder, kZeroes);
  ASSERT_TRUE(tree_.mark_dirty_run(FileBlock(0), DeviceBlock(1000), 300));
  EXPECT_EQ(tree_.entries(), 300U);
  EXPECT_EQ(tree_.dirty_blocks(), 300U);
  EXPECT_TRUE(has(70, 71, Mark::kToWrite));
  EXPECT_FALSE(has(71, 300, Mark::kToWrite));
  for (const uint64_t at : {0U, 63U, 64U, 70U, 71U, 299U}) {
    EXPECT_EQ(tree_.grab_existing(FileBlock(at))->entry(), data(1000 + at));
  }
}

TEST_F(EntryTreeTest, DirtyRunOfOneBlockTakesNoNode) {
  ASSERT_TRUE(tree_.mark_dirty_run(FileBlock(0), DeviceBlock(5), 1));
  ASSERT_TRUE(tree_.mark_dirty_run(FileBlock(0), DeviceBlock(6), 1));
  EXPECT_EQ(tree_.entries(), 1U);
  EXPECT_EQ(tree_.dirty_blocks(), 1U);
  EXPECT_EQ(tree_.grab_existing(FileBlock(0))->entry(), data(6));
}

TEST_F(EntryTreeTest, DirtyRunKeepsAHugeEntryOfTheSameBlocksAndSplitsOthers) {
  put(512, kHugeOrder, data(1024));
  ASSERT_TRUE(tree_.mark_dirty_run(FileBlock(500), DeviceBlock(1012), 20));
  EXPECT_EQ(tree_.entries(), 13U);
  EXPECT_EQ(tree_.dirty_blocks(), 12U + 512U);
  put(2048, kHugeOrder, kZeroes);
  ASSERT_TRUE(tree_.mark_dirty_run(FileBlock(2050), DeviceBlock(77), 2));
  EXPECT_EQ(tree_.entries(), 13U + 512U);
  EXPECT_EQ(tree_.grab_existing(FileBlock(2049))->entry(), kZeroes);
  EXPECT_EQ(tree_.grab_existing(FileBlock(2051))->entry(), data(78));
  EXPECT_EQ(tree_.dirty_blocks(), 526U);
}

TEST_F(EntryTreeTest, ClearTakesAll) {
  put(0, kPageOrder, data(1), {Mark::kDirty});
  put(512, kHugeOrder, data(1), {Mark::kDirty});
  put(kLast, kPageOrder, data(1));
  ASSERT_TRUE(tree_.mark_dirty_run(FileBlock(1 << 20), DeviceBlock(5), 5000));
  tree_.clear();
  EXPECT_TRUE(tree_.empty());
  EXPECT_EQ(tree_.dirty_blocks(), 0U);
  EXPECT_FALSE(has(0, kFileBlockEnd, Mark::kDirty));
  put(1, kPageOrder, kZeroes);
}

TEST_F(EntryTreeTest, HandlesMove) {
  auto a = tree_.grab(FileBlock(1), kPageOrder);
  auto b = tree_.grab(FileBlock(2), kPageOrder);
  a->set(data(1));
  EntryTree::Locked moved = std::move(*a);
  EXPECT_FALSE(a->held());
  moved = std::move(*b);  // unlocks 1
  EXPECT_EQ(tree_.grab_existing(FileBlock(1))->entry(), data(1));
  moved.unlock();
  EXPECT_FALSE(moved.held());
  EXPECT_EQ(tree_.entries(), 1U);
}

}  // namespace
}  // namespace udax::mapping
