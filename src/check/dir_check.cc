// SPDX-License-Identifier: BSD-3-Clause
//
// Directories: their trees, the names in them, and what the names say of the inodes.
//
// Invariants that are checked
// - Nodes and leaves: sealed, of this inode, at the level their parent gives, not empty. A node's first key is the low
//   end of its range, the root's is 0; keys ascend within the range.
// - Leaves: slots and names within the block, their bytes accounted for; hashes are those of the names, within the
//   leaf's range; no name twice.
// - Entries: the inode is in use and of that type. A directory is named once.
#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <bitset>
#include <cstring>

#include "base/siphash.h"
#include "check/inode_check.h"
#include "check/scan.h"

namespace udax::check {

bool is_valid_name(std::string_view name) {
  if (name.empty() || name.size() > format::kNameMax || name == "." || name == "..") return false;
  return name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

uint64_t name_hash(const media::Geometry& geometry, std::string_view name) {
  const uint64_t hash = siphash13(geometry.hash_key, name.data(), name.size()) >> 1;
  return hash < format::kDirHashMin ? hash + format::kDirHashMin : hash;
}

bool parse_entry(const std::byte* leaf, const format::DirSlot& slot, EntryView* out) {
  const uint32_t offset = slot.offset;
  const uint32_t length = slot.length;
  if (offset % 8 != 0 || offset < format::kDirLeafFixed || length < sizeof(format::DirName) || length % 8 != 0 ||
      length > kBlockSize || offset > kBlockSize - length) {
    return false;
  }
  const auto* stored = reinterpret_cast<const format::DirName*>(leaf + offset);
  const uint32_t name_length = stored->name_length;
  if (name_length == 0 || align_up(format::kDirNameFixed + name_length, 8) != length) return false;
  out->hash = slot.hash;
  out->ino = stored->ino;
  out->type = stored->type;
  out->name = {reinterpret_cast<const char*>(leaf + offset) + format::kDirNameFixed, name_length};
  return is_valid_name(out->name);
}

namespace {

class DirWalker {
 public:
  DirWalker(Scan& scan, uint64_t ino) : scan_(scan), ino_(ino) {}
  void walk(const format::Inode& inode);

 private:
  void walk_tree(uint64_t b, uint32_t level, uint64_t low, uint64_t high);
  void walk_node(const format::TreeNode& node, uint64_t b, uint64_t low, uint64_t high);
  void walk_leaf(const std::byte* leaf, uint64_t b, uint64_t low, uint64_t high);
  void enter_names(uint64_t b);
  void enter(const EntryView& entry, uint64_t b);
  void check_counts(const format::Inode& inode, uint64_t counted);

  template <typename... Parts>
  void broken(Code code, uint64_t b, const Parts&... parts) {
    broken_ = true;
    scan_.add(code, ino_, b, "directory ", ino_, ": ", parts...);
  }

  Scan& scan_;
  const uint64_t ino_;
  bool broken_ = false;
  uint64_t blocks_ = 0;
  uint64_t entries_ = 0;
  std::vector<EntryView> names_;  // of the leaf at hand
};

void DirWalker::walk(const format::Inode& inode) {
  ++scan_.report.directories;
  uint64_t counted = 0;
  if (inode.payload_kind == format::kPayloadDirectory) {
    format::DirRoot root;
    std::memcpy(&root, inode.payload, sizeof root);
    counted = root.entry_count;
    if (root.level >= format::kTreeLevelsMax) {
      broken(Code::kDirectoryTree, root.block, "its tree has too many levels");
    } else if (root.block != 0) {
      walk_tree(root.block, root.level, 0, kHashEnd);
    }
  }
  scan_.report.blocks_directory += blocks_;
  scan_.report.names += entries_;
  const std::optional<uint64_t> xattrs = walk_xattrs(scan_, ino_, inode);
  if (broken_) {
    if (scan_.planning) scan_.fix(ino_).rewrite_directory = true;
  } else {
    check_counts(inode, counted);
  }
  if (broken_ || !xattrs) {
    scan_.find(ino_)->set(InodeNote::kUnreadable);
  } else {
    check_block_count(scan_, ino_, inode, blocks_ + *xattrs);
  }
}

void DirWalker::check_counts(const format::Inode& inode, uint64_t counted) {
  if (counted != entries_) {
    scan_.add(Code::kEntryCount, ino_, 0, "directory ", ino_, " counts ", counted, " entries; it has ", entries_);
    if (scan_.planning) scan_.fix(ino_).entry_count = entries_;
  }
  if (inode.size != blocks_ * kBlockSize) {
    scan_.add(Code::kDirectorySize, ino_, 0, "directory ", ino_, " has a size of ", inode.size.get(),
              " instead of ", blocks_ * kBlockSize);
    if (scan_.planning) scan_.fix(ino_).size = blocks_ * kBlockSize;
  }
}

void DirWalker::walk_tree(uint64_t b, uint32_t level, uint64_t low, uint64_t high) {
  const char* why = nullptr;
  const auto kind = level == 0 ? format::kKindDirLeaf : format::kKindDirNode;
  const std::byte* const bytes = scan_.read(b, kind, ino_, &why);
  if (bytes == nullptr) {
    return broken(Code::kDirectoryTree, b, level == 0 ? "a leaf at block " : "a node at block ", b, " ", why);
  }
  if (!scan_.claim(b, 1, ino_, "a directory block")) {
    broken_ = true;
    return;
  }
  ++blocks_;
  const auto& header = *reinterpret_cast<const format::BlockHeader*>(bytes);
  if (header.level != level) return broken(Code::kDirectoryTree, b, "block ", b, " is of another level");
  if (header.count == 0) return broken(Code::kDirectoryTree, b, "block ", b, " is empty");
  if (level == 0) return walk_leaf(bytes, b, low, high);
  if (header.count > format::kEntriesPerNode) {
    return broken(Code::kDirectoryTree, b, "node at block ", b, " has a wrong count");
  }
  walk_node(*reinterpret_cast<const format::TreeNode*>(bytes), b, low, high);
}

void DirWalker::walk_node(const format::TreeNode& node, uint64_t b, uint64_t low, uint64_t high) {
  const uint32_t count = node.header.count;
  const uint32_t level = node.header.level;
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t key = node.entries[i].key;
    const uint64_t next = i + 1 < count ? node.entries[i + 1].key.get() : high;
    if (i == 0 ? key != low : key <= low) {
      broken(Code::kDirectoryTree, b, "keys of the node at block ", b, " are out of range");
      continue;
    }
    if (key >= next || next > high) {
      broken(Code::kDirectoryTree, b, "keys of the node at block ", b, " are out of order");
      continue;
    }
    walk_tree(node.entries[i].child, level - 1, key, next);
  }
}

void DirWalker::walk_leaf(const std::byte* leaf, uint64_t b, uint64_t low, uint64_t high) {
  const uint32_t count = reinterpret_cast<const format::BlockHeader*>(leaf)->count;
  const auto& heap = *reinterpret_cast<const format::DirLeafHeader*>(leaf + sizeof(format::BlockHeader));
  const uint32_t heap_start = heap.heap_start;
  const auto slots_end = static_cast<uint64_t>(format::kDirLeafFixed + count * sizeof(format::DirSlot));
  if (slots_end > heap_start || heap_start > kBlockSize || heap_start % 8 != 0) {
    return broken(Code::kDirectoryTree, b, "the leaf at block ", b, " has a header that makes no sense");
  }
  const auto* slots = reinterpret_cast<const format::DirSlot*>(leaf + format::kDirLeafFixed);
  std::bitset<kBlockSize / 8> used;
  uint32_t named = 0;
  bool accounted = true;
  names_.clear();
  for (uint32_t i = 0; i < count; ++i) {
    EntryView entry;
    if (!parse_entry(leaf, slots[i], &entry) || slots[i].offset < heap_start) {
      broken(Code::kDirectoryEntry, b, "an entry in block ", b, " makes no sense");
      continue;
    }
    for (uint32_t at = slots[i].offset / 8U; at < (slots[i].offset + slots[i].length) / 8U; ++at) {
      accounted = accounted && !used.test(at);
      used.set(at);
    }
    named += slots[i].length;
    if (entry.hash != name_hash(scan_.geometry, entry.name)) {
      broken(Code::kDirectoryEntry, b, "\"", entry.name, "\" has a wrong hash");
    } else if (entry.hash < low || entry.hash >= high) {
      broken(Code::kDirectoryEntry, b, "\"", entry.name, "\" is in the wrong leaf");
    }
    names_.push_back(entry);
  }
  if (!accounted || named + heap.heap_free != kBlockSize - heap_start) {
    broken(Code::kDirectoryTree, b, "names in the leaf at block ", b, " overlap, or are not accounted for");
  }
  enter_names(b);
}

void DirWalker::enter_names(uint64_t b) {
  const std::vector<EntryView>& names = names_;
  std::sort(names_.begin(), names_.end(), [](const EntryView& a, const EntryView& c) {
    return a.hash != c.hash ? a.hash < c.hash : a.name < c.name;
  });
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0 && names[i].hash == names[i - 1].hash && names[i].name == names[i - 1].name) {
      broken(Code::kDuplicateName, b, "\"", names[i].name, "\" is there twice");
      continue;
    }
    enter(names[i], b);
  }
}

/// Counts the entry for the inode that it names.
void DirWalker::enter(const EntryView& entry, uint64_t b) {
  InodeNote* const note = scan_.find(entry.ino);
  ++entries_;
  if (note == nullptr || !note->is_live()) {
    return broken(Code::kEntryTarget, b, "\"", entry.name, "\" names inode ", entry.ino,
                  ", which is free or not readable");
  }
  if (entry.type != note->type) {
    broken(Code::kDirectoryEntry, b, "\"", entry.name, "\" says that inode ", entry.ino, " is of type ",
           uint32_t{entry.type}, "; it is of type ", uint32_t{note->type});
  }
  if (note->is_dir()) {
    if (note->parent != 0 || entry.ino == kRootIno.value) {
      return broken(Code::kSecondName, b, "\"", entry.name, "\" is a second name of directory ", entry.ino);
    }
    note->parent = ino_;
    ++scan_.find(ino_)->subdirs;
  }
  ++note->links;
}

}  // namespace

static_assert(DT_DIR == S_IFDIR >> 12 && DT_REG == S_IFREG >> 12 && DT_LNK == S_IFLNK >> 12);

void check_directories(Scan& scan) {
  uint64_t done = 0;
  for (ChunkNote& chunk : scan.chunks) {
    for (uint32_t slot = 1; slot < format::kInodesPerChunk; ++slot) {
      if (!chunk.slots[slot - 1].is_dir()) continue;
      const uint64_t ino = chunk.chunk * format::kInodesPerChunk + slot;
      DirWalker(scan, ino).walk(*scan.inode(ino));
    }
    if (++done % 256 == 0) scan.progress("directories", done, scan.chunks.size());
  }
}

}  // namespace udax::check
