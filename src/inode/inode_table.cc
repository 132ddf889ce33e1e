// SPDX-License-Identifier: BSD-3-Clause
#include "inode/inode_table.h"

#include <sys/stat.h>

#include <new>
#include <unordered_set>
#include <utility>

#include "base/log.h"
#include "base/sync_point.h"
#include "inode/inode_table_impl.h"

namespace udax::inode {

using format::Unit;

// --- Small things ----------------------------------------------------------------------------------------------------

DeviceBlock ChunkCache::find(uint64_t chunk) const {
  const uint64_t n = chunk / format::kInodeShards;
  const uint64_t entry = entries_[n % entries_.size()].load(std::memory_order_relaxed);
  if (entry == 0 || entry >> kBlockBits != n >> kIndexBits) return kNoBlock;
  return DeviceBlock(entry & ((uint64_t{1} << kBlockBits) - 1));
}

void ChunkCache::put(uint64_t chunk, DeviceBlock block) {
  const uint64_t n = chunk / format::kInodeShards;
  const uint64_t tag = n >> kIndexBits;
  if (tag >= uint64_t{1} << (64 - kBlockBits)) return;
  entries_[n % entries_.size()].store(tag << kBlockBits | block.value, std::memory_order_relaxed);
}

void ChunkCache::drop(uint64_t chunk) {
  if (find(chunk) == kNoBlock) return;
  entries_[chunk / format::kInodeShards % entries_.size()].store(0, std::memory_order_relaxed);
}

uint16_t ShardState::held_mask(uint64_t chunk) const {
  const LockGuard guard(notes_mutex);
  if (holds_lost > 0) return kMaskFull;
  const auto found = held.find(chunk);
  return found == held.end() ? uint16_t{0} : found->second;
}

InodeTable::InodeTable(alloc::BlockAllocator& allocator)
    : allocator_(allocator), impl_(std::make_unique<Impl>(allocator.journal().meta())) {
  for (uint32_t i = 0; i < format::kInodeShards; ++i) impl_->shards.at(i).index = i;
}

InodeTable::~InodeTable() = default;

// --- Loading ---------------------------------------------------------------------------------------------------------

Status InodeTable::load(bool skips_orphans) try {
  const journal::MetaStore& meta = impl_->meta;
  if (meta.medium().probe(offset_of(format::kRootBlock), kBlockSize)) {
    return meta.lost("the inode table's root", format::kRootBlock.value);
  }
  const auto* root = meta.medium().as<format::RootBlock>(offset_of(format::kRootBlock));
  const format::Inode& file = root->inode_file;
  if (!format::is_sealed(meta.seed(), Unit::kInode, &file) && !UDAX_KNOB("inode.skip_root_checksum")) {
    return meta.corrupted("the inode table's root has a wrong checksum", offset_of(format::kRootBlock));
  }
  if (file.ino != 0 || !S_ISREG(file.mode) ||
      (file.payload_kind != format::kPayloadInlineExtents && file.payload_kind != format::kPayloadExtentTree)) {
    return meta.corrupted("the inode table's root is not one", offset_of(format::kRootBlock));
  }
  {
    const LockGuard map(impl_->map_lock);
    impl_->inode_file = file;
  }
  for (ShardState& s : impl_->shards) UDAX_CHECK(impl_->load_shard(s, root->shard[s.index], skips_orphans));
  return {};
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status InodeTable::Impl::load_shard(ShardState& s, const format::InodeShard& line, bool skips_orphans) {
  const uint64_t where = shard_offset_of(s.index);
  if (!format::is_sealed(meta.seed(), Unit::kShard, &line) && !UDAX_KNOB("inode.skip_shard_checksum")) {
    return meta.corrupted("a line of the inode table has a wrong checksum", where);
  }
  const uint64_t chunks = line.next_chunk;
  const uint64_t head = line.partial_head;
  const bool root_missing = s.index == 0 && (chunks == 0 || line.inodes_used == 0);
  if (root_missing || chunks > kChunkEnd / format::kInodeShards ||
      line.inodes_used > chunks * (format::kInodesPerChunk - 1) ||
      (head != 0 && (shard_of_chunk(head - 1) != s.index || (head - 1) / format::kInodeShards >= chunks))) {
    return meta.corrupted("a line of the inode table makes no sense", where);
  }
  const LockGuard guard(s.mutex);
  s.inodes_used.store(line.inodes_used, std::memory_order_relaxed);
  const Status orphans_read = load_orphans(s, DeviceBlock(line.orphan_block));
  if (!orphans_read) {
    // They matter only to one who may remove them.
    const bool unreadable = orphans_read.error() == Error::kCorrupted || orphans_read.error() == Error::kIo;
    if (!(skips_orphans || meta.medium().read_only()) || !unreadable) return orphans_read;
    log::warning("orphans of inode shard {} cannot be read; run fsck.udaxfs", s.index);
  }
  look_at_head(s, head);
  return {};
}

Status InodeTable::Impl::load_orphans(ShardState& s, DeviceBlock head) {
  s.orphan_blocks.clear();
  const LockGuard guard(s.notes_mutex);
  s.orphans.clear();
  std::unordered_set<uint64_t> seen;
  for (DeviceBlock b = head; b != kNoBlock;) {
    if (!seen.insert(b.value).second) return meta.corrupted("a chain of orphan blocks runs in a circle", b.value);
    UDAX_TRY(const std::byte* const image, meta.read(b, format::kKindOrphan, s.index));
    const auto* block = reinterpret_cast<const format::OrphanBlock*>(image);
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < format::kOrphansPerBlock; ++slot) {
      const Ino ino{block->ino[slot]};
      if (ino == kNoIno) continue;
      if (slot_of(ino) == 0 || chunk_of(ino) >= kChunkEnd || shard_of_chunk(chunk_of(ino)) != s.index ||
          !s.orphans.try_emplace(ino.value, OrphanPlace{b, slot}).second) {
        return meta.corrupted("an orphan block names an inode that it cannot", b.value);
      }
      ++count;
    }
    if (count != block->header.count) return meta.corrupted("an orphan block with a wrong count", b.value);
    s.orphan_blocks.push_back({b, count});
    b = DeviceBlock(block->next);
  }
  s.note_kept();
  return {};
}

/// Whether the shard's first chunk is one that was kept empty. What is wrong with it, allocation will tell.
void InodeTable::Impl::look_at_head(ShardState& s, uint64_t partial_head) {
  s.chunk_kept.store(false, std::memory_order_relaxed);
  if (partial_head == 0) return;
  const SharedLockGuard map(map_lock);
  const Result<DeviceBlock> block = find_chunk(partial_head - 1);
  if (!block) return;
  s.last_block = *block;
  const auto* header = meta.medium().as<format::ChunkHeader>(offset_of(*block));
  if (!format::is_sealed(meta.seed(), Unit::kChunk, header) || !check_header(*header, partial_head - 1)) return;
  s.chunk_kept.store(header->used_mask == kMaskEmpty, std::memory_order_relaxed);
}

// --- Finding ---------------------------------------------------------------------------------------------------------

Result<DeviceBlock> InodeTable::Impl::find_chunk(uint64_t chunk) const {
  const extent::Reader reader(meta, inode_file);
  UDAX_TRY(const extent::Mapping mapping, reader.lookup(FileBlock(chunk), 1));
  if (mapping.is_hole()) return Error::kNotFound;
  if (mapping.unwritten || !meta.geometry().is_data(mapping.device, 1)) {
    return meta.corrupted("an inode chunk that cannot be one", chunk);
  }
  return mapping.device;
}

Status InodeTable::Impl::check_header(const format::ChunkHeader& header, uint64_t chunk) const {
  const auto is_neighbour = [chunk](uint64_t link) {
    return link == 0 ||
           (shard_of_chunk(link - 1) == shard_of_chunk(chunk) && link - 1 != chunk && link <= kChunkEnd);
  };
  const uint16_t always = chunk == 0 ? uint16_t{0b11} : kMaskEmpty;  // chunk 0: the root directory
  if (header.magic != format::kChunkMagic || header.chunk != chunk || (header.used_mask & always) != always ||
      !is_neighbour(header.partial_next) || !is_neighbour(header.partial_prev)) {
    return meta.corrupted("an inode chunk's header makes no sense", chunk);
  }
  return {};
}

Result<uint64_t> InodeTable::Impl::locate(Ino ino, format::Inode* copy) {
  const uint64_t chunk = chunk_of(ino);
  if (slot_of(ino) == 0 || chunk >= kChunkEnd) return Error::kNotFound;
  ShardState& s = shard(ino);
  {
    const SharedLockGuard apply(s.apply_lock);
    const DeviceBlock known = s.chunks.find(chunk);
    if (known != kNoBlock) return check_slot(s, known, ino, copy);
  }
  const SharedLockGuard map(map_lock);  // comes before the apply lock: hence anew
  const SharedLockGuard apply(s.apply_lock);
  UDAX_TRY(const DeviceBlock block, find_chunk(chunk));
  s.chunks.put(chunk, block);
  return check_slot(s, block, ino, copy);
}

Result<uint64_t> InodeTable::Impl::check_slot(const ShardState& /*s*/, DeviceBlock block, Ino ino,
                                              format::Inode* copy) const {
  if (meta.medium().probe(offset_of(block), kBlockSize)) return meta.lost("an inode chunk", offset_of(block));
  const auto* header = meta.medium().as<format::ChunkHeader>(offset_of(block));
  if (!format::is_sealed(meta.seed(), Unit::kChunk, header) && !UDAX_KNOB("inode.skip_chunk_checksum")) {
    return meta.corrupted("an inode chunk's header has a wrong checksum", offset_of(block));
  }
  UDAX_CHECK(check_header(*header, chunk_of(ino)));
  if ((header->used_mask & slot_bit(slot_of(ino))) == 0) return Error::kNotFound;
  const uint64_t offset = slot_offset_of(block, slot_of(ino));
  if (copy == nullptr) return offset;
  const auto* image = meta.medium().as<format::Inode>(offset);
  if (!format::is_sealed(meta.seed(), Unit::kInode, image) && !UDAX_KNOB("inode.skip_inode_checksum")) {
    return meta.corrupted("an inode has a wrong checksum", ino.value);
  }
  UDAX_CHECK(check_inode(*image, ino));
  *copy = *image;
  return offset;
}

/// What everyone above relies on. The payload's own contents are checked by those who read it.
Status InodeTable::Impl::check_inode(const format::Inode& image, Ino ino) const {
  constexpr uint32_t kNsPerSecond = 1'000'000'000;
  const uint32_t kind = image.payload_kind;
  bool fits = image.ino == ino.value && image.nlink <= format::kNlinkMax && image.size <= format::kFileSizeMax &&
              image.atime_ns < kNsPerSecond && image.mtime_ns < kNsPerSecond && image.ctime_ns < kNsPerSecond &&
              image.btime_ns < kNsPerSecond;
  switch (image.mode & S_IFMT) {
    case S_IFREG:
      fits = fits && (kind == format::kPayloadNone || kind == format::kPayloadInlineExtents ||
                      kind == format::kPayloadExtentTree);
      break;
    case S_IFDIR: fits = fits && (kind == format::kPayloadNone || kind == format::kPayloadDirectory); break;
    case S_IFLNK:
      fits = fits && image.size > 0 &&
             ((kind == format::kPayloadInlineSymlink && image.size <= format::kSymlinkInlineMax) ||
              (kind == format::kPayloadSymlinkBlock && image.size <= format::kSymlinkMax));
      break;
    case S_IFCHR:
    case S_IFBLK: fits = fits && kind == format::kPayloadDevice; break;
    case S_IFIFO:
    case S_IFSOCK: fits = fits && kind == format::kPayloadNone; break;
    default: fits = false;
  }
  if (kind == format::kPayloadInlineExtents) fits = fits && image.payload_count <= format::kInlineExtents;
  if (!fits) return meta.corrupted("an inode that makes no sense", ino.value);
  return {};
}

Result<uint64_t> InodeTable::find_slot(Ino ino) const { return impl_->locate(ino, nullptr); }

Result<format::Inode> InodeTable::read(Ino ino, uint64_t* slot_offset) const {
  format::Inode image;
  UDAX_TRY(const uint64_t offset, impl_->locate(ino, &image));
  if (slot_offset != nullptr) *slot_offset = offset;
  return image;
}

// --- Orphans, statistics, held numbers -------------------------------------------------------------------------------

Result<std::vector<Ino>> InodeTable::orphans() const try {
  std::vector<Ino> all;
  for (ShardState& s : impl_->shards) {
    const LockGuard guard(s.mutex);
    const LockGuard notes(s.notes_mutex);
    for (const auto& [ino, place] : s.orphans) all.push_back(Ino(ino));
  }
  return all;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

bool InodeTable::is_orphan(Ino ino) const {
  const ShardState& s = impl_->shard(ino);
  const LockGuard notes(s.notes_mutex);
  return s.orphans.contains(ino.value);
}

InodeStats InodeTable::stats() const {
  InodeStats stats;
  for (const ShardState& s : impl_->shards) {
    stats.used += s.inodes_used.load(std::memory_order_relaxed);
    stats.chunks_empty += s.chunk_kept.load(std::memory_order_relaxed) ? 1U : 0U;
    stats.chunks_empty += s.orphan_block_kept.load(std::memory_order_relaxed) ? 1U : 0U;
  }
  return stats;
}

void InodeTable::hold_number(Ino ino) {
  ShardState& s = impl_->shard(ino);
  const LockGuard notes(s.notes_mutex);
  try {
    uint16_t& mask = s.held[chunk_of(ino)];
    mask = static_cast<uint16_t>(mask | slot_bit(slot_of(ino)));
  } catch (const std::bad_alloc&) {
    ++s.holds_lost;
  }
}

void InodeTable::release_number(Ino ino) {
  ShardState& s = impl_->shard(ino);
  const LockGuard notes(s.notes_mutex);
  const auto found = s.held.find(chunk_of(ino));
  if (found == s.held.end() || (found->second & slot_bit(slot_of(ino))) == 0) {
    if (s.holds_lost > 0) --s.holds_lost;
    return;
  }
  found->second = static_cast<uint16_t>(found->second & ~slot_bit(slot_of(ino)));
  if (found->second == 0) s.held.erase(found);
}

Status InodeTable::release_empty_chunks() {
  Status first;
  for (const ShardState& s : impl_->shards) {
    if (!s.chunk_kept.load(std::memory_order_relaxed) && !s.orphan_block_kept.load(std::memory_order_relaxed))
      continue;
    const Status done = InodeTx(*this).release_kept(s.index);
    if (!done && first) first = done;
  }
  return first;
}

}  // namespace udax::inode
