// SPDX-License-Identifier: BSD-3-Clause
#include "dir/tree.h"

#include <cstring>

namespace udax::dir {
namespace {

// The last child whose key is not above `hash`; 0 if all are.
uint32_t child_of(const format::TreeNode& node, uint64_t hash) {
  uint32_t low = 0;
  uint32_t length = node.header.count;
  while (length > 1) {
    const uint32_t half = length / 2;
    low = node.entries[low + half].key <= hash ? low + half : low;
    length -= half;
  }
  return low;
}

// Goes down from block `b` of `level`, which is to hold `range`, to the leaf of `hash`, adding to the path.
Status walk_down(const Source& source, DeviceBlock b, uint32_t level, HashRange range, uint64_t hash, Path& path) {
  for (; level > 0; --level) {
    UDAX_TRY(const format::TreeNode* node, source.node(b, level));
    if (node->entries[0].key != range.low) return source.corrupted("directory node: first key", b);
    const uint32_t index = child_of(*node, hash);
    const HashRange below = child_range(*node, index, range);
    if (below.low < range.low || below.high > range.high || !below.holds(hash)) {
      return source.corrupted("directory node: keys out of order", b);
    }
    path.steps[path.depth++] = {b, node, level, index, range};
    b = DeviceBlock(node->entries[index].child);
    range = below;
  }
  path.leaf = b;
  path.leaf_range = range;
  return {};
}

}  // namespace

format::DirRoot load_root(const format::Inode& inode) {
  format::DirRoot root{};
  if (inode.payload_kind == format::kPayloadDirectory) std::memcpy(&root, inode.payload, sizeof(root));
  return root;
}

void store_root(format::Inode& inode, const format::DirRoot& root) {
  if (inode.payload_kind != format::kPayloadDirectory) {
    std::memset(inode.payload, 0, sizeof(inode.payload));
    inode.payload_kind = format::kPayloadDirectory;
    inode.payload_count = 0;
  }
  std::memcpy(inode.payload, &root, sizeof(root));
}

Result<const std::byte*> Source::read(DeviceBlock b, format::BlockKind kind) const {
  return tx_ != nullptr ? tx_->read_block(b, kind, owner_) : meta_.read(b, kind, owner_);
}

Result<const format::TreeNode*> Source::node(DeviceBlock b, uint32_t level) const {
  UDAX_TRY(const std::byte* image, read(b, format::kKindDirNode));
  const auto* node = reinterpret_cast<const format::TreeNode*>(image);
  const uint32_t count = node->header.count;
  if (node->header.level != level || count == 0 || count > format::kEntriesPerNode) {
    return corrupted("directory node: level or count", b);
  }
  return node;
}

Result<LeafView> Source::leaf(DeviceBlock b) const {
  UDAX_TRY(const std::byte* image, read(b, format::kKindDirLeaf));
  const LeafView view(image);
  if (reinterpret_cast<const format::BlockHeader*>(image)->level != 0 || !view.header_holds()) {
    return corrupted("directory leaf: header", b);
  }
  return view;
}

Error Source::corrupted(const char* what, DeviceBlock b) const { return meta_.corrupted(what, offset_of(b)); }

HashRange child_range(const format::TreeNode& node, uint32_t index, HashRange range) {
  const uint64_t high = index + 1 < node.header.count ? node.entries[index + 1].key.get() : range.high;
  return {node.entries[index].key, high};
}

bool keys_hold(const format::TreeNode& node, HashRange range) {
  uint64_t before = node.entries[0].key;
  if (before != range.low || before >= range.high) return false;
  for (uint32_t i = 1; i < node.header.count; ++i) {
    const uint64_t key = node.entries[i].key;
    if (key <= before || key >= range.high) return false;
    before = key;
  }
  return true;
}

Result<bool> find_leaf(const Source& source, const format::Inode& inode, uint64_t hash, Path& path) {
  path.depth = 0;
  if (inode.payload_kind == format::kPayloadNone) return false;
  if (inode.payload_kind != format::kPayloadDirectory)
    return source.corrupted("directory: payload kind", kNoBlock);
  const format::DirRoot root = load_root(inode);
  if (root.block == 0) return false;
  const DeviceBlock block(root.block);
  if (root.level >= format::kTreeLevelsMax) return source.corrupted("directory: level of its root", block);
  UDAX_CHECK(walk_down(source, block, root.level, HashRange{}, hash, path));
  return true;
}

Result<bool> next_leaf(const Source& source, Path& path) {
  while (path.depth > 0) {
    Step& step = path.steps[path.depth - 1];
    if (step.index + 1 >= step.node->header.count) {
      --path.depth;
      continue;
    }
    ++step.index;
    const HashRange range = child_range(*step.node, step.index, step.range);
    // The low end is the high end of the leaf before, so that it cannot be below what was delivered.
    if (range.low >= range.high || range.low < path.leaf_range.high || range.high > step.range.high) {
      return source.corrupted("directory node: keys out of order", step.block);
    }
    const DeviceBlock child(step.node->entries[step.index].child);
    UDAX_CHECK(walk_down(source, child, step.level - 1, range, range.low, path));
    return true;
  }
  return false;
}

}  // namespace udax::dir
