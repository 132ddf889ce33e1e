// SPDX-License-Identifier: BSD-3-Clause
//
// Invariants
// - A superblock is copied out of the medium once and judged from the copy: what has been checked cannot change
//   under us.
// - No sum is formed before its terms are known to be at most kPoolBlocksMax, so none overflows.
#include "media/superblock.h"

#include <algorithm>
#include <cstring>

#include "base/sync_point.h"
#include "format/checksum.h"
#include "media/sentence.h"

namespace udax::media {
namespace {

constexpr uint64_t kJournalBlocksMin = 256;     // 1 MiB
constexpr uint64_t kJournalBlocksUsual = 8192;  // 32 MiB: more does not make anything faster
constexpr uint64_t kDataBlocksMin = 256;        // below this a pool is of no use to anyone

std::string number(uint64_t v) { return std::to_string(v); }

std::string hex(uint64_t v) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  do {
    out.insert(out.begin(), kDigits[v & 15]);
    v >>= 4;
  } while (v != 0);
  return "0x" + out;
}

uint64_t groups_for(uint64_t block_count) {
  return (block_count + format::kGroupBlocks - 1) / format::kGroupBlocks;
}
uint64_t desc_blocks_for(uint64_t groups) {
  return (groups + format::kDescsPerBlock - 1) / format::kDescsPerBlock;
}

bool has_magic(const format::Superblock& sb) { return sb.magic.get() == format::kSuperblockMagic; }

bool is_sealed(const format::Superblock& sb) {
  return format::is_sealed(0, format::Unit::kSuperblock, &sb) || UDAX_KNOB("media.skip_superblock_checksum");
}

/// The part of the layout that is the same for every version 1 pool, or what is wrong with it.
const char* layout_fault(const format::Superblock& sb) {
  const uint64_t blocks = sb.block_count.get();
  if (blocks < format::kPoolBlocksMin || blocks > format::kPoolBlocksMax) return "block_count out of range";
  if (sb.group_count.get() != groups_for(blocks)) return "group_count does not match block_count";
  if (sb.desc_blocks.get() != desc_blocks_for(sb.group_count.get()))
    return "desc_blocks does not match group_count";
  const uint64_t starts[] = {sb.desc_start.get(), sb.bitmap_start.get(), sb.journal_start.get(),
                             sb.data_start.get()};
  for (const uint64_t start : starts) {
    if (start >= blocks) return "an area starts past the pool's end";
  }
  if (sb.journal_blocks.get() < kJournalBlocksMin || sb.journal_blocks.get() >= blocks) {
    return "journal_blocks out of range";
  }
  if (sb.desc_start.get() < format::kDescStart.value) return "the descriptors lie over the root block";
  if (sb.bitmap_start.get() < sb.desc_start.get() + sb.desc_blocks.get())
    return "bitmaps lie over the descriptors";
  if (sb.journal_start.get() < sb.bitmap_start.get() + sb.group_count.get())
    return "the journal lies over the bitmaps";
  if (sb.data_start.get() < sb.journal_start.get() + sb.journal_blocks.get()) return "data lies over the journal";
  if (sb.data_start.get() >= blocks - 1) return "no room for data";
  if (sb.reserved_blocks.get() > blocks - 1 - sb.data_start.get()) return "reserved_blocks out of range";
  if (sb.created_ns.get() >= 1'000'000'000) return "created_ns out of range";
  return nullptr;
}

Geometry to_geometry(const format::Superblock& sb) {
  Geometry g;
  g.block_count = sb.block_count.get();
  g.group_count = sb.group_count.get();
  g.desc_start = DeviceBlock(sb.desc_start.get());
  g.desc_blocks = sb.desc_blocks.get();
  g.bitmap_start = DeviceBlock(sb.bitmap_start.get());
  g.journal_start = DeviceBlock(sb.journal_start.get());
  g.journal_blocks = sb.journal_blocks.get();
  g.data_start = DeviceBlock(sb.data_start.get());
  g.reserved_blocks = sb.reserved_blocks.get();
  g.checksum_seed = format::checksum_seed(sb.uuid);
  for (unsigned i = 0; i < 16; ++i) {
    g.hash_key.at(i / 8) |= uint64_t{sb.hash_key[i]} << (8 * (i % 8));
  }
  g.ro_compat_unknown = (sb.ro_compat.get() & ~format::kRoCompatKnown) != 0;
  return g;
}

/// The replica at `block`, if there is one that says that it belongs there.
bool read_replica(const Medium& medium, uint64_t block, format::Superblock* out) {
  if (block == 0 || block >= medium.block_count()) return false;
  if (medium.is_lost(offset_of(DeviceBlock(block)), kBlockSize)) return false;
  std::memcpy(out, medium.block(DeviceBlock(block)), sizeof *out);
  return has_magic(*out) && is_sealed(*out) && out->block_count.get() == block + 1;
}

bool find_replica(const Medium& medium, const format::Superblock& primary, format::Superblock* out) {
  if (read_replica(medium, medium.block_count() - 1, out)) return true;
  // The medium may have been made longer than the pool. Only one field of the broken primary is trusted, and
  // only as a hint: what is found there has to be sealed and to name that very place.
  const uint64_t blocks = primary.block_count.get();
  if (!has_magic(primary) || blocks < format::kPoolBlocksMin || blocks > format::kPoolBlocksMax) return false;
  return read_replica(medium, blocks - 1, out);
}

}  // namespace

Result<Geometry> check_superblock(const format::Superblock& sb, uint64_t medium_blocks, std::string* why) {
  if (!has_magic(sb)) {
    return say(why, Error::kNotAPool,
               "not a udaxfs pool (no superblock at block 0 or at its end); "
               "make one with mkfs.udaxfs");
  }
  if (!is_sealed(sb)) return say(why, Error::kCorrupted, "the superblock is damaged (its checksum is wrong)");
  if (sb.version_major.get() != format::kVersionMajor) {
    const bool newer = sb.version_major.get() > format::kVersionMajor;
    return say(why, Error::kUnsupportedFormat,
               newer ? "made by a newer udaxfs (format " : "of an unknown format (",
               number(sb.version_major.get()), ".", number(sb.version_minor.get()), ", this build knows ",
               number(format::kVersionMajor), ".", number(format::kVersionMinor), ")");
  }
  if (const uint64_t unknown = sb.incompat.get() & ~format::kIncompatKnown; unknown != 0) {
    return say(why, Error::kUnsupportedFormat, "needs features this build does not know: ", hex(unknown));
  }
  if (sb.block_size.get() != kBlockSize) {
    return say(why, Error::kCorrupted, "the superblock makes no sense: block_size is not 4096");
  }
  if (const char* fault = layout_fault(sb); fault != nullptr) {
    return say(why, Error::kCorrupted, "the superblock makes no sense: ", fault);
  }
  if (sb.block_count.get() > medium_blocks) {
    return say(why, Error::kCorrupted, "cut short: superblock says ", number(sb.block_count.get()),
               " blocks, medium has ", number(medium_blocks));
  }
  return to_geometry(sb);
}

Result<LoadedSuperblock> load_superblock(const Medium& medium, std::string* why) {
  if (medium.block_count() == 0) return say(why, Error::kNotAPool, "the medium is empty");
  LoadedSuperblock loaded{};
  const bool is_lost = medium.probe(offset_of(format::kSuperblockBlock), kBlockSize);
  if (!is_lost) std::memcpy(&loaded.raw, medium.block(format::kSuperblockBlock), sizeof loaded.raw);
  if (!has_magic(loaded.raw) || !is_sealed(loaded.raw)) {
    format::Superblock replica;
    if (!find_replica(medium, loaded.raw, &replica)) {
      if (is_lost)
        return say(why, Error::kIo, "the superblock is lost to a media error, and no replica of it was found");
      if (!has_magic(loaded.raw)) {
        return check_superblock(loaded.raw, medium.block_count(), why).error();
      }
      return say(why, Error::kCorrupted,
                 "the superblock is damaged (its checksum is wrong), and no replica of it was found");
    }
    loaded.raw = replica;
    loaded.source = SuperblockSource::kReplica;
  }
  UDAX_TRY(loaded.geometry, check_superblock(loaded.raw, medium.block_count(), why));
  return loaded;
}

Result<Geometry> plan_geometry(uint64_t block_count, uint64_t journal_blocks) {
  if (block_count < format::kPoolBlocksMin || block_count > format::kPoolBlocksMax) return Error::kInvalid;
  if (journal_blocks == 0) {
    journal_blocks = std::clamp(block_count / 64, kJournalBlocksMin, kJournalBlocksUsual);
  }
  if (journal_blocks < kJournalBlocksMin || journal_blocks > block_count) return Error::kInvalid;
  Geometry g;
  g.block_count = block_count;
  g.group_count = groups_for(block_count);
  g.desc_start = format::kDescStart;
  g.desc_blocks = desc_blocks_for(g.group_count);
  g.bitmap_start = g.desc_start + g.desc_blocks;
  g.journal_start = g.bitmap_start + g.group_count;
  g.journal_blocks = journal_blocks;
  g.data_start = g.journal_start + journal_blocks;
  if (g.data_start.value + kDataBlocksMin > g.replica().value) return Error::kInvalid;
  const uint64_t data_blocks = g.replica() - g.data_start;
  g.reserved_blocks = std::clamp(data_blocks / 256, uint64_t{64}, uint64_t{4096});
  return g;
}

}  // namespace udax::media
