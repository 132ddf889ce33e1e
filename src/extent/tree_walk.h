// SPDX-License-Identifier: BSD-3-Clause
//
// Going down a map to a leaf, and from leaf to leaf: over the committed blocks (Reader) or over a transaction's
// shadows (Editor). The two differ in their Source only.
//
// A walk keeps pointers into nodes: it is good until something of the map changes. It allocates nothing.
#pragma once

#include <algorithm>
#include <cstddef>

#include "alloc/block_allocator.h"
#include "extent/node.h"
#include "extent/root.h"
#include "journal/meta_store.h"

namespace udax::extent {

/// Nodes as they are on the medium.
class CommittedSource {
 public:
  CommittedSource(const journal::MetaStore& meta, uint64_t owner) : meta_(meta), owner_(owner) {}
  [[nodiscard]] Result<const std::byte*> read(DeviceBlock b) const {
    return meta_.read(b, format::kKindExtentNode, owner_);
  }
  [[nodiscard]] const journal::MetaStore& meta() const { return meta_; }

 private:
  const journal::MetaStore& meta_;
  uint64_t owner_;
};

/// Nodes as the transaction has them.
class ShadowSource {
 public:
  ShadowSource(const alloc::BlockTx& tx, uint64_t owner) : tx_(tx), owner_(owner) {}
  [[nodiscard]] Result<const std::byte*> read(DeviceBlock b) const {
    return tx_.tx().read_block(b, format::kKindExtentNode, owner_);
  }
  [[nodiscard]] const journal::MetaStore& meta() const { return tx_.meta(); }

 private:
  const alloc::BlockTx& tx_;
  uint64_t owner_;
};

/// How much of a node is checked when it is read.
enum class Check : uint8_t {
  kTouched,  // what the search goes by
  kWhole,    // all of it; before it is edited
};

template <typename Source>
class TreeWalk {
 public:
  struct Step {
    DeviceBlock block;
    NodeView view;
    uint32_t slot = 0;  // of the child that the walk went to
  };

  TreeWalk(const Source& source, const format::Inode& inode, Check check = Check::kTouched)
      : source_(source), inode_(inode), check_(check) {}

  /// Goes to the leaf that holds, or would hold, `at`. An empty map is a leaf without extents.
  /// REQUIRES: at < kFileBlockEnd.
  [[nodiscard]] Result<LeafView> seek(uint64_t at) {
    UDAX_TRY(root_, read_root(source_.meta(), inode_));
    if (root_.is_tree) return descend(root_.block, root_.level, KeyRange{}, at);
    if (root_.inline_count > 0) read_inline(inode_, root_.inline_count, inline_);
    LeafView leaf{inline_, root_.inline_count, KeyRange{}};
    if (check_ == Check::kWhole && !leaf.is_sound(source_.meta().geometry())) {
      return source_.meta().corrupted("inline extents", inode_.ino);
    }
    return leaf;
  }

  /// Goes on to the next leaf. REQUIRES: the last leaf's keys.high < kFileBlockEnd.
  [[nodiscard]] Result<LeafView> next() {
    for (uint32_t level = 1; root_.is_tree && level <= root_.level; ++level) {
      Step& s = steps_[level];
      if (s.slot + 1 >= s.view.count) continue;
      ++s.slot;
      if (!s.view.is_sound_at(s.slot)) return broken("order of extent node", s.block);
      const KeyRange keys = s.view.child_keys(s.slot);
      return descend(s.view.child(s.slot), level - 1, keys, keys.low);
    }
    return source_.meta().corrupted("extent tree ends early", inode_.ino);
  }

  [[nodiscard]] const Root& root() const { return root_; }
  [[nodiscard]] DeviceBlock leaf_block() const { return leaf_block_; }
  /// The inner node passed at `level`, 1... root().level.
  [[nodiscard]] const Step& step(uint32_t level) const { return steps_[level]; }

  [[nodiscard]] Result<Run> load(const LeafView& leaf, uint32_t slot) const {
    Run run;
    if (!leaf.load(slot, source_.meta().geometry(), &run)) return broken("extent", leaf_block_);
    return run;
  }
  [[nodiscard]] Error broken(const char* what, DeviceBlock where) const {
    return source_.meta().corrupted(what, root_.is_tree ? where.value : inode_.ino.get());
  }

 private:
  [[nodiscard]] Result<LeafView> descend(DeviceBlock block, uint32_t level, KeyRange keys, uint64_t at) {
    for (; level > 0; --level) {
      UDAX_TRY(const std::byte* bytes, source_.read(block));
      const auto* node = reinterpret_cast<const format::TreeNode*>(bytes);
      if (!is_header_sound(node->header, level)) return broken("header of extent node", block);
      Step& s = steps_[level];
      s.block = block;
      s.view = NodeView{node, node->header.count, keys};
      s.slot = s.view.find(at);
      if (!(check_ == Check::kWhole ? s.view.is_sound() : s.view.is_sound_at(s.slot))) {
        return broken("order of extent node", block);
      }
      keys = s.view.child_keys(s.slot);
      block = s.view.child(s.slot);
    }
    UDAX_TRY(const std::byte* bytes, source_.read(block));
    const auto* node = reinterpret_cast<const format::ExtentLeaf*>(bytes);
    if (!is_header_sound(node->header, 0)) return broken("header of extent leaf", block);
    leaf_block_ = block;
    const LeafView leaf{node->extents, node->header.count, keys};
    if (check_ == Check::kWhole && !leaf.is_sound(source_.meta().geometry())) {
      return broken("order of extent leaf", block);
    }
    return leaf;
  }

  const Source& source_;
  const format::Inode& inode_;
  const Check check_;
  Root root_;
  DeviceBlock leaf_block_;
  Step steps_[format::kTreeLevelsMax];
  format::Extent inline_[format::kInlineExtents];
};

/// Reader::lookup and Editor::lookup.
template <typename Source>
[[nodiscard]] Result<Mapping> lookup_in(const Source& source, const format::Inode& inode, FileBlock at,
                                        uint64_t count_max) {
  if (count_max == 0 || at >= kFileBlockEnd) return Error::kInvalid;
  TreeWalk<Source> walk(source, inode);
  UDAX_TRY(LeafView leaf, walk.seek(at.value));
  const uint32_t slot = leaf.upper_bound(at.value);
  if (slot > 0) {
    UDAX_TRY(const Run run, walk.load(leaf, slot - 1));
    if (slot < leaf.count && leaf.extents[slot].file_block < run.end()) {
      return walk.broken("overlap of extents", walk.leaf_block());
    }
    if (at.value < run.end()) {
      const uint64_t skip = at.value - run.file;
      return Mapping{at, std::min(run.count - skip, count_max), DeviceBlock(run.device + skip), run.unwritten};
    }
  }
  uint64_t hole_end = leaf.keys.high;
  if (slot < leaf.count) {
    UDAX_TRY(const Run run, walk.load(leaf, slot));
    if (run.file <= at.value) return walk.broken("order of extent leaf", walk.leaf_block());
    hole_end = run.file;
  } else if (hole_end - at.value < count_max && hole_end < kFileBlockEnd.value) {
    UDAX_TRY(leaf, walk.next());
    UDAX_TRY(const Run run, walk.load(leaf, 0));
    hole_end = run.file;
  }
  return Mapping{at, std::min(hole_end - at.value, count_max), kNoBlock, false};
}

}  // namespace udax::extent
