// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>

#include "tests/unit/inode/inode_pool.h"

namespace udax::inode {
namespace {

using format::Unit;

/// The n-th number of a shard.
Ino number(uint32_t shard, uint64_t n) {
  return Ino((n / 15 * format::kInodeShards + shard) * format::kInodesPerChunk + n % 15 + 1);
}

std::set<uint64_t> orphans_of(Pool& pool) {
  const Result<std::vector<Ino>> all = pool.table().orphans();
  EXPECT_TRUE(all);
  std::set<uint64_t> set;
  if (all) {
    for (const Ino ino : *all) EXPECT_TRUE(set.insert(ino.value).second);
  }
  return set;
}

/// Blocks in the chain of a shard, and the check of each.
std::vector<format::OrphanBlock*> chain_of(Pool& pool, uint32_t shard) {
  std::vector<format::OrphanBlock*> chain;
  for (uint64_t b = pool.root().shard[shard].orphan_block; b != 0;) {
    auto* block = pool.at<format::OrphanBlock>(b * kBlockSize);
    EXPECT_TRUE(format::is_sealed(pool.meta().seed(), Unit::kBlock, block));
    const auto used = std::count_if(std::begin(block->ino), std::end(block->ino), [](le64 i) { return i != 0; });
    EXPECT_EQ(block->header.count, used);
    chain.push_back(block);
    b = block->next;
  }
  return chain;
}

TEST(Orphans, StayOverRemount) {
  Pool pool(16 * kMiB);
  const uint64_t free_at_first = pool.blocks_free();
  const Ino a = number(3, 5);
  const Ino b = number(9, 0);
  ASSERT_TRUE(pool.add_orphan(a));
  EXPECT_EQ(pool.add_orphan(a).error(), Error::kExists);
  ASSERT_TRUE(pool.add_orphan(b));
  EXPECT_EQ(pool.remove_orphan(number(3, 6)).error(), Error::kNotFound);
  EXPECT_EQ(orphans_of(pool), (std::set<uint64_t>{a.value, b.value}));
  ASSERT_TRUE(pool.remount());
  EXPECT_EQ(orphans_of(pool), (std::set<uint64_t>{a.value, b.value}));
  EXPECT_TRUE(pool.table().is_orphan(a));
  EXPECT_FALSE(pool.table().is_orphan(number(3, 6)));
  ASSERT_TRUE(pool.remove_orphan(a));
  ASSERT_TRUE(pool.remove_orphan(b));
  EXPECT_EQ(pool.table().stats().chunks_empty, 2U);
  EXPECT_EQ(pool.blocks_free(), free_at_first - 2);
  ASSERT_TRUE(pool.table().release_empty_chunks());
  EXPECT_EQ(pool.blocks_free(), free_at_first);
  EXPECT_EQ(pool.table().stats().chunks_empty, 0U);
  ASSERT_TRUE(pool.remount());
  EXPECT_TRUE(orphans_of(pool).empty());
}

TEST(Orphans, AbortLeavesNoTrace) {
  Pool pool(16 * kMiB);
  const Ino ino = number(1, 1);
  {
    InodeTx tx(pool.table());
    ASSERT_TRUE(tx.add_orphan(ino));
    EXPECT_TRUE(pool.table().is_orphan(ino));
  }
  EXPECT_FALSE(pool.table().is_orphan(ino));
  ASSERT_TRUE(pool.add_orphan(ino));
  {
    InodeTx tx(pool.table());
    ASSERT_TRUE(tx.remove_orphan(ino));
    EXPECT_EQ(tx.remove_orphan(ino).error(), Error::kNotFound);
  }
  EXPECT_EQ(orphans_of(pool), std::set<uint64_t>{ino.value});
  EXPECT_EQ(chain_of(pool, 1).size(), 1U);
}

TEST(Orphans, InodeAndOrphanSlotInOneTransaction) {
  Pool pool(16 * kMiB);
  InodeTx tx(pool.table());
  const Result<InodeTx::Allocated> made = tx.allocate(kRootIno);
  ASSERT_TRUE(made);
  made->image->mode = kFileMode;
  ASSERT_TRUE(tx.add_orphan(made->ino));
  ASSERT_TRUE(tx.commit());
  ASSERT_TRUE(pool.remount());
  EXPECT_EQ(orphans_of(pool), std::set<uint64_t>{made->ino.value});
  InodeTx end(pool.table());
  ASSERT_TRUE(end.remove_orphan(made->ino));
  ASSERT_TRUE(end.free(made->ino));
  ASSERT_TRUE(end.commit());
  EXPECT_TRUE(orphans_of(pool).empty());
  EXPECT_EQ(pool.check(), std::set<uint64_t>{1});
}

TEST(Orphans, ManyInOneShard) {
  const uint64_t seed = test_seed(8);
  UDAX_TRACE_SEED(seed);
  Random random(seed);
  Pool pool(16 * kMiB);
  const uint64_t free_at_first = pool.blocks_free();
  constexpr uint64_t kCount = 2 * format::kOrphansPerBlock + 300;
  std::set<uint64_t> expected;
  for (uint64_t n = 0; n < kCount; ++n) {
    ASSERT_TRUE(pool.add_orphan(number(7, n)));
    expected.insert(number(7, n).value);
  }
  EXPECT_EQ(chain_of(pool, 7).size(), 3U);
  ASSERT_TRUE(pool.remount());
  EXPECT_EQ(orphans_of(pool), expected);
  std::vector<uint64_t> order(expected.begin(), expected.end());
  std::shuffle(order.begin(), order.end(), random);
  for (size_t i = 0; i < order.size(); ++i) {
    ASSERT_TRUE(pool.remove_orphan(Ino(order[i])));
    expected.erase(order[i]);
    if (random.one_in(3)) {
      ASSERT_TRUE(pool.add_orphan(Ino(order[i])));
      ASSERT_TRUE(pool.remove_orphan(Ino(order[i])));
    }
    if (i % 300 == 0) {
      ASSERT_TRUE(pool.remount());
      ASSERT_EQ(orphans_of(pool), expected);
    }
  }
  EXPECT_EQ(chain_of(pool, 7).size(), 1U);  // the one that is kept
  ASSERT_TRUE(pool.table().release_empty_chunks());
  EXPECT_TRUE(chain_of(pool, 7).empty());
  EXPECT_EQ(pool.blocks_free(), free_at_first);
}

TEST(Orphans, EmptyBlockInTheMiddleGoes) {
  Pool pool(16 * kMiB);
  constexpr uint64_t kPer = format::kOrphansPerBlock;
  for (uint64_t n = 0; n < 3 * kPer; ++n) ASSERT_TRUE(pool.add_orphan(number(2, n)));
  ASSERT_EQ(chain_of(pool, 2).size(), 3U);
  for (uint64_t n = kPer; n < 2 * kPer; ++n) ASSERT_TRUE(pool.remove_orphan(number(2, n)));
  EXPECT_EQ(chain_of(pool, 2).size(), 2U);
  for (uint64_t n = 0; n < kPer; ++n) ASSERT_TRUE(pool.remove_orphan(number(2, n)));
  EXPECT_EQ(chain_of(pool, 2).size(), 1U);
  ASSERT_TRUE(pool.remount());
  EXPECT_EQ(orphans_of(pool).size(), kPer);
}

TEST(Orphans, WorkOnAFullPool) {
  Pool pool(8 * kMiB);
  pool.fill();
  EXPECT_TRUE(pool.add_orphan(number(4, 4)));
  EXPECT_TRUE(pool.remove_orphan(number(4, 4)));
  EXPECT_TRUE(pool.table().release_empty_chunks());
}

TEST(OrphansCorruption, Chains) {
  constexpr uint64_t kPer = format::kOrphansPerBlock;
  const auto expect_corrupted = [](const char* what, const auto& change) {
    Pool pool(16 * kMiB);
    for (uint64_t n = 0; n < kPer + 5; ++n) ASSERT_TRUE(pool.add_orphan(number(2, n)));
    const std::vector<format::OrphanBlock*> chain = chain_of(pool, 2);
    ASSERT_EQ(chain.size(), 2U);
    pool.fresh_meta();
    change(*chain[0], *chain[1]);
    for (format::OrphanBlock* block : chain) pool.reseal(Unit::kBlock, block);
    EXPECT_EQ(pool.load_again().error(), Error::kCorrupted) << what;
  };
  using Block = format::OrphanBlock;
  expect_corrupted("circle", [](Block& a, Block& b) { b.next = a.header.block; });
  expect_corrupted("itself", [](Block& a, Block&) { a.next = a.header.block; });
  expect_corrupted("nowhere", [](Block&, Block& b) { b.next = uint64_t{1} << 40; });
  expect_corrupted("superblock", [](Block&, Block& b) { b.next = 1; });
  expect_corrupted("count", [](Block& a, Block&) { a.header.count = uint16_t{6}; });
  expect_corrupted("owner", [](Block&, Block& b) { b.header.owner = 3; });
  expect_corrupted("kind", [](Block&, Block& b) { b.header.kind = format::kKindXattr; });
  expect_corrupted("slot 0", [](Block&, Block& b) { b.ino[0] = number(2, 900).value & ~uint64_t{15}; });
  expect_corrupted("another shard", [](Block&, Block& b) { b.ino[0] = number(3, 900).value; });
  expect_corrupted("twice", [](Block& a, Block& b) { a.ino[0] = b.ino[1]; });
  expect_corrupted("huge", [](Block& a, Block&) { a.ino[0] = ~uint64_t{0}; });
}

}  // namespace
}  // namespace udax::inode
