// SPDX-License-Identifier: BSD-3-Clause
//
// Files of very many extents.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/random.h"
#include "mkfs/make_pool.h"
#include "tests/unit/extent/extent_pool.h"

namespace udax::extent {
namespace {

constexpr uint64_t kExtents = 100'000;
constexpr size_t kPerTx = 500;  // a transaction looks through its blocks at each step

enum class Order { kForward, kRandom, kBackward };

class ManyExtents {
 protected:
  void allocate() {
    while (blocks_.size() < kExtents) {
      alloc::BlockTx tx(pool_.allocator());
      const Result<DeviceRun> run = tx.allocate(blocks(kExtents - blocks_.size(), 1));
      ASSERT_TRUE(run);
      for (uint64_t i = 0; i < run->count; ++i) blocks_.push_back(run->start + i);
      ASSERT_TRUE(tx.commit());
    }
  }

  /// Maps every other block, block i of the file to blocks_[i / 2].
  void fill(const std::vector<uint64_t>& order) {
    for (size_t done = 0; done < order.size();) {
      alloc::BlockTx tx(pool_.allocator());
      Editor editor(tx, pool_.inode_of(tx));
      const size_t end = std::min(order.size(), done + kPerTx);
      for (; done < end && !tx.nearly_full(); ++done) {
        const uint64_t i = order[done];
        ASSERT_TRUE(editor.insert(FileBlock(2 * i), {blocks_[i], 1}, false));
      }
      ASSERT_TRUE(tx.commit());
    }
  }

  Pool pool_{uint64_t{1} << 30};
  std::vector<DeviceBlock> blocks_;
};

class Deep : public ManyExtents, public testing::Test {};
class Scattered : public ManyExtents, public testing::TestWithParam<Order> {};

TEST_P(Scattered, HundredThousandExtents) {
  const uint64_t before = pool_.blocks_free();
  allocate();
  std::vector<uint64_t> order(kExtents);
  std::iota(order.begin(), order.end(), uint64_t{0});
  if (GetParam() == Order::kBackward) std::reverse(order.begin(), order.end());
  Random random(test_seed());
  if (GetParam() == Order::kRandom) std::shuffle(order.begin(), order.end(), random);
  fill(order);

  const TreeFacts facts = check_tree(pool_);
  EXPECT_EQ(facts.extents.size(), kExtents);
  EXPECT_EQ(facts.levels, 3U);
  const uint64_t leaves_least = kExtents / format::kExtentsPerLeaf;
  // In order either way, every node is left full; by chance, two thirds full.
  EXPECT_LT(facts.nodes.size(), GetParam() == Order::kRandom ? leaves_least * 2 : leaves_least + 10);
  EXPECT_EQ(*pool_.reader().count(), kExtents);
  pool_.remount();
  for (uint64_t i = 0; i < kExtents; ++i) {
    const Result<Mapping> m = pool_.reader().lookup(FileBlock(2 * i), 8);
    ASSERT_TRUE(m);
    ASSERT_EQ(*m, (Mapping{FileBlock(2 * i), 1, blocks_[i], false}));
    const Result<Mapping> hole = pool_.reader().lookup(FileBlock(2 * i + 1), 8);
    ASSERT_TRUE(hole);
    ASSERT_TRUE(hole->is_hole());
    ASSERT_EQ(hole->count, i + 1 < kExtents ? 1U : 8U);
  }

  uint64_t to = kFileBlockEnd.value;
  while (to > 0) {
    alloc::BlockTx tx(pool_.allocator());
    const Result<FileBlock> left = Editor(tx, pool_.inode_of(tx)).remove(FileBlock(0), FileBlock(to));
    ASSERT_TRUE(left);
    ASSERT_LT(left->value, to);
    to = left->value;
    ASSERT_TRUE(tx.commit());
  }
  EXPECT_EQ(check_tree(pool_).nodes.size(), 0U);
  EXPECT_EQ(pool_.blocks_free(), before);
}

TEST_P(Scattered, GapsFilledJoinIntoOneExtent) {
  // Device blocks as file blocks, odd ones last: every fill joins two neighbours.
  constexpr uint64_t kBlocks = 20'000;
  const uint64_t before = pool_.blocks_free();
  alloc::BlockTx first(pool_.allocator());
  const Result<DeviceRun> run = first.allocate(blocks(kBlocks, kBlocks));
  ASSERT_TRUE(run);
  ASSERT_TRUE(first.commit());
  std::vector<uint64_t> order(kBlocks / 2);
  std::iota(order.begin(), order.end(), uint64_t{0});
  if (GetParam() == Order::kBackward) std::reverse(order.begin(), order.end());
  Random random(test_seed());
  for (const uint64_t odd : {uint64_t{0}, uint64_t{1}}) {
    if (GetParam() == Order::kRandom) std::shuffle(order.begin(), order.end(), random);
    for (size_t done = 0; done < order.size();) {
      alloc::BlockTx tx(pool_.allocator());
      Editor editor(tx, pool_.inode_of(tx));
      const size_t end = std::min(order.size(), done + kPerTx);
      for (; done < end && !tx.nearly_full(); ++done) {
        const uint64_t block = 2 * order[done] + odd;
        ASSERT_TRUE(editor.insert(FileBlock(block), {run->start + block, 1}, false));
      }
      ASSERT_TRUE(tx.commit());
    }
    check_tree(pool_);
  }
  EXPECT_LE(check_tree(pool_).extents.size(), format::kInlineExtents);
  EXPECT_EQ(pool_.inode().payload_kind, format::kPayloadInlineExtents);
  EXPECT_EQ(pool_.blocks_free(), before - kBlocks);
}

TEST_F(Deep, InsertOverTheBorderOfAnInnerNodeStaysOneExtent) {
  allocate();
  std::vector<uint64_t> order(kExtents);
  std::iota(order.begin(), order.end(), uint64_t{0});
  fill(order);
  ASSERT_EQ(check_tree(pool_).levels, 3U);
  const auto* root = pool_.medium().as<format::TreeNode>(offset_of(check_tree(pool_).nodes[0]));
  for (uint32_t slot = 1; slot < root->header.count; ++slot) {
    const FileBlock from(root->entries[slot].key - 20);
    alloc::BlockTx tx(pool_.allocator());
    Editor editor(tx, pool_.inode_of(tx));
    const Result<FileBlock> left = editor.remove(from, from + 40);
    ASSERT_TRUE(left);
    ASSERT_EQ(*left, from);
    const Result<DeviceRun> run = tx.allocate(blocks(40, 40));
    ASSERT_TRUE(run);
    ASSERT_TRUE(editor.insert(from, *run, true));
    ASSERT_TRUE(tx.commit());
    EXPECT_EQ(pool_.reader().lookup(from, 100)->count, 40U);
    check_tree(pool_);
  }
}

INSTANTIATE_TEST_SUITE_P(Orders, Scattered, testing::Values(Order::kForward, Order::kRandom, Order::kBackward),
                         [](const testing::TestParamInfo<Order>& info) {
                           return info.param == Order::kForward    ? "Forward"
                                  : info.param == Order::kBackward ? "Backward"
                                                                   : "Random";
                         });

}  // namespace
}  // namespace udax::extent
