// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <new>

#include "base/sync_point.h"
#include "inode/inode_tx_part.h"

namespace udax::inode {

using format::Unit;

// --- InodeTx ---------------------------------------------------------------------------------------------------------

InodeTx::InodeTx(InodeTable& table) : table_(table), blocks_(table.allocator_) {}

InodeTx::~InodeTx() = default;

InodeTx::Part* InodeTx::part() {
  if (part_ == nullptr) part_.reset(new (std::nothrow) Part(*table_.impl_, blocks_));
  return part_.get();
}

Result<InodeTx::Allocated> InodeTx::allocate(Ino parent) try {
  if (part() == nullptr) return Error::kNoMemory;
  return part_->allocate(parent);
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status InodeTx::free(Ino ino) try {
  if (part() == nullptr) return Error::kNoMemory;
  return part_->free(ino);
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status InodeTx::add_orphan(Ino ino) try {
  if (part() == nullptr) return Error::kNoMemory;
  return part_->add_orphan(ino);
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status InodeTx::remove_orphan(Ino ino) try {
  if (part() == nullptr) return Error::kNoMemory;
  return part_->remove_orphan(ino);
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

/// Commits by itself.
Status InodeTx::release_kept(uint32_t shard) try {
  if (part() == nullptr) return Error::kNoMemory;
  UDAX_CHECK(part_->release_kept(shard));
  UDAX_CHECK(commit());
  return {};
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Result<format::Inode*> InodeTx::edit(uint64_t slot_offset) {
  UDAX_TRY(std::byte* const image, tx().edit_unit(slot_offset, Unit::kInode));
  return reinterpret_cast<format::Inode*>(image);
}

Result<Lsn> InodeTx::commit() { return blocks_.commit(); }

void InodeTx::abort() noexcept { blocks_.abort(); }

// --- Locks -----------------------------------------------------------------------------------------------------------

void InodeTx::Part::enter(ShardState& s) {
  shard_ = &s;
  chunk_kept_ = s.chunk_kept.load(std::memory_order_relaxed);
  if (registered_) return;
  blocks_.tx().add_participant(*this, kRank);
  registered_ = true;
}

void InodeTx::Part::use_shard(uint32_t index) UDAX_NO_THREAD_SAFETY_ANALYSIS {
  if (shard_ != nullptr) {
    UDAX_ASSERT(shard_->index == index);
    return;
  }
  ShardState& s = table_.shards.at(index);
  s.mutex.lock();
  enter(s);
}

/// The favourite, or the next that nobody is in, or the favourite after all.
void InodeTx::Part::use_any_shard(uint32_t favourite) UDAX_NO_THREAD_SAFETY_ANALYSIS {
  for (uint32_t i = 0; i < format::kInodeShards; ++i) {
    ShardState& s = table_.shards.at((favourite + i) % format::kInodeShards);
    if (s.mutex.try_lock()) {
      enter(s);
      return;
    }
  }
  use_shard(favourite);
}

/// REQUIRES: nothing was edited.
void InodeTx::Part::leave_shard() UDAX_NO_THREAD_SAFETY_ANALYSIS {
  shard_->mutex.unlock();
  shard_ = nullptr;
}

/// From here on the extents of the inode file are this transaction's.
Status InodeTx::Part::lock_map() UDAX_NO_THREAD_SAFETY_ANALYSIS {
  if (inode_file_ != nullptr) return {};
  table_.map_lock.lock();
  const auto image = blocks_.tx().edit_unit(offset_of(format::kRootBlock), Unit::kInode);
  if (!image) {
    table_.map_lock.unlock();
    return image.error();
  }
  inode_file_ = reinterpret_cast<format::Inode*>(*image);
  return {};
}

void InodeTx::Part::unlock_all() noexcept UDAX_NO_THREAD_SAFETY_ANALYSIS {
  if (shard_ != nullptr && applying_) shard_->apply_lock.unlock();
  applying_ = false;
  if (inode_file_ != nullptr) table_.map_lock.unlock();
  inode_file_ = nullptr;
  if (shard_ != nullptr) shard_->mutex.unlock();
  shard_ = nullptr;
}

// --- The part in the commit ------------------------------------------------------------------------------------------

Status InodeTx::Part::prepare(journal::Tx& /*tx*/) UDAX_NO_THREAD_SAFETY_ANALYSIS {
  if (shard_ == nullptr) return {};
  shard_->apply_lock.lock();
  applying_ = true;
  UDAX_SYNC_POINT("inode.commit.prepared");
  return {};
}

void InodeTx::Part::finish(Lsn /*lsn*/) noexcept UDAX_NO_THREAD_SAFETY_ANALYSIS {
  if (shard_ == nullptr) return;
  ShardState& s = *shard_;
  const media::Medium& medium = table_.meta.medium();
  if (inode_file_ != nullptr) table_.inode_file = *medium.as<format::Inode>(offset_of(format::kRootBlock));
  for (const MadeChunk& made : made_) {
    s.chunks.put(made.chunk, made.block);
    s.last_block = made.block;
  }
  for (const uint64_t chunk : dropped_) s.chunks.drop(chunk);
  s.inodes_used.store(medium.as<format::InodeShard>(shard_offset_of(s.index))->inodes_used,
                      std::memory_order_relaxed);
  s.chunk_kept.store(chunk_kept_, std::memory_order_relaxed);
  if (orphan_blocks_copied_) {
    s.orphan_blocks.swap(orphan_blocks_);
    s.note_kept();
    const LockGuard notes(s.notes_mutex);
    for (const Ino ino : orphans_removed_) s.orphans.erase(ino.value);
  }
  unlock_all();
}

void InodeTx::Part::abort() noexcept {
  if (shard_ != nullptr && !orphans_added_.empty()) {
    const LockGuard notes(shard_->notes_mutex);
    for (const Ino ino : orphans_added_) shard_->orphans.erase(ino.value);
  }
  unlock_all();
}

// --- Reading and editing ---------------------------------------------------------------------------------------------

Result<const format::InodeShard*> InodeTx::Part::line() const {
  UDAX_TRY(const std::byte* const image, blocks_.tx().read_unit(shard_offset_of(shard_->index), Unit::kShard));
  return reinterpret_cast<const format::InodeShard*>(image);
}

Result<format::InodeShard*> InodeTx::Part::edit_line() {
  edited_ = true;
  UDAX_TRY(std::byte* const image, blocks_.tx().edit_unit(shard_offset_of(shard_->index), Unit::kShard));
  return reinterpret_cast<format::InodeShard*>(image);
}

/// kNotFound: no such chunk.
Result<DeviceBlock> InodeTx::Part::chunk_block(uint64_t chunk) {
  if (chunk >= kChunkEnd || shard_of_chunk(chunk) != shard_->index) {
    return table_.meta.corrupted("an inode chunk in the wrong place", chunk);
  }
  for (const MadeChunk& made : made_) {
    if (made.chunk == chunk) return made.block;
  }
  if (std::find(dropped_.begin(), dropped_.end(), chunk) != dropped_.end()) return Error::kNotFound;
  const DeviceBlock known = shard_->chunks.find(chunk);  // only who holds the shard makes chunks come and go
  if (known != kNoBlock) return known;
  if (inode_file_ != nullptr) {
    UDAX_TRY(const extent::Mapping mapping, extent::Editor(blocks_, *inode_file_).lookup(FileBlock(chunk), 1));
    if (mapping.is_hole()) return Error::kNotFound;
    if (mapping.unwritten) return table_.meta.corrupted("an inode chunk that cannot be one", chunk);
    return mapping.device;
  }
  const SharedLockGuard map(table_.map_lock);
  UDAX_TRY(const DeviceBlock block, table_.find_chunk(chunk));
  shard_->chunks.put(chunk, block);
  return block;
}

Result<const format::ChunkHeader*> InodeTx::Part::header(uint64_t chunk) {
  UDAX_TRY(const DeviceBlock block, chunk_block(chunk));
  UDAX_TRY(const std::byte* const image, blocks_.tx().read_unit(offset_of(block), Unit::kChunk));
  const auto* header = reinterpret_cast<const format::ChunkHeader*>(image);
  UDAX_CHECK(table_.check_header(*header, chunk));
  return header;
}

Result<InodeTx::Part::Header> InodeTx::Part::edit_header(uint64_t chunk) {
  UDAX_TRY(const DeviceBlock block, chunk_block(chunk));
  UDAX_TRY(std::byte* const image, blocks_.tx().edit_unit(offset_of(block), Unit::kChunk));
  auto* header = reinterpret_cast<format::ChunkHeader*>(image);
  UDAX_CHECK(table_.check_header(*header, chunk));
  edited_ = true;
  return Header{header, block};
}

Result<format::ChunkHeader*> InodeTx::Part::edit_neighbour(uint64_t link) {
  const Result<Header> header = edit_header(link - 1);
  if (header) return header->image;
  if (header.error() != Error::kNotFound) return header.error();
  return table_.meta.corrupted("an inode chunk that others name is missing", link - 1);
}

}  // namespace udax::inode
