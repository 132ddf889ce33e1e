// SPDX-License-Identifier: BSD-3-Clause
//
// A shard's chain of orphan blocks. New blocks go to the front; one that gets empty goes, but for the first, which is
// kept while the mount lives (release_empty_chunks() gives it back).
#include <algorithm>

#include "base/sync_point.h"
#include "inode/inode_tx_part.h"

namespace udax::inode {
namespace {

format::OrphanBlock* as_orphans(std::byte* image) { return reinterpret_cast<format::OrphanBlock*>(image); }

}  // namespace

void InodeTx::Part::copy_orphan_blocks() {
  if (orphan_blocks_copied_) return;
  orphan_blocks_ = shard_->orphan_blocks;
  orphan_blocks_copied_ = true;
}

/// Which of orphan_blocks_ has a free slot; a new one if none has.
Result<size_t> InodeTx::Part::block_with_room() {
  copy_orphan_blocks();
  for (size_t i = 0; i < orphan_blocks_.size(); ++i) {
    if (orphan_blocks_[i].count < format::kOrphansPerBlock) return i;
  }
  orphan_blocks_.reserve(orphan_blocks_.size() + 1);
  UDAX_TRY(const DeviceBlock block, blocks_.allocate_block(alloc::Purpose::kMustSucceed, shard_->last_block));
  UDAX_TRY(std::byte* const image, blocks_.tx().create_block(block, format::kKindOrphan, shard_->index));
  UDAX_TRY(format::InodeShard* const shard_line, edit_line());
  as_orphans(image)->next = shard_line->orphan_block;
  shard_line->orphan_block = block.value;
  orphan_blocks_.insert(orphan_blocks_.begin(), OrphanBlockNote{block, 0});
  return size_t{0};
}

Status InodeTx::Part::add_orphan(Ino ino) {
  if (slot_of(ino) == 0 || chunk_of(ino) >= kChunkEnd) return Error::kInvalid;
  use_shard(shard_of_chunk(chunk_of(ino)));
  if (const LockGuard notes(shard_->notes_mutex); shard_->orphans.contains(ino.value)) return Error::kExists;
  UDAX_TRY(const size_t at, block_with_room());
  OrphanBlockNote& note = orphan_blocks_[at];
  UDAX_TRY(std::byte* const image, blocks_.tx().edit_block(note.block, format::kKindOrphan, shard_->index));
  auto* block = as_orphans(image);
  uint32_t slot = 0;
  while (slot < format::kOrphansPerBlock && block->ino[slot] != 0) ++slot;
  if (slot == format::kOrphansPerBlock) {
    return table_.meta.corrupted("an orphan block with a wrong count", note.block.value);
  }
  orphans_added_.reserve(orphans_added_.size() + 1);
  {
    const LockGuard notes(shard_->notes_mutex);
    shard_->orphans.emplace(ino.value, OrphanPlace{note.block, slot});
  }
  orphans_added_.push_back(ino);
  edited_ = true;
  ++note.count;
  if (UDAX_KNOB("inode.forget_orphan")) return {};
  block->ino[slot] = ino.value;
  block->header.count = static_cast<uint16_t>(note.count);
  return {};
}

Status InodeTx::Part::remove_orphan(Ino ino) {
  if (slot_of(ino) == 0 || chunk_of(ino) >= kChunkEnd) return Error::kNotFound;
  use_shard(shard_of_chunk(chunk_of(ino)));
  if (std::find(orphans_removed_.begin(), orphans_removed_.end(), ino) != orphans_removed_.end()) {
    return Error::kNotFound;
  }
  OrphanPlace place;
  {
    const LockGuard notes(shard_->notes_mutex);
    const auto found = shard_->orphans.find(ino.value);
    if (found == shard_->orphans.end()) return Error::kNotFound;
    place = found->second;
  }
  copy_orphan_blocks();
  const auto note = std::find_if(orphan_blocks_.begin(), orphan_blocks_.end(),
                                 [&](const OrphanBlockNote& n) { return n.block == place.block; });
  UDAX_ASSERT(note != orphan_blocks_.end() && note->count > 0);
  UDAX_TRY(std::byte* const image, blocks_.tx().edit_block(place.block, format::kKindOrphan, shard_->index));
  auto* block = as_orphans(image);
  if (block->ino[place.slot] != ino.value) {
    return table_.meta.corrupted("an orphan block has changed by itself", place.block.value);
  }
  orphans_removed_.push_back(ino);
  edited_ = true;
  if (UDAX_KNOB("inode.keep_orphan")) return {};
  block->ino[place.slot] = 0;
  --note->count;
  block->header.count = static_cast<uint16_t>(note->count);
  if (note->count > 0 || note == orphan_blocks_.begin()) return {};
  return unlink_orphan_block(static_cast<size_t>(note - orphan_blocks_.begin()));
}

/// Frees orphan_blocks_[at], which is empty.
Status InodeTx::Part::unlink_orphan_block(size_t at) {
  const DeviceBlock block = orphan_blocks_[at].block;
  UDAX_TRY(const std::byte* const image, blocks_.tx().read_block(block, format::kKindOrphan, shard_->index));
  const uint64_t next = reinterpret_cast<const format::OrphanBlock*>(image)->next;
  const uint64_t next_expected = at + 1 < orphan_blocks_.size() ? orphan_blocks_[at + 1].block.value : 0;
  if (next != next_expected)
    return table_.meta.corrupted("a chain of orphan blocks has changed by itself", block.value);
  if (at == 0) {
    UDAX_TRY(format::InodeShard* const shard_line, edit_line());
    shard_line->orphan_block = next;
  } else {
    UDAX_TRY(std::byte* const before,
             blocks_.tx().edit_block(orphan_blocks_[at - 1].block, format::kKindOrphan, shard_->index));
    as_orphans(before)->next = next;
  }
  edited_ = true;
  UDAX_CHECK(blocks_.free_metadata(block));
  orphan_blocks_.erase(orphan_blocks_.begin() + static_cast<ptrdiff_t>(at));
  return {};
}

}  // namespace udax::inode
