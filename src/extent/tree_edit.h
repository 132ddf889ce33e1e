// SPDX-License-Identifier: BSD-3-Clause
//
// The one way in which a map is changed: some neighbouring extents of a leaf are replaced by others. Everything
// that follows from it (splits, joins, nodes that come and go, the tree's height) is done here.
//
// Invariants, besides those of extent_map.h, that an editor leaves behind
// - The first key of a node is the low end of the node's range, hence 0 along the tree's left edge.
// - An extent does not reach over the high end of its leaf's range.
// - Two leaves or nodes under one parent hold more than half of one together, unless a removal of what was between
//   them has made them neighbours.
//
// Every node is checked as a whole before it is edited.
#pragma once

#include <cstdint>
#include <span>

#include "alloc/block_allocator.h"
#include "extent/extent_map.h"
#include "extent/group_budget.h"
#include "extent/tree_walk.h"

namespace udax::extent {

class TreeEdit {
 public:
  static constexpr uint32_t kPiecesMax = 3;

  TreeEdit(alloc::BlockTx& tx, format::Inode& inode, alloc::Purpose purpose)
      : tx_(tx), inode_(inode), purpose_(purpose), source_(tx, inode.ino), walk_(source_, inode, Check::kWhole) {}
  TreeEdit(const TreeEdit&) = delete;
  TreeEdit& operator=(const TreeEdit&) = delete;

  /// Goes to the leaf for `at`. What the accessors below say holds until the next change.
  [[nodiscard]] Status seek(uint64_t at);
  [[nodiscard]] uint32_t count() const { return leaf_.count; }
  [[nodiscard]] KeyRange keys() const { return leaf_.keys; }
  /// Slots whose extent starts at or before `at`.
  [[nodiscard]] uint32_t upper_bound(uint64_t at) const { return leaf_.upper_bound(at); }
  [[nodiscard]] Run run(uint32_t slot) const { return decode(leaf_.extents[slot]); }

  /// Where the first extent of the next leaf starts; kFileBlockEnd if this is the last leaf. Another seek() must
  /// follow.
  [[nodiscard]] Result<uint64_t> next_leaf_start();
  /// Moves the high end of the leaf's range up to `high`. Another seek() must follow.
  /// REQUIRES: keys().high < high <= next_leaf_start().
  [[nodiscard]] Status raise_high(uint64_t high);

  /// Puts `pieces` (at most kPiecesMax, in order) in place of the slots [first, last), and joins them with each
  /// other and with their neighbours. Another seek() must follow. Needs no block unless there are more pieces than
  /// slots. REQUIRES: the pieces fit between their neighbours and into keys().
  [[nodiscard]] Status splice(uint32_t first, uint32_t last, std::span<const Run> pieces);

  /// Frees file blocks from the end of [start, start + count) towards its start, as many as the transaction takes;
  /// gives how many.
  [[nodiscard]] Result<uint64_t> free_data(DeviceBlock start, uint64_t count);
  [[nodiscard]] const GroupBudget& groups() const { return groups_; }

 private:
  struct Entry {
    uint64_t key;
    DeviceBlock child;
  };

  // tree_edit.cc
  [[nodiscard]] Status fill_leaf(uint32_t first, uint32_t last, std::span<const Run> runs);
  [[nodiscard]] Result<format::ExtentLeaf*> edit_leaf(DeviceBlock b);
  [[nodiscard]] Result<format::TreeNode*> edit_node(DeviceBlock b);
  [[nodiscard]] Result<DeviceBlock> make_node(uint32_t level, DeviceBlock goal, std::byte** bytes);
  [[nodiscard]] Status free_node(DeviceBlock b);
  [[nodiscard]] Status count_freed(uint64_t blocks);

  // tree_grow.cc
  [[nodiscard]] Status grow(uint32_t first, uint32_t last, std::span<const Run> runs);
  [[nodiscard]] Status add_child(uint32_t level, Entry entry);
  [[nodiscard]] Status split_node(uint32_t level, Entry entry);
  [[nodiscard]] Status add_root(Entry entry);

  // tree_shrink.cc
  [[nodiscard]] Status erase_leaf();
  [[nodiscard]] Status remove_entry(uint32_t level, uint32_t slot);
  [[nodiscard]] Status settle(uint32_t level);
  [[nodiscard]] Result<bool> join_around(uint32_t level);
  [[nodiscard]] Result<bool> join_pair(uint32_t level, uint32_t left_slot);
  [[nodiscard]] Result<bool> join_leaves(DeviceBlock left, KeyRange left_keys, DeviceBlock right,
                                         KeyRange right_keys);
  [[nodiscard]] Result<bool> join_nodes(uint32_t level, DeviceBlock left, KeyRange left_keys, DeviceBlock right,
                                        KeyRange right_keys);
  [[nodiscard]] Result<bool> free_if_room(DeviceBlock b);
  [[nodiscard]] Status lower_root();

  alloc::BlockTx& tx_;
  format::Inode& inode_;
  const alloc::Purpose purpose_;
  const ShadowSource source_;
  TreeWalk<ShadowSource> walk_;
  LeafView leaf_;
  GroupBudget groups_;
};

}  // namespace udax::extent
