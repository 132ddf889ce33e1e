// SPDX-License-Identifier: BSD-3-Clause
//
// Ways through a directory's tree: from the root to the leaf of a hash, and on to the next leaf.
//
// Invariants of a good tree
// - A child's level is its parent's minus 1; leaves are level 0; the root's is below kTreeLevelsMax.
// - Keys of a node are strictly ascending and within the range that its parent gives it: child i holds
//   [key i, key i + 1). A node's first key is the low end of its range; the root's is 0.
// - No node and no leaf is empty.
//
// Each step checks what it relies on. Together the checks bound any walk: ranges of what is visited are disjoint
// and ascending, and a block that fits one range fits no other, so that a walk over hostile media sees no block
// twice.
#pragma once

#include <array>
#include <cstdint>

#include "base/error.h"
#include "dir/leaf.h"
#include "dir/name.h"
#include "format/format.h"
#include "journal/tx.h"

namespace udax::dir {

[[nodiscard]] format::DirRoot load_root(const format::Inode& inode);
void store_root(format::Inode& inode, const format::DirRoot& root);

/// Where the blocks of one directory are read: the medium, or a transaction over it.
class Source {
 public:
  Source(const journal::MetaStore& meta, const format::Inode& inode) : meta_(meta), owner_(inode.ino) {}
  Source(const journal::Tx& tx, const format::Inode& inode) : meta_(tx.meta()), tx_(&tx), owner_(inode.ino) {}

  /// The inner node at `b`, its count within bounds and not 0, its level right.
  [[nodiscard]] Result<const format::TreeNode*> node(DeviceBlock b, uint32_t level) const;
  /// The leaf at `b`: header_holds().
  [[nodiscard]] Result<LeafView> leaf(DeviceBlock b) const;

  /// See MetaStore::corrupted.
  [[nodiscard]] Error corrupted(const char* what, DeviceBlock b) const;
  [[nodiscard]] uint64_t owner() const { return owner_; }

 private:
  [[nodiscard]] Result<const std::byte*> read(DeviceBlock b, format::BlockKind kind) const;

  const journal::MetaStore& meta_;
  const journal::Tx* tx_ = nullptr;
  uint64_t owner_;
};

/// A node on the way, and which of its children the way takes.
struct Step {
  DeviceBlock block;
  const format::TreeNode* node = nullptr;  // as of the walk: a change to the block is not seen through it
  uint32_t level = 0;
  uint32_t index = 0;
  HashRange range;
};

struct Path {
  std::array<Step, format::kTreeLevelsMax> steps;  // from the root
  uint32_t depth = 0;                              // steps in use: nodes above the leaf
  DeviceBlock leaf;
  HashRange leaf_range;
};

/// What child `index` of a node may hold.
[[nodiscard]] HashRange child_range(const format::TreeNode& node, uint32_t index, HashRange range);

/// True if all keys of the node are as the invariants say. REQUIRES: its count is within bounds and not 0.
[[nodiscard]] bool keys_hold(const format::TreeNode& node, HashRange range);

/// The way to the leaf that holds, or would hold, `hash`. False: the directory has no blocks. kCorrupted.
[[nodiscard]] Result<bool> find_leaf(const Source& source, const format::Inode& inode, uint64_t hash, Path& path);

/// The way to the leaf after that of `path`. False: that was the last. kCorrupted.
[[nodiscard]] Result<bool> next_leaf(const Source& source, Path& path);

}  // namespace udax::dir
