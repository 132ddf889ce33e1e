// SPDX-License-Identifier: BSD-3-Clause
//
// The inode table on the medium: where inode numbers live, which are free, and which are orphans.
//
// The table is a file (format::RootBlock::inode_file) whose block c is chunk c: a header and 15 inodes. Chunks are
// made when needed and given back when their last inode is freed; chunk numbers are never used twice. Chunks are
// dealt to 16 shards (chunk % 16); each shard has its list of chunks with free slots and its orphan blocks.
//
// Locks: one mutex a shard, taken by the first allocate/free/orphan call of an InodeTx and held until it commits
// or aborts; an InodeTx works with one shard only (allocating picks one; freeing follows the inode number; no
// operation does both). `map_lock` guards the inode file's extents: shared to find a slot, exclusive from adding or
// removing a chunk until commit has returned. `apply_lock`, one a shard: exclusive during commit, shared to look at a
// chunk. Order: inode rwsems -> shard -> map_lock -> apply_lock -> groups -> journal.
//
// Hence, from the first allocate/free/orphan call of an InodeTx until it has ended, its thread must not call
// find_slot, read, orphans or release_empty_chunks, nor InodeCache::get for an inode that is not in the cache.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "alloc/block_allocator.h"
#include "base/error.h"
#include "format/format.h"

namespace udax::inode {

class InodeTx;

struct InodeStats {
  uint64_t used = 0;          // inodes in use, root included
  uint64_t chunks_empty = 0;  // chunks and orphan blocks kept although empty (their blocks count as free)
};

class InodeTable {
 public:
  explicit InodeTable(alloc::BlockAllocator& allocator);
  ~InodeTable();
  InodeTable(const InodeTable&) = delete;
  InodeTable& operator=(const InodeTable&) = delete;

  /// Reads the root block and checks it. kCorrupted; kIo: it was lost to a media error. `skips_orphans`: lists of
  /// orphans that cannot be read do not matter, since nothing will be changed.
  [[nodiscard]] Status load(bool skips_orphans = false);

  /// Offset on the medium of the slot of `ino`. kNotFound: no such chunk, slot 0, or not in use. kCorrupted.
  [[nodiscard]] Result<uint64_t> find_slot(Ino ino) const;
  /// The sealed inode image in the slot. kNotFound when free; kCorrupted.
  [[nodiscard]] Result<format::Inode> read(Ino ino, uint64_t* slot_offset) const;

  /// All orphans on the medium (after recovery), in no order. The caller removes or truncates them.
  [[nodiscard]] Result<std::vector<Ino>> orphans() const;
  /// Whether `ino` stands in an orphan slot, on the medium or in a transaction that is open.
  [[nodiscard]] bool is_orphan(Ino ino) const;

  [[nodiscard]] InodeStats stats() const;

  /// A freed number must not be used again while the kernel still knows it: from hold to release it is
  /// skipped by allocation. Any lock may be held.
  void hold_number(Ino ino);
  void release_number(Ino ino);

  /// Gives back the blocks that InodeStats::chunks_empty counts: on unmount, and when space is short. Goes on to the
  /// other shards after an error and gives the first one.
  [[nodiscard]] Status release_empty_chunks();

 private:
  friend class InodeTx;
  struct Impl;
  alloc::BlockAllocator& allocator_;
  std::unique_ptr<Impl> impl_;
};

/// A transaction that may also allocate, free or orphan inodes.
class InodeTx {
 public:
  explicit InodeTx(InodeTable& table);
  ~InodeTx();
  InodeTx(const InodeTx&) = delete;
  InodeTx& operator=(const InodeTx&) = delete;

  [[nodiscard]] alloc::BlockTx& blocks() { return blocks_; }
  [[nodiscard]] journal::Tx& tx() { return blocks_.tx(); }

  struct Allocated {
    Ino ino;
    uint64_t slot_offset = 0;
    format::Inode* image = nullptr;  // shadow: zeroed but for ino and generation; the caller fills it in
  };
  /// A free inode, near others of `parent` if possible. kNoSpace, kNoMemory.
  [[nodiscard]] Result<Allocated> allocate(Ino parent);
  /// Frees `ino`: its slot becomes mode 0 with the generation kept; the chunk goes when it was the last, unless it is
  /// kept for the next allocation. The caller has removed what it owned. A new block is needed only where the
  /// chunk's going splits an extent (purpose kMustSucceed). kNotFound: not in use. kInvalid: the root.
  [[nodiscard]] Status free(Ino ino);
  /// Puts `ino` among the orphans / takes it out. add may need a block (purpose kMustSucceed). kExists: it is there
  /// already. kNotFound: it is not.
  [[nodiscard]] Status add_orphan(Ino ino);
  [[nodiscard]] Status remove_orphan(Ino ino);

  /// The shadow of an inode at a slot.
  [[nodiscard]] Result<format::Inode*> edit(uint64_t slot_offset);

  [[nodiscard]] Result<Lsn> commit();
  void abort() noexcept;

 private:
  friend class InodeTable;
  struct Part;  // the table's part in the transaction; made when first needed
  [[nodiscard]] Part* part();
  [[nodiscard]] Status release_kept(uint32_t shard);

  InodeTable& table_;
  std::unique_ptr<Part> part_;
  alloc::BlockTx blocks_;  // after part_: destroyed (aborted) first
};

}  // namespace udax::inode
