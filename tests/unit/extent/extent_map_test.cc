// SPDX-License-Identifier: BSD-3-Clause
#include "extent/extent_map.h"

#include <gtest/gtest.h>

#include "mkfs/make_pool.h"
#include "tests/unit/extent/extent_pool.h"

namespace udax::extent {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;

class ExtentMap : public testing::Test {
 protected:
  /// Allocates and maps in a transaction of its own.
  DeviceRun put(uint64_t at, uint64_t count, bool unwritten = false) {
    alloc::BlockTx tx(pool_.allocator());
    const DeviceRun run = reserve(tx, count);
    EXPECT_TRUE(Editor(tx, pool_.inode_of(tx)).insert(FileBlock(at), run, unwritten));
    EXPECT_TRUE(tx.commit());
    return run;
  }
  static DeviceRun reserve(alloc::BlockTx& tx, uint64_t count) {
    Result<DeviceRun> run = tx.allocate(blocks(count, count));
    EXPECT_TRUE(run);
    return run ? *run : DeviceRun{};
  }
  /// Removes in as many transactions as it takes; gives how many.
  int cut(uint64_t from, uint64_t to) {
    int rounds = 0;
    while (from < to && rounds < 10'000) {
      alloc::BlockTx tx(pool_.allocator());
      const Result<FileBlock> left = Editor(tx, pool_.inode_of(tx)).remove(FileBlock(from), FileBlock(to));
      if (!left) {
        ADD_FAILURE() << to_string(left.error());
        return rounds;
      }
      EXPECT_LT(left->value, to);
      to = left->value;
      EXPECT_TRUE(tx.commit());
      ++rounds;
    }
    return rounds;
  }
  void mark(uint64_t from, uint64_t to, bool unwritten) {
    alloc::BlockTx tx(pool_.allocator());
    const Result<FileBlock> done =
        Editor(tx, pool_.inode_of(tx)).set_unwritten(FileBlock(from), FileBlock(to), unwritten);
    ASSERT_TRUE(done);
    EXPECT_EQ(done->value, to);
    EXPECT_TRUE(tx.commit());
  }
  Mapping at(uint64_t block, uint64_t count_max = ~uint64_t{0}) {
    const Result<Mapping> m = pool_.reader().lookup(FileBlock(block), count_max);
    EXPECT_TRUE(m);
    return m ? *m : Mapping{};
  }

  Pool pool_{256 * kMiB};
};

TEST_F(ExtentMap, EmptyMapIsOneHole) {
  EXPECT_EQ(at(0), (Mapping{FileBlock(0), kFileBlockEnd.value, kNoBlock, false}));
  EXPECT_EQ(at(kFileBlockEnd.value - 1), (Mapping{FileBlock(kFileBlockEnd.value - 1), 1, kNoBlock, false}));
  EXPECT_EQ(at(5, 3).count, 3U);
  EXPECT_EQ(*pool_.reader().count(), 0U);
}

TEST_F(ExtentMap, RefusesImpossibleArguments) {
  const Reader reader = pool_.reader();
  EXPECT_EQ(reader.lookup(FileBlock(0), 0).error(), Error::kInvalid);
  EXPECT_EQ(reader.lookup(kFileBlockEnd, 1).error(), Error::kInvalid);
  EXPECT_EQ(reader.for_each(FileBlock(2), FileBlock(1), [](const Mapping&) { return true; }).error(),
            Error::kInvalid);
  alloc::BlockTx tx(pool_.allocator());
  Editor editor(tx, pool_.inode_of(tx));
  const DeviceRun run = reserve(tx, 4);
  EXPECT_EQ(editor.lookup(FileBlock(0), 0).error(), Error::kInvalid);
  EXPECT_EQ(editor.remove(FileBlock(2), FileBlock(1)).error(), Error::kInvalid);
  EXPECT_EQ(editor.set_unwritten(FileBlock(2), FileBlock(1), true).error(), Error::kInvalid);
  EXPECT_EQ(editor.insert(FileBlock(0), {run.start, 0}, false).error(), Error::kInvalid);
  EXPECT_EQ(editor.insert(FileBlock(0), {DeviceBlock(1), 1}, false).error(), Error::kInvalid);
  EXPECT_EQ(editor.insert(FileBlock(0), {run.start, ~uint64_t{0}}, false).error(), Error::kInvalid);
  EXPECT_EQ(editor.insert(kFileBlockEnd - 3, run, false).error(), Error::kFileTooBig);
  EXPECT_EQ(editor.insert(FileBlock(~uint64_t{0}), run, false).error(), Error::kFileTooBig);
  EXPECT_TRUE(editor.insert(kFileBlockEnd - 4, run, false));
  EXPECT_EQ(editor.insert(kFileBlockEnd - 1, {run.start, 1}, false).error(), Error::kInvalid);
}

TEST_F(ExtentMap, LookupStartsAtTheBlockAskedFor) {
  const DeviceRun run = put(100, 10, true);
  EXPECT_EQ(at(100), (Mapping{FileBlock(100), 10, run.start, true}));
  EXPECT_EQ(at(107), (Mapping{FileBlock(107), 3, run.start + 7, true}));
  EXPECT_EQ(at(107, 2).count, 2U);
  EXPECT_EQ(at(99), (Mapping{FileBlock(99), 1, kNoBlock, false}));
  EXPECT_EQ(at(110).count, kFileBlockEnd.value - 110);
}

TEST_F(ExtentMap, NeighboursThatContinueAreJoined) {
  alloc::BlockTx tx(pool_.allocator());
  const DeviceRun run = reserve(tx, 30);
  format::Inode& inode = pool_.inode_of(tx);
  Editor editor(tx, inode);
  ASSERT_TRUE(editor.insert(FileBlock(0), {run.start, 10}, false));
  ASSERT_TRUE(editor.insert(FileBlock(20), {run.start + 20, 10}, false));
  EXPECT_EQ(inode.payload_count, 2);
  ASSERT_TRUE(editor.insert(FileBlock(10), {run.start + 10, 10}, false));
  EXPECT_EQ(inode.payload_count, 1);
  EXPECT_EQ(*editor.lookup(FileBlock(0), 100), (Mapping{FileBlock(0), 30, run.start, false}));
  ASSERT_TRUE(tx.commit());
  EXPECT_EQ(check_tree(pool_).extents.size(), 1U);
}

TEST_F(ExtentMap, ConvertingTheMiddleGivesThreeAndBackOne) {
  put(0, 100, true);
  mark(40, 60, false);
  EXPECT_EQ(check_tree(pool_).extents.size(), 3U);
  EXPECT_TRUE(at(40).is_data());
  EXPECT_EQ(at(40).count, 20U);
  mark(60, 100, false);
  EXPECT_EQ(check_tree(pool_).extents.size(), 2U);
  mark(0, 1000, true);
  EXPECT_EQ(check_tree(pool_).extents.size(), 1U);
  mark(0, ~uint64_t{0}, false);
  EXPECT_EQ(check_tree(pool_).extents.size(), 1U);
}

TEST_F(ExtentMap, RemoveTrimsBothEndsAndPunches) {
  const uint64_t before = pool_.blocks_free();
  const DeviceRun run = put(0, 100);
  EXPECT_EQ(cut(90, 200), 1);
  EXPECT_EQ(cut(0, 10), 1);
  EXPECT_EQ(cut(40, 60), 1);
  const TreeFacts facts = check_tree(pool_);
  ASSERT_EQ(facts.extents.size(), 2U);
  EXPECT_EQ(facts.extents[0], (Mapping{FileBlock(10), 30, run.start + 10, false}));
  EXPECT_EQ(facts.extents[1], (Mapping{FileBlock(60), 30, run.start + 60, false}));
  EXPECT_EQ(pool_.blocks_free(), before - 60);
  EXPECT_EQ(cut(0, ~uint64_t{0}), 1);
  EXPECT_EQ(pool_.blocks_free(), before);
  EXPECT_EQ(pool_.inode().payload_kind, format::kPayloadNone);
}

TEST_F(ExtentMap, SixthExtentMakesALeafAndItsRemovalUnmakesIt) {
  const uint64_t before = pool_.blocks_free();
  for (uint64_t i = 0; i < 5; ++i) put(i * 2, 1);
  EXPECT_EQ(check_tree(pool_).levels, 0U);
  put(20, 1);
  EXPECT_EQ(check_tree(pool_).levels, 1U);
  EXPECT_EQ(pool_.blocks_free(), before - 7);
  cut(20, 21);
  EXPECT_EQ(check_tree(pool_).levels, 0U);
  EXPECT_EQ(pool_.blocks_free(), before - 5);
}

TEST_F(ExtentMap, InsertOverTheBorderOfALeafStaysOneExtent) {
  // Enough for several leaves; then a gap is punched around every border and filled by one run.
  {
    alloc::BlockTx tx(pool_.allocator());
    const DeviceRun run = reserve(tx, 1000);
    Editor editor(tx, pool_.inode_of(tx));
    for (uint64_t i = 0; i < 1000; ++i) ASSERT_TRUE(editor.insert(FileBlock(i * 2), {run.start + i, 1}, false));
    ASSERT_TRUE(tx.commit());
  }
  ASSERT_GT(check_tree(pool_).nodes.size(), 5U);
  for (uint64_t start = 0; start + 40 < 2000; start += 34) {
    cut(start, start + 40);
    const DeviceRun run = put(start, 40);
    EXPECT_EQ(at(start).device, run.start);
    EXPECT_GE(at(start).count, 40U) << "at " << start;
    check_tree(pool_);
  }
}

TEST_F(ExtentMap, RemovalFromTheFrontKeepsTheTreeSound) {
  const uint64_t before = pool_.blocks_free();
  {
    alloc::BlockTx tx(pool_.allocator());
    const DeviceRun run = reserve(tx, 1000);
    Editor editor(tx, pool_.inode_of(tx));
    for (uint64_t i = 0; i < 1000; ++i) {
      ASSERT_TRUE(editor.insert(FileBlock(100 + i * 2), {run.start + i, 1}, false));
    }
    ASSERT_TRUE(tx.commit());
  }
  for (uint64_t end = 150; end < 2100; end += 150) {
    cut(0, end);
    EXPECT_EQ(check_tree(pool_).extents.size(), 1000 - (end - 100) / 2);
    EXPECT_EQ(at(0).count, end);
  }
  // Into the range that the first leaf has inherited.
  put(0, 3);
  EXPECT_EQ(at(0).count, 3U);
  check_tree(pool_);
  cut(0, 2100);
  EXPECT_EQ(pool_.blocks_free(), before);
}

TEST_F(ExtentMap, ReplaceFreesWhatWasThere) {
  const uint64_t before = pool_.blocks_free();
  put(0, 10);
  put(20, 10, true);
  for (const auto& [start, count] :
       std::vector<std::pair<uint64_t, uint64_t>>{{5, 2}, {0, 10}, {8, 15}, {40, 3}}) {
    alloc::BlockTx tx(pool_.allocator());
    const DeviceRun run = reserve(tx, count);
    ASSERT_TRUE(Editor(tx, pool_.inode_of(tx)).replace(FileBlock(start), run, false));
    ASSERT_TRUE(tx.commit());
    EXPECT_EQ(at(start).device, run.start);
    EXPECT_EQ(at(start).count, count);
  }
  // 0...30 without a hole now, and 40...43.
  EXPECT_EQ(check_tree(pool_).data_blocks, 33U);
  EXPECT_EQ(pool_.blocks_free(), before - 33);
}

TEST_F(ExtentMap, ForEachClipsAndStops) {
  const DeviceRun a = put(10, 10);
  const DeviceRun b = put(30, 10, true);
  std::vector<Mapping> seen;
  const auto collect = [&seen](const Mapping& m) {
    seen.push_back(m);
    return true;
  };
  ASSERT_TRUE(pool_.reader().for_each(FileBlock(15), FileBlock(32), collect));
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0], (Mapping{FileBlock(15), 5, a.start + 5, false}));
  EXPECT_EQ(seen[1], (Mapping{FileBlock(30), 2, b.start, true}));
  seen.clear();
  ASSERT_TRUE(pool_.reader().for_each(FileBlock(20), FileBlock(30), collect));
  EXPECT_TRUE(seen.empty());
  int calls = 0;
  ASSERT_TRUE(pool_.reader().for_each(FileBlock(0), kFileBlockEnd, [&](const Mapping&) { return ++calls > 1; }));
  EXPECT_EQ(calls, 1);
}

TEST_F(ExtentMap, AbortLeavesTheCommittedMap) {
  put(0, 10);
  const format::Inode before = pool_.inode();
  const uint64_t free_before = pool_.blocks_free();
  {
    alloc::BlockTx tx(pool_.allocator());
    Editor editor(tx, pool_.inode_of(tx));
    const DeviceRun run = reserve(tx, 400);
    for (uint64_t i = 0; i < 400; ++i) {
      ASSERT_TRUE(editor.insert(FileBlock(100 + 2 * i), {run.start + i, 1}, false));
    }
    ASSERT_TRUE(editor.remove(FileBlock(0), FileBlock(200)));
  }
  EXPECT_EQ(std::memcmp(&before, &pool_.inode(), sizeof(before)), 0);
  EXPECT_EQ(pool_.blocks_free(), free_before);
}

TEST_F(ExtentMap, InodeThatIsNoFileIsCorrupted) {
  format::Inode inode = pool_.inode();
  inode.payload_kind = format::kPayloadInlineSymlink;
  EXPECT_EQ(Reader(pool_.meta(), inode).lookup(FileBlock(0), 1).error(), Error::kCorrupted);
  inode.payload_kind = format::kPayloadInlineExtents;
  inode.payload_count = 0;
  EXPECT_EQ(Reader(pool_.meta(), inode).lookup(FileBlock(0), 1).error(), Error::kCorrupted);
  inode.payload_count = format::kInlineExtents + 1;
  EXPECT_EQ(Reader(pool_.meta(), inode).lookup(FileBlock(0), 1).error(), Error::kCorrupted);
}

TEST(ExtentMapHuge, OneExtentOverMoreGroupsThanATransactionTakes) {
  Pool pool(48 * kGiB);
  const uint64_t before = pool.blocks_free();
  uint64_t mapped = 0;
  // One run after another, as long as they come.
  for (int i = 0; i < 64; ++i) {
    alloc::BlockTx tx(pool.allocator());
    Result<DeviceRun> run = tx.allocate(blocks(uint64_t{1} << 20, 1));
    ASSERT_TRUE(run);
    ASSERT_TRUE(Editor(tx, pool.inode_of(tx)).insert(FileBlock(mapped), *run, false));
    mapped += run->count;
    ASSERT_TRUE(tx.commit());
  }
  check_tree(pool);
  EXPECT_EQ(pool.blocks_free() + check_tree(pool).data_blocks + check_tree(pool).nodes.size(), before);
  uint64_t to = kFileBlockEnd.value;
  int rounds = 0;
  while (to > 0) {
    alloc::BlockTx tx(pool.allocator());
    const Result<FileBlock> left = Editor(tx, pool.inode_of(tx)).remove(FileBlock(0), FileBlock(to));
    ASSERT_TRUE(left) << to_string(left.error());
    ASSERT_LT(left->value, to);
    to = left->value;
    ASSERT_TRUE(tx.commit());
    const Result<Mapping> rest = pool.reader().lookup(FileBlock(to), 1);
    ASSERT_TRUE(rest);
    EXPECT_TRUE(rest->is_hole());
    check_tree(pool);
    ++rounds;
  }
  EXPECT_GT(rounds, 1);
  EXPECT_EQ(pool.blocks_free(), before);
  EXPECT_EQ(pool.inode().payload_kind, format::kPayloadNone);
}

TEST(ExtentMapHuge, RemovalStopsWhereTheTransactionHasNoMoreGroups) {
  Pool pool(48 * kGiB);
  constexpr uint64_t kExtents = 90;
  constexpr uint64_t kMost = 20'000;  // of a group: the next such run lies in another one
  const uint64_t before = pool.blocks_free();
  for (uint64_t i = 0; i < kExtents; ++i) {
    alloc::BlockTx tx(pool.allocator());
    const Result<DeviceRun> run = tx.allocate(blocks(kMost, kMost));
    ASSERT_TRUE(run);
    ASSERT_TRUE(Editor(tx, pool.inode_of(tx)).insert(FileBlock(2 * kMost * i), *run, false));
    ASSERT_TRUE(tx.commit());
  }
  ASSERT_EQ(check_tree(pool).levels, 1U);
  ASSERT_EQ(check_tree(pool).extents.size(), kExtents);
  uint64_t to = kFileBlockEnd.value;
  uint64_t taken = 0;
  uint64_t rounds = 0;
  for (; to > 0; ++rounds) {
    // Others use groups in the same transaction: none, a few, nearly all.
    ASSERT_LT(rounds, 200U);
    alloc::BlockTx tx(pool.allocator());
    const uint64_t others = rounds % 4 * 5;
    for (uint64_t i = 0; i < others; ++i, taken += kMost) ASSERT_TRUE(tx.allocate(blocks(kMost, kMost)));
    const Result<FileBlock> left = Editor(tx, pool.inode_of(tx)).remove(FileBlock(0), FileBlock(to));
    ASSERT_TRUE(left) << to_string(left.error());
    ASSERT_TRUE(left->value < to || others > 0);
    to = left->value;
    ASSERT_TRUE(tx.commit());
    EXPECT_TRUE(pool.reader().lookup(FileBlock(to), 1)->is_hole());
    check_tree(pool);
  }
  EXPECT_GT(rounds, kExtents / journal::kGroupsPerTx);
  EXPECT_EQ(pool.inode().payload_kind, format::kPayloadNone);
  EXPECT_EQ(pool.blocks_free(), before - taken);
}

TEST(ExtentMapFull, NoRoomForASplitChangesNothing) {
  Pool pool(16 * kMiB);
  // One full leaf of extents of three blocks, then no free block at all.
  {
    alloc::BlockTx tx(pool.allocator());
    Result<DeviceRun> run = tx.allocate(blocks(3 * format::kExtentsPerLeaf, 3 * format::kExtentsPerLeaf));
    ASSERT_TRUE(run);
    Editor editor(tx, pool.inode_of(tx));
    for (uint64_t i = 0; i < format::kExtentsPerLeaf; ++i) {
      ASSERT_TRUE(editor.insert(FileBlock(4 * i), {run->start + 3 * i, 3}, false));
    }
    ASSERT_TRUE(tx.commit());
  }
  alloc::BlockTx hog(pool.allocator());
  for (;;) {
    const Result<DeviceRun> run = hog.allocate(blocks(1 << 20, 1, alloc::Purpose::kMustSucceed));
    if (!run) {
      ASSERT_EQ(run.error(), Error::kNoSpace);
      break;
    }
  }
  const format::Inode inode = pool.inode();
  const TreeFacts before = check_tree(pool);
  ASSERT_EQ(before.levels, 1U);
  std::vector<std::byte> leaf(kBlockSize);
  std::memcpy(leaf.data(), pool.medium().block(before.nodes[0]), kBlockSize);
  {
    alloc::BlockTx tx(pool.allocator());
    Editor editor(tx, pool.inode_of(tx), alloc::Purpose::kMustSucceed);
    EXPECT_EQ(editor.remove(FileBlock(5), FileBlock(6)).error(), Error::kNoSpace);
    tx.abort();
  }
  {
    alloc::BlockTx tx(pool.allocator());
    Editor editor(tx, pool.inode_of(tx), alloc::Purpose::kMustSucceed);
    EXPECT_EQ(editor.set_unwritten(FileBlock(9), FileBlock(10), true).error(), Error::kNoSpace);
  }
  EXPECT_EQ(std::memcmp(&inode, &pool.inode(), sizeof(inode)), 0);
  EXPECT_EQ(std::memcmp(leaf.data(), pool.medium().block(before.nodes[0]), kBlockSize), 0);
  // A tail goes without a block.
  alloc::BlockTx tx(pool.allocator());
  const Result<FileBlock> left = Editor(tx, pool.inode_of(tx)).remove(FileBlock(9), kFileBlockEnd);
  ASSERT_TRUE(left);
  EXPECT_EQ(left->value, 9U);
  ASSERT_TRUE(tx.commit());
  EXPECT_EQ(check_tree(pool).data_blocks, 3U + 3U + 1U);
  hog.abort();
}

}  // namespace
}  // namespace udax::extent
