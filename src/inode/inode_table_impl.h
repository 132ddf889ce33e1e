// SPDX-License-Identifier: BSD-3-Clause
//
// What the inode table keeps in memory: private to this folder.
//
// Nothing here is needed to read the medium; all of it is rebuilt by load(), or costs one look-up to rebuild.
//
// Invariants
// - A shard's list has at most one chunk without inodes that we left there on purpose, and it is the first
//   (`chunk_kept`): allocation takes it last, so that create-and-unlink loops neither make and punch a chunk each
//   time nor fill what could be given back.
// - orphan_blocks and orphans mirror the chain of orphan blocks.
//
// Locks: as in inode_table.h, and
// - apply_lock: exclusive while a transaction of the shard commits, shared by those who look at its chunk headers
//   without the shard's mutex. After map_lock, before the allocator's groups.
// - notes_mutex: a leaf.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "extent/extent_map.h"
#include "inode/inode_table.h"

namespace udax::inode {

inline constexpr uint16_t kMaskEmpty = 1;  // the header's own bit
inline constexpr uint16_t kMaskFull = 0xFFFF;
inline constexpr uint64_t kChunkEnd = extent::kFileBlockEnd.value;

[[nodiscard]] inline uint64_t chunk_of(Ino ino) { return ino.value / format::kInodesPerChunk; }
[[nodiscard]] inline uint32_t slot_of(Ino ino) {
  return static_cast<uint32_t>(ino.value % format::kInodesPerChunk);
}
[[nodiscard]] inline uint32_t shard_of_chunk(uint64_t chunk) {
  return static_cast<uint32_t>(chunk % format::kInodeShards);
}
[[nodiscard]] inline uint16_t slot_bit(uint32_t slot) { return static_cast<uint16_t>(1U << slot); }
[[nodiscard]] inline uint64_t slot_offset_of(DeviceBlock chunk_block, uint32_t slot) {
  return offset_of(chunk_block) + uint64_t{slot} * format::kInodeSize;
}
[[nodiscard]] inline uint64_t shard_offset_of(uint32_t shard) {
  return offset_of(format::kRootBlock) + offsetof(format::RootBlock, shard) + shard * sizeof(format::InodeShard);
}

/// Where the chunks of one shard are: a direct-mapped cache, each entry one word, so that readers need no lock
/// beside the apply lock that keeps chunks from going.
class ChunkCache {
 public:
  /// kNoBlock: not known.
  [[nodiscard]] DeviceBlock find(uint64_t chunk) const;
  void put(uint64_t chunk, DeviceBlock block);
  void drop(uint64_t chunk);

 private:
  static constexpr uint32_t kIndexBits = 10;
  static constexpr uint32_t kBlockBits = 35;  // kPoolBlocksMax
  // An entry: what the index leaves of the chunk's number, then the block; 0 is empty.
  std::array<std::atomic<uint64_t>, size_t{1} << kIndexBits> entries_{};
};

struct OrphanPlace {
  DeviceBlock block;
  uint32_t slot = 0;
};

struct OrphanBlockNote {
  DeviceBlock block;
  uint32_t count = 0;  // slots in use
};

struct alignas(kCacheLine) ShardState {
  uint32_t index = 0;
  Mutex mutex;
  mutable SharedMutex apply_lock;
  ChunkCache chunks;
  std::atomic<uint64_t> inodes_used{0};
  std::atomic<bool> chunk_kept{false};
  std::atomic<bool> orphan_block_kept{false};  // the first orphan block is empty

  // Guarded by `mutex`, which an InodeTx holds in a way that the analysis cannot follow.
  DeviceBlock last_block;                      // of the chunk made last: where to look for room
  std::vector<OrphanBlockNote> orphan_blocks;  // in the chain's order

  mutable Mutex notes_mutex;
  std::unordered_map<uint64_t, OrphanPlace> orphans UDAX_GUARDED_BY(notes_mutex);
  /// Slots of a chunk whose numbers are held, by chunk.
  std::unordered_map<uint64_t, uint16_t> held UDAX_GUARDED_BY(notes_mutex);
  /// Numbers held that there was no memory to note. While there are any, only numbers never used before are safe.
  uint64_t holds_lost UDAX_GUARDED_BY(notes_mutex) = 0;

  /// The slots of `chunk` that must not be given out.
  [[nodiscard]] uint16_t held_mask(uint64_t chunk) const;
  void note_kept() {
    orphan_block_kept.store(!orphan_blocks.empty() && orphan_blocks.front().count == 0, std::memory_order_relaxed);
  }
};

struct InodeTable::Impl {
  explicit Impl(const journal::MetaStore& store) : meta(store) {}

  const journal::MetaStore& meta;
  mutable SharedMutex map_lock;
  format::Inode inode_file UDAX_GUARDED_BY(map_lock){};
  std::array<ShardState, format::kInodeShards> shards;

  [[nodiscard]] ShardState& shard(Ino ino) { return shards.at(shard_of_chunk(chunk_of(ino))); }

  [[nodiscard]] Status load_shard(ShardState& s, const format::InodeShard& line, bool skips_orphans);
  [[nodiscard]] Status load_orphans(ShardState& s, DeviceBlock head);
  void look_at_head(ShardState& s, uint64_t partial_head);

  /// kNotFound: no such chunk.
  [[nodiscard]] Result<DeviceBlock> find_chunk(uint64_t chunk) const UDAX_REQUIRES_SHARED(map_lock);
  /// The slot of `ino`, if in use; its image goes to `copy`, if given.
  [[nodiscard]] Result<uint64_t> locate(Ino ino, format::Inode* copy);
  [[nodiscard]] Result<uint64_t> check_slot(const ShardState& s, DeviceBlock block, Ino ino,
                                            format::Inode* copy) const UDAX_REQUIRES_SHARED(s.apply_lock);
  [[nodiscard]] Status check_inode(const format::Inode& image, Ino ino) const;
  /// All of a chunk header but its checksum.
  [[nodiscard]] Status check_header(const format::ChunkHeader& header, uint64_t chunk) const;
};

}  // namespace udax::inode
