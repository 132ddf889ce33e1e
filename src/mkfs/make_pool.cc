// SPDX-License-Identifier: BSD-3-Clause
#include "mkfs/make_pool.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>

#include "base/clock.h"
#include "base/random.h"
#include "format/checksum.h"
#include "media/sentence.h"
#include "media/superblock.h"

namespace udax::mkfs {
namespace {

using format::Unit;
using media::Geometry;
using media::Medium;
using media::say;

bool is_all_zero(const std::array<uint8_t, 16>& bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; });
}

/// Replaces what was left to chance.
void choose(MakeOptions* o) {
  if (is_all_zero(o->uuid)) {
    fill_random(o->uuid.data(), o->uuid.size());
    o->uuid[6] = static_cast<uint8_t>((o->uuid[6] & 0x0F) | 0x40);  // RFC 4122: version 4, variant 1
    o->uuid[8] = static_cast<uint8_t>((o->uuid[8] & 0x3F) | 0x80);
  }
  if (is_all_zero(o->hash_key)) fill_random(o->hash_key.data(), o->hash_key.size());
  while (o->journal_epoch == 0) fill_random(&o->journal_epoch, sizeof o->journal_epoch);
  if (o->time == format::TimeStamp{}) {
    const RealTime now = realtime_coarse();
    o->time = {now.seconds, now.nanoseconds};
  }
}

/// Zeroes every place at which a superblock may be found, so that nothing there claims to be a pool while this one
/// is under way.
Status wipe_superblocks(Medium& medium) {
  format::Superblock old;
  std::memcpy(&old, medium.block(format::kSuperblockBlock), sizeof old);
  const uint64_t old_blocks = old.block_count.get();
  if (old.magic.get() == format::kSuperblockMagic && old_blocks > 1 && old_blocks <= medium.block_count()) {
    medium.zero_nt(offset_of(DeviceBlock(old_blocks - 1)), kBlockSize);
  }
  medium.zero_nt(offset_of(DeviceBlock(medium.block_count() - 1)), kBlockSize);
  medium.zero_nt(offset_of(format::kSuperblockBlock), kBlockSize);
  return medium.drain();
}

using BitmapBlock = std::array<le64, kBlockSize / sizeof(le64)>;
static_assert(sizeof(BitmapBlock) == kBlockSize);

/// Sets the bits of the blocks [first, end) that lie in `group`.
void mark_used(BitmapBlock* bitmap, uint64_t group, uint64_t first, uint64_t end) {
  const uint64_t base = group * format::kGroupBlocks;
  first = std::max(first, base);
  end = std::min(end, base + format::kGroupBlocks);
  for (uint64_t b = first; b < end; ++b) {
    const uint64_t bit = b - base;
    le64& word = bitmap->at(bit / 64);
    word = word.get() | (uint64_t{1} << (bit % 64));
  }
}

uint32_t count_free(const BitmapBlock& bitmap) {
  uint32_t used = 0;
  for (const le64& word : bitmap) used += static_cast<uint32_t>(__builtin_popcountll(word.get()));
  return format::kGroupBlocks - used;
}

/// The descriptor of `group`; stores its bitmap if it needs one.
format::GroupDesc make_group(Medium& medium, const Geometry& g, uint64_t group) {
  const uint64_t base = group * format::kGroupBlocks;
  const uint64_t used_end = g.data_start.value + kBlocksUsedInData;
  format::GroupDesc desc{};
  desc.group = group;
  const bool is_whole =
      base + format::kGroupBlocks <= g.replica().value;  // neither cut short nor with the replica
  if (is_whole && base >= used_end) {
    desc.flags = format::kGroupUninit;
    desc.free_blocks = format::kGroupBlocks;
  } else {
    BitmapBlock bitmap{};
    mark_used(&bitmap, group, 0, used_end);
    mark_used(&bitmap, group, g.replica().value, base + format::kGroupBlocks);
    desc.free_blocks = count_free(bitmap);
    desc.bitmap_checksum = format::bitmap_checksum(g.checksum_seed, bitmap.data());
    medium.store_nt(offset_of(g.bitmap_block(group)), bitmap.data(), sizeof bitmap);
  }
  format::seal(g.checksum_seed, Unit::kGroupDesc, &desc);
  return desc;
}

void write_groups(Medium& medium, const Geometry& g) {
  std::array<format::GroupDesc, format::kDescsPerBlock> block;
  static_assert(sizeof block == kBlockSize);
  for (uint64_t b = 0; b < g.desc_blocks; ++b) {
    block.fill(format::GroupDesc{});
    const uint64_t first = b * format::kDescsPerBlock;
    const uint64_t end = std::min(first + format::kDescsPerBlock, g.group_count);
    for (uint64_t group = first; group < end; ++group) block.at(group - first) = make_group(medium, g, group);
    medium.store_nt(offset_of(g.desc_start + b), block.data(), sizeof block);
  }
}

void write_journal_control(Medium& medium, const Geometry& g, const MakeOptions& o) {
  auto control = format::JournalControl{};
  for (const uint64_t sequence : {uint64_t{1}, uint64_t{0}}) {
    format::JournalSlot& slot = sequence == 1 ? control.slot_a : control.slot_b;
    slot.state = format::kJournalClean;
    slot.sequence = sequence;
    slot.epoch = o.journal_epoch;
    slot.checksum =
        format::checksum_without(g.checksum_seed, &slot, sizeof slot, offsetof(format::JournalSlot, checksum));
  }
  medium.store_nt(offset_of(format::kJournalControlBlock), &control, sizeof control);
}

format::Inode make_inode(uint64_t ino, uint32_t mode, const MakeOptions& o) {
  format::Inode inode{};
  inode.ino = ino;
  inode.mode = static_cast<uint16_t>(mode);
  inode.generation = 1;
  const auto seconds = static_cast<uint64_t>(o.time.seconds);
  for (le64* field : {&inode.atime_s, &inode.mtime_s, &inode.ctime_s, &inode.btime_s}) *field = seconds;
  for (le32* field : {&inode.atime_ns, &inode.mtime_ns, &inode.ctime_ns, &inode.btime_ns}) {
    *field = o.time.nanoseconds;
  }
  return inode;
}

void write_root_block(Medium& medium, const Geometry& g, const MakeOptions& o) {
  auto root = format::RootBlock{};
  format::Inode& file = root.inode_file;
  file = make_inode(0, S_IFREG | 0600, o);
  file.nlink = 1;
  file.size = kBlockSize;
  file.block_count = 1;
  file.payload_kind = format::kPayloadInlineExtents;
  file.payload_count = 1;
  format::Extent extent{};
  extent.device_block = g.data_start.value;
  extent.count = 1;
  std::memcpy(file.payload, &extent, sizeof extent);
  format::seal(g.checksum_seed, Unit::kInode, &file);

  root.shard[0].next_chunk = 1;
  root.shard[0].partial_head = 0 + 1;  // chunk 0
  root.shard[0].inodes_used = 1;
  for (format::InodeShard& shard : root.shard) format::seal(g.checksum_seed, Unit::kShard, &shard);
  medium.store_nt(offset_of(format::kRootBlock), &root, sizeof root);
}

void write_root_chunk(Medium& medium, const Geometry& g, const MakeOptions& o) {
  struct Chunk {
    format::ChunkHeader header;
    format::Inode slots[format::kInodesPerChunk - 1];
  } chunk{};
  static_assert(sizeof chunk == kBlockSize);
  chunk.header.magic = format::kChunkMagic;
  chunk.header.used_mask = uint16_t{0b11};  // the header itself, and the root directory
  format::seal(g.checksum_seed, Unit::kChunk, &chunk.header);

  format::Inode& root = chunk.slots[0];
  root = make_inode(kRootIno.value, S_IFDIR | o.root_mode, o);
  root.nlink = 2;
  root.uid = o.root_uid;
  root.gid = o.root_gid;
  root.parent = kRootIno.value;
  root.payload_kind = format::kPayloadDirectory;  // with a DirRoot of block 0: no entries
  format::seal(g.checksum_seed, Unit::kInode, &root);
  medium.store_nt(offset_of(g.data_start), &chunk, sizeof chunk);
}

void write_superblocks(Medium& medium, const Geometry& g, const MakeOptions& o) {
  auto sb = format::Superblock{};
  sb.magic = format::kSuperblockMagic;
  sb.version_major = format::kVersionMajor;
  sb.version_minor = format::kVersionMinor;
  std::memcpy(sb.uuid, o.uuid.data(), sizeof sb.uuid);
  std::memcpy(sb.label, o.label.data(), o.label.size());
  sb.block_count = g.block_count;
  sb.group_count = g.group_count;
  sb.desc_start = g.desc_start.value;
  sb.desc_blocks = g.desc_blocks;
  sb.bitmap_start = g.bitmap_start.value;
  sb.journal_start = g.journal_start.value;
  sb.journal_blocks = g.journal_blocks;
  sb.data_start = g.data_start.value;
  sb.reserved_blocks = g.reserved_blocks;
  sb.created_s = static_cast<uint64_t>(o.time.seconds);
  sb.created_ns = o.time.nanoseconds;
  sb.block_size = kBlockSize;
  std::memcpy(sb.hash_key, o.hash_key.data(), sizeof sb.hash_key);
  format::seal(0, Unit::kSuperblock, &sb);
  medium.store_nt(offset_of(g.replica()), &sb, sizeof sb);
  medium.store_nt(offset_of(format::kSuperblockBlock), &sb, sizeof sb);
}

Status write_pool(Medium& medium, const Geometry& g, const MakeOptions& o) {
  UDAX_CHECK(wipe_superblocks(medium));
  write_groups(medium, g);
  medium.zero_nt(offset_of(format::kHolderBlock), kBlockSize);
  write_journal_control(medium, g, o);
  write_root_block(medium, g, o);
  write_root_chunk(medium, g, o);
  UDAX_CHECK(medium.drain());
  write_superblocks(medium, g, o);
  UDAX_CHECK(medium.drain());
  UDAX_CHECK(medium.deep_flush(0, offset_of(g.data_start + kBlocksUsedInData)));
  return medium.deep_flush(offset_of(g.replica()), kBlockSize);
}

}  // namespace

Status make_pool(Medium& medium, const MakeOptions& options, std::string* why) try {
  if (medium.read_only()) return say(why, Error::kReadOnly, "opened read-only");
  if (medium.block_count() < format::kPoolBlocksMin) {
    return say(why, Error::kInvalid, "too small for a pool: it takes at least 8 MiB");
  }
  if (medium.block_count() > format::kPoolBlocksMax) {
    return say(why, Error::kInvalid, "too large for a pool: it takes at most 128 TiB");
  }
  if (options.label.size() > kLabelMax) return say(why, Error::kInvalid, "label longer than 63 bytes");
  if (options.label.find('\0') != std::string::npos)
    return say(why, Error::kInvalid, "label with a NUL byte in it");
  if ((options.root_mode & ~07777U) != 0) return say(why, Error::kInvalid, "root_mode is not permission bits");
  if (options.time.nanoseconds >= 1'000'000'000) return say(why, Error::kInvalid, "time out of range");

  auto plan = media::plan_geometry(medium.block_count(), options.journal_blocks);
  if (!plan) return say(why, plan.error(), "journal size out of range for a pool of this size");
  MakeOptions chosen = options;
  choose(&chosen);
  Geometry& g = plan.value();
  uint8_t uuid[16];
  std::memcpy(uuid, chosen.uuid.data(), sizeof uuid);
  g.checksum_seed = format::checksum_seed(uuid);
  if (auto written = write_pool(medium, g, chosen); !written) {
    return say(why, written.error(), "the medium failed while the pool was written; there is no pool on it now");
  }
  return {};
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

}  // namespace udax::mkfs
