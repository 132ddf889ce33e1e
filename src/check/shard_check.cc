// SPDX-License-Identifier: BSD-3-Clause
//
// Shards of the inode table: counters, and the doubly linked list of the chunks with free slots.
//
// A chunk is on its shard's list exactly while it has a free slot; one without inodes counts as such.
#include <unordered_set>

#include "check/scan.h"

namespace udax::check {
namespace {

constexpr uint16_t kAllSlots = 0xFFFE;

const format::ChunkHeader& header_of(const Scan& scan, const ChunkNote& chunk) {
  return *scan.image.as<format::ChunkHeader>(offset_of(DeviceBlock(chunk.block)));
}

/// Walks the list of a shard; gives the chunks on it. `fault`: what is wrong with it.
std::unordered_set<uint64_t> walk_list(Scan& scan, uint32_t shard, uint64_t head, const char** fault) {
  std::unordered_set<uint64_t> listed;
  uint64_t before = 0;
  for (uint64_t link = head; link != 0;) {
    const ChunkNote* const chunk = scan.find_chunk(link - 1);
    if (chunk == nullptr || chunk->chunk % format::kInodeShards != shard) {
      *fault = "names a chunk that is not there";
    } else if (!chunk->header_good) {
      *fault = "leads to a chunk whose header is broken";
    } else if (!listed.insert(link - 1).second) {
      *fault = "runs in a circle";
    } else if (header_of(scan, *chunk).partial_prev != before) {
      *fault = "is linked wrongly backwards";
    } else if (chunk->used_mask == kAllSlots) {
      *fault = "has a full chunk on it";
    }
    if (*fault != nullptr) break;
    before = link;
    link = header_of(scan, *chunk).partial_next;
  }
  return listed;
}

void check_list(Scan& scan, uint32_t shard, uint64_t head) {
  const char* fault = nullptr;
  const std::unordered_set<uint64_t> listed = walk_list(scan, shard, head, &fault);
  for (const ChunkNote& chunk : scan.chunks) {
    if (fault != nullptr) break;
    if (chunk.chunk % format::kInodeShards != shard || !chunk.header_good || listed.contains(chunk.chunk))
      continue;
    const format::ChunkHeader& header = header_of(scan, chunk);
    if (chunk.used_mask != kAllSlots) {
      fault = "lacks a chunk with a free slot";
    } else if (header.partial_next != 0 || header.partial_prev != 0) {
      fault = "is named by a chunk that is not on it";
    }
  }
  if (fault == nullptr) return;
  scan.add(Code::kPartialList, 0, format::kRootBlock.value, "inode shard ", shard,
           ": the list of chunks with free slots ", fault);
  scan.plan.shards_lists |= 1U << shard;
}

void check_line(Scan& scan, uint32_t shard) {
  const format::InodeShard& line = *scan.shard_line(shard);
  const ShardNote& note = scan.shards[shard];
  if (line.inodes_used != note.used) {
    scan.add(Code::kInodesUsed, 0, format::kRootBlock.value, "inode shard ", shard, " counts ",
             line.inodes_used.get(), " inodes; it has ", note.used);
    scan.plan.shards_lines |= 1U << shard;
  }
  const uint64_t next = line.next_chunk;
  if (next < note.next_chunk_min || next > kFileBlocksMax / format::kInodeShards) {
    scan.add(Code::kShardLine, 0, format::kRootBlock.value, "inode shard ", shard,
             ": the number of its next chunk cannot be");
    scan.plan.shards_lines |= 1U << shard;
  }
}

}  // namespace

void check_shards(Scan& scan) {
  for (uint32_t shard = 0; shard < format::kInodeShards; ++shard) {
    const format::InodeShard* const line = scan.shard_line(shard);
    if (!format::is_sealed(scan.image.seed(), format::Unit::kShard, line)) continue;  // told already
    check_line(scan, shard);
    check_list(scan, shard, line->partial_head);
  }
}

}  // namespace udax::check
