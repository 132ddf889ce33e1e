// SPDX-License-Identifier: BSD-3-Clause
//
// Where a leaf or a node has lost entries: empty ones go, neighbours that would fill no more than half a node are
// joined, a root with one child makes room for the child, and a leaf that fits goes back into the inode.
//
// Only the removal of what is empty is a must. The others free a block too, and are left for another time when
// the transaction is out of groups.
#include <cstring>

#include "extent/tree_edit.h"

namespace udax::extent {

namespace {

bool fit_one(uint32_t left, uint32_t right, uint32_t capacity) { return left + right <= capacity / 2; }

}  // namespace

Status TreeEdit::erase_leaf() {
  const Root root = walk_.root();
  if (!root.is_tree) {
    write_inline(inode_, {});
    return {};
  }
  UDAX_CHECK(free_node(walk_.leaf_block()));
  for (uint32_t level = 1; level <= root.level; ++level) {
    const auto& step = walk_.step(level);
    if (step.view.count == 1) {
      UDAX_CHECK(free_node(step.block));
      continue;
    }
    UDAX_CHECK(remove_entry(level, step.slot));
    return settle(level);
  }
  write_inline(inode_, {});
  return {};
}

Status TreeEdit::remove_entry(uint32_t level, uint32_t slot) {
  const auto& step = walk_.step(level);
  UDAX_TRY(format::TreeNode * node, edit_node(step.block));
  const uint32_t count = node->header.count;
  UDAX_ASSERT(slot < count && count > 1);
  std::memmove(node->entries + slot, node->entries + slot + 1, (count - slot - 1) * sizeof(format::TreeEntry));
  // The child that is first now stands for the range of the one that has gone as well.
  if (slot == 0) node->entries[0].key = step.view.keys.low;
  node->header.count = static_cast<uint16_t>(count - 1);
  return {};
}

Status TreeEdit::settle(uint32_t level) {
  for (; level < walk_.root().level; ++level) {
    UDAX_TRY(const bool joined, join_around(level));
    if (!joined) break;
  }
  return lower_root();
}

Result<bool> TreeEdit::join_around(uint32_t level) {
  const auto& parent = walk_.step(level + 1);
  if (parent.slot + 1 < parent.view.count) {
    UDAX_TRY(const bool joined, join_pair(level, parent.slot));
    if (joined) return true;
  }
  if (parent.slot == 0) return false;
  return join_pair(level, parent.slot - 1);
}

Result<bool> TreeEdit::join_pair(uint32_t level, uint32_t left_slot) {
  // The parent has not been changed since the walk: its view holds.
  const auto& parent = walk_.step(level + 1);
  const NodeView& view = parent.view;
  const DeviceBlock left = view.child(left_slot);
  const DeviceBlock right = view.child(left_slot + 1);
  const KeyRange left_keys = view.child_keys(left_slot);
  const KeyRange right_keys = view.child_keys(left_slot + 1);
  Result<bool> joined = level == 0 ? join_leaves(left, left_keys, right, right_keys)
                                   : join_nodes(level, left, left_keys, right, right_keys);
  if (!joined || !*joined) return joined;
  UDAX_CHECK(remove_entry(level + 1, left_slot + 1));
  return true;
}

Result<bool> TreeEdit::join_leaves(DeviceBlock left, KeyRange left_keys, DeviceBlock right, KeyRange right_keys) {
  UDAX_TRY(const std::byte* left_bytes, source_.read(left));
  UDAX_TRY(const std::byte* right_bytes, source_.read(right));
  const auto* l = reinterpret_cast<const format::ExtentLeaf*>(left_bytes);
  const auto* r = reinterpret_cast<const format::ExtentLeaf*>(right_bytes);
  if (!is_header_sound(l->header, 0)) return walk_.broken("header of extent leaf", left);
  if (!is_header_sound(r->header, 0)) return walk_.broken("header of extent leaf", right);
  const LeafView lv{l->extents, l->header.count, left_keys};
  const LeafView rv{r->extents, r->header.count, right_keys};
  if (!fit_one(lv.count, rv.count, format::kExtentsPerLeaf)) return false;
  if (!lv.is_sound(source_.meta().geometry())) return walk_.broken("order of extent leaf", left);
  if (!rv.is_sound(source_.meta().geometry())) return walk_.broken("order of extent leaf", right);

  format::Extent moved[format::kExtentsPerLeaf];  // the right leaf's shadow goes when it is freed
  std::memcpy(moved, rv.extents, rv.count * sizeof(format::Extent));
  UDAX_TRY(const bool freed, free_if_room(right));
  if (!freed) return false;
  UDAX_TRY(format::ExtentLeaf * leaf, edit_leaf(left));
  uint32_t count = lv.count;
  Run seam[2] = {decode(leaf->extents[count - 1]), decode(moved[0])};
  const bool seam_joins = join_runs(seam, 2) == 1;
  if (seam_joins) leaf->extents[count - 1] = encode(seam[0]);
  const uint32_t skip = seam_joins ? 1 : 0;
  std::memcpy(leaf->extents + count, moved + skip, (rv.count - skip) * sizeof(format::Extent));
  count += rv.count - skip;
  leaf->header.count = static_cast<uint16_t>(count);
  return true;
}

Result<bool> TreeEdit::join_nodes(uint32_t level, DeviceBlock left, KeyRange left_keys, DeviceBlock right,
                                  KeyRange right_keys) {
  UDAX_TRY(const std::byte* left_bytes, source_.read(left));
  UDAX_TRY(const std::byte* right_bytes, source_.read(right));
  const auto* l = reinterpret_cast<const format::TreeNode*>(left_bytes);
  const auto* r = reinterpret_cast<const format::TreeNode*>(right_bytes);
  if (!is_header_sound(l->header, level)) return walk_.broken("header of extent node", left);
  if (!is_header_sound(r->header, level)) return walk_.broken("header of extent node", right);
  const NodeView lv{l, l->header.count, left_keys};
  const NodeView rv{r, r->header.count, right_keys};
  if (!fit_one(lv.count, rv.count, format::kEntriesPerNode)) return false;
  if (!lv.is_sound()) return walk_.broken("order of extent node", left);
  if (!rv.is_sound()) return walk_.broken("order of extent node", right);

  format::TreeEntry moved[format::kEntriesPerNode];
  std::memcpy(moved, r->entries, rv.count * sizeof(format::TreeEntry));
  moved[0].key = right_keys.low;
  UDAX_TRY(const bool freed, free_if_room(right));
  if (!freed) return false;
  UDAX_TRY(format::TreeNode * node, edit_node(left));
  std::memcpy(node->entries + lv.count, moved, rv.count * sizeof(format::TreeEntry));
  node->header.count = static_cast<uint16_t>(lv.count + rv.count);
  return true;
}

Result<bool> TreeEdit::free_if_room(DeviceBlock b) {
  const Status freed = free_node(b);
  if (freed) return true;
  if (freed.error() == Error::kAgain) return false;
  return freed.error();
}

Status TreeEdit::lower_root() {
  for (;;) {
    UDAX_TRY(const Root root, read_root(source_.meta(), inode_));
    if (!root.is_tree) return {};
    UDAX_TRY(const std::byte* bytes, source_.read(root.block));
    const auto* header = reinterpret_cast<const format::BlockHeader*>(bytes);
    if (!is_header_sound(*header, root.level)) return walk_.broken("header of extent node", root.block);
    const uint32_t count = header->count;
    if (root.level > 0) {
      if (count > 1) return {};
      const DeviceBlock child(reinterpret_cast<const format::TreeNode*>(bytes)->entries[0].child);
      UDAX_TRY(const bool freed, free_if_room(root.block));
      if (!freed) return {};
      write_tree(inode_, child, root.level - 1);
      continue;
    }
    if (count > format::kInlineExtents) return {};
    format::Extent extents[format::kInlineExtents];
    std::memcpy(extents, reinterpret_cast<const format::ExtentLeaf*>(bytes)->extents,
                count * sizeof(format::Extent));
    UDAX_TRY(const bool freed, free_if_room(root.block));
    if (!freed) return {};
    write_inline(inode_, {extents, count});
    return {};
  }
}

}  // namespace udax::extent
