// SPDX-License-Identifier: BSD-3-Clause
//
// Repairs of the inode table: the inode file, chunks, shards.
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>

#include "base/clock.h"
#include "check/writer.h"

namespace udax::check {
namespace {

uint32_t shard_of(uint64_t chunk) { return static_cast<uint32_t>(chunk % format::kInodeShards); }
uint64_t shard_offset(uint32_t shard) {
  return offset_of(format::kRootBlock) + offsetof(format::RootBlock, shard) + shard * sizeof(format::InodeShard);
}

uint16_t mask_of(const ChunkNote& chunk) {
  uint16_t mask = 1;
  for (uint32_t slot = 1; slot < format::kInodesPerChunk; ++slot) {
    if (chunk.slots[slot - 1].is_live()) mask = static_cast<uint16_t>(mask | 1U << slot);
  }
  return mask;
}

void set_times(format::Inode* inode) {
  const RealTime now = realtime_coarse();
  const auto seconds = static_cast<uint64_t>(now.seconds);
  for (le64* field : {&inode->atime_s, &inode->mtime_s, &inode->ctime_s, &inode->btime_s}) *field = seconds;
  for (le32* field : {&inode->atime_ns, &inode->mtime_ns, &inode->ctime_ns, &inode->btime_ns}) {
    *field = now.nanoseconds;
  }
}

format::Inode make_directory_image(uint64_t ino, uint32_t mode, uint64_t parent, uint32_t generation) {
  format::Inode inode{};
  inode.ino = ino;
  inode.mode = static_cast<uint16_t>(S_IFDIR | mode);
  inode.generation = generation;
  inode.nlink = 2;
  inode.parent = parent;
  inode.payload_kind = format::kPayloadDirectory;
  set_times(&inode);
  return inode;
}

/// Chunks that the inode file does not lead to: blocks that nothing else uses, marked in use, with a sealed header. Of
/// two that say they are the same one, that with more inodes counts.
class LostChunks {
 public:
  explicit LostChunks(Scan& scan) : scan_(scan) {}
  void find();
  struct Candidate {
    uint64_t block = 0;
    uint32_t inodes = 0;
  };
  std::map<uint64_t, Candidate> found;

 private:
  void look(uint64_t b);
  Scan& scan_;
};

void LostChunks::look(uint64_t b) {
  const auto& header = *scan_.image.as<format::ChunkHeader>(offset_of(DeviceBlock(b)));
  if (header.magic != format::kChunkMagic) return;
  const uint64_t chunk = header.chunk;
  if (chunk >= kFileBlocksMax || scan_.find_chunk(chunk) != nullptr || scan_.seen.has(b)) return;
  if (!format::is_sealed(scan_.image.seed(), format::Unit::kChunk, &header)) return;
  const format::InodeShard* const line = scan_.shard_line(shard_of(chunk));
  if (format::is_sealed(scan_.image.seed(), format::Unit::kShard, line) &&
      chunk / format::kInodeShards >= line->next_chunk) {
    return;
  }
  const auto inodes = static_cast<uint32_t>(std::popcount(header.used_mask.get()));
  Candidate& best = found[chunk];
  if (best.block == 0 || inodes > best.inodes) best = {b, inodes};
}

void LostChunks::find() {
  const uint64_t end = scan_.geometry.replica().value;
  for (uint64_t group = 0; group < scan_.geometry.group_count; ++group) {
    const auto& desc = *scan_.image.as<format::GroupDesc>(scan_.geometry.desc_offset(group));
    const std::byte* const bitmap = scan_.image.block(scan_.geometry.bitmap_block(group).value);
    const bool good =
        format::is_sealed(scan_.image.seed(), format::Unit::kGroupDesc, &desc) && desc.group == group;
    if (good && (desc.flags & format::kGroupUninit) != 0) continue;
    const bool marked = good && format::bitmap_checksum(scan_.image.seed(), bitmap) == desc.bitmap_checksum;
    const uint64_t base = group * format::kGroupBlocks;
    const uint64_t first = std::max(base, scan_.geometry.data_start.value);
    for (uint64_t b = first; b < std::min(base + format::kGroupBlocks, end); ++b) {
      const uint64_t bit = b - base;
      if (marked && (reinterpret_cast<const le64*>(bitmap)[bit / 64] >> (bit % 64) & 1) == 0) continue;
      look(b);
    }
    scan_.progress("lost inodes", group, scan_.geometry.group_count);
  }
}

/// A chunk of no inodes at a new block. kNoSpace.
Result<ChunkNote> write_chunk(Writer& writer, const Scan& scan, uint64_t number) {
  UDAX_TRY(const uint64_t b, writer.allocate());
  alignas(8) std::array<std::byte, kBlockSize> bytes{};
  auto* header = reinterpret_cast<format::ChunkHeader*>(bytes.data());
  header->magic = format::kChunkMagic;
  header->chunk = number;
  header->used_mask = uint16_t{1};
  format::seal(scan.image.seed(), format::Unit::kChunk, header);
  writer.store(offset_of(DeviceBlock(b)), bytes.data(), bytes.size());
  ChunkNote note;
  note.chunk = number;
  note.block = b;
  note.header_good = true;
  return note;
}

void insert_chunk(Scan& scan, const ChunkNote& note) {
  const auto at = std::lower_bound(scan.chunks.begin(), scan.chunks.end(), note.chunk,
                                   [](const ChunkNote& c, uint64_t number) { return c.chunk < number; });
  scan.chunks.insert(at, note);
}

/// Lets the inode file lead to scan.chunks, and no others.
Status write_inode_file(Writer& writer, Scan& scan) {
  std::vector<Run> runs;
  for (const ChunkNote& chunk : scan.chunks) {
    if (!runs.empty() && runs.back().end() == chunk.chunk &&
        runs.back().device + runs.back().count == chunk.block) {
      ++runs.back().count;
    } else {
      runs.push_back({chunk.chunk, chunk.block, 1, false});
    }
  }
  format::Inode image = *scan.inode(0);
  bool fatal = false;
  const char* const fault = inode_fault(0, image, &fatal);
  if (fault != nullptr && !fatal) mend_fields(&image);
  if (fatal || !S_ISREG(image.mode)) {
    image = format::Inode{};
    image.mode = static_cast<uint16_t>(S_IFREG | 0600);
    image.nlink = 1;
    image.generation = 1;
    set_times(&image);
  }
  UDAX_CHECK(write_map(writer, 0, runs, &image));
  const uint64_t end = runs.empty() ? 0 : runs.back().end() * kBlockSize;
  if (image.size < end) image.size = end;
  UDAX_CHECK(writer.drain());
  writer.store_unit(scan.slot_offset(0), format::Unit::kInode, &image);
  return writer.drain();
}

}  // namespace

void rewrite_header(Writer& writer, Scan& scan, const ChunkNote& chunk) {
  const uint64_t offset = offset_of(DeviceBlock(chunk.block));
  format::ChunkHeader header{};
  if (chunk.header_good) header = *scan.image.as<format::ChunkHeader>(offset);
  header.magic = format::kChunkMagic;
  header.chunk = chunk.chunk;
  header.used_mask = mask_of(chunk);
  writer.store_unit(offset, format::Unit::kChunk, &header);
}

Status repair_inode_file(Writer& writer, Scan& scan) {
  if (scan.plan.find_lost_chunks) {
    LostChunks lost(scan);
    lost.find();
    for (const auto& [number, candidate] : lost.found) {
      ChunkNote note;
      note.chunk = number;
      note.block = candidate.block;
      scan.chunks.push_back(note);
    }
    std::sort(scan.chunks.begin(), scan.chunks.end(),
              [](const ChunkNote& a, const ChunkNote& b) { return a.chunk < b.chunk; });
  }
  // A chunk that has just been found again has a root of its own, or the next round makes one.
  const bool found_first = scan.find_chunk(0) != nullptr && !scan.find_chunk(0)->header_good;
  if (scan.plan.make_root && !found_first) {
    if (scan.find_chunk(0) == nullptr) {
      UDAX_TRY(const ChunkNote first, write_chunk(writer, scan, 0));
      insert_chunk(scan, first);
    }
    ChunkNote& first = *scan.find_chunk(0);
    const uint64_t offset = scan.slot_offset(kRootIno.value);
    const uint32_t generation = scan.image.as<format::Inode>(offset)->generation + 1;
    format::Inode root = make_directory_image(kRootIno.value, 0755, kRootIno.value, generation);
    writer.store_unit(offset, format::Unit::kInode, &root);
    first.slots[0].type = S_IFDIR >> 12;
    UDAX_CHECK(writer.drain());
    rewrite_header(writer, scan, first);
  }
  return write_inode_file(writer, scan);
}

Result<uint64_t> make_directory_inode(Writer& writer, Scan& scan, uint64_t parent) {
  constexpr uint16_t kFull = 0xFFFF;
  auto chunk = std::find_if(scan.chunks.begin(), scan.chunks.end(),
                            [](const ChunkNote& c) { return c.header_good && mask_of(c) != kFull; });
  if (chunk == scan.chunks.end()) {
    const format::InodeShard* const line = scan.shard_line(0);
    uint64_t round = scan.shards[0].next_chunk_min;
    if (format::is_sealed(scan.image.seed(), format::Unit::kShard, line) &&
        line->next_chunk < kFileBlocksMax / 32) {
      round = std::max<uint64_t>(round, line->next_chunk);
    }
    UDAX_TRY(const ChunkNote made, write_chunk(writer, scan, round * format::kInodeShards));
    insert_chunk(scan, made);
    UDAX_CHECK(write_inode_file(writer, scan));
    chunk = std::find_if(scan.chunks.begin(), scan.chunks.end(),
                         [&](const ChunkNote& c) { return c.chunk == made.chunk; });
  }
  const auto slot = static_cast<uint32_t>(std::countr_one(mask_of(*chunk)));
  const uint64_t ino = chunk->chunk * format::kInodesPerChunk + slot;
  const uint64_t offset = scan.slot_offset(ino);
  uint32_t generation = scan.image.as<format::Inode>(offset)->generation + 1;
  if (generation == 0) generation = 1;
  format::Inode image = make_directory_image(ino, 0700, parent, generation);
  writer.store_unit(offset, format::Unit::kInode, &image);
  UDAX_CHECK(writer.drain());
  chunk->slots[slot - 1].type = S_IFDIR >> 12;
  chunk->slots[slot - 1].nlink = 2;
  rewrite_header(writer, scan, *chunk);
  return ino;
}

// --- Shards ----------------------------------------------------------------------------------------------------------

namespace {

class ShardRepair {
 public:
  ShardRepair(Writer& writer, Scan& scan, uint32_t shard) : writer_(writer), scan_(scan), shard_(shard) {
    const format::InodeShard* const line = scan.shard_line(shard);
    if (format::is_sealed(scan.image.seed(), format::Unit::kShard, line)) line_ = *line;
  }
  [[nodiscard]] Status run();

 private:
  void rewrite_line();
  void rewrite_list();
  [[nodiscard]] Status rewrite_orphans();
  [[nodiscard]] bool asked(uint32_t mask) const { return (mask >> shard_ & 1) != 0; }

  Writer& writer_;
  Scan& scan_;
  const uint32_t shard_;
  format::InodeShard line_{};
};

Status ShardRepair::run() {
  const Plan& plan = scan_.plan;
  if (!asked(plan.shards_lines) && !asked(plan.shards_lists) && !asked(plan.shards_orphans)) return {};
  if (asked(plan.shards_lines)) rewrite_line();
  if (asked(plan.shards_lists)) rewrite_list();
  if (asked(plan.shards_orphans)) UDAX_CHECK(rewrite_orphans());
  UDAX_CHECK(writer_.drain());
  writer_.store_unit(shard_offset(shard_), format::Unit::kShard, &line_);
  return writer_.drain();
}

void ShardRepair::rewrite_line() {
  const ShardNote& note = scan_.shards[shard_];
  line_.inodes_used = note.used;
  uint64_t next = line_.next_chunk;
  if (next > kFileBlocksMax / format::kInodeShards) next = 0;
  if (!format::is_sealed(scan_.image.seed(), format::Unit::kShard, scan_.shard_line(shard_))) {
    // Numbers are not used again: the file's size, which never shrinks, tells how many there may have been.
    next = std::min(scan_.inode(0)->size / kBlockSize, kFileBlocksMax) / format::kInodeShards + 1;
  }
  line_.next_chunk = std::max(next, note.next_chunk_min);
}

/// In the order of numbers, but those without inodes first: the head is where an empty one may be given back.
void ShardRepair::rewrite_list() {
  std::vector<const ChunkNote*> listed;
  std::vector<const ChunkNote*> full;
  for (const ChunkNote& chunk : scan_.chunks) {
    if (shard_of(chunk.chunk) == shard_) (mask_of(chunk) == 0xFFFF ? full : listed).push_back(&chunk);
  }
  std::stable_partition(listed.begin(), listed.end(), [](const ChunkNote* c) { return mask_of(*c) == 1; });
  const auto store = [this](const ChunkNote& chunk, uint64_t prev, uint64_t next) {
    const uint64_t offset = offset_of(DeviceBlock(chunk.block));
    format::ChunkHeader header = *scan_.image.as<format::ChunkHeader>(offset);
    if (header.partial_prev == prev && header.partial_next == next) return;
    header.partial_prev = prev;
    header.partial_next = next;
    writer_.store_unit(offset, format::Unit::kChunk, &header);
  };
  for (const ChunkNote* const chunk : full) store(*chunk, 0, 0);
  for (size_t i = 0; i < listed.size(); ++i) {
    store(*listed[i], i == 0 ? 0 : listed[i - 1]->chunk + 1, i + 1 < listed.size() ? listed[i + 1]->chunk + 1 : 0);
  }
  line_.partial_head = listed.empty() ? 0 : listed.front()->chunk + 1;
}

Status ShardRepair::rewrite_orphans() {
  std::vector<uint64_t> orphans;
  for (const uint64_t ino : scan_.plan.orphans) {
    if (shard_of(ino / format::kInodesPerChunk) == shard_) orphans.push_back(ino);
  }
  uint64_t next = 0;
  for (size_t first = 0; first < orphans.size(); first += format::kOrphansPerBlock) {
    const size_t count = std::min<size_t>(format::kOrphansPerBlock, orphans.size() - first);
    format::OrphanBlock block{};
    block.header.count = static_cast<uint16_t>(count);
    block.next = next;
    for (size_t i = 0; i < count; ++i) block.ino[i] = orphans[first + i];
    UDAX_TRY(next, writer_.allocate());
    writer_.store_block(next, format::kKindOrphan, shard_, &block);
  }
  line_.orphan_block = next;
  return {};
}

}  // namespace

Status repair_shards(Writer& writer, Scan& scan) {
  UDAX_CHECK(writer.drain());
  for (uint32_t shard = 0; shard < format::kInodeShards; ++shard) {
    UDAX_CHECK(ShardRepair(writer, scan, shard).run());
  }
  return {};
}

// --- Space -----------------------------------------------------------------------------------------------------------

Status repair_space(Writer& writer, Scan& scan) {
  for (const uint64_t group : scan.plan.groups) {
    const uint32_t blocks = scan.geometry.blocks_in_group(group);
    const uint32_t used = scan.seen.used_in(group);
    format::GroupDesc desc{};
    desc.group = group;
    desc.free_blocks = blocks - used;
    if (used == 0 && blocks == format::kGroupBlocks) {
      desc.flags = format::kGroupUninit;
    } else {
      BlockSet::Words words;
      scan.seen.copy_words(group, &words);
      std::array<le64, BlockSet::kWords> bitmap;
      for (uint32_t bit = blocks; bit < format::kGroupBlocks; ++bit) words[bit / 64] |= uint64_t{1} << (bit % 64);
      std::copy(words.begin(), words.end(), bitmap.begin());
      desc.bitmap_checksum = format::bitmap_checksum(scan.image.seed(), bitmap.data());
      writer.store(offset_of(scan.geometry.bitmap_block(group)), bitmap.data(), sizeof bitmap);
    }
    writer.store_unit(scan.geometry.desc_offset(group), format::Unit::kGroupDesc, &desc);
  }
  return writer.drain();
}

}  // namespace udax::check
