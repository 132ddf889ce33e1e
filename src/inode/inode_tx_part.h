// SPDX-License-Identifier: BSD-3-Clause
//
// The inode table's part in a transaction: private to this folder.
//
// All edits are made when they are asked for, on shadows; prepare() has only a lock to take. What the table keeps in
// memory changes in finish(), but for orphans added, which abort() takes back.
//
// Locks: the shard's mutex from use_shard() on, map_lock from lock_map() on, both until finish() or abort(). The
// thread-safety analysis cannot follow locks that outlive a function: it is off in these few, and what is guarded by
// them is reached through them alone.
#pragma once

#include <cstdint>
#include <vector>

#include "inode/inode_table_impl.h"

namespace udax::inode {

struct InodeTx::Part final : public journal::Participant {
 public:
  Part(InodeTable::Impl& table, alloc::BlockTx& blocks) : table_(table), blocks_(blocks) {}

  [[nodiscard]] Result<Allocated> allocate(Ino parent);
  [[nodiscard]] Status free(Ino ino);
  [[nodiscard]] Status add_orphan(Ino ino);
  [[nodiscard]] Status remove_orphan(Ino ino);
  [[nodiscard]] Status release_kept(uint32_t shard);

  [[nodiscard]] Status prepare(journal::Tx& tx) override;
  void finish(Lsn lsn) noexcept override;
  void abort() noexcept override;

 private:
  static constexpr int kRank = 50;  // before the allocator
  /// How far allocation looks for a chunk with a number that nobody holds, before it makes a new chunk.
  static constexpr uint32_t kChunksLookedAt = 8;

  struct MadeChunk {
    uint64_t chunk = 0;
    DeviceBlock block;
  };
  struct Header {
    format::ChunkHeader* image = nullptr;
    DeviceBlock block;
  };

  // Locks (inode_tx.cc).
  void use_shard(uint32_t index);
  void use_any_shard(uint32_t favourite);
  void enter(ShardState& s);
  void leave_shard();
  void unlock_all() noexcept;
  [[nodiscard]] Status lock_map();

  // Reading and editing (inode_tx.cc).
  [[nodiscard]] Result<const format::InodeShard*> line() const;
  [[nodiscard]] Result<format::InodeShard*> edit_line();
  [[nodiscard]] Result<DeviceBlock> chunk_block(uint64_t chunk);
  [[nodiscard]] Result<const format::ChunkHeader*> header(uint64_t chunk);
  [[nodiscard]] Result<Header> edit_header(uint64_t chunk);
  /// edit_header() of a chunk that another names: a hole is corruption there.
  [[nodiscard]] Result<format::ChunkHeader*> edit_neighbour(uint64_t link);

  // Chunks (chunk_list.cc).
  [[nodiscard]] Result<Allocated> allocate_here(bool may_make_chunk);
  [[nodiscard]] Result<Allocated> take(uint64_t chunk, uint32_t slot);
  [[nodiscard]] Result<uint64_t> make_chunk();
  [[nodiscard]] Status drop_chunk(uint64_t chunk);
  [[nodiscard]] Status settle_empty(uint64_t chunk);
  [[nodiscard]] Status link(uint64_t chunk);
  [[nodiscard]] Status unlink(uint64_t chunk);

  // Orphans (orphan_list.cc).
  [[nodiscard]] Result<size_t> block_with_room();
  [[nodiscard]] Status unlink_orphan_block(size_t at);
  void copy_orphan_blocks();

  InodeTable::Impl& table_;
  alloc::BlockTx& blocks_;
  ShardState* shard_ = nullptr;          // its mutex is held
  format::Inode* inode_file_ = nullptr;  // the shadow; map_lock is held exclusive
  bool registered_ = false;
  bool applying_ = false;    // apply_lock is held exclusive
  bool edited_ = false;      // something of the shard was changed
  bool chunk_kept_ = false;  // ShardState::chunk_kept after this
  std::vector<MadeChunk> made_;
  std::vector<uint64_t> dropped_;
  bool orphan_blocks_copied_ = false;
  std::vector<OrphanBlockNote> orphan_blocks_;  // ShardState::orphan_blocks after this, if copied
  std::vector<Ino> orphans_added_;
  std::vector<Ino> orphans_removed_;
};

}  // namespace udax::inode
