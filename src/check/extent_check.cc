// SPDX-License-Identifier: BSD-3-Clause
//
// Extent maps: inline, or a tree of nodes.
//
// Invariants that are checked
// - Nodes: sealed, of this inode, at the level that their parent gives; 1... as many entries as fit; keys strictly
//   ascending within the range that the parent allows. The first key may be above the range's low end.
// - Extents: within the data area and their leaf's range, ascending, not overlapping, of blocks nobody else has.
#include <cstring>

#include "check/scan.h"

namespace udax::check {
namespace {

class MapWalker {
 public:
  MapWalker(Scan& scan, uint64_t ino, bool keep_runs) : scan_(scan), ino_(ino), keep_runs_(keep_runs) {}
  void walk(const format::Inode& inode);
  MapWalk result;

 private:
  void walk_node(uint64_t b, uint32_t level, uint64_t low, uint64_t high);
  void walk_children(const format::TreeNode& node, uint64_t b, uint32_t level, uint64_t low, uint64_t high);
  void walk_extents(const format::Extent* extents, uint32_t count, uint64_t b, uint64_t low, uint64_t high);
  [[nodiscard]] const char* fault(const Run& run, uint32_t flags, uint64_t low, uint64_t high) const;
  void broken(Code code, uint64_t b, const char* what, const char* why) {
    result.broken = true;
    scan_.add(code, ino_, b, "inode ", ino_, ": ", what, " ", why);
  }

  Scan& scan_;
  const uint64_t ino_;
  const bool keep_runs_;
  uint64_t next_ = 0;  // file blocks below are done with
};

void MapWalker::walk(const format::Inode& inode) {
  if (inode.payload_kind == format::kPayloadInlineExtents) {
    const uint32_t count = inode.payload_count;
    if (count == 0 || count > format::kInlineExtents)
      return broken(Code::kExtent, 0, "inline extents", "miscounted");
    format::Extent extents[format::kInlineExtents];
    std::memcpy(extents, inode.payload, count * sizeof(format::Extent));
    walk_extents(extents, count, 0, 0, kFileBlocksMax);
  } else if (inode.payload_kind == format::kPayloadExtentTree) {
    format::TreeRoot root;
    std::memcpy(&root, inode.payload, sizeof root);
    if (root.level >= format::kTreeLevelsMax) {
      return broken(Code::kExtentTree, root.block, "extent tree", "has too many levels");
    }
    walk_node(root.block, root.level, 0, kFileBlocksMax);
  }
}

void MapWalker::walk_node(uint64_t b, uint32_t level, uint64_t low, uint64_t high) {
  const char* why = nullptr;
  const std::byte* const bytes = scan_.read(b, format::kKindExtentNode, ino_, &why);
  if (bytes == nullptr) return broken(Code::kExtentTree, b, "node of the extent tree", why);
  const auto& header = *reinterpret_cast<const format::BlockHeader*>(bytes);
  const uint32_t most = level == 0 ? format::kExtentsPerLeaf : format::kEntriesPerNode;
  if (header.level != level) return broken(Code::kExtentTree, b, "node of the extent tree", "is of another level");
  if (header.count == 0 || header.count > most) {
    return broken(Code::kExtentTree, b, "node of the extent tree", "has a wrong count");
  }
  if (!scan_.claim(b, 1, ino_, "node of an extent tree")) {
    result.broken = true;
    return;
  }
  ++result.blocks;
  ++scan_.report.blocks_tree;
  if (level == 0) {
    walk_extents(reinterpret_cast<const format::ExtentLeaf*>(bytes)->extents, header.count, b, low, high);
  } else {
    walk_children(*reinterpret_cast<const format::TreeNode*>(bytes), b, level, low, high);
  }
}

void MapWalker::walk_children(const format::TreeNode& node, uint64_t b, uint32_t level, uint64_t low,
                              uint64_t high) {
  const uint32_t count = node.header.count;
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t key = node.entries[i].key;
    const uint64_t next = i + 1 < count ? node.entries[i + 1].key.get() : high;
    if (key < low || key >= next || next > high || (i > 0 && key == low)) {
      broken(Code::kExtentTree, b, "keys of a node of the extent tree", "are out of order");
      continue;
    }
    walk_node(node.entries[i].child, level - 1, i == 0 ? low : key, next);
  }
}

const char* MapWalker::fault(const Run& run, uint32_t flags, uint64_t low, uint64_t high) const {
  if (run.count == 0 || run.count > format::kExtentBlocksMax) return "has an impossible length";
  if ((flags & ~format::kExtentUnwritten) != 0) return "has unknown flags";
  if (run.file < low || run.file >= high || run.count > high - run.file) return "is out of its node's range";
  if (run.file < next_) return "overlaps another, or is out of order";
  if (!scan_.is_data(run.device, run.count)) return "is out of bounds";
  return nullptr;
}

void MapWalker::walk_extents(const format::Extent* extents, uint32_t count, uint64_t b, uint64_t low,
                             uint64_t high) {
  for (uint32_t i = 0; i < count; ++i) {
    const format::Extent& e = extents[i];
    const uint32_t flags = e.flags;
    const Run run{e.file_block, e.device_block, e.count, (flags & format::kExtentUnwritten) != 0};
    if (const char* why = fault(run, flags, low, high); why != nullptr) {
      broken(Code::kExtent, b, "an extent", why);
      continue;
    }
    if (!scan_.claim(run.device, run.count, ino_, "an extent")) {
      result.broken = true;
      continue;
    }
    next_ = run.end();
    if (!run.unwritten) result.written_end = run.end();
    result.blocks += run.count;
    ++result.extents;
    if (keep_runs_) result.runs.push_back(run);
  }
}

}  // namespace

MapWalk walk_map(Scan& scan, uint64_t ino, const format::Inode& inode, bool keep_runs) {
  MapWalker walker(scan, ino, keep_runs);
  walker.walk(inode);
  return std::move(walker.result);
}

}  // namespace udax::check
