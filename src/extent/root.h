// SPDX-License-Identifier: BSD-3-Clause
//
// The root of a map: Inode::payload, as one of its three forms.
#pragma once

#include <cstdint>
#include <span>

#include "base/error.h"
#include "extent/node.h"
#include "format/format.h"
#include "journal/meta_store.h"

namespace udax::extent {

struct Root {
  bool is_tree = false;
  uint32_t inline_count = 0;  // extents in the inode; 0: empty, or a tree
  DeviceBlock block;          // of the root node, if a tree
  uint32_t level = 0;         // of the root node, if a tree; below kTreeLevelsMax
};

/// kCorrupted: the payload is of another kind, or its numbers are impossible.
[[nodiscard]] Result<Root> read_root(const journal::MetaStore& meta, const format::Inode& inode);

/// Copies the `count` inline extents out of the payload (they are not aligned objects there).
void read_inline(const format::Inode& inode, uint32_t count, format::Extent (&out)[format::kInlineExtents]);

/// Makes `extents` (at most kInlineExtents, or none) the whole map.
void write_inline(format::Inode& inode, std::span<const format::Extent> extents);
/// Makes the tree under `block` the whole map.
void write_tree(format::Inode& inode, DeviceBlock block, uint32_t level);

}  // namespace udax::extent
