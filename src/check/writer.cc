// SPDX-License-Identifier: BSD-3-Clause
#include "check/writer.h"

#include <algorithm>
#include <cstring>

namespace udax::check {

void Writer::store_unit(uint64_t offset, format::Unit unit, void* image) {
  format::seal(scan_.image.seed(), unit, image);
  store(offset, image, format::unit_size(unit));
}

void Writer::store_block(uint64_t b, format::BlockKind kind, uint64_t owner, void* image) {
  auto* header = static_cast<format::BlockHeader*>(image);
  header->magic = format::kBlockMagic;
  header->block = b;
  header->owner = owner;
  header->kind = uint16_t{kind};
  store_unit(offset_of(DeviceBlock(b)), format::Unit::kBlock, image);
}

bool Writer::is_free_on_media(uint64_t b) {
  const uint64_t group = b / format::kGroupBlocks;
  if (group != known_group_) {
    known_group_ = group;
    known_words_ = nullptr;
    known_uninit_ = false;
    const auto& desc = *scan_.image.as<format::GroupDesc>(scan_.geometry.desc_offset(group));
    if (format::is_sealed(scan_.image.seed(), format::Unit::kGroupDesc, &desc) && desc.group == group) {
      const std::byte* const bitmap = scan_.image.block(scan_.geometry.bitmap_block(group).value);
      known_uninit_ = (desc.flags & format::kGroupUninit) != 0;
      if (!known_uninit_ && format::bitmap_checksum(scan_.image.seed(), bitmap) == desc.bitmap_checksum) {
        known_words_ = reinterpret_cast<const le64*>(bitmap);
      }
    }
  }
  if (known_uninit_) return true;
  const uint64_t bit = b % format::kGroupBlocks;
  return known_words_ != nullptr && (known_words_[bit / 64] >> (bit % 64) & 1) == 0;
}

/// Something that may yet be read to save what is in it.
bool Writer::looks_like_metadata(uint64_t b) const {
  const auto& header = *reinterpret_cast<const format::BlockHeader*>(scan_.image.block(b));
  const auto& chunk = *reinterpret_cast<const format::ChunkHeader*>(scan_.image.block(b));
  return (header.magic == format::kBlockMagic && header.block == b) || chunk.magic == format::kChunkMagic;
}

Result<uint64_t> Writer::allocate() {
  for (;;) {
    for (; cursor_ < scan_.geometry.replica().value; ++cursor_) {
      if (cursor_ % format::kGroupBlocks == 0 &&
          scan_.seen.used_in(cursor_ / format::kGroupBlocks) == format::kGroupBlocks) {
        cursor_ += format::kGroupBlocks - 1;
        continue;
      }
      if (scan_.seen.has(cursor_)) continue;
      if (trust_bitmaps_ ? !is_free_on_media(cursor_) : looks_like_metadata(cursor_)) continue;
      scan_.seen.add(cursor_, 1);
      return cursor_++;
    }
    if (!trust_bitmaps_) return Error::kNoSpace;
    trust_bitmaps_ = false;
    cursor_ = scan_.geometry.data_start.value;
  }
}

// --- Extent maps -----------------------------------------------------------------------------------------------------

namespace {

// Not full, so that the next extents do not split every node.
constexpr size_t kExtentsPerNewLeaf = format::kExtentsPerLeaf * 3 / 4;
constexpr size_t kEntriesPerNewNode = format::kEntriesPerNode * 3 / 4;

struct Child {
  uint64_t key = 0;
  uint64_t block = 0;
};

format::Extent encode(const Run& run) {
  format::Extent e{};
  e.file_block = run.file;
  e.device_block = run.device;
  e.count = static_cast<uint32_t>(run.count);
  e.flags = run.unwritten ? format::kExtentUnwritten : 0;
  return e;
}

/// Writes the nodes above `children`, level by level, until one is left.
Result<Child> write_nodes(Writer& writer, uint64_t ino, format::BlockKind kind, std::vector<Child> children,
                          uint32_t* level) {
  while (children.size() > 1) {
    ++*level;
    std::vector<Child> above;
    for (size_t first = 0; first < children.size(); first += kEntriesPerNewNode) {
      const size_t count = std::min(kEntriesPerNewNode, children.size() - first);
      format::TreeNode node{};
      node.header.level = static_cast<uint16_t>(*level);
      node.header.count = static_cast<uint16_t>(count);
      for (size_t i = 0; i < count; ++i) {
        node.entries[i].key = children[first + i].key;
        node.entries[i].child = children[first + i].block;
      }
      UDAX_TRY(const uint64_t b, writer.allocate());
      writer.store_block(b, kind, ino, &node);
      above.push_back({children[first].key, b});
    }
    children = std::move(above);
  }
  return children.front();
}

}  // namespace

Status write_map(Writer& writer, uint64_t ino, const std::vector<Run>& runs, format::Inode* inode) {
  std::memset(inode->payload, 0, sizeof inode->payload);
  inode->payload_count = 0;
  inode->payload_kind = format::kPayloadNone;
  if (runs.empty()) return {};
  if (runs.size() <= format::kInlineExtents) {
    inode->payload_kind = format::kPayloadInlineExtents;
    inode->payload_count = static_cast<uint8_t>(runs.size());
    for (size_t i = 0; i < runs.size(); ++i) {
      const format::Extent e = encode(runs[i]);
      std::memcpy(inode->payload + i * sizeof e, &e, sizeof e);
    }
    return {};
  }
  std::vector<Child> leaves;
  for (size_t first = 0; first < runs.size(); first += kExtentsPerNewLeaf) {
    const size_t count = std::min(kExtentsPerNewLeaf, runs.size() - first);
    format::ExtentLeaf leaf{};
    leaf.header.count = static_cast<uint16_t>(count);
    for (size_t i = 0; i < count; ++i) leaf.extents[i] = encode(runs[first + i]);
    UDAX_TRY(const uint64_t b, writer.allocate());
    writer.store_block(b, format::kKindExtentNode, ino, &leaf);
    leaves.push_back({leaves.empty() ? 0 : runs[first].file, b});
  }
  uint32_t level = 0;
  UDAX_TRY(const Child top, write_nodes(writer, ino, format::kKindExtentNode, std::move(leaves), &level));
  UDAX_CHECK(writer.drain());
  format::TreeRoot root{};
  root.block = top.block;
  root.level = level;
  std::memcpy(inode->payload, &root, sizeof root);
  inode->payload_kind = format::kPayloadExtentTree;
  return {};
}

// --- Directories -----------------------------------------------------------------------------------------------------

namespace {

constexpr uint32_t kLeafSpace = kBlockSize - format::kDirLeafFixed;

uint32_t record_bytes(const NewEntry& e) {
  return static_cast<uint32_t>(align_up(format::kDirNameFixed + e.name.size(), 8));
}
uint32_t entry_bytes(const NewEntry& e) {
  return static_cast<uint32_t>(sizeof(format::DirSlot)) + record_bytes(e);
}

/// A leaf that is being filled.
struct NewLeaf {
  alignas(8) std::array<std::byte, kBlockSize> bytes{};
  uint32_t count = 0;
  uint32_t heap_start = kBlockSize;
  uint64_t first_hash = 0;

  [[nodiscard]] uint32_t used() const {
    return count * static_cast<uint32_t>(sizeof(format::DirSlot)) + kBlockSize - heap_start;
  }
  void add(const NewEntry& e);
  void finish();
};

void NewLeaf::add(const NewEntry& e) {
  if (count == 0) first_hash = e.hash;
  heap_start -= record_bytes(e);
  auto* name = reinterpret_cast<format::DirName*>(bytes.data() + heap_start);
  name->ino = e.ino;
  name->type = e.type;
  name->name_length = static_cast<uint8_t>(e.name.size());
  std::memcpy(bytes.data() + heap_start + format::kDirNameFixed, e.name.data(), e.name.size());
  auto* slot = reinterpret_cast<format::DirSlot*>(bytes.data() + format::kDirLeafFixed) + count;
  slot->hash = e.hash;
  slot->offset = static_cast<uint16_t>(heap_start);
  slot->length = static_cast<uint16_t>(record_bytes(e));
  ++count;
}

void NewLeaf::finish() {
  reinterpret_cast<format::BlockHeader*>(bytes.data())->count = static_cast<uint16_t>(count);
  auto* heap = reinterpret_cast<format::DirLeafHeader*>(bytes.data() + sizeof(format::BlockHeader));
  heap->heap_start = static_cast<uint16_t>(heap_start);
}

/// Writes the leaves of sorted entries; names of one hash in one leaf. `entries_written`: more than fit a leaf with one
/// hash cannot be.
Result<std::vector<Child>> write_leaves(Writer& writer, uint64_t ino, const std::vector<NewEntry>& entries,
                                        uint64_t* entries_written) {
  std::vector<Child> leaves;
  NewLeaf leaf;
  const auto flush = [&]() -> Status {
    leaf.finish();
    UDAX_TRY(const uint64_t b, writer.allocate());
    writer.store_block(b, format::kKindDirLeaf, ino, leaf.bytes.data());
    leaves.push_back({leaves.empty() ? 0 : leaf.first_hash, b});
    leaf = NewLeaf{};
    return {};
  };
  for (size_t i = 0; i < entries.size();) {
    size_t end = i;
    uint32_t bytes = 0;
    while (end < entries.size() && entries[end].hash == entries[i].hash) bytes += entry_bytes(entries[end++]);
    if (leaf.count > 0 && leaf.used() + bytes > kLeafSpace * 3 / 4) UDAX_CHECK(flush());
    for (; i < end; ++i) {
      if (leaf.used() + entry_bytes(entries[i]) > kLeafSpace) continue;
      leaf.add(entries[i]);
      ++*entries_written;
    }
  }
  if (leaf.count > 0) UDAX_CHECK(flush());
  return leaves;
}

}  // namespace

Status write_directory(Writer& writer, uint64_t ino, std::vector<NewEntry> entries, format::Inode* inode) {
  std::sort(entries.begin(), entries.end(), [](const NewEntry& a, const NewEntry& b) {
    return a.hash != b.hash ? a.hash < b.hash : a.name < b.name;
  });
  const auto same = [](const NewEntry& a, const NewEntry& b) { return a.hash == b.hash && a.name == b.name; };
  entries.erase(std::unique(entries.begin(), entries.end(), same), entries.end());
  uint64_t written = 0;
  UDAX_TRY(std::vector<Child> leaves, write_leaves(writer, ino, entries, &written));
  format::DirRoot root{};
  if (!leaves.empty()) {
    uint32_t level = 0;
    UDAX_TRY(const Child top, write_nodes(writer, ino, format::kKindDirNode, std::move(leaves), &level));
    UDAX_CHECK(writer.drain());
    root.block = top.block;
    root.level = level;
    root.entry_count = written;
  }
  std::memset(inode->payload, 0, sizeof inode->payload);
  std::memcpy(inode->payload, &root, sizeof root);
  inode->payload_kind = format::kPayloadDirectory;
  inode->payload_count = 0;
  return {};
}

namespace {

/// Reads a broken directory: whatever block says that it belongs to it, once.
class Salvage {
 public:
  Salvage(Scan& scan, uint64_t ino) : scan_(scan), ino_(ino) {}
  void walk(uint64_t b, uint32_t level_max);
  std::vector<NewEntry> entries;

 private:
  void take_leaf(const std::byte* leaf, bool sealed);
  [[nodiscard]] bool may_keep(const EntryView& entry, bool sealed);

  Scan& scan_;
  const uint64_t ino_;
  std::unordered_set<uint64_t> visited_;
};

void Salvage::walk(uint64_t b, uint32_t level_max) {
  if (!scan_.is_data(b, 1) || !visited_.insert(b).second) return;
  const std::byte* const bytes = scan_.image.block(b);
  const auto& header = *reinterpret_cast<const format::BlockHeader*>(bytes);
  if (header.magic != format::kBlockMagic || header.block != b || header.owner != ino_) return;
  if (header.kind == format::kKindDirLeaf) {
    return take_leaf(bytes, format::is_sealed(scan_.image.seed(), format::Unit::kBlock, bytes));
  }
  const uint32_t level = header.level;
  if (header.kind != format::kKindDirNode || level == 0 || level >= level_max) return;
  const auto& node = *reinterpret_cast<const format::TreeNode*>(bytes);
  const uint32_t count = std::min<uint32_t>(header.count, format::kEntriesPerNode);
  for (uint32_t i = 0; i < count; ++i) walk(node.entries[i].child, level);
}

void Salvage::take_leaf(const std::byte* leaf, bool sealed) {
  constexpr uint32_t kSlotsMax = kLeafSpace / sizeof(format::DirSlot);
  const uint32_t stored = reinterpret_cast<const format::BlockHeader*>(leaf)->count;
  const auto* slots = reinterpret_cast<const format::DirSlot*>(leaf + format::kDirLeafFixed);
  for (uint32_t i = 0; i < std::min(stored, kSlotsMax); ++i) {
    EntryView entry;
    if (!parse_entry(leaf, slots[i], &entry) || entry.hash != name_hash(scan_.geometry, entry.name)) continue;
    if (!may_keep(entry, sealed)) continue;
    entries.push_back({entry.hash, entry.ino, scan_.find(entry.ino)->type, std::string(entry.name)});
  }
}

bool Salvage::may_keep(const EntryView& entry, bool sealed) {
  InodeNote* const note = scan_.find(entry.ino);
  if (note == nullptr || !note->is_live() || entry.ino == kRootIno.value) return false;
  if (!sealed && entry.type != note->type) return false;
  if (!note->is_dir()) return true;
  if (note->is(InodeNote::kPlaced)) return false;
  if (note->parent == 0 && !note->is(InodeNote::kCut)) note->parent = ino_;
  if (note->parent != ino_) return false;
  note->set(InodeNote::kPlaced);
  return true;
}

}  // namespace

std::vector<NewEntry> collect_entries(Scan& scan, uint64_t ino) {
  const format::Inode& inode = *scan.inode(ino);
  Salvage salvage(scan, ino);
  if (inode.payload_kind == format::kPayloadDirectory) {
    format::DirRoot root;
    std::memcpy(&root, inode.payload, sizeof root);
    if (root.block != 0) salvage.walk(root.block, format::kTreeLevelsMax);
  }
  return std::move(salvage.entries);
}

}  // namespace udax::check
