// SPDX-License-Identifier: BSD-3-Clause
#include "tests/crash/engine/damage.h"

#include <cstring>

#include "base/random.h"
#include "format/checksum.h"

namespace udax::crash {
namespace {

using format::Unit;

constexpr int kBitsPerUnit = 24;

struct Target {
  std::string what;
  uint64_t offset = 0;
  Unit unit = Unit::kRaw;
  uint64_t size = 0;
};

class Damage {
 public:
  Damage(CrashMedium& disk, size_t violations_max) : disk_(disk), violations_max_(violations_max) {
    geometry_ = media::load_superblock(disk)->geometry;
    find_targets();
  }

  std::vector<Violation> run() {
    const auto start = disk_.mark();
    if (auto fs = mount()) before_ = digest(*fs);
    disk_.rollback(start);
    Random random(1);
    for (const Target& t : targets_) {
      for (int i = 0; i < kBitsPerUnit && found_.size() < violations_max_; ++i) {
        uint64_t bit = random.below(t.size * 8);
        // Where something is said, most of the time.
        for (int k = 0; k < 100 && i % 4 != 0 && *disk_.at(t.offset + bit / 8) == std::byte{0}; ++k) {
          bit = random.below(t.size * 8);
        }
        damage_unmounted(t, bit);
        disk_.rollback(start);
        damage_mounted(t, bit);
        disk_.rollback(start);
      }
    }
    return std::move(found_);
  }

 private:
  std::unique_ptr<fs::Filesystem> mount() {
    const std::shared_ptr<media::Medium> medium(&disk_, [](media::Medium*) {});
    auto mounted = fs::Filesystem::mount(medium, mount_options_of(World::kFragments), nullptr);
    return mounted ? std::move(*mounted) : nullptr;
  }
  /// The tree, and what statfs says.
  static uint64_t digest(fs::Filesystem& fs) {
    const fs::StatFs s = fs.statfs();
    return read_tree(fs, false).digest() + s.blocks_free * 1000003 + (s.inodes - s.inodes_free) * 10007;
  }
  void add(std::string what, uint64_t offset, Unit unit, uint64_t size = 0) {
    targets_.push_back({std::move(what), offset, unit, size != 0 ? size : format::unit_size(unit)});
  }
  void find_targets();
  void flip(uint64_t offset, uint64_t bit) {
    std::byte b = *disk_.at(offset + bit / 8);
    b ^= static_cast<std::byte>(1U << (bit % 8));
    disk_.poke(offset + bit / 8, &b, 1);
  }
  void damage_unmounted(const Target& t, uint64_t bit);
  void damage_mounted(const Target& t, uint64_t bit);
  void report(const Target& t, uint64_t bit, const std::string& why) {
    found_.push_back(
        {"damage/" + t.what + "@" + std::to_string(t.offset) + ":" + std::to_string(bit), "  " + why + "\n"});
  }
  /// True if something could be written to a new file.
  bool allocates(fs::Filesystem& fs) {
    Shell shell(fs, disk_);
    shell.make("/~new", 0100644);
    shell.write("/~new", 0, 9000, 'n');
    return shell.take_outcome() == "done, done";
  }

  CrashMedium& disk_;
  const size_t violations_max_;
  media::Geometry geometry_;
  std::vector<Target> targets_;
  std::vector<Violation> found_;
  uint64_t before_ = 0;  // digest of the sound tree
};

void Damage::find_targets() {
  add("superblock", 0, Unit::kSuperblock);
  add("descriptor", geometry_.desc_offset(0), Unit::kGroupDesc);
  add("bitmap", offset_of(geometry_.bitmap_block(0)), Unit::kRaw, geometry_.blocks_in_group(0) / 8);
  add("root", offset_of(format::kRootBlock), Unit::kInode);
  add("shard", offset_of(format::kRootBlock) + offsetof(format::RootBlock, shard), Unit::kShard);
  for (uint64_t b = geometry_.data_start.value; b < geometry_.replica().value; ++b) {
    const uint64_t at = b * kBlockSize;
    const auto* chunk = disk_.as<format::ChunkHeader>(at);
    const auto* header = disk_.as<format::BlockHeader>(at);
    if (header->magic == format::kBlockMagic && header->block == b) add("block", at, Unit::kBlock);
    if (chunk->magic != format::kChunkMagic) continue;
    add("chunk", at, Unit::kChunk);
    for (uint64_t slot = 1; slot < format::kInodesPerChunk; ++slot) {
      if ((chunk->used_mask >> slot & 1U) != 0) add("inode", at + slot * format::kInodeSize, Unit::kInode);
    }
  }
}

void Damage::damage_unmounted(const Target& t, uint64_t bit) {
  flip(t.offset, bit);
  if (t.what == "bitmap") {  // as many free blocks as before
    const auto is_set = [&](uint64_t b) {
      return (std::to_integer<unsigned>(*disk_.at(t.offset + b / 8)) >> (b % 8) & 1U) != 0;
    };
    const bool now = is_set(bit);
    uint64_t other = bit ^ 1U;
    while (other == bit || is_set(other) != now) other = (other + 1) % (t.size * 8);
    flip(t.offset, other);
  }
  const auto fs = mount();
  const bool has_copy = t.what == "superblock";  // the replica serves
  if (fs == nullptr) {
    if (has_copy) report(t, bit, "one damaged superblock, and the pool cannot be mounted");
    return;
  }
  const Tree tree = read_tree(*fs, false);
  bool is_noticed = fs->stats().corruptions != 0;  // and logged
  for (const Node& n : tree.nodes) is_noticed = is_noticed || !n.error.empty();
  if (digest(*fs) != before_ && (has_copy || !is_noticed)) return report(t, bit, "another tree, and no error");
  if ((t.what == "bitmap" || t.what == "descriptor") && allocates(*fs)) {
    return report(t, bit, "blocks are allocated by what is damaged");
  }
}

/// What is damaged while it is in use is not sealed anew with the damage in it.
void Damage::damage_mounted(const Target& t, uint64_t bit) {
  if (t.what == "bitmap" || t.what == "superblock" || t.what == "root" || t.what == "block") return;
  const auto fs = mount();
  if (fs == nullptr) return;
  static_cast<void>(read_tree(*fs, false));
  flip(t.offset, bit);
  const std::byte damaged = *disk_.at(t.offset + bit / 8);
  Shell shell(*fs, disk_);
  fs::SetAttr changes;
  changes.uid = 77;
  for (const char* path : {"/f", "/g", "/d", "/hole"}) shell.setattr(path, changes);
  static_cast<void>(allocates(*fs));
  const bool is_sealed = format::is_sealed(geometry_.checksum_seed, t.unit, disk_.at(t.offset));
  if (is_sealed && *disk_.at(t.offset + bit / 8) == damaged) report(t, bit, "damage is sealed anew");
}

}  // namespace

namespace {

/// Turns a bit over in the journal's slot that counts.
void damage_slot(CrashMedium& disk, uint64_t field, uint64_t bit) {
  const uint64_t control = offset_of(format::kJournalControlBlock);
  const auto* both = disk.as<format::JournalControl>(control);
  const bool b_counts = both->slot_b.sequence > both->slot_a.sequence;
  const uint64_t at = control + (b_counts ? offsetof(format::JournalControl, slot_b) : 0) + field + bit / 8;
  std::byte b = *disk.at(at);
  b ^= static_cast<std::byte>(1U << (bit % 8));
  disk.poke(at, &b, 1);
}

/// Crashes, with the slot of the journal's tail damaged that counts: the other one serves.
std::vector<Violation> crash_with_damaged_slot(Lab& lab, size_t violations_max) {
  std::vector<Violation> found;
  Budget budget{64, 4, 12, 4, 0, 0, 1};
  for (const uint64_t field : {offsetof(format::JournalSlot, tail), offsetof(format::JournalSlot, epoch)}) {
    lab.set_image_hook([field](CrashMedium& disk) { damage_slot(disk, field, field == 16 ? 9 : 0); });
    for (const char* name : {"plain/create", "plain/rename_onto_file", "plain/append_blocks"}) {
      if (found.size() >= violations_max) break;
      const auto workload = Workload::parse(name, field);
      UDAX_ASSERT(workload.has_value());
      for (Violation& v : lab.run(*workload, budget, violations_max)) {
        v.id = "damage/slot/" + v.id;
        found.push_back(std::move(v));
      }
    }
  }
  lab.set_image_hook(nullptr);
  return found;
}

}  // namespace

std::vector<Violation> run_damage(Lab& lab, size_t violations_max) {
  std::vector<Violation> found = Damage(lab.disk(World::kFragments), violations_max).run();
  if (found.size() < violations_max) {
    for (Violation& v : crash_with_damaged_slot(lab, violations_max)) found.push_back(std::move(v));
  }
  return found;
}

}  // namespace udax::crash
