// SPDX-License-Identifier: BSD-3-Clause
//
// Nodes that are sealed with the right checksum and are nonsense all the same.
#include <gtest/gtest.h>

#include <cstring>

#include "base/random.h"
#include "mkfs/make_pool.h"
#include "tests/unit/extent/extent_pool.h"

namespace udax::extent {
namespace {

/// Breaks one structure and gives it a right checksum.
class Breaker {
 public:
  Breaker(Pool& pool, const TreeFacts& facts, Random& random) : pool_(pool), facts_(facts), random_(random) {
    is_inode_ = random_.one_in(12);
    where_ = is_inode_ ? pool_.inode_offset() : offset_of(any_node());
    size_ = is_inode_ ? format::kInodeSize : kBlockSize;
    saved_.assign(pool_.medium().raw() + where_, pool_.medium().raw() + where_ + size_);
    for (uint64_t i = random_.between(1, 3); i > 0; --i) is_inode_ ? break_inode() : break_node();
    pool_.reseal(where_, is_inode_ ? format::Unit::kInode : format::Unit::kBlock);
  }
  ~Breaker() { std::memcpy(pool_.medium().raw() + where_, saved_.data(), size_); }
  Breaker(const Breaker&) = delete;
  Breaker& operator=(const Breaker&) = delete;

 private:
  DeviceBlock any_node() {
    // The few inner nodes are where it hurts.
    const size_t most = random_.one_in(2) ? std::min<size_t>(facts_.nodes.size(), 4) : facts_.nodes.size();
    return facts_.nodes[random_.below(most)];
  }
  uint64_t any_number() {
    switch (random_.below(8)) {
      case 0: return 0;
      case 1: return ~uint64_t{0};
      case 2: return kFileBlockEnd.value - random_.below(3);
      case 3: return any_node().value;
      case 4: return random_.below(200'000);
      case 5: return uint64_t{1} << random_.below(64);
      case 6: return pool_.medium().block_count() - random_.below(3);
      default: return random_.next();
    }
  }
  void break_node() {
    std::byte* bytes = pool_.medium().raw() + where_;
    auto* header = reinterpret_cast<format::BlockHeader*>(bytes);
    const uint64_t body =
        sizeof(format::BlockHeader) + random_.below((kBlockSize - sizeof(format::BlockHeader)) / 8) * 8;
    switch (random_.below(7)) {
      case 0: header->count = static_cast<uint16_t>(random_.one_in(2) ? any_number() : header->count + 1); break;
      case 1: header->count = static_cast<uint16_t>(random_.below(255)); break;
      case 2: header->level = static_cast<uint16_t>(random_.below(9)); break;
      case 3: bytes[random_.below(kBlockSize)] ^= static_cast<std::byte>(1U << random_.below(8)); break;
      case 4: bytes[body] ^= static_cast<std::byte>(1U << random_.below(8)); break;
      case 5: {
        auto* node = reinterpret_cast<format::TreeNode*>(bytes);
        node->entries[random_.below(8)].child = any_node().value;
        break;
      }
      default: *reinterpret_cast<le64*>(bytes + body) = any_number();
    }
  }
  void break_inode() {
    auto* inode = reinterpret_cast<format::Inode*>(pool_.medium().raw() + where_);
    const uint64_t body = random_.below(2) * 8;
    const uint64_t number = any_number();
    switch (random_.below(4)) {
      case 0: inode->payload_kind = static_cast<uint8_t>(random_.below(4)); break;
      case 1: inode->payload_count = static_cast<uint8_t>(random_.below(8)); break;
      case 2: std::memcpy(inode->payload + body, &number, sizeof(number)); break;
      default: inode->block_count = number;
    }
  }

  Pool& pool_;
  const TreeFacts& facts_;
  Random& random_;
  bool is_inode_ = false;
  uint64_t where_ = 0;
  uint64_t size_ = 0;
  std::vector<std::byte> saved_;
};

class Hostile : public testing::Test {
 protected:
  /// `count` extents of one block, two apart.
  void fill(uint64_t count) {
    std::vector<DeviceBlock> device;
    while (device.size() < count) {
      alloc::BlockTx tx(pool_->allocator());
      const Result<DeviceRun> run = tx.allocate(blocks(count - device.size(), 1));
      ASSERT_TRUE(run);
      for (uint64_t i = 0; i < run->count; ++i) device.push_back(run->start + i);
      ASSERT_TRUE(tx.commit());
    }
    for (uint64_t i = 0; i < count;) {
      alloc::BlockTx tx(pool_->allocator());
      Editor editor(tx, pool_->inode_of(tx));
      for (; i < count && !tx.nearly_full(); ++i) {
        ASSERT_TRUE(editor.insert(FileBlock(2 * i), {device[i], 1}, false));
      }
      ASSERT_TRUE(tx.commit());
    }
    extents_ = count;
    facts_ = check_tree(*pool_);
  }

  uint64_t any_place() {
    return random_.one_in(10) ? random_.below(kFileBlockEnd.value) : random_.below(2 * extents_ + 100);
  }

  template <typename T>
  bool expect_sane(const Result<T>& result) {
    if (result) return true;
    const Error e = result.error();
    EXPECT_TRUE(e == Error::kCorrupted || e == Error::kInvalid || e == Error::kAgain || e == Error::kNoSpace ||
                e == Error::kFileTooBig)
        << to_string(e);
    return false;
  }

  void read_all(const Reader& reader) {
    for (int i = 0; i < 10; ++i) {
      const uint64_t at = any_place();
      const Result<Mapping> m = reader.lookup(FileBlock(at), 1 + random_.below(1000));
      if (!m) {
        EXPECT_EQ(m.error(), Error::kCorrupted);
        continue;
      }
      EXPECT_EQ(m->start.value, at);
      EXPECT_GT(m->count, 0U);
      EXPECT_LE(m->end(), kFileBlockEnd);
      EXPECT_TRUE(m->is_hole() || pool_->meta().geometry().is_data(m->device, m->count));
    }
    if (!random_.one_in(extents_ / 2000 + 1)) return;  // the rest takes its time
    uint64_t end = 0;
    uint64_t calls = 0;
    expect_sane(reader.for_each(FileBlock(0), kFileBlockEnd, [&](const Mapping& m) {
      EXPECT_GE(m.start.value, end);
      EXPECT_GT(m.count, 0U);
      end = m.end().value;
      EXPECT_LE(++calls, pool_->medium().block_count() * format::kExtentsPerLeaf);
      return true;
    }));
    expect_sane(reader.count());
  }

  /// A few changes; false if one failed and the transaction must be aborted.
  bool edit(alloc::BlockTx& tx) {
    Editor editor(tx, pool_->inode_of(tx));
    for (int i = 0; i < 4 && !tx.nearly_full(); ++i) {
      const FileBlock at(any_place());
      const FileBlock end = random_.one_in(3) ? kFileBlockEnd : at + random_.below(1000);
      const Result<DeviceRun> run = tx.allocate(blocks(random_.between(1, 6), 1));
      if (!run) return false;
      bool done = false;
      switch (random_.below(5)) {
        case 0: done = expect_sane(editor.insert(at, *run, false)); break;
        case 1: done = expect_sane(editor.remove(at, end)); break;
        case 2: done = expect_sane(editor.set_unwritten(at, end, true)); break;
        case 3: done = expect_sane(editor.replace(at, *run, true)); break;
        default: done = expect_sane(editor.lookup(at, ~uint64_t{0}));
      }
      if (!done) return false;
    }
    return true;
  }

  std::unique_ptr<Pool> pool_;
  TreeFacts facts_;
  uint64_t extents_ = 0;
  Random random_{test_seed()};
};

TEST_F(Hostile, ReadersAndEditorsOfABrokenTreeGiveAMapOrCorrupted) {
  pool_ = std::make_unique<Pool>(uint64_t{1} << 30);
  fill(44'000);  // a root over two nodes
  ASSERT_EQ(facts_.levels, 3U);
  const std::vector<std::byte> inode(pool_->medium().at(pool_->inode_offset()),
                                     pool_->medium().at(pool_->inode_offset()) + format::kInodeSize);
  for (int round = 0; round < 600 && !HasFailure(); ++round) {
    const Breaker breaker(*pool_, facts_, random_);
    pool_->forget_checks();
    read_all(pool_->fresh_reader());
    alloc::BlockTx tx(pool_->allocator());
    static_cast<void>(edit(tx));
    tx.abort();
  }
  EXPECT_EQ(std::memcmp(inode.data(), pool_->medium().at(pool_->inode_offset()), inode.size()), 0);
  EXPECT_EQ(check_tree(*pool_).extents.size(), 44'000U);
}

TEST_F(Hostile, ChangesToABrokenTreeCommitOrFail) {
  pool_ = std::make_unique<Pool>(uint64_t{16} << 20);
  fill(700);
  ASSERT_EQ(facts_.levels, 2U);
  const auto size = pool_->medium().size();
  media::MemoryMedium image(size);
  image.copy_from(pool_->medium());
  for (int round = 0; round < 300 && !HasFailure(); ++round) {
    {
      const Breaker breaker(*pool_, facts_, random_);
      for (int i = 0; i < 3; ++i) {
        alloc::BlockTx tx(pool_->allocator());
        if (edit(tx)) expect_sane(tx.commit());
        read_all(pool_->reader());
      }
    }
    pool_->go_back_to(image);
  }
}

TEST_F(Hostile, EntriesThatShareOneChildDoNotMakeTheWalkEndless) {
  pool_ = std::make_unique<Pool>(uint64_t{1} << 30);
  fill(44'000);
  // Every entry of the root and of its first node leads to the same child.
  for (const size_t which : {size_t{0}, size_t{1}}) {
    auto* node = reinterpret_cast<format::TreeNode*>(pool_->medium().raw() + offset_of(facts_.nodes[which]));
    for (uint32_t i = 1; i < format::kEntriesPerNode; ++i) {
      node->entries[i].key = node->entries[0].key + i;
      node->entries[i].child = node->entries[0].child;
    }
    node->header.count = format::kEntriesPerNode;
    pool_->reseal(offset_of(facts_.nodes[which]), format::Unit::kBlock);
  }
  EXPECT_EQ(pool_->reader().count().error(), Error::kCorrupted);
  EXPECT_EQ(pool_->reader().for_each(FileBlock(0), kFileBlockEnd, [](const Mapping&) { return true; }).error(),
            Error::kCorrupted);
  alloc::BlockTx tx(pool_->allocator());
  EXPECT_EQ(Editor(tx, pool_->inode_of(tx)).remove(FileBlock(0), kFileBlockEnd).error(), Error::kCorrupted);
}

TEST_F(Hostile, ExtentThatReachesOverItsLeafIsCorrupted) {
  pool_ = std::make_unique<Pool>(uint64_t{16} << 20);
  fill(400);
  auto* leaf = reinterpret_cast<format::ExtentLeaf*>(pool_->medium().raw() + offset_of(facts_.nodes[1]));
  leaf->extents[leaf->header.count - 1].count = 3;
  pool_->reseal(offset_of(facts_.nodes[1]), format::Unit::kBlock);
  const uint64_t at = leaf->extents[leaf->header.count - 1].file_block;
  EXPECT_EQ(pool_->reader().lookup(FileBlock(at), 1).error(), Error::kCorrupted);
}

TEST_F(Hostile, ExtentsOutOfOrderOrOverlappingAreCorrupted) {
  for (const uint64_t file : {uint64_t{5}, uint64_t{6}, uint64_t{20}}) {  // the third of 0, 2, 4, 6...
    pool_ = std::make_unique<Pool>(uint64_t{16} << 20);
    fill(50);
    auto* leaf = reinterpret_cast<format::ExtentLeaf*>(pool_->medium().raw() + offset_of(facts_.nodes[0]));
    leaf->extents[2].file_block = file;
    leaf->extents[2].count = 2;
    pool_->reseal(offset_of(facts_.nodes[0]), format::Unit::kBlock);
    EXPECT_EQ(pool_->reader().for_each(FileBlock(0), kFileBlockEnd, [](const Mapping&) { return true; }).error(),
              Error::kCorrupted);
    // An editor looks at all of the leaf, however far away its own place is.
    alloc::BlockTx tx(pool_->allocator());
    EXPECT_EQ(Editor(tx, pool_->inode_of(tx)).remove(FileBlock(90), kFileBlockEnd).error(), Error::kCorrupted);
  }
}

TEST_F(Hostile, ImpossibleCountsAndLevelsAreCorrupted) {
  pool_ = std::make_unique<Pool>(uint64_t{16} << 20);
  fill(400);
  for (const size_t which : {size_t{0}, size_t{1}}) {  // the root and a leaf
    const uint64_t where = offset_of(facts_.nodes[which]);
    auto* header = reinterpret_cast<format::BlockHeader*>(pool_->medium().raw() + where);
    const format::BlockHeader good = *header;
    const uint32_t most = which == 0 ? format::kEntriesPerNode : format::kExtentsPerLeaf;
    for (const uint32_t count : {0U, most + 1, 0xFFFFU}) {
      header->count = static_cast<uint16_t>(count);
      pool_->reseal(where, format::Unit::kBlock);
      EXPECT_EQ(pool_->reader().lookup(FileBlock(2), 1).error(), Error::kCorrupted) << count;
      EXPECT_EQ(pool_->reader().count().error(), Error::kCorrupted) << count;
      *header = good;
    }
    for (const uint32_t level : {1U - good.level, 2U, 0xFFFFU}) {
      header->level = static_cast<uint16_t>(level);
      pool_->reseal(where, format::Unit::kBlock);
      EXPECT_EQ(pool_->reader().lookup(FileBlock(2), 1).error(), Error::kCorrupted) << level;
      *header = good;
    }
    EXPECT_TRUE(pool_->reader().lookup(FileBlock(2), 1));
  }
}

TEST_F(Hostile, DeviceRunsOutsideTheDataAreaAreCorrupted) {
  pool_ = std::make_unique<Pool>(uint64_t{16} << 20);
  fill(6);
  auto* leaf = reinterpret_cast<format::ExtentLeaf*>(pool_->medium().raw() + offset_of(facts_.nodes[0]));
  const uint64_t blocks = pool_->medium().block_count();
  for (const uint64_t device : {uint64_t{0}, uint64_t{3}, blocks - 1, blocks, ~uint64_t{0}}) {
    leaf->extents[2].device_block = device;
    pool_->reseal(offset_of(facts_.nodes[0]), format::Unit::kBlock);
    EXPECT_EQ(pool_->reader().lookup(FileBlock(4), 1).error(), Error::kCorrupted);
    EXPECT_TRUE(pool_->reader().lookup(FileBlock(0), 1));
    alloc::BlockTx tx(pool_->allocator());
    EXPECT_EQ(Editor(tx, pool_->inode_of(tx)).remove(FileBlock(0), FileBlock(1)).error(), Error::kCorrupted);
  }
}

}  // namespace
}  // namespace udax::extent
