// SPDX-License-Identifier: BSD-3-Clause
//
// dump: structures of a pool in words, as they are on the medium. Takes no lock: of a mounted pool it may see a
// structure that is being changed (its checksum is then called wrong). What waits in the journal is not laid over it.
//
// Nothing read is trusted: each number is checked before it is followed, and walks are bounded by levels and counts.
#include <sys/stat.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "format/checksum.h"
#include "format/format.h"
#include "media/pool_medium.h"
#include "media/pool_name.h"
#include "media/superblock.h"
#include "media/uuid.h"
#include "udaxctl.h"

namespace udax::ctl {
namespace {

using format::Unit;

class Dump {
 public:
  Dump(const media::Medium& medium, const media::LoadedSuperblock& super)
      : medium_(medium), super_(super), geometry_(super.geometry) {}

  void superblock() const;
  void journal() const;
  void groups(bool all) const;
  [[nodiscard]] int inode(uint64_t ino) const;
  [[nodiscard]] int directory(uint64_t ino) const;
  [[nodiscard]] int block(uint64_t b) const;

 private:
  [[nodiscard]] const char* sealed(Unit unit, const void* data) const {
    return format::is_sealed(geometry_.checksum_seed, unit, data) ? "checksum good" : "checksum WRONG";
  }
  [[nodiscard]] bool is_data(uint64_t b, uint64_t count = 1) const {
    return geometry_.is_data(DeviceBlock(b), count);
  }
  [[nodiscard]] const std::byte* at_block(uint64_t b) const { return medium_.block(DeviceBlock(b)); }
  /// A block of a tree, with the header that it should have; nullptr, with a line printed, if it has another.
  [[nodiscard]] const format::BlockHeader* tree_block(uint64_t b, uint16_t leaf, uint16_t node,
                                                      uint64_t owner) const;
  /// Where file block `at` of an inode is; 0: nowhere.
  [[nodiscard]] uint64_t find_in_map(const format::Inode& inode, uint64_t owner, uint64_t at) const;
  /// nullptr, with a line printed: there is no such inode.
  [[nodiscard]] const format::Inode* find_inode(uint64_t ino) const;
  [[nodiscard]] bool is_valid(const format::JournalSlot& slot) const {
    return slot.checksum == format::checksum_without(geometry_.checksum_seed, &slot, sizeof slot,
                                                     offsetof(format::JournalSlot, checksum));
  }
  void slot(const char* name, const format::JournalSlot& slot) const;
  void payload(const format::Inode& inode) const;
  void leaf_entries(const std::byte* leaf, const char* indent) const;
  void directory_tree(uint64_t b, uint64_t owner, uint32_t level_max, uint64_t* entries) const;
  void extents(const format::Extent* list, uint32_t count) const;
  void tree_entries(const format::TreeNode& node) const;
  void xattrs(const std::byte* block) const;
  void chunk(const std::byte* bytes) const;
  void bytes(const std::byte* data) const;

  const media::Medium& medium_;
  const media::LoadedSuperblock& super_;
  const media::Geometry& geometry_;
};

const char* kind_text(uint16_t kind) {
  switch (kind) {
    case format::kKindExtentNode: return "extent node";
    case format::kKindDirLeaf: return "directory leaf";
    case format::kKindDirNode: return "directory node";
    case format::kKindXattr: return "xattrs";
    case format::kKindXattrValue: return "xattr value";
    case format::kKindOrphan: return "orphans";
    default: return "unknown kind";
  }
}

const char* type_text(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return "file";
    case S_IFDIR: return "directory";
    case S_IFLNK: return "symbolic link";
    case S_IFIFO: return "fifo";
    case S_IFSOCK: return "socket";
    case S_IFCHR: return "character device";
    case S_IFBLK: return "block device";
    default: return "unknown type";
  }
}

// --- Superblock, journal, groups -------------------------------------------------------------------------------------

void Dump::superblock() const {
  const format::Superblock& sb = super_.raw;
  const auto* replica = medium_.as<format::Superblock>(offset_of(geometry_.replica()));
  std::printf("superblock (%s)\n",
              super_.source == media::SuperblockSource::kPrimary ? "block 0" : "the REPLICA: block 0 is broken");
  std::printf("  version %u.%u, compat %#" PRIx64 ", ro-compat %#" PRIx64 ", incompat %#" PRIx64 "\n",
              sb.version_major.get(), sb.version_minor.get(), sb.compat.get(), sb.ro_compat.get(),
              sb.incompat.get());
  const char* const label = reinterpret_cast<const char*>(sb.label);
  std::printf("  uuid %s, label \"%s\"\n", media::uuid_text(sb.uuid).c_str(),
              printable({label, strnlen(label, sizeof sb.label)}).c_str());
  std::printf("  %" PRIu64 " blocks, %" PRIu64 " groups, %" PRIu64 " blocks reserved\n", sb.block_count.get(),
              sb.group_count.get(), sb.reserved_blocks.get());
  std::printf("  descriptors from block %" PRIu64 " (%" PRIu64 "), bitmaps from %" PRIu64 ", journal from %" PRIu64
              " (%" PRIu64 "), data from %" PRIu64 "\n",
              sb.desc_start.get(), sb.desc_blocks.get(), sb.bitmap_start.get(), sb.journal_start.get(),
              sb.journal_blocks.get(), sb.data_start.get());
  std::printf("  created %s\n", time_text(static_cast<int64_t>(sb.created_s.get()), sb.created_ns).c_str());
  std::printf("replica (block %" PRIu64 "): %s, %s\n", geometry_.replica().value,
              sealed(Unit::kSuperblock, replica),
              std::memcmp(replica, &sb, sizeof sb) == 0 ? "the same" : "DIFFERENT");
}

void Dump::slot(const char* name, const format::JournalSlot& slot) const {
  const char* const state = slot.state == format::kJournalClean  ? "clean"
                            : slot.state == format::kJournalLive ? "live"
                                                                 : "UNKNOWN STATE";
  std::printf(
      "  slot %s: %s, %s, sequence %" PRIu64 ", tail %" PRIu64 ", epoch %" PRIu64 ", mount %" PRIu64 " at %s\n",
      name, is_valid(slot) ? "checksum good" : "checksum WRONG", state, slot.sequence.get(), slot.tail.get(),
      slot.epoch.get(), slot.mount_count.get(), time_text(static_cast<int64_t>(slot.mounted_s.get()), 0).c_str());
}

void Dump::journal() const {
  const auto& control = *medium_.as<format::JournalControl>(offset_of(format::kJournalControlBlock));
  std::printf("journal: %" PRIu64 " blocks from block %" PRIu64 "\n", geometry_.journal_blocks,
              geometry_.journal_start.value);
  slot("a", control.slot_a);
  slot("b", control.slot_b);
  const bool b_counts =
      is_valid(control.slot_b) && (!is_valid(control.slot_a) || control.slot_b.sequence > control.slot_a.sequence);
  const format::JournalSlot& now = b_counts ? control.slot_b : control.slot_a;
  const uint64_t ring = geometry_.journal_blocks * kBlockSize;
  uint64_t position = now.tail;
  uint64_t records = 0;
  for (; position - now.tail < ring && position % kCacheLine == 0; ++records) {
    const auto& header = *medium_.as<format::RecordHeader>(offset_of(geometry_.journal_start) + position % ring);
    if (header.magic != format::kRecordMagic || header.lsn != position || header.epoch != now.epoch ||
        header.length < sizeof header || header.length % kCacheLine != 0) {
      break;
    }
    if (records < 32) {
      std::printf("  record at %" PRIu64 ": %u bytes, %u operations\n", position, header.length.get(),
                  header.op_count.get());
    }
    position += header.length;
  }
  std::printf("  %" PRIu64 " records from the tail on, %" PRIu64 " bytes\n", records, position - now.tail);
}

void Dump::groups(bool all) const {
  uint64_t free = 0;
  uint64_t uninit = 0;
  uint64_t wrong = 0;
  for (uint64_t group = 0; group < geometry_.group_count; ++group) {
    const auto& desc = *medium_.as<format::GroupDesc>(geometry_.desc_offset(group));
    const bool good = format::is_sealed(geometry_.checksum_seed, Unit::kGroupDesc, &desc) && desc.group == group;
    const bool is_uninit = (desc.flags & format::kGroupUninit) != 0;
    const bool bitmap_good = is_uninit || format::bitmap_checksum(geometry_.checksum_seed,
                                                                  at_block(geometry_.bitmap_block(group).value)) ==
                                              desc.bitmap_checksum;
    free += desc.free_blocks;
    uninit += is_uninit ? 1 : 0;
    wrong += good && bitmap_good ? 0 : 1;
    if (!all) continue;
    std::printf("  group %" PRIu64 ": %u of %u blocks free, bitmap %s at block %" PRIu64 "%s\n", group,
                desc.free_blocks.get(), geometry_.blocks_in_group(group),
                is_uninit     ? "never written"
                : bitmap_good ? "good"
                              : "WRONG",
                geometry_.bitmap_block(group).value, good ? "" : ", descriptor WRONG");
  }
  std::printf("groups: %" PRIu64 ", %" PRIu64 " never used, %" PRIu64 " blocks free, %" PRIu64 " damaged\n",
              geometry_.group_count, uninit, free, wrong);
}

// --- Inodes ----------------------------------------------------------------------------------------------------------

const format::BlockHeader* Dump::tree_block(uint64_t b, uint16_t leaf, uint16_t node, uint64_t owner) const {
  if (!is_data(b)) {
    std::printf("  block %" PRIu64 " is OUT OF BOUNDS\n", b);
    return nullptr;
  }
  const auto* header = reinterpret_cast<const format::BlockHeader*>(at_block(b));
  if (header->magic != format::kBlockMagic || header->block != b || header->owner != owner ||
      (header->kind != leaf && header->kind != node)) {
    std::printf("  block %" PRIu64 " is NOT of this tree\n", b);
    return nullptr;
  }
  if (!format::is_sealed(geometry_.checksum_seed, Unit::kBlock, header)) {
    std::printf("  block %" PRIu64 " has a WRONG checksum\n", b);
  }
  return header;
}

uint64_t Dump::find_in_map(const format::Inode& inode, uint64_t owner, uint64_t at) const {
  const auto find = [&](const format::Extent* list, uint32_t count) -> uint64_t {
    for (uint32_t i = 0; i < count; ++i) {
      const uint64_t first = list[i].file_block;
      if (at < first || at - first >= list[i].count) continue;
      const uint64_t b = list[i].device_block + (at - first);
      return is_data(b) ? b : 0;
    }
    return 0;
  };
  if (inode.payload_kind == format::kPayloadInlineExtents) {
    format::Extent list[format::kInlineExtents];
    std::memcpy(list, inode.payload, sizeof list);
    return find(list, std::min<uint32_t>(inode.payload_count, format::kInlineExtents));
  }
  if (inode.payload_kind != format::kPayloadExtentTree) return 0;
  format::TreeRoot root;
  std::memcpy(&root, inode.payload, sizeof root);
  uint64_t b = root.block;
  for (uint32_t steps = 0; steps < format::kTreeLevelsMax; ++steps) {
    const auto* header = tree_block(b, format::kKindExtentNode, format::kKindExtentNode, owner);
    if (header == nullptr) return 0;
    if (header->level == 0) {
      return find(reinterpret_cast<const format::ExtentLeaf*>(header)->extents,
                  std::min<uint32_t>(header->count, format::kExtentsPerLeaf));
    }
    const auto& node = *reinterpret_cast<const format::TreeNode*>(header);
    const uint32_t count = std::min<uint32_t>(header->count, format::kEntriesPerNode);
    if (count == 0) return 0;
    uint32_t i = 0;
    while (i + 1 < count && node.entries[i + 1].key <= at) ++i;
    b = node.entries[i].child;
  }
  return 0;
}

const format::Inode* Dump::find_inode(uint64_t ino) const {
  const auto* file = medium_.as<format::Inode>(offset_of(format::kRootBlock));
  if (ino == 0) return file;
  const uint64_t b = find_in_map(*file, 0, ino / format::kInodesPerChunk);
  if (b == 0 || ino % format::kInodesPerChunk == 0) {
    std::fprintf(stderr, "udaxctl: there is no inode %" PRIu64 "\n", ino);
    return nullptr;
  }
  return medium_.as<format::Inode>(b * kBlockSize + ino % format::kInodesPerChunk * format::kInodeSize);
}

void Dump::extents(const format::Extent* list, uint32_t count) const {
  for (uint32_t i = 0; i < count; ++i) {
    const format::Extent& e = list[i];
    std::printf("  extent: file block %" PRIu64 ", device block %" PRIu64 ", %u blocks%s%s\n", e.file_block.get(),
                e.device_block.get(), e.count.get(),
                (e.flags & format::kExtentUnwritten) != 0 ? ", unwritten" : "",
                is_data(e.device_block, e.count) ? "" : ", OUT OF BOUNDS");
  }
}

void Dump::payload(const format::Inode& inode) const {
  switch (inode.payload_kind) {
    case format::kPayloadNone: break;
    case format::kPayloadInlineExtents: {
      format::Extent list[format::kInlineExtents];
      std::memcpy(list, inode.payload, sizeof list);
      extents(list, std::min<uint32_t>(inode.payload_count, format::kInlineExtents));
      break;
    }
    case format::kPayloadExtentTree: {
      format::TreeRoot root;
      std::memcpy(&root, inode.payload, sizeof root);
      std::printf("  extent tree: root at block %" PRIu64 ", level %u\n", root.block.get(), root.level.get());
      break;
    }
    case format::kPayloadDirectory: {
      format::DirRoot root;
      std::memcpy(&root, inode.payload, sizeof root);
      std::printf("  directory: root at block %" PRIu64 ", level %u, %" PRIu64 " entries\n", root.block.get(),
                  root.level.get(), root.entry_count.get());
      break;
    }
    case format::kPayloadInlineSymlink: {
      const auto size = static_cast<size_t>(std::min<uint64_t>(inode.size, format::kSymlinkInlineMax));
      std::printf("  target \"%s\"\n", printable({reinterpret_cast<const char*>(inode.payload), size}).c_str());
      break;
    }
    case format::kPayloadSymlinkBlock: {
      format::SymlinkRoot root;
      std::memcpy(&root, inode.payload, sizeof root);
      std::printf("  target in block %" PRIu64 "\n", root.block.get());
      break;
    }
    case format::kPayloadDevice: {
      format::DeviceNumber device;
      std::memcpy(&device, inode.payload, sizeof device);
      std::printf("  device %u:%u\n", device.major.get(), device.minor.get());
      break;
    }
    default: std::printf("  UNKNOWN kind of payload %u\n", inode.payload_kind);
  }
}

int Dump::inode(uint64_t ino) const {
  const format::Inode* const found = find_inode(ino);
  if (found == nullptr) return kExitFailed;
  const format::Inode& i = *found;
  if (i.mode == 0) {
    std::printf("inode %" PRIu64 ": free, generation %u\n", ino, i.generation.get());
    return kExitDone;
  }
  std::printf("inode %" PRIu64 ": %s, mode %04o, %s%s\n", ino, type_text(i.mode), i.mode.get() & 07777U,
              sealed(Unit::kInode, &i), i.ino == ino ? "" : ", ANOTHER'S NUMBER");
  std::printf("  generation %u, %u links, owner %u:%u, project %u, flags %#x\n", i.generation.get(), i.nlink.get(),
              i.uid.get(), i.gid.get(), i.project_id.get(), i.flags.get());
  std::printf("  %" PRIu64 " bytes, %" PRIu64 " blocks, xattrs at block %" PRIu64 ", parent %" PRIu64 "\n",
              i.size.get(), i.block_count.get(), i.xattr_block.get(), i.parent.get());
  const auto time = [](const char* name, const le64& s, const le32& ns) {
    std::printf("  %s %s\n", name, time_text(static_cast<int64_t>(s.get()), ns).c_str());
  };
  time("accessed", i.atime_s, i.atime_ns);
  time("modified", i.mtime_s, i.mtime_ns);
  time("changed ", i.ctime_s, i.ctime_ns);
  time("born    ", i.btime_s, i.btime_ns);
  payload(i);
  return kExitDone;
}

// --- Directories and blocks ------------------------------------------------------------------------------------------

void Dump::leaf_entries(const std::byte* leaf, const char* indent) const {
  constexpr uint32_t kSlotsMax = (kBlockSize - format::kDirLeafFixed) / sizeof(format::DirSlot);
  const uint32_t count = std::min<uint32_t>(reinterpret_cast<const format::BlockHeader*>(leaf)->count, kSlotsMax);
  const auto* slots = reinterpret_cast<const format::DirSlot*>(leaf + format::kDirLeafFixed);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t offset = slots[i].offset;
    if (offset % 8 != 0 || offset > kBlockSize - sizeof(format::DirName)) {
      std::printf("%sentry %u makes NO SENSE\n", indent, i);
      continue;
    }
    const auto& name = *reinterpret_cast<const format::DirName*>(leaf + offset);
    const uint32_t length = std::min<uint32_t>(name.name_length, kBlockSize - offset - format::kDirNameFixed);
    const std::string_view text(reinterpret_cast<const char*>(leaf + offset) + format::kDirNameFixed, length);
    std::printf("%s%016" PRIx64 " %12" PRIu64 " type %2u \"%s\"\n", indent, slots[i].hash.get(), name.ino.get(),
                name.type, printable(text).c_str());
  }
}

void Dump::directory_tree(uint64_t b, uint64_t owner, uint32_t level_max, uint64_t* entries) const {
  const auto* header = tree_block(b, format::kKindDirLeaf, format::kKindDirNode, owner);
  if (header == nullptr) return;
  if (header->kind == format::kKindDirLeaf) {
    *entries += header->count;
    return leaf_entries(at_block(b), "  ");
  }
  const uint32_t level = header->level;
  if (level == 0 || level >= level_max) {
    std::printf("  block %" PRIu64 " is of a WRONG level\n", b);
    return;
  }
  const auto& node = *reinterpret_cast<const format::TreeNode*>(header);
  const uint32_t count = std::min<uint32_t>(header->count, format::kEntriesPerNode);
  for (uint32_t i = 0; i < count; ++i) {
    // A key that does not ascend may lead round in circles.
    if (i > 0 && node.entries[i].key <= node.entries[i - 1].key) {
      std::printf("  block %" PRIu64 " has keys OUT OF ORDER\n", b);
      return;
    }
    directory_tree(node.entries[i].child, owner, level, entries);
  }
}

int Dump::directory(uint64_t ino) const {
  const format::Inode* const found = find_inode(ino);
  if (found == nullptr) return kExitFailed;
  if (!S_ISDIR(found->mode)) return fail("inode " + std::to_string(ino) + " is not a directory");
  format::DirRoot root{};
  if (found->payload_kind == format::kPayloadDirectory) std::memcpy(&root, found->payload, sizeof root);
  std::printf("directory %" PRIu64 " in %" PRIu64 ": hash, inode, type, name\n", ino, found->parent.get());
  uint64_t entries = 0;
  if (root.block != 0) directory_tree(root.block, ino, format::kTreeLevelsMax, &entries);
  std::printf("%" PRIu64 " entries; it counts %" PRIu64 "\n", entries, root.entry_count.get());
  return kExitDone;
}

void Dump::tree_entries(const format::TreeNode& node) const {
  const uint32_t count = std::min<uint32_t>(node.header.count, format::kEntriesPerNode);
  for (uint32_t i = 0; i < count; ++i) {
    std::printf("  from %" PRIu64 " on: block %" PRIu64 "\n", node.entries[i].key.get(),
                node.entries[i].child.get());
  }
}

void Dump::xattrs(const std::byte* block) const {
  const auto& header = *reinterpret_cast<const format::XattrHeader*>(block + sizeof(format::BlockHeader));
  constexpr uint32_t kStart = sizeof(format::BlockHeader) + sizeof(format::XattrHeader);
  const uint32_t used = std::min<uint32_t>(header.used, format::kXattrSpace);
  std::printf("  next block %" PRIu64 ", %u bytes of entries\n", header.next.get(), used);
  for (uint32_t at = 0; at + sizeof(format::XattrEntry) <= used;) {
    format::XattrEntry entry;
    std::memcpy(&entry, block + kStart + at, sizeof entry);
    const uint32_t length = entry.length;
    if (length < sizeof entry + entry.name_length || length > used - at) {
      std::printf("  an entry that makes NO SENSE\n");
      return;
    }
    const std::string_view name(reinterpret_cast<const char*>(block + kStart + at + sizeof entry),
                                entry.name_length);
    std::printf("  namespace %u, name \"%s\", %u bytes", entry.name_space, printable(name).c_str(),
                entry.value_length.get());
    if (entry.value_block != 0) std::printf(" from block %" PRIu64 " on", entry.value_block.get());
    std::printf("\n");
    at += length;
  }
}

void Dump::chunk(const std::byte* bytes) const {
  const auto& header = *reinterpret_cast<const format::ChunkHeader*>(bytes);
  std::printf("inode chunk %" PRIu64 ", %s, used slots %#x, next with room %" PRIu64 ", previous %" PRIu64 "\n",
              header.chunk.get(), sealed(Unit::kChunk, &header), header.used_mask.get(), header.partial_next.get(),
              header.partial_prev.get());
  for (uint32_t slot = 1; slot < format::kInodesPerChunk; ++slot) {
    const auto& inode = *reinterpret_cast<const format::Inode*>(bytes + slot * format::kInodeSize);
    if (inode.mode == 0) continue;
    std::printf("  slot %u: inode %" PRIu64 ", %s, %s\n", slot, inode.ino.get(), type_text(inode.mode),
                sealed(Unit::kInode, &inode));
  }
}

void Dump::bytes(const std::byte* data) const {
  bool skipping = false;
  for (uint32_t at = 0; at < kBlockSize; at += 16) {
    const bool zero = std::all_of(data + at, data + at + 16, [](std::byte b) { return b == std::byte{0}; });
    if (zero && at != 0) {
      if (!skipping) std::printf("  *\n");
      skipping = true;
      continue;
    }
    skipping = false;
    std::printf("  %04x ", at);
    for (uint32_t i = 0; i < 16; ++i) std::printf(" %02x", std::to_integer<unsigned>(data[at + i]));
    std::printf("  ");
    for (uint32_t i = 0; i < 16; ++i) {
      const auto c = std::to_integer<unsigned char>(data[at + i]);
      std::printf("%c", c >= 0x20 && c < 0x7F ? c : '.');
    }
    std::printf("\n");
  }
}

int Dump::block(uint64_t b) const {
  if (b >= geometry_.block_count) return fail("the pool has " + std::to_string(geometry_.block_count) + " blocks");
  const std::byte* const data = at_block(b);
  const auto* header = reinterpret_cast<const format::BlockHeader*>(data);
  const auto* chunk_header = reinterpret_cast<const format::ChunkHeader*>(data);
  if (chunk_header->magic == format::kChunkMagic && is_data(b)) {
    std::printf("block %" PRIu64 ": ", b);
    chunk(data);
    return kExitDone;
  }
  if (header->magic != format::kBlockMagic || !is_data(b)) {
    std::printf("block %" PRIu64 ": no header; its bytes\n", b);
    bytes(data);
    return kExitDone;
  }
  std::printf("block %" PRIu64 ": %s, level %u, %u entries, owner %" PRIu64 ", %s%s\n", b, kind_text(header->kind),
              header->level.get(), header->count.get(), header->owner.get(), sealed(Unit::kBlock, header),
              header->block == b ? "" : ", BELONGS ELSEWHERE");
  switch (header->kind) {
    case format::kKindDirLeaf: leaf_entries(data, "  "); break;
    case format::kKindDirNode: tree_entries(*reinterpret_cast<const format::TreeNode*>(data)); break;
    case format::kKindXattr: xattrs(data); break;
    case format::kKindExtentNode:
      if (header->level != 0) {
        tree_entries(*reinterpret_cast<const format::TreeNode*>(data));
      } else {
        extents(reinterpret_cast<const format::ExtentLeaf*>(data)->extents,
                std::min<uint32_t>(header->count, format::kExtentsPerLeaf));
      }
      break;
    case format::kKindOrphan: {
      const auto& orphans = *reinterpret_cast<const format::OrphanBlock*>(data);
      std::printf("  next block %" PRIu64 "\n", orphans.next.get());
      for (const le64& ino : orphans.ino) {
        if (ino != 0) std::printf("  inode %" PRIu64 "\n", ino.get());
      }
      break;
    }
    default: bytes(data);
  }
  return kExitDone;
}

}  // namespace

int run_dump(const DumpOptions& o) {
  std::string why;
  const auto path = media::resolve_pool(o.pool, &why);
  if (!path) return fail(why.empty() ? std::string(to_string(path.error())) : why);
  auto opened = media::PoolMedium::open(*path, {media::OpenMode::kReadOnly, {}}, &why);
  if (!opened) return fail(why.empty() ? std::string(to_string(opened.error())) : why);
  const auto super = media::load_superblock(**opened, &why);
  if (!super) return fail(o.pool + ": " + why);
  const Dump dump(**opened, *super);
  const bool all = !o.superblock && !o.journal && !o.groups && !o.inode && !o.dir && !o.block;
  int code = kExitDone;
  if (all || o.superblock) dump.superblock();
  if (all || o.journal) dump.journal();
  if (all || o.groups) dump.groups(!all);
  if (o.inode) code = std::max(code, dump.inode(*o.inode));
  if (o.dir) code = std::max(code, dump.directory(*o.dir));
  if (o.block) code = std::max(code, dump.block(*o.block));
  return code;
}

}  // namespace udax::ctl
