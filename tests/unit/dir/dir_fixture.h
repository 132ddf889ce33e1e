// SPDX-License-Identifier: BSD-3-Clause
//
// A pool in memory with one directory in it, for the tests of the directory index. The directory's inode is kept
// here, not in the inode table: it becomes what a transaction made of it when that transaction commits.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "alloc/block_allocator.h"
#include "base/random.h"
#include "dir/dir_index.h"
#include "dir/leaf.h"
#include "dir/tree.h"
#include "journal/journal.h"
#include "media/memory_medium.h"
#include "media/superblock.h"
#include "mkfs/make_pool.h"

namespace udax::dir {

using Model = std::map<std::string, Dentry>;

/// The seed of a random test: UDAX_SEED if set. Printed by its trace.
inline uint64_t test_seed(uint64_t fallback) {
  const char* given = std::getenv("UDAX_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 0) : fallback;
}
#define UDAX_TRACE_SEED(seed) SCOPED_TRACE("repeat with UDAX_SEED=" + std::to_string(seed))

/// A name of `size` bytes that a directory may hold: any bytes but '/' and NUL.
inline std::string random_name(Random& random, size_t size) {
  std::string name(size, 'a');
  do {
    for (char& c : name) {
      do {
        c = static_cast<char>(random.below(256));
      } while (c == '/' || c == '\0');
    }
  } while (!is_valid_name(name));
  return name;
}

class Pool {
 public:
  explicit Pool(uint64_t bytes, uint8_t hash_key = 7) : medium_(bytes) {
    mkfs::MakeOptions options;
    options.uuid.fill(3);
    options.hash_key.fill(hash_key);
    options.journal_epoch = 1;
    std::string why;
    const Status made = mkfs::make_pool(medium_, options, &why);
    EXPECT_TRUE(made) << why;
    inode_.ino = 77;
    inode_.mode = 0040755;
    mount();
    free_at_start_ = allocator_->stats().blocks_free;
  }

  /// Opens what is on the medium, forgetting all that was in memory but the directory's inode.
  void mount() {
    allocator_.reset();
    journal_.reset();
    meta_.reset();
    auto loaded = media::load_superblock(medium_);
    ASSERT_TRUE(loaded);
    meta_ = std::make_unique<journal::MetaStore>(medium_, loaded->geometry);
    journal_ = std::make_unique<journal::Journal>(*meta_);
    ASSERT_TRUE(journal_->recover());
    allocator_ = std::make_unique<alloc::BlockAllocator>(*journal_);
    ASSERT_TRUE(allocator_->load());
  }

  [[nodiscard]] media::MemoryMedium& medium() { return medium_; }
  [[nodiscard]] journal::MetaStore& meta() { return *meta_; }
  [[nodiscard]] alloc::BlockAllocator& allocator() { return *allocator_; }
  [[nodiscard]] format::Inode& inode() { return inode_; }
  [[nodiscard]] const media::Geometry& geometry() const { return meta_->geometry(); }
  [[nodiscard]] Reader reader() const { return {*meta_, inode_}; }
  [[nodiscard]] uint64_t free_at_start() const { return free_at_start_; }
  [[nodiscard]] uint64_t free_blocks() const { return allocator_->stats().blocks_free; }

  /// Runs `body` in a transaction and commits if it gives no error. The inode follows a commit only.
  Status change(const std::function<Status(Editor&)>& body) {
    format::Inode shadow = inode_;
    alloc::BlockTx tx(*allocator_);
    Editor editor(tx, shadow);
    UDAX_CHECK(body(editor));
    UDAX_CHECK(tx.commit());
    inode_ = shadow;
    return {};
  }
  /// Runs `body` in a transaction and drops that.
  void change_and_abort(const std::function<void(Editor&)>& body) {
    format::Inode shadow = inode_;
    alloc::BlockTx tx(*allocator_);
    Editor editor(tx, shadow);
    body(editor);
    tx.abort();
  }
  Status insert(std::string_view name, uint64_t ino, uint8_t type = 8) {
    return change([&](Editor& e) { return e.insert(name, {Ino(ino), type}); });
  }
  Status remove(std::string_view name) {
    return change([&](Editor& e) { return e.remove(name); });
  }

  /// The blocks of the directory, read by hand: the root first.
  [[nodiscard]] std::vector<DeviceBlock> blocks() const {
    std::vector<DeviceBlock> all;
    const format::DirRoot root = load_root(inode_);
    if (root.block != 0) all.emplace_back(root.block);
    for (size_t i = 0; i < all.size(); ++i) {
      const auto* node = medium_.as<format::TreeNode>(offset_of(all[i]));
      if (node->header.kind != format::kKindDirNode) continue;
      for (uint32_t k = 0; k < node->header.count; ++k) all.emplace_back(node->entries[k].child);
    }
    return all;
  }

  /// Checks every invariant of the tree by hand, and the inode's counts.
  void check_tree() const {
    const format::DirRoot root = load_root(inode_);
    uint64_t names = 0;
    uint64_t count = 0;
    if (root.block != 0) check_subtree(DeviceBlock(root.block), root.level, HashRange{}, names, count);
    if (root.level > 0) {
      EXPECT_GT(medium_.as<format::BlockHeader>(offset_of(DeviceBlock(root.block)))->count, 1U);
    }
    EXPECT_EQ(names, root.entry_count);
    EXPECT_EQ(root.block == 0, names == 0);
    EXPECT_EQ(inode_.block_count, count);
    EXPECT_EQ(inode_.size, count * kBlockSize);
    EXPECT_EQ(reader().entry_count(), names);
    EXPECT_EQ(free_blocks() + count, free_at_start_);
  }

  [[nodiscard]] Model list() const {
    Model all;
    uint64_t last = 0;
    const Status done = reader().iterate(0, [&](const Listed& e) {
      EXPECT_GE(e.cookie, last);
      last = e.cookie;
      EXPECT_TRUE(all.emplace(e.name, Dentry{e.ino, e.type}).second) << "delivered twice";
      return true;
    });
    EXPECT_TRUE(done);
    return all;
  }

 private:
  void check_subtree(DeviceBlock b, uint32_t level, HashRange range, uint64_t& names, uint64_t& count) const {
    ++count;
    const std::byte* image = medium_.block(b);
    EXPECT_TRUE(format::is_sealed(geometry().checksum_seed, format::Unit::kBlock, image));
    const auto* header = reinterpret_cast<const format::BlockHeader*>(image);
    ASSERT_EQ(header->level, level);
    ASSERT_GT(header->count, 0U);
    if (level == 0) {
      const LeafView leaf(image);
      ASSERT_TRUE(leaf.holds(range));
      std::vector<std::pair<uint32_t, uint32_t>> records;
      for (uint32_t i = 0; i < leaf.count(); ++i) {
        const format::DirSlot slot = leaf.slot(i);
        EXPECT_EQ(name_hash(geometry(), leaf.name(slot)), slot.hash);
        records.emplace_back(slot.offset, slot.offset + slot.length);
        const uint32_t used = format::kDirNameFixed + static_cast<uint32_t>(leaf.name(slot).size());
        for (uint32_t at = used; at < slot.length; ++at) EXPECT_EQ(image[slot.offset + at], std::byte{0});
      }
      std::sort(records.begin(), records.end());
      for (size_t i = 1; i < records.size(); ++i) EXPECT_LE(records[i - 1].second, records[i].first);
      names += leaf.count();
      return;
    }
    const auto* node = reinterpret_cast<const format::TreeNode*>(image);
    ASSERT_LE(node->header.count, format::kEntriesPerNode);
    ASSERT_TRUE(keys_hold(*node, range));
    for (uint32_t i = 0; i < node->header.count; ++i) {
      check_subtree(DeviceBlock(node->entries[i].child), level - 1, child_range(*node, i, range), names, count);
    }
  }

  media::MemoryMedium medium_;
  std::unique_ptr<journal::MetaStore> meta_;
  std::unique_ptr<journal::Journal> journal_;
  std::unique_ptr<alloc::BlockAllocator> allocator_;
  format::Inode inode_{};
  uint64_t free_at_start_ = 0;
};

inline bool operator==(const Dentry& a, const Dentry& b) { return a.ino == b.ino && a.type == b.type; }

/// The directory holds exactly what the model does, by listing and by looking up.
inline void expect_same(const Pool& pool, const Model& model) {
  EXPECT_TRUE(pool.list() == model);
  for (const auto& [name, dentry] : model) {
    const auto found = pool.reader().lookup(name);
    ASSERT_TRUE(found);
    EXPECT_TRUE(*found == dentry);
  }
  EXPECT_EQ(pool.reader().entry_count(), model.size());
}

inline constexpr uint64_t kMiB = 1024 * 1024;

}  // namespace udax::dir
