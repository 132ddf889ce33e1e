// SPDX-License-Identifier: BSD-3-Clause
//
// The inode table: the inode file, its chunks, their slots; and the lists of orphans.
//
// What makes a slot one in use is the slot itself (sealed, with a mode); the header's mask is to agree with it.
#include <sys/stat.h>

#include <algorithm>
#include <bit>

#include "check/inode_check.h"
#include "check/scan.h"

namespace udax::check {
namespace {

constexpr const char* kPhase = "inodes";

uint32_t shard_of(uint64_t chunk) { return static_cast<uint32_t>(chunk % format::kInodeShards); }

const format::Inode& slot_at(const std::byte* chunk, uint32_t slot) {
  return *reinterpret_cast<const format::Inode*>(chunk + slot * format::kInodeSize);
}

bool is_zero(const format::Inode& inode) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&inode);
  return std::all_of(bytes, bytes + sizeof inode, [](std::byte b) { return b == std::byte{0}; });
}

bool is_header_good(uint32_t seed, const format::ChunkHeader& header, uint64_t chunk) {
  return header.magic == format::kChunkMagic && format::is_sealed(seed, format::Unit::kChunk, &header) &&
         header.chunk == chunk && (header.used_mask & 1) != 0;
}

/// Looks at a slot: fills in its note, and its bit of the chunk's used_mask.
void look_at_slot(Scan& scan, ChunkNote& chunk, const std::byte* bytes, uint32_t slot) {
  const uint64_t ino = chunk.chunk * format::kInodesPerChunk + slot;
  const format::Inode& inode = slot_at(bytes, slot);
  const auto bit = static_cast<uint16_t>(1U << slot);
  const bool marked = (chunk.header_mask & bit) != 0;
  const bool sealed = format::is_sealed(scan.image.seed(), format::Unit::kInode, &inode);
  if (inode.mode == 0 && (sealed || is_zero(inode))) return;
  bool fatal = false;
  const char* const fault = inode_fault(ino, inode, &fatal);
  if (!sealed && (fatal || !marked)) {
    scan.add(Code::kInode, ino, chunk.block, "inode ", ino, marked ? "" : ", which is free,",
             " is not readable: ", fault != nullptr ? fault : "it has a wrong checksum");
    if (scan.planning) scan.fix(ino).clear = true;
    return;
  }
  if (fatal) {
    scan.add(Code::kInode, ino, chunk.block, "inode ", ino, " ", fault);
    if (scan.planning) scan.fix(ino).clear = true;
    return;
  }
  if (!sealed) scan.add(Code::kInodeChecksum, ino, chunk.block, "inode ", ino, " has a wrong checksum");
  if (fault != nullptr) scan.add(Code::kInodeField, ino, chunk.block, "inode ", ino, " ", fault);
  if (scan.planning && (!sealed || fault != nullptr)) scan.fix(ino).reseal = true;
  chunk.used_mask = static_cast<uint16_t>(chunk.used_mask | bit);
  InodeNote& note = chunk.slots[slot - 1];
  note.type = static_cast<uint8_t>(inode.mode >> 12);
  note.nlink = inode.nlink;
}

void look_at_chunk(Scan& scan, uint64_t number, uint64_t block) {
  const std::byte* const bytes = scan.image.block(block);
  const auto& header = *reinterpret_cast<const format::ChunkHeader*>(bytes);
  ChunkNote chunk;
  chunk.chunk = number;
  chunk.block = block;
  chunk.header_good = is_header_good(scan.image.seed(), header, number);
  if (!chunk.header_good) {
    for (uint32_t slot = 1; slot < format::kInodesPerChunk; ++slot) {
      const format::Inode& inode = slot_at(bytes, slot);
      const bool live = inode.mode != 0 && inode.ino == number * format::kInodesPerChunk + slot &&
                        format::is_sealed(scan.image.seed(), format::Unit::kInode, &inode);
      if (live) chunk.header_mask = static_cast<uint16_t>(chunk.header_mask | 1U << slot);
    }
    scan.add(Code::kChunk, 0, block, "inode chunk ", number, ": ",
             chunk.header_mask != 0 ? "its header is broken" : "it is none");
    if (chunk.header_mask == 0) {
      if (scan.planning) scan.plan.chunks_to_drop.insert(number);
      return;
    }
    if (scan.planning) scan.plan.headers_to_rewrite.insert(number);
  } else {
    chunk.header_mask = static_cast<uint16_t>(header.used_mask & ~1U);
  }
  for (uint32_t slot = 1; slot < format::kInodesPerChunk; ++slot) look_at_slot(scan, chunk, bytes, slot);
  if (chunk.header_good && chunk.header_mask != chunk.used_mask) {
    scan.add(Code::kUsedMask, 0, block, "inode chunk ", number,
             ": its header and its inodes disagree on which are in use");
    if (scan.planning) scan.plan.headers_to_rewrite.insert(number);
  }
  ShardNote& shard = scan.shards[shard_of(number)];
  shard.used += static_cast<uint64_t>(std::popcount(chunk.used_mask));
  shard.next_chunk_min = std::max(shard.next_chunk_min, number / format::kInodeShards + 1);
  scan.chunks.push_back(chunk);
}

/// Whether the inode file's own inode can be walked.
bool check_inode_file_root(Scan& scan) {
  const format::Inode& file = *scan.inode(0);
  const bool sealed = format::is_sealed(scan.image.seed(), format::Unit::kInode, &file);
  bool fatal = false;
  const char* const fault = inode_fault(0, file, &fatal);
  if (sealed && fault == nullptr && S_ISREG(file.mode)) return true;
  scan.add(Code::kInodeFile, 0, format::kRootBlock.value, "the inode table's root ",
           fault != nullptr ? fault : (sealed ? "is none" : "has a wrong checksum"));
  if (fatal || !S_ISREG(file.mode)) {
    if (scan.planning) scan.plan.find_lost_chunks = true;
    return false;
  }
  if (scan.planning) scan.fix(0).reseal = true;
  return true;
}

void check_inode_file(Scan& scan) {
  if (!check_inode_file_root(scan)) return;
  const format::Inode& file = *scan.inode(0);
  MapWalk map = walk_map(scan, 0, file, true);
  scan.report.blocks_inode = map.blocks;
  bool rewrite = map.broken;
  for (const Run& run : map.runs) {
    if (!run.unwritten) continue;
    scan.add(Code::kInodeFile, 0, run.device, "inode chunks from ", run.file, " on are unwritten");
    rewrite = true;
  }
  std::erase_if(map.runs, [](const Run& run) { return run.unwritten; });
  uint64_t done = 0;
  for (const Run& run : map.runs) {
    for (uint64_t i = 0; i < run.count; ++i) {
      look_at_chunk(scan, run.file + i, run.device + i);
      if (++done % 1024 == 0) scan.progress(kPhase, done, 2 * map.blocks);
    }
  }
  if (rewrite) {
    if (scan.planning) scan.plan.find_lost_chunks = true;
  } else {
    check_block_count(scan, 0, file, map.blocks);
  }
  const uint64_t end = map.runs.empty() ? 0 : map.runs.back().end() * kBlockSize;
  if (file.size < end) {
    scan.add(Code::kDirectorySize, 0, format::kRootBlock.value, "the inode table's size is ", file.size.get(),
             ", less than it has");
    if (scan.planning) scan.fix(0).size = end;
  }
  if (scan.planning && (rewrite || !scan.plan.chunks_to_drop.empty())) scan.fix(0).map = std::move(map.runs);
}

/// The root must be a directory, whatever else is lost.
void check_root(Scan& scan) {
  InodeNote* const root = scan.find(kRootIno.value);
  if (root != nullptr && root->is_dir()) return;
  scan.add(Code::kRoot, kRootIno.value, 0, "there is no root directory");
  if (scan.planning) scan.plan.make_root = true;
}

}  // namespace

void check_inode_table(Scan& scan) {
  check_inode_file(scan);
  read_orphans(scan);
  check_root(scan);
  uint64_t done = 0;
  for (ChunkNote& chunk : scan.chunks) {
    for (uint32_t slot = 1; slot < format::kInodesPerChunk; ++slot) {
      InodeNote& note = chunk.slots[slot - 1];
      if (!note.is_live()) continue;
      ++scan.report.inodes;
      check_contents(scan, chunk.chunk * format::kInodesPerChunk + slot, note);
    }
    if (++done % 256 == 0) scan.progress(kPhase, scan.chunks.size() + done, 2 * scan.chunks.size());
  }
  check_orphans(scan);
}

// --- Orphans ---------------------------------------------------------------------------------------------------------

namespace {

void read_orphan_list(Scan& scan, uint32_t shard, uint64_t head) {
  const auto broken = [&](Code code, uint64_t b, const char* what, uint64_t ino = 0) {
    scan.add(code, ino, b, "orphans of inode shard ", shard, ": ", what);
    scan.plan.shards_orphans |= 1U << shard;
  };
  for (uint64_t b = head; b != 0;) {
    const char* why = nullptr;
    const std::byte* const bytes = scan.read(b, format::kKindOrphan, shard, &why);
    if (bytes == nullptr) return broken(Code::kOrphanBlock, b, "a block of the list is not readable");
    if (!scan.claim(b, 1, 0, "a block of orphans")) {
      return broken(Code::kOrphanBlock, b, "a block of the list is used by another");
    }
    scan.shards[shard].orphan_blocks.push_back(b);
    const auto& block = *reinterpret_cast<const format::OrphanBlock*>(bytes);
    uint32_t count = 0;
    for (const le64& slot : block.ino) {
      const uint64_t ino = slot;
      if (ino == 0) continue;
      ++count;
      if (ino % format::kInodesPerChunk == 0 || shard_of(ino / format::kInodesPerChunk) != shard) {
        broken(Code::kOrphanEntry, b, "one names an inode that does not belong there", ino);
      } else {
        scan.orphans.push_back(ino);
      }
    }
    if (count != block.header.count) broken(Code::kOrphanBlock, b, "a block has a wrong count");
    b = block.next;
  }
}

}  // namespace

void read_orphans(Scan& scan) {
  for (uint32_t shard = 0; shard < format::kInodeShards; ++shard) {
    const format::InodeShard* const line = scan.shard_line(shard);
    if (!format::is_sealed(scan.image.seed(), format::Unit::kShard, line)) {
      scan.add(Code::kShardLine, 0, format::kRootBlock.value, "line ", shard,
               " of the inode table has a wrong checksum");
      scan.plan.shards_orphans |= 1U << shard;
      scan.plan.shards_lists |= 1U << shard;
      scan.plan.shards_lines |= 1U << shard;
      continue;
    }
    read_orphan_list(scan, shard, line->orphan_block);
  }
  std::sort(scan.orphans.begin(), scan.orphans.end());
  for (size_t i = 1; i < scan.orphans.size(); ++i) {
    const uint64_t ino = scan.orphans[i];
    if (ino != scan.orphans[i - 1]) continue;
    scan.add(Code::kOrphanEntry, ino, 0, "inode ", ino, " is among the orphans twice");
    scan.plan.shards_orphans |= 1U << shard_of(ino / format::kInodesPerChunk);
  }
  scan.orphans.erase(std::unique(scan.orphans.begin(), scan.orphans.end()), scan.orphans.end());
}

void check_orphans(Scan& scan) {
  constexpr uint8_t kRegular = S_IFREG >> 12;
  for (const uint64_t ino : scan.orphans) {
    InodeNote* const note = scan.find(ino);
    const bool live = note != nullptr && note->is_live();
    // With links, it waits for a truncation to be finished: only a file can.
    if (live && (note->nlink == 0 || note->type == kRegular)) {
      note->set(InodeNote::kOrphan);
      ++scan.report.orphans;
      if (scan.planning) scan.plan.orphans.push_back(ino);
      continue;
    }
    scan.add(Code::kOrphanEntry, ino, 0, "inode ", ino, " is among the orphans, but ",
             live ? "it has links, and is no file" : "free or not readable");
    scan.plan.shards_orphans |= 1U << shard_of(ino / format::kInodesPerChunk);
  }
}

}  // namespace udax::check
