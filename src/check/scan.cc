// SPDX-License-Identifier: BSD-3-Clause
#include "check/scan.h"

#include <algorithm>

namespace udax::check {

Stage stage_of(Code code) {
  switch (code) {
    case Code::kSuperblock:
    case Code::kReplica:
    case Code::kJournalControl:
    case Code::kJournalRecord: return kStageFront;
    case Code::kLoop:
    case Code::kUnreachable: return kStageConnect;
    case Code::kShardLine:
    case Code::kUsedMask:
    case Code::kOrphanBlock:
    case Code::kOrphanEntry:
    case Code::kOrphanMissing:
    case Code::kParent:
    case Code::kEntryCount:
    case Code::kDirectorySize:
    case Code::kBlockCount:
    case Code::kLinkCount:
    case Code::kPartialList:
    case Code::kInodesUsed: return kStageCounts;
    case Code::kGroupDescriptor:
    case Code::kBitmapChecksum:
    case Code::kLeaked:
    case Code::kNotMarked:
    case Code::kFreeCount: return kStageSpace;
    default: return kStageStructure;
  }
}

Scan::Scan(const Image& pool, const CheckOptions& check_options)
    : image(pool),
      geometry(pool.geometry()),
      options(check_options),
      planning(check_options.mode != CheckOptions::kReportOnly),
      seen(pool.geometry().block_count) {}

void Scan::run() {
  report.blocks_total = geometry.block_count;
  seen.add(0, geometry.data_start.value);
  seen.add(geometry.replica().value, 1);
  check_inode_table(*this);
  check_directories(*this);
  check_connections(*this);
  check_shards(*this);
  check_space(*this);
  if (options.scrub) scrub(*this);
  report.blocks_used = seen.total();
}

bool Scan::count_problem(Code code) {
  ++report.problem_count;
  stages |= stage_of(code);
  return report.problems.size() < options.problems_max;
}

ChunkNote* Scan::find_chunk(uint64_t chunk) {
  const auto found = std::lower_bound(chunks.begin(), chunks.end(), chunk,
                                      [](const ChunkNote& note, uint64_t number) { return note.chunk < number; });
  return found != chunks.end() && found->chunk == chunk ? &*found : nullptr;
}

InodeNote* Scan::find(uint64_t ino) {
  const uint64_t slot = ino % format::kInodesPerChunk;
  if (slot == 0) return nullptr;
  ChunkNote* const note = find_chunk(ino / format::kInodesPerChunk);
  return note == nullptr ? nullptr : &note->slots[slot - 1];
}

uint64_t Scan::slot_offset(uint64_t ino) {
  if (ino == 0) return offset_of(format::kRootBlock);
  const ChunkNote* const note = find_chunk(ino / format::kInodesPerChunk);
  UDAX_ASSERT(note != nullptr);
  return offset_of(DeviceBlock(note->block)) + ino % format::kInodesPerChunk * format::kInodeSize;
}

const format::Inode* Scan::inode(uint64_t ino) { return image.as<format::Inode>(slot_offset(ino)); }

const format::InodeShard* Scan::shard_line(uint32_t shard) const {
  return image.as<format::InodeShard>(offset_of(format::kRootBlock) + offsetof(format::RootBlock, shard) +
                                      shard * sizeof(format::InodeShard));
}

bool Scan::is_orphan(uint64_t ino) const { return std::binary_search(orphans.begin(), orphans.end(), ino); }

bool Scan::claim(uint64_t start, uint64_t count, uint64_t ino, const char* what) {
  if (!seen.has_any(start, count)) {
    seen.add(start, count);
    return true;
  }
  add(Code::kDuplicateBlock, ino, start, what, ": ", count == 1 ? "block " : "blocks from ", start,
      count == 1 ? " is" : " are", " in use already");
  return false;
}

const std::byte* Scan::read(uint64_t b, format::BlockKind kind, uint64_t owner, const char** why) const {
  if (!is_data(b, 1)) {
    *why = "is out of bounds";
    return nullptr;
  }
  const std::byte* const bytes = image.block(b);
  const auto* header = reinterpret_cast<const format::BlockHeader*>(bytes);
  if (header->magic != format::kBlockMagic) {
    *why = image.is_lost(b) ? "was lost to a media error" : "is none";
  } else if (!format::is_sealed(image.seed(), format::Unit::kBlock, bytes)) {
    *why = "has a wrong checksum";
  } else if (header->block != b) {
    *why = "belongs elsewhere";
  } else if (header->kind != kind) {
    *why = "is of another kind";
  } else if (header->owner != owner) {
    *why = "belongs to another";
  } else {
    return bytes;
  }
  return nullptr;
}

}  // namespace udax::check
