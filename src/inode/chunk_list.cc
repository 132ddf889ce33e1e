// SPDX-License-Identifier: BSD-3-Clause
//
// Allocating and freeing inodes: slots of chunks, the list of chunks with free slots, and chunks that come and go.
//
// Invariants of a shard's list: it is doubly linked; a chunk is on it exactly while it has a free slot; an empty chunk
// that is kept is its first.
#include <sched.h>

#include <bit>

#include "inode/inode_tx_part.h"

namespace udax::inode {

using format::Unit;

// --- Allocating ------------------------------------------------------------------------------------------------------

/// In the shard of this CPU, so that threads seldom meet; which inodes then are neighbours follows from who made them.
Result<InodeTx::Allocated> InodeTx::Part::allocate(Ino parent) {
  if (shard_ != nullptr) return allocate_here(true);
  const int cpu = ::sched_getcpu();
  const uint64_t favourite = cpu >= 0 ? static_cast<uint64_t>(cpu) : chunk_of(parent);
  use_any_shard(static_cast<uint32_t>(favourite % format::kInodeShards));
  Result<Allocated> made = allocate_here(true);
  const uint32_t first = shard_->index;
  for (uint32_t i = 1; i < format::kInodeShards; ++i) {
    // No block for a new chunk: then a free slot anywhere will do.
    if (made || made.error() != Error::kNoSpace || edited_) break;
    leave_shard();
    use_shard((first + i) % format::kInodeShards);
    made = allocate_here(false);
  }
  return made;
}

Result<InodeTx::Allocated> InodeTx::Part::allocate_here(bool may_make_chunk) {
  UDAX_TRY(const format::InodeShard* const present, line());
  uint64_t last_resort = 0;
  uint64_t cursor = present->partial_head;
  for (uint32_t n = 0; n < kChunksLookedAt && cursor != 0; ++n) {
    const uint64_t chunk = cursor - 1;
    const Result<const format::ChunkHeader*> found = header(chunk);
    if (!found && found.error() == Error::kNotFound) {
      return table_.meta.corrupted("an inode chunk that others name is missing", chunk);
    }
    UDAX_CHECK(found);
    const format::ChunkHeader& h = **found;
    if (h.used_mask == kMaskFull) return table_.meta.corrupted("a full inode chunk among those with room", chunk);
    const uint32_t usable = ~(uint32_t{h.used_mask} | shard_->held_mask(chunk)) & kMaskFull;
    if (usable != 0) {
      const bool is_kept_one = n == 0 && chunk_kept_ && h.partial_next != 0;
      if (!is_kept_one) return take(chunk, static_cast<uint32_t>(std::countr_zero(usable)));
      last_resort = cursor;
    }
    cursor = h.partial_next;
  }
  if (last_resort != 0) {
    const uint64_t chunk = last_resort - 1;
    const uint32_t usable = ~(uint32_t{kMaskEmpty} | shard_->held_mask(chunk)) & kMaskFull;
    if (usable != 0) return take(chunk, static_cast<uint32_t>(std::countr_zero(usable)));
  }
  if (!may_make_chunk) return Error::kNoSpace;
  UDAX_TRY(const uint64_t chunk, make_chunk());
  return take(chunk, 1);
}

Result<InodeTx::Allocated> InodeTx::Part::take(uint64_t chunk, uint32_t slot) {
  UDAX_TRY(const Header header, edit_header(chunk));
  UDAX_TRY(format::InodeShard* const shard_line, edit_line());
  const uint64_t offset = slot_offset_of(header.block, slot);
  UDAX_TRY(const std::byte* const before, blocks_.tx().read_unit(offset, Unit::kInode));
  const auto* former = reinterpret_cast<const format::Inode*>(before);
  if (former->mode != 0) return table_.meta.corrupted("a free inode that is not", offset);
  uint32_t generation = former->generation + 1;
  if (generation == 0) generation = 1;

  if (header.image->used_mask == kMaskEmpty && shard_line->partial_head == chunk + 1) chunk_kept_ = false;
  header.image->used_mask = static_cast<uint16_t>(header.image->used_mask | slot_bit(slot));
  if (header.image->used_mask == kMaskFull) UDAX_CHECK(unlink(chunk));
  shard_line->inodes_used = shard_line->inodes_used + 1;

  UDAX_TRY(std::byte* const image, blocks_.tx().reset_unit(offset, Unit::kInode));
  auto* inode = reinterpret_cast<format::Inode*>(image);
  const Ino ino{chunk * format::kInodesPerChunk + slot};
  inode->ino = ino.value;
  inode->generation = generation;
  return Allocated{ino, offset, inode};
}

Result<uint64_t> InodeTx::Part::make_chunk() {
  // First: where there is no block, nothing has been changed, and another shard may be tried.
  UDAX_TRY(const DeviceBlock block, blocks_.allocate_block(alloc::Purpose::kMetadata, shard_->last_block));
  UDAX_TRY(format::InodeShard* const shard_line, edit_line());
  const uint64_t round = shard_line->next_chunk;
  if (round >= kChunkEnd / format::kInodeShards) return Error::kNoSpace;
  const uint64_t chunk = round * format::kInodeShards + shard_->index;

  UDAX_CHECK(lock_map());
  extent::Editor editor(blocks_, *inode_file_);
  UDAX_TRY(const extent::Mapping present, editor.lookup(FileBlock(chunk), 1));
  if (!present.is_hole()) return table_.meta.corrupted("an inode chunk that should not be there yet", chunk);
  UDAX_CHECK(editor.insert(FileBlock(chunk), DeviceRun{block, 1}, false));
  const uint64_t size = (chunk + 1) * kBlockSize;
  if (inode_file_->size < size) inode_file_->size = size;

  UDAX_CHECK(blocks_.tx().create_raw_block(block));
  UDAX_TRY(std::byte* const image, blocks_.tx().reset_unit(offset_of(block), Unit::kChunk));
  auto* header = reinterpret_cast<format::ChunkHeader*>(image);
  header->magic = format::kChunkMagic;
  header->chunk = chunk;
  header->used_mask = kMaskEmpty;
  made_.push_back({chunk, block});
  shard_line->next_chunk = round + 1;
  UDAX_CHECK(link(chunk));
  return chunk;
}

// --- Freeing ---------------------------------------------------------------------------------------------------------

Status InodeTx::Part::free(Ino ino) {
  const uint64_t chunk = chunk_of(ino);
  const uint16_t bit = slot_bit(slot_of(ino));
  if (slot_of(ino) == 0 || chunk >= kChunkEnd) return Error::kNotFound;
  if (ino == kRootIno) return Error::kInvalid;
  use_shard(shard_of_chunk(chunk));
  UDAX_TRY(const Header header, edit_header(chunk));
  const uint16_t mask = header.image->used_mask;
  if ((mask & bit) == 0) return Error::kNotFound;
  const uint64_t offset = slot_offset_of(header.block, slot_of(ino));
  UDAX_TRY(std::byte* const image, blocks_.tx().edit_unit(offset, Unit::kInode));
  auto* inode = reinterpret_cast<format::Inode*>(image);
  if (inode->ino != ino.value) return table_.meta.corrupted("an inode with another's number", ino.value);
  UDAX_TRY(format::InodeShard* const shard_line, edit_line());
  if (shard_line->inodes_used == 0) {
    return table_.meta.corrupted("more inodes than the inode table counts", shard_->index);
  }

  const uint32_t generation = inode->generation;
  *inode = format::Inode{};
  inode->generation = generation;
  shard_line->inodes_used = shard_line->inodes_used - 1;
  header.image->used_mask = static_cast<uint16_t>(mask & ~bit);
  if (mask == kMaskFull) UDAX_CHECK(link(chunk));
  if (header.image->used_mask == kMaskEmpty) UDAX_CHECK(settle_empty(chunk));
  return {};
}

/// One empty chunk is kept, as the first of the list; another goes.
Status InodeTx::Part::settle_empty(uint64_t chunk) {
  if (!chunk_kept_) {
    UDAX_CHECK(unlink(chunk));
    UDAX_CHECK(link(chunk));
    chunk_kept_ = true;
    return {};
  }
  // In a transaction that is nearly full it stays, somewhere on the list, until it has been used once more.
  if (blocks_.nearly_full()) return {};
  return drop_chunk(chunk);
}

/// Its number is never used again.
Status InodeTx::Part::drop_chunk(uint64_t chunk) {
  UDAX_CHECK(unlink(chunk));
  UDAX_TRY(const DeviceBlock block, chunk_block(chunk));
  UDAX_CHECK(lock_map());
  const FileBlock at(chunk);
  UDAX_TRY(const FileBlock left,
           extent::Editor(blocks_, *inode_file_, alloc::Purpose::kMustSucceed).remove(at, at + 1));
  if (left != at) return Error::kAgain;
  blocks_.tx().discard_block(block);
  dropped_.push_back(chunk);
  return {};
}

Status InodeTx::Part::release_kept(uint32_t shard) {
  use_shard(shard);
  while (chunk_kept_ && !blocks_.nearly_full()) {
    UDAX_TRY(const format::InodeShard* const present, line());
    if (present->partial_head == 0)
      return table_.meta.corrupted("a list of inode chunks has lost its head", shard);
    const uint64_t chunk = present->partial_head - 1;
    UDAX_TRY(const format::ChunkHeader* const first, header(chunk));
    if (first->used_mask != kMaskEmpty)
      return table_.meta.corrupted("an inode chunk has changed by itself", chunk);
    UDAX_CHECK(drop_chunk(chunk));
    UDAX_TRY(const format::InodeShard* const rest, line());
    chunk_kept_ = false;
    if (rest->partial_head != 0) {
      UDAX_TRY(const format::ChunkHeader* const next, header(rest->partial_head - 1));
      chunk_kept_ = next->used_mask == kMaskEmpty;
    }
  }
  copy_orphan_blocks();
  if (!orphan_blocks_.empty() && orphan_blocks_.front().count == 0) return unlink_orphan_block(0);
  return {};
}

// --- The list --------------------------------------------------------------------------------------------------------

/// Puts `chunk` first, or second if the first is the empty one that is kept.
Status InodeTx::Part::link(uint64_t chunk) {
  UDAX_TRY(const Header header, edit_header(chunk));
  UDAX_TRY(format::InodeShard* const shard_line, edit_line());
  const uint64_t first = shard_line->partial_head;
  if (header.image->partial_next != 0 || header.image->partial_prev != 0 || first == chunk + 1) {
    return table_.meta.corrupted("a full inode chunk among those with room", chunk);
  }
  uint64_t next = first;
  if (first != 0) {
    UDAX_TRY(format::ChunkHeader* const head, edit_neighbour(first));
    if (head->partial_prev != 0) return table_.meta.corrupted("a list of inode chunks is broken", first - 1);
    if (chunk_kept_) {
      next = head->partial_next;
      head->partial_next = chunk + 1;
      header.image->partial_prev = first;
    } else {
      head->partial_prev = chunk + 1;
    }
  }
  if (header.image->partial_prev == 0) {
    shard_line->partial_head = chunk + 1;
  } else if (next != 0) {
    UDAX_TRY(format::ChunkHeader* const after, edit_neighbour(next));
    if (after->partial_prev != first) return table_.meta.corrupted("a list of inode chunks is broken", next - 1);
    after->partial_prev = chunk + 1;
  }
  header.image->partial_next = next;
  return {};
}

Status InodeTx::Part::unlink(uint64_t chunk) {
  UDAX_TRY(const Header header, edit_header(chunk));
  const uint64_t prev = header.image->partial_prev;
  const uint64_t next = header.image->partial_next;
  if (prev != 0) {
    UDAX_TRY(format::ChunkHeader* const before, edit_neighbour(prev));
    if (before->partial_next != chunk + 1)
      return table_.meta.corrupted("a list of inode chunks is broken", prev - 1);
    before->partial_next = next;
  } else {
    UDAX_TRY(format::InodeShard* const shard_line, edit_line());
    if (shard_line->partial_head != chunk + 1)
      return table_.meta.corrupted("a list of inode chunks is broken", chunk);
    shard_line->partial_head = next;
  }
  if (next != 0) {
    UDAX_TRY(format::ChunkHeader* const after, edit_neighbour(next));
    if (after->partial_prev != chunk + 1)
      return table_.meta.corrupted("a list of inode chunks is broken", next - 1);
    after->partial_prev = prev;
  }
  header.image->partial_next = 0;
  header.image->partial_prev = 0;
  return {};
}

}  // namespace udax::inode
