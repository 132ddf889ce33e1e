// SPDX-License-Identifier: BSD-3-Clause
//
// One node of an extent tree, or the extents in an inode: what is checked before anything in it is believed.
//
// A node's checksum says only that somebody sealed it. Hence: whoever uses an entry checks that entry against the
// range of keys that its parent allows the node, and against its neighbours; an editor checks the whole node.
// A leaf that keeps to its range cannot be hung under two parents, which also bounds every walk.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "extent/extent_map.h"
#include "format/format.h"
#include "media/superblock.h"

namespace udax::extent {

/// The file blocks that a node may speak of: [low, high).
struct KeyRange {
  uint64_t low = 0;
  uint64_t high = kFileBlockEnd.value;
};

/// An extent in native types.
struct Run {
  uint64_t file = 0;
  uint64_t device = 0;
  uint64_t count = 0;  // blocks
  bool unwritten = false;

  [[nodiscard]] uint64_t end() const { return file + count; }
  /// The part [from, to) of it. REQUIRES: file <= from <= to <= end().
  [[nodiscard]] Run part(uint64_t from, uint64_t to) const {
    return {from, device + (from - file), to - from, unwritten};
  }
  /// True if `next` continues this in file, device and state, and both fit one extent.
  [[nodiscard]] bool joins(const Run& next) const {
    return next.file == end() && next.device == device + count && next.unwritten == unwritten &&
           count + next.count <= format::kExtentBlocksMax;
  }
};

[[nodiscard]] inline format::Extent encode(const Run& run) {
  format::Extent e;
  e.file_block = run.file;
  e.device_block = run.device;
  e.count = static_cast<uint32_t>(run.count);
  e.flags = run.unwritten ? format::kExtentUnwritten : 0;
  return e;
}

/// REQUIRES: checked before (see LeafView::load).
[[nodiscard]] inline Run decode(const format::Extent& e) {
  return {e.file_block, e.device_block, e.count, (e.flags & format::kExtentUnwritten) != 0};
}

/// The extents of a leaf, or of an inode that holds them inline. The memory belongs to whom it came from.
struct LeafView {
  const format::Extent* extents = nullptr;
  uint32_t count = 0;
  KeyRange keys;

  /// Slots whose extent starts at or before `at`.
  [[nodiscard]] uint32_t upper_bound(uint64_t at) const;
  /// The extent in `slot`; false if it is not one that may stand in this leaf.
  [[nodiscard]] bool load(uint32_t slot, const media::Geometry& geometry, Run* out) const;
  /// True if all of it is sound: each extent, their order, no overlaps.
  [[nodiscard]] bool is_sound(const media::Geometry& geometry) const;
};

/// An inner node.
struct NodeView {
  const format::TreeNode* node = nullptr;
  uint32_t count = 0;
  KeyRange keys;

  /// The entry whose child holds `at`. The first entry's key counts as keys.low.
  [[nodiscard]] uint32_t find(uint64_t at) const;
  /// The range of the child in `slot`.
  [[nodiscard]] KeyRange child_keys(uint32_t slot) const;
  [[nodiscard]] DeviceBlock child(uint32_t slot) const { return DeviceBlock(node->entries[slot].child); }
  /// True if the entries around `slot` are in order and within the range.
  [[nodiscard]] bool is_sound_at(uint32_t slot) const;
  /// True if all are.
  [[nodiscard]] bool is_sound() const;
};

/// True if the header's level is `level` and its count possible for it. REQUIRES: level < kTreeLevelsMax.
[[nodiscard]] bool is_header_sound(const format::BlockHeader& header, uint32_t level);

/// Joins neighbours in `runs` that continue each other; gives how many are left.
[[nodiscard]] uint32_t join_runs(Run* runs, uint32_t count);

}  // namespace udax::extent
