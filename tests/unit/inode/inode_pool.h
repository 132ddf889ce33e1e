// SPDX-License-Identifier: BSD-3-Clause
//
// A pool in memory with its inode table; and a check of the table on the medium that shares nothing with the code
// under test but the format and the extent reader.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "alloc/block_allocator.h"
#include "base/random.h"
#include "extent/extent_map.h"
#include "format/checksum.h"
#include "inode/inode_table.h"
#include "journal/journal.h"
#include "journal/meta_store.h"
#include "media/memory_medium.h"
#include "media/superblock.h"
#include "mkfs/make_pool.h"

namespace udax::inode {

/// The seed of a random test: UDAX_SEED if set. Printed by its trace.
inline uint64_t test_seed(uint64_t fallback) {
  const char* const given = std::getenv("UDAX_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 0) : fallback;
}
#define UDAX_TRACE_SEED(seed) SCOPED_TRACE("repeat with UDAX_SEED=" + std::to_string(seed))

inline constexpr uint16_t kFileMode = 0100644;
inline constexpr uint64_t kMiB = 1024 * 1024;

class Pool {
 public:
  explicit Pool(uint64_t size) : medium_(std::make_unique<media::MemoryMedium>(size)) {
    mkfs::MakeOptions options;
    options.uuid[0] = 7;
    options.hash_key[0] = 7;
    options.journal_epoch = 7;
    options.time = {1, 0};
    UDAX_ASSERT(mkfs::make_pool(*medium_, options));
    UDAX_ASSERT(mount());
  }

  Status remount() {
    table_.reset();
    UDAX_ASSERT(journal_->close());
    return mount();
  }
  /// What load() says of the medium as it is now, to one who has checked nothing yet.
  [[nodiscard]] Status load_again() {
    fresh_meta();
    return InodeTable(*allocator_).load();
  }
  /// Forgets which blocks were found good, by way of a new mount.
  void fresh_meta() {
    table_.reset();
    UDAX_ASSERT(journal_->close());
    open();
  }

  [[nodiscard]] media::MemoryMedium& medium() { return *medium_; }
  [[nodiscard]] journal::MetaStore& meta() { return *meta_; }
  [[nodiscard]] alloc::BlockAllocator& allocator() { return *allocator_; }
  [[nodiscard]] InodeTable& table() { return *table_; }
  [[nodiscard]] uint64_t blocks_free() const { return allocator_->stats().blocks_free; }

  [[nodiscard]] format::RootBlock& root() { return *at<format::RootBlock>(offset_of(format::kRootBlock)); }
  template <typename T>
  [[nodiscard]] T* at(uint64_t offset) {
    return reinterpret_cast<T*>(medium_->raw() + offset);
  }
  /// Gives the structure at `place`, changed behind everyone's back, the checksum it should have.
  void reseal(format::Unit unit, void* place) { format::seal(meta_->seed(), unit, place); }
  [[nodiscard]] format::ChunkHeader* chunk(uint64_t chunk) {
    const Result<extent::Mapping> m = extent::Reader(*meta_, root().inode_file).lookup(FileBlock(chunk), 1);
    UDAX_ASSERT(m);
    return m->is_data() ? at<format::ChunkHeader>(offset_of(m->device)) : nullptr;
  }

  /// A new regular file; its generation, if asked for.
  [[nodiscard]] Result<Ino> create(uint32_t* generation = nullptr) {
    InodeTx tx(*table_);
    UDAX_TRY(const InodeTx::Allocated made, tx.allocate(kRootIno));
    made.image->mode = kFileMode;
    made.image->nlink = 1;
    if (generation != nullptr) *generation = made.image->generation;
    UDAX_CHECK(tx.commit());
    return made.ino;
  }
  [[nodiscard]] Status remove(Ino ino) {
    InodeTx tx(*table_);
    UDAX_CHECK(tx.free(ino));
    UDAX_CHECK(tx.commit());
    return {};
  }
  [[nodiscard]] Status add_orphan(Ino ino) {
    InodeTx tx(*table_);
    UDAX_CHECK(tx.add_orphan(ino));
    UDAX_CHECK(tx.commit());
    return {};
  }
  [[nodiscard]] Status remove_orphan(Ino ino) {
    InodeTx tx(*table_);
    UDAX_CHECK(tx.remove_orphan(ino));
    UDAX_CHECK(tx.commit());
    return {};
  }

  /// Takes all blocks that an ordinary request can have.
  void fill() {
    for (uint64_t count = uint64_t{1} << 20; count > 0;) {
      alloc::BlockTx tx(*allocator_);
      alloc::Request request;
      request.count = count;
      const Result<DeviceRun> run = tx.allocate(request);
      if (!run) {
        UDAX_ASSERT(run.error() == Error::kNoSpace);
        count /= 2;
        continue;
      }
      UDAX_ASSERT(tx.commit());
      taken_.push_back(*run);
    }
  }
  void give_back(uint64_t runs) {
    for (; runs > 0 && !taken_.empty(); --runs) {
      alloc::BlockTx tx(*allocator_);
      UDAX_ASSERT(tx.free(taken_.back()));
      UDAX_ASSERT(tx.commit());
      taken_.pop_back();
    }
  }

  /// The inodes in use according to the medium. Fails the test for whatever is not as the format says.
  std::set<uint64_t> check();

 private:
  void open() {
    table_.reset();
    allocator_.reset();
    journal_.reset();
    meta_.reset();
    const Result<media::LoadedSuperblock> sb = media::load_superblock(*medium_);
    UDAX_ASSERT(sb);
    meta_ = std::make_unique<journal::MetaStore>(*medium_, sb->geometry);
    journal_ = std::make_unique<journal::Journal>(*meta_);
    UDAX_ASSERT(journal_->recover());
    allocator_ = std::make_unique<alloc::BlockAllocator>(*journal_);
    UDAX_ASSERT(allocator_->load());
  }
  Status mount() {
    open();
    table_ = std::make_unique<InodeTable>(*allocator_);
    return table_->load();
  }
  void check_list(uint32_t shard, const std::map<uint64_t, const format::ChunkHeader*>& chunks);

  std::unique_ptr<media::MemoryMedium> medium_;
  std::unique_ptr<journal::MetaStore> meta_;
  std::unique_ptr<journal::Journal> journal_;
  std::unique_ptr<alloc::BlockAllocator> allocator_;
  std::unique_ptr<InodeTable> table_;
  std::vector<DeviceRun> taken_;
};

inline std::set<uint64_t> Pool::check() {
  std::map<uint64_t, const format::ChunkHeader*> chunks;
  const auto note = [&](const extent::Mapping& m) {
    EXPECT_FALSE(m.unwritten);
    for (uint64_t i = 0; i < m.count; ++i) {
      chunks[m.start.value + i] = at<format::ChunkHeader>(offset_of(m.device + i));
    }
    return true;
  };
  EXPECT_TRUE(extent::Reader(*meta_, root().inode_file).for_each(FileBlock(0), extent::kFileBlockEnd, note));
  std::set<uint64_t> used;
  std::array<uint64_t, format::kInodeShards> counts{};
  for (const auto& [chunk, header] : chunks) {
    EXPECT_TRUE(format::is_sealed(meta_->seed(), format::Unit::kChunk, header)) << chunk;
    EXPECT_EQ(header->magic, format::kChunkMagic) << chunk;
    EXPECT_EQ(header->chunk, chunk);
    EXPECT_EQ(header->used_mask & 1, 1) << chunk;
    EXPECT_LT(chunk / format::kInodeShards, root().shard[chunk % format::kInodeShards].next_chunk);
    const auto* slots = reinterpret_cast<const format::Inode*>(header);
    for (uint32_t slot = 1; slot < format::kInodesPerChunk; ++slot) {
      const bool in_use = (header->used_mask >> slot & 1) != 0;
      EXPECT_EQ(in_use, slots[slot].mode != 0) << chunk << ":" << slot;
      if (!in_use) continue;
      EXPECT_EQ(slots[slot].ino, chunk * format::kInodesPerChunk + slot);
      EXPECT_TRUE(format::is_sealed(meta_->seed(), format::Unit::kInode, &slots[slot]));
      used.insert(slots[slot].ino);
      ++counts.at(chunk % format::kInodeShards);
    }
  }
  for (uint32_t shard = 0; shard < format::kInodeShards; ++shard) {
    EXPECT_EQ(root().shard[shard].inodes_used, counts.at(shard)) << shard;
    check_list(shard, chunks);
  }
  EXPECT_EQ(table_->stats().used, used.size());
  return used;
}

/// On the list: exactly the chunks with a free slot, linked both ways; empty is only the first.
inline void Pool::check_list(uint32_t shard, const std::map<uint64_t, const format::ChunkHeader*>& chunks) {
  std::set<uint64_t> listed;
  uint64_t prev = 0;
  for (uint64_t cursor = root().shard[shard].partial_head; cursor != 0;) {
    const uint64_t chunk = cursor - 1;
    ASSERT_TRUE(chunks.contains(chunk)) << chunk;
    ASSERT_TRUE(listed.insert(chunk).second) << chunk;
    const format::ChunkHeader& h = *chunks.at(chunk);
    EXPECT_NE(h.used_mask, 0xFFFF) << chunk;
    EXPECT_EQ(h.partial_prev, prev) << chunk;
    if (h.used_mask == 1) {
      EXPECT_EQ(prev, 0U) << "an empty chunk that is not the first: " << chunk;
    }
    prev = cursor;
    cursor = h.partial_next;
  }
  for (const auto& [chunk, header] : chunks) {
    if (chunk % format::kInodeShards != shard || listed.contains(chunk)) continue;
    EXPECT_EQ(header->used_mask, 0xFFFF) << "chunk " << chunk << " has room and is not on the list";
    EXPECT_EQ(header->partial_next, 0U);
    EXPECT_EQ(header->partial_prev, 0U);
  }
}

}  // namespace udax::inode
