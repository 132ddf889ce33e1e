// SPDX-License-Identifier: BSD-3-Clause
//
// Changes to the shape of a directory's tree: leaves and nodes split, merge, come and go.
//
// Splits go from the leaf to the root, as far as nodes are full. A removal frees what has become empty; a block
// that together with a neighbour under the same parent fills less than two fifths of a block is merged into it
// (so far below the half at which splits leave blocks, that names that come and go do not split and merge
// in turns); and a root with one child gives way to it. Each is bounded by the levels of the tree.
//
// Any error means that the transaction must be aborted: its shadows may be half changed.
#pragma once

#include <cstdint>

#include "alloc/block_allocator.h"
#include "base/error.h"
#include "dir/leaf.h"
#include "dir/tree.h"
#include "format/format.h"

namespace udax::dir {

class TreeEditor {
 public:
  TreeEditor(alloc::BlockTx& tx, format::Inode& inode, alloc::Purpose purpose)
      : tx_(tx), inode_(inode), purpose_(purpose), source_(tx.tx(), inode) {}

  /// Gives a directory without blocks its first leaf.
  [[nodiscard]] Status plant();

  /// Splits the leaf of `path` so that a name of `hash` that takes `need` bytes has a better chance to fit: after
  /// two splits at most it fits. kNoSpace: all names, that one included, have one hash.
  [[nodiscard]] Status split_leaf(const Path& path, uint64_t hash, uint32_t need);

  /// To be called when a name was removed from the leaf of `path`, and the root's entry_count lowered.
  [[nodiscard]] Status tidy(const Path& path);

  /// The leaf at `b` to be changed: header_holds().
  [[nodiscard]] Result<LeafEdit> edit_leaf(DeviceBlock b);

 private:
  // A block of this directory, new or dropped; the inode's counts follow.
  [[nodiscard]] Result<DeviceBlock> allocate(DeviceBlock goal);
  [[nodiscard]] Result<LeafEdit> create_leaf(DeviceBlock b);
  [[nodiscard]] Result<format::TreeNode*> create_node(DeviceBlock b, uint32_t level);
  [[nodiscard]] Status drop(DeviceBlock b);

  // The node of a step to be changed, all its keys checked.
  [[nodiscard]] Result<format::TreeNode*> edit_node(const Step& step);
  // Enters `child`, which holds what is from `key` on, behind the block at `depth` of the path.
  [[nodiscard]] Status add_sibling(const Path& path, uint32_t depth, uint64_t key, DeviceBlock child);
  [[nodiscard]] Status add_root(uint64_t key, DeviceBlock child);

  // Takes the empty leaf of `path` out, and the nodes that it leaves empty. Gives the depth of the node that lost
  // an entry, or kTreeGone.
  static constexpr uint32_t kTreeGone = ~0U;
  [[nodiscard]] Result<uint32_t> unlink_leaf(const Path& path);
  [[nodiscard]] Status lower_first_keys(DeviceBlock b, uint32_t level, uint64_t key);
  // Merges the block at `depth` of the path with a neighbour if they are sparse; true if so.
  [[nodiscard]] Result<bool> merge(const Path& path, uint32_t depth);
  [[nodiscard]] Result<bool> merge_leaves(const Step& up, const format::TreeNode& parent, uint32_t left);
  [[nodiscard]] Result<bool> merge_nodes(const Step& up, const format::TreeNode& parent, uint32_t left);
  [[nodiscard]] Status collapse_root();

  alloc::BlockTx& tx_;
  format::Inode& inode_;
  alloc::Purpose purpose_;
  Source source_;
};

}  // namespace udax::dir
