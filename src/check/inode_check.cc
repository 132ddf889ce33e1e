// SPDX-License-Identifier: BSD-3-Clause
//
// One inode: its fields, and what it owns but for a directory's tree.
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "check/inode_check.h"

namespace udax::check {
namespace {

constexpr uint32_t kNsPerSecond = 1'000'000'000;

bool fits_type(const format::Inode& inode) {
  const uint32_t kind = inode.payload_kind;
  switch (inode.mode & S_IFMT) {
    case S_IFREG:
      return kind == format::kPayloadNone || kind == format::kPayloadInlineExtents ||
             kind == format::kPayloadExtentTree;
    case S_IFDIR: return kind == format::kPayloadNone || kind == format::kPayloadDirectory;
    case S_IFLNK: return kind == format::kPayloadInlineSymlink || kind == format::kPayloadSymlinkBlock;
    case S_IFCHR:
    case S_IFBLK: return kind == format::kPayloadDevice;
    case S_IFIFO:
    case S_IFSOCK: return kind == format::kPayloadNone;
    default: return false;
  }
}

bool is_target(const std::byte* bytes, uint64_t size, uint64_t space) {
  const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
  return std::none_of(bytes, bytes + size, is_zero) && std::all_of(bytes + size, bytes + space, is_zero);
}

/// Blocks of a symbolic link's target; nullopt: it is broken.
std::optional<uint64_t> walk_symlink(Scan& scan, uint64_t ino, const format::Inode& inode) {
  const auto broken = [&](uint64_t b, const char* why) {
    scan.add(Code::kSymlink, ino, b, "inode ", ino, ": the symbolic link's target ", why);
    return std::nullopt;
  };
  const uint64_t size = inode.size;
  if (inode.payload_kind == format::kPayloadInlineSymlink) {
    std::byte target[format::kSymlinkInlineMax];
    std::memcpy(target, inode.payload, sizeof target);
    if (size == 0 || size > sizeof target || !is_target(target, size, sizeof target)) {
      return broken(0, "is not as long as it should be");
    }
    return 0;
  }
  format::SymlinkRoot root;
  std::memcpy(&root, inode.payload, sizeof root);
  if (size == 0 || size > format::kSymlinkMax) return broken(root.block, "is not as long as it should be");
  if (!scan.is_data(root.block, 1)) return broken(root.block, "is out of bounds");
  const std::byte* const bytes = scan.image.block(root.block);
  if (crc32c(scan.image.seed(), bytes, kBlockSize) != root.checksum) {
    return broken(root.block, "has a wrong checksum");
  }
  if (!is_target(bytes, size, kBlockSize)) return broken(root.block, "is not as long as it should be");
  if (!scan.claim(root.block, 1, ino, "a symbolic link's target")) return std::nullopt;
  return 1;
}

/// Blocks of a file; nullopt: not all could be read.
std::optional<uint64_t> walk_file(Scan& scan, uint64_t ino, const format::Inode& inode) {
  const uint64_t nodes_before = scan.report.blocks_tree;
  MapWalk map = walk_map(scan, ino, inode, scan.planning);
  scan.report.extents += map.extents;
  scan.report.blocks_data += map.blocks - (scan.report.blocks_tree - nodes_before);
  const uint64_t end = blocks_for(inode.size);
  const bool is_behind = map.written_end > end && !scan.is_orphan(ino);
  if (is_behind) {
    scan.add(Code::kBehindEnd, ino, 0, "inode ", ino, ": written blocks behind its end, up to file block ",
             map.written_end);
  }
  if (!map.broken && !is_behind) return map.blocks;
  if (scan.planning) {
    if (is_behind) {
      std::erase_if(map.runs, [end](const Run& run) { return !run.unwritten && run.file >= end; });
      for (Run& run : map.runs) {
        if (!run.unwritten && run.end() > end) run.count = end - run.file;
      }
    }
    scan.fix(ino).map = std::move(map.runs);
  }
  return std::nullopt;
}

}  // namespace

const char* inode_fault(uint64_t ino, const format::Inode& inode, bool* fatal) {
  *fatal = true;
  if (inode.ino != ino) return "has another's number";
  if (!fits_type(inode)) return "is of no type, or its payload does not fit it";
  *fatal = false;
  if (inode.nlink > format::kNlinkMax) return "has an impossible link count";
  if (inode.size > format::kFileSizeMax) return "has an impossible size";
  if ((inode.flags & ~format::kFlagsKnown) != 0) return "has unknown flags";
  for (const uint32_t ns :
       {inode.atime_ns.get(), inode.mtime_ns.get(), inode.ctime_ns.get(), inode.btime_ns.get()}) {
    if (ns >= kNsPerSecond) return "has an impossible time";
  }
  return nullptr;
}

void mend_fields(format::Inode* inode) {
  if (inode->nlink > format::kNlinkMax || inode->nlink == 0) inode->nlink = 1;
  if (inode->size > format::kFileSizeMax) inode->size = format::kFileSizeMax;
  inode->flags = inode->flags & format::kFlagsKnown;
  for (le32* ns : {&inode->atime_ns, &inode->mtime_ns, &inode->ctime_ns, &inode->btime_ns}) {
    if (*ns >= kNsPerSecond) *ns = 0;
  }
}

void check_contents(Scan& scan, uint64_t ino, InodeNote& note) {
  if (note.is_dir()) return;
  const format::Inode& inode = *scan.inode(ino);
  std::optional<uint64_t> blocks = 0;
  const uint32_t type = inode.mode & S_IFMT;
  if (type == S_IFREG) {
    ++scan.report.files;
    blocks = walk_file(scan, ino, inode);
  } else if (type == S_IFLNK) {
    ++scan.report.symlinks;
    blocks = walk_symlink(scan, ino, inode);
    if (!blocks) {
      // Without its target it is nothing: its names go too.
      if (scan.planning) scan.fix(ino).clear = true;
      note.type = 0;
      return;
    }
  } else {
    ++scan.report.specials;
  }
  const std::optional<uint64_t> xattrs = walk_xattrs(scan, ino, inode);
  if (!blocks || !xattrs) {
    note.set(InodeNote::kUnreadable);
    return;
  }
  check_block_count(scan, ino, inode, *blocks + *xattrs);
}

void check_block_count(Scan& scan, uint64_t ino, const format::Inode& inode, uint64_t found) {
  if (inode.block_count == found) return;
  scan.add(Code::kBlockCount, ino, 0, "inode ", ino, " counts ", inode.block_count.get(), " blocks; it has ",
           found);
  if (scan.planning) scan.fix(ino).block_count = found;
}

}  // namespace udax::check
