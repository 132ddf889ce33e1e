// SPDX-License-Identifier: BSD-3-Clause
//
// The scrub: every block in use is read, file data included, so that what a medium has lost is known, and by which name
// it went.
//
// Lost metadata is told of by the passes that need it, which have read all of it by then. What is left is data, the
// journal's ring, and blocks that hold nothing: free ones, and those of unwritten extents, which are only counted.
//
// Names are searched only when something was lost: by reading all directory leaves, wherever they hang.
#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "check/scan.h"

namespace udax::check {
namespace {

/// A name, and the directory that it is in.
struct Name {
  uint64_t parent = 0;
  std::string name;
};

class Scrub {
 public:
  explicit Scrub(Scan& scan) : scan_(scan) {}
  void run();

 private:
  void read_all();
  void find_files();
  void find_names();
  void note_file(uint64_t ino, const std::vector<Run>& runs);
  [[nodiscard]] std::string path_of(uint64_t ino) const;
  template <typename Visit>
  void for_each_used(Visit&& visit) const;
  [[nodiscard]] bool is_lost(uint64_t block) const { return scan_.image.is_lost(block); }

  Scan& scan_;
  std::unordered_map<uint64_t, Name> names_;  // of directories, and of files that lost something
};

template <typename Visit>
void Scrub::for_each_used(Visit&& visit) const {
  BlockSet::Words words;
  const uint64_t end = scan_.geometry.block_count;
  for (uint64_t group = 0; group < scan_.geometry.group_count; ++group) {
    if (scan_.seen.used_in(group) == 0) continue;
    scan_.seen.copy_words(group, &words);
    for (uint32_t i = 0; i < format::kGroupBlocks; ++i) {
      const uint64_t block = group * format::kGroupBlocks + i;
      if (block >= end) return;
      if ((words.at(i / 64) >> (i % 64) & 1) != 0) visit(block);
    }
  }
}

void Scrub::read_all() {
  const media::Medium& medium = scan_.image.medium();
  const uint64_t total = scan_.seen.total();
  uint64_t done = 0;
  uint64_t sum = 0;
  for_each_used([&](uint64_t block) {
    const uint64_t offset = offset_of(DeviceBlock(block));
    if (!medium.probe(offset, kBlockSize)) {
      // A line of each sector that a device may call bad, and what is behind it.
      const auto* words = reinterpret_cast<const volatile uint64_t*>(medium.at(offset));
      for (uint32_t i = 0; i < kBlockSize / sizeof(uint64_t); i += kCacheLine / sizeof(uint64_t)) sum += words[i];
    }
    if (is_lost(block)) ++scan_.report.blocks_lost;
    if (++done % 1024 == 0) scan_.progress("reading", done, total);
  });
  static_cast<void>(sum);
  scan_.report.blocks_scrubbed = done;
}

/// `runs`: of a file, in order.
void Scrub::note_file(uint64_t ino, const std::vector<Run>& runs) {
  for (const Run& run : runs) {
    if (run.unwritten) {
      uint64_t idle = 0;
      for (uint64_t i = 0; i < run.count; ++i) idle += is_lost(run.device + i) ? 1 : 0;
      scan_.report.blocks_lost -= std::min(idle, scan_.report.blocks_lost);
      scan_.report.blocks_lost_idle += idle;
      continue;
    }
    for (uint64_t i = 0; i < run.count;) {
      uint64_t n = 0;
      while (i + n < run.count && is_lost(run.device + i + n)) ++n;
      if (n > 0) {
        scan_.add(Code::kLostData, ino, run.device + i, path_of(ino), ": ", n * kBlockSize, " bytes from ",
                  (run.file + i) * kBlockSize, " on are lost to a media error");
      }
      i += n + 1;
    }
  }
}

void Scrub::find_files() {
  // Claims of its own: the scan has them already.
  Scan again(scan_.image, scan_.options);
  std::vector<std::pair<uint64_t, std::vector<Run>>> hit;
  for (const ChunkNote& chunk : scan_.chunks) {
    for (uint32_t slot = 1; slot < format::kInodesPerChunk; ++slot) {
      constexpr uint8_t kRegular = 8;  // S_IFREG >> 12
      if (chunk.slots.at(slot - 1).type != kRegular) continue;
      const uint64_t ino = chunk.chunk * format::kInodesPerChunk + slot;
      MapWalk map = walk_map(again, ino, *scan_.inode(ino), true);
      const auto is_hit = [this](const Run& run) {
        return scan_.image.medium().is_lost(offset_of(DeviceBlock(run.device)), run.count * kBlockSize);
      };
      std::erase_if(map.runs, [&](const Run& run) { return !is_hit(run); });
      if (map.runs.empty()) continue;
      names_.try_emplace(ino);
      hit.emplace_back(ino, std::move(map.runs));
    }
  }
  if (hit.empty()) return;
  find_names();
  for (const auto& [ino, runs] : hit) note_file(ino, runs);
}

void Scrub::find_names() {
  for_each_used([this](uint64_t block) {
    const std::byte* const bytes = scan_.image.block(block);
    const auto* header = reinterpret_cast<const format::BlockHeader*>(bytes);
    if (header->magic != format::kBlockMagic || header->kind != format::kKindDirLeaf || header->block != block ||
        !format::is_sealed(scan_.image.seed(), format::Unit::kBlock, bytes)) {
      return;
    }
    const InodeNote* const dir = scan_.find(header->owner);
    if (dir == nullptr || !dir->is_dir()) return;
    const auto* slots = reinterpret_cast<const format::DirSlot*>(bytes + format::kDirLeafFixed);
    const uint32_t most = (kBlockSize - format::kDirLeafFixed) / sizeof(format::DirSlot);
    for (uint32_t i = 0; i < std::min<uint32_t>(header->count, most); ++i) {
      EntryView entry;
      if (!parse_entry(bytes, slots[i], &entry)) continue;
      const InodeNote* const note = scan_.find(entry.ino);
      if (note == nullptr || !(note->is_dir() || names_.contains(entry.ino))) continue;
      Name& name = names_[entry.ino];
      if (name.name.empty()) name = {header->owner, std::string(entry.name)};
    }
  });
}

std::string Scrub::path_of(uint64_t ino) const {
  constexpr uint32_t kDepthMax = 4096;
  std::string path;
  uint64_t at = ino;
  for (uint32_t depth = 0; at != kRootIno.value; ++depth) {
    const auto found = names_.find(at);
    if (found == names_.end() || found->second.name.empty() || depth == kDepthMax) {
      return "inode " + std::to_string(ino) + (path.empty() ? "" : " (..." + path + ")");
    }
    path.insert(0, "/" + found->second.name);
    at = found->second.parent;
  }
  return path;
}

void Scrub::run() {
  read_all();
  const media::Medium& medium = scan_.image.medium();
  if (medium.lost_pages() == 0) return;
  find_files();
  const media::Geometry& g = scan_.geometry;
  const uint64_t ring = offset_of(g.journal_start);
  if (medium.is_lost(ring, g.journal_blocks * kBlockSize)) {
    scan_.add(Code::kLostData, 0, g.journal_start.value, "a part of the journal is lost to a media error");
  }
  for (const media::LostRange& range : medium.lost_ranges()) {
    for (uint64_t b = range.offset / kBlockSize; b < std::min(range.end() / kBlockSize, g.block_count); ++b) {
      if (!scan_.seen.has(b)) ++scan_.report.blocks_lost_idle;
    }
  }
}

}  // namespace

void scrub(Scan& scan) { Scrub(scan).run(); }

}  // namespace udax::check
