// SPDX-License-Identifier: BSD-3-Clause
//
// Where a leaf or a node overflows.
//
// A split halves, except at the edges of the tree: a file that is written front to back, or back to front, splits
// off the new entry alone, so that what lies behind it stays full.
#include <cstring>

#include "extent/tree_edit.h"

namespace udax::extent {

namespace {

/// How many of `total` entries stay in the left node, when the change was at [first, last) of `before` entries.
uint32_t split_point(uint32_t total, uint32_t capacity, KeyRange keys, bool at_front, bool at_back) {
  if (at_back && keys.high == kFileBlockEnd.value) return capacity;
  if (at_front && keys.low == 0) return total - capacity;
  return total / 2;
}

}  // namespace

Status TreeEdit::grow(uint32_t first, uint32_t last, std::span<const Run> runs) {
  format::Extent all[format::kExtentsPerLeaf + kPiecesMax + 2];
  const uint32_t count = leaf_.count;
  uint32_t total = 0;
  for (uint32_t i = 0; i < first; ++i) all[total++] = leaf_.extents[i];
  for (const Run& r : runs) all[total++] = encode(r);
  for (uint32_t i = last; i < count; ++i) all[total++] = leaf_.extents[i];

  std::byte* bytes = nullptr;
  if (!walk_.root().is_tree) {
    UDAX_TRY(const DeviceBlock b, make_node(0, kNoBlock, &bytes));
    auto* leaf = reinterpret_cast<format::ExtentLeaf*>(bytes);
    leaf->header.count = static_cast<uint16_t>(total);
    std::memcpy(leaf->extents, all, total * sizeof(format::Extent));
    write_tree(inode_, b, 0);
    return {};
  }

  const DeviceBlock left_block = walk_.leaf_block();
  const uint32_t kept = split_point(total, format::kExtentsPerLeaf, leaf_.keys, first == 0, last == count);
  UDAX_TRY(format::ExtentLeaf * left, edit_leaf(left_block));
  UDAX_TRY(const DeviceBlock right_block, make_node(0, left_block, &bytes));
  auto* right = reinterpret_cast<format::ExtentLeaf*>(bytes);
  left->header.count = static_cast<uint16_t>(kept);
  right->header.count = static_cast<uint16_t>(total - kept);
  std::memcpy(left->extents, all, kept * sizeof(format::Extent));
  std::memcpy(right->extents, all + kept, (total - kept) * sizeof(format::Extent));
  return add_child(1, {all[kept].file_block, right_block});
}

Status TreeEdit::add_child(uint32_t level, Entry entry) {
  if (level > walk_.root().level) return add_root(entry);
  const auto& step = walk_.step(level);
  const uint32_t count = step.view.count;
  if (count == format::kEntriesPerNode) return split_node(level, entry);
  UDAX_TRY(format::TreeNode * node, edit_node(step.block));
  const uint32_t at = step.slot + 1;
  std::memmove(node->entries + at + 1, node->entries + at, (count - at) * sizeof(format::TreeEntry));
  node->entries[at].key = entry.key;
  node->entries[at].child = entry.child.value;
  node->header.count = static_cast<uint16_t>(count + 1);
  return {};
}

Status TreeEdit::split_node(uint32_t level, Entry entry) {
  const auto& step = walk_.step(level);
  const uint32_t at = step.slot + 1;
  constexpr uint32_t kTotal = format::kEntriesPerNode + 1;
  format::TreeEntry all[kTotal];
  UDAX_TRY(format::TreeNode * left, edit_node(step.block));
  std::memcpy(all, left->entries, at * sizeof(format::TreeEntry));
  all[at].key = entry.key;
  all[at].child = entry.child.value;
  std::memcpy(all + at + 1, left->entries + at, (kTotal - at - 1) * sizeof(format::TreeEntry));

  const uint32_t kept =
      split_point(kTotal, format::kEntriesPerNode, step.view.keys, at == 1, at == format::kEntriesPerNode);
  std::byte* bytes = nullptr;
  UDAX_TRY(const DeviceBlock right_block, make_node(level, step.block, &bytes));
  auto* right = reinterpret_cast<format::TreeNode*>(bytes);
  left->header.count = static_cast<uint16_t>(kept);
  right->header.count = static_cast<uint16_t>(kTotal - kept);
  std::memcpy(left->entries, all, kept * sizeof(format::TreeEntry));
  std::memcpy(right->entries, all + kept, (kTotal - kept) * sizeof(format::TreeEntry));
  return add_child(level + 1, {all[kept].key, right_block});
}

Status TreeEdit::add_root(Entry entry) {
  const uint32_t level = walk_.root().level + 1;
  // Not reached by any pool of permitted size, unless its tree was made to look so.
  if (level >= format::kTreeLevelsMax) return Error::kFileTooBig;
  std::byte* bytes = nullptr;
  UDAX_TRY(const DeviceBlock b, make_node(level, walk_.root().block, &bytes));
  auto* node = reinterpret_cast<format::TreeNode*>(bytes);
  node->header.count = 2;
  node->entries[0].key = 0;
  node->entries[0].child = walk_.root().block.value;
  node->entries[1].key = entry.key;
  node->entries[1].child = entry.child.value;
  write_tree(inode_, b, level);
  return {};
}

}  // namespace udax::extent
