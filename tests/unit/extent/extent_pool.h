// SPDX-License-Identifier: BSD-3-Clause
//
// A pool in memory with one file in it, for the tests of the extent map; and a checker of the map's nodes that
// shares nothing with the code under test but the format.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "alloc/block_allocator.h"
#include "base/log.h"
#include "extent/extent_map.h"
#include "format/checksum.h"
#include "journal/journal.h"
#include "journal/meta_store.h"
#include "media/memory_medium.h"
#include "media/superblock.h"
#include "mkfs/make_pool.h"

namespace udax::extent {

inline bool operator==(const Mapping& a, const Mapping& b) {
  return a.start == b.start && a.count == b.count && a.device == b.device && a.unwritten == b.unwritten;
}

/// The seed of a random test: UDAX_SEED, or a new one; printed.
inline uint64_t test_seed() {
  const char* given = std::getenv("UDAX_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device{}();
  std::cout << "UDAX_SEED=" << seed << std::endl;
  return seed;
}

/// A request for `count_min`... `count` blocks anywhere.
inline alloc::Request blocks(uint64_t count, uint64_t count_min, alloc::Purpose purpose = alloc::Purpose::kData) {
  alloc::Request request;
  request.count = count;
  request.count_min = count_min;
  request.purpose = purpose;
  return request;
}

class Pool {
 public:
  explicit Pool(uint64_t size_bytes) : medium_(std::make_unique<media::MemoryMedium>(size_bytes)) {
    UDAX_ASSERT(log_init(LogLevel::kWarning, LogTarget::kStderr));  // no line for every mount
    mkfs::MakeOptions options;
    options.uuid[0] = 7;
    options.hash_key[0] = 7;
    options.journal_epoch = 7;
    options.time = {1, 0};
    std::string why;
    const Status made = mkfs::make_pool(*medium_, options, &why);
    UDAX_ASSERT(made);
    mount();
    // The chunk that holds the root directory's inode has room for the file's.
    const auto* root = medium_->as<format::RootBlock>(offset_of(format::kRootBlock));
    const Result<Mapping> chunk = Reader(*meta_, root->inode_file).lookup(FileBlock(0), 1);
    UDAX_ASSERT(chunk && chunk->is_data());
    inode_offset_ = offset_of(chunk->device) + kSlot * format::kInodeSize;
    alloc::BlockTx tx(*allocator_);
    Result<std::byte*> image = tx.tx().reset_unit(inode_offset_, format::Unit::kInode);
    UDAX_ASSERT(image);
    auto* inode = reinterpret_cast<format::Inode*>(*image);
    inode->ino = kSlot;
    inode->mode = 0100644;
    UDAX_ASSERT(tx.commit());
  }

  void remount() {
    UDAX_ASSERT(journal_->close());
    mount();
  }

  /// Makes the medium what it was, and mounts it.
  void go_back_to(const media::Medium& image) {
    medium_->copy_from(image);
    mount();
  }

  [[nodiscard]] const format::Inode& inode() const { return *medium_->as<format::Inode>(inode_offset_); }
  [[nodiscard]] format::Inode& inode_of(alloc::BlockTx& tx) const {
    Result<std::byte*> image = tx.tx().edit_unit(inode_offset_, format::Unit::kInode);
    UDAX_ASSERT(image);
    return *reinterpret_cast<format::Inode*>(*image);
  }
  [[nodiscard]] Reader reader() const { return {*meta_, inode()}; }
  [[nodiscard]] media::MemoryMedium& medium() { return *medium_; }
  [[nodiscard]] const media::MemoryMedium& medium() const { return *medium_; }
  [[nodiscard]] alloc::BlockAllocator& allocator() { return *allocator_; }
  [[nodiscard]] journal::MetaStore& meta() { return *meta_; }
  [[nodiscard]] const journal::MetaStore& meta() const { return *meta_; }
  [[nodiscard]] uint64_t blocks_free() const { return allocator_->stats().blocks_free; }
  [[nodiscard]] uint64_t inode_offset() const { return inode_offset_; }

  /// Gives the structure at `offset`, changed behind everyone's back, the checksum it should have.
  void reseal(uint64_t offset, format::Unit unit) { format::seal(meta_->seed(), unit, medium_->raw() + offset); }
  /// Forgets which blocks were found good, as a new mount would.
  void forget_checks() {
    Result<media::LoadedSuperblock> sb = media::load_superblock(*medium_);
    UDAX_ASSERT(sb);
    fresh_meta_ = std::make_unique<journal::MetaStore>(*medium_, sb->geometry);
  }
  [[nodiscard]] Reader fresh_reader() const { return {*fresh_meta_, inode()}; }

 private:
  static constexpr uint64_t kSlot = 9;

  void mount() {
    allocator_.reset();
    journal_.reset();
    meta_.reset();
    Result<media::LoadedSuperblock> sb = media::load_superblock(*medium_);
    UDAX_ASSERT(sb);
    meta_ = std::make_unique<journal::MetaStore>(*medium_, sb->geometry);
    journal_ = std::make_unique<journal::Journal>(*meta_);
    UDAX_ASSERT(journal_->recover());
    allocator_ = std::make_unique<alloc::BlockAllocator>(*journal_);
    UDAX_ASSERT(allocator_->load());
  }

  std::unique_ptr<media::MemoryMedium> medium_;
  std::unique_ptr<journal::MetaStore> meta_;
  std::unique_ptr<journal::MetaStore> fresh_meta_;
  std::unique_ptr<journal::Journal> journal_;
  std::unique_ptr<alloc::BlockAllocator> allocator_;
  uint64_t inode_offset_ = 0;
};

/// What a walk over every node of the map finds.
struct TreeFacts {
  std::vector<DeviceBlock> nodes;
  std::vector<Mapping> extents;  // as stored, in order
  uint64_t data_blocks = 0;
  uint32_t levels = 0;  // of nodes; 0: inline or empty
};

class TreeChecker {
 public:
  explicit TreeChecker(const Pool& pool) : pool_(pool) {}

  /// Fails the test for whatever is not as extent_map.h and the format say.
  TreeFacts check() {
    const format::Inode& inode = pool_.inode();
    const uint64_t end = kFileBlockEnd.value;
    if (inode.payload_kind == format::kPayloadInlineExtents) {
      EXPECT_GT(inode.payload_count, 0);
      EXPECT_LE(inode.payload_count, format::kInlineExtents);
      format::Extent extents[format::kInlineExtents];
      std::memcpy(extents, inode.payload, sizeof(extents));
      check_extents(extents, inode.payload_count, 0, end);
    } else if (inode.payload_kind == format::kPayloadExtentTree) {
      format::TreeRoot root;
      std::memcpy(&root, inode.payload, sizeof(root));
      facts_.levels = root.level + 1;
      check_node(DeviceBlock(root.block), root.level, 0, end, true);
      if (root.level == 0) {
        EXPECT_GT(facts_.extents.size(), format::kInlineExtents);
      }
    } else {
      EXPECT_EQ(inode.payload_kind, format::kPayloadNone);
    }
    EXPECT_EQ(inode.block_count, facts_.data_blocks + facts_.nodes.size());
    return std::move(facts_);
  }

 private:
  void check_node(DeviceBlock b, uint32_t level, uint64_t low, uint64_t high, bool is_root) {
    const auto* leaf = pool_.medium().as<format::ExtentLeaf>(offset_of(b));
    const auto* node = pool_.medium().as<format::TreeNode>(offset_of(b));
    const uint32_t count = leaf->header.count;
    facts_.nodes.push_back(b);
    ASSERT_TRUE(format::is_sealed(pool_.meta().seed(), format::Unit::kBlock, leaf));
    ASSERT_EQ(leaf->header.block, b.value);
    ASSERT_EQ(leaf->header.owner, pool_.inode().ino.get());
    ASSERT_EQ(leaf->header.kind, format::kKindExtentNode);
    ASSERT_EQ(leaf->header.level, level);
    ASSERT_GT(count, 0U);
    if (level == 0) {
      ASSERT_LE(count, format::kExtentsPerLeaf);
      check_extents(leaf->extents, count, low, high);
      return;
    }
    ASSERT_LE(count, format::kEntriesPerNode);
    if (is_root) {
      ASSERT_GT(count, 1U);
    }
    ASSERT_EQ(node->entries[0].key, low);
    for (uint32_t i = 0; i < count; ++i) {
      const uint64_t next = i + 1 < count ? node->entries[i + 1].key.get() : high;
      ASSERT_LT(node->entries[i].key, next);
      ASSERT_LE(next, high);
      check_node(DeviceBlock(node->entries[i].child), level - 1, node->entries[i].key, next, false);
    }
  }

  void check_extents(const format::Extent* extents, uint32_t count, uint64_t low, uint64_t high) {
    uint64_t end = low;
    for (uint32_t i = 0; i < count; ++i) {
      const format::Extent& e = extents[i];
      ASSERT_GE(e.file_block, end);
      ASSERT_GT(e.count, 0U);
      ASSERT_LE(e.count, format::kExtentBlocksMax);
      end = e.file_block + e.count;
      ASSERT_LE(end, high);
      const Mapping m{FileBlock(e.file_block), e.count, DeviceBlock(e.device_block),
                      e.flags == format::kExtentUnwritten};
      if (i > 0) {
        const Mapping& p = facts_.extents.back();
        const bool joins = p.end() == m.start && p.device + p.count == m.device && p.unwritten == m.unwritten;
        EXPECT_FALSE(joins && p.count + m.count <= format::kExtentBlocksMax) << "not joined at " << m.start.value;
      }
      facts_.extents.push_back(m);
      facts_.data_blocks += m.count;
    }
  }

  const Pool& pool_;
  TreeFacts facts_;
};

inline TreeFacts check_tree(const Pool& pool) { return TreeChecker(pool).check(); }

}  // namespace udax::extent
