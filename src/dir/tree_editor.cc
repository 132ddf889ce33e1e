// SPDX-License-Identifier: BSD-3-Clause
#include "dir/tree_editor.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace udax::dir {
namespace {

constexpr uint32_t kMergeBytesMax = kLeafSpace * 2 / 5;
constexpr uint32_t kMergeEntriesMax = format::kEntriesPerNode * 2 / 5;

void insert_entry(format::TreeNode& node, uint32_t at, uint64_t key, DeviceBlock child) {
  const uint32_t count = node.header.count;
  UDAX_ASSERT(at <= count && count < format::kEntriesPerNode);
  std::memmove(&node.entries[at + 1], &node.entries[at], (count - at) * sizeof(format::TreeEntry));
  node.entries[at].key = key;
  node.entries[at].child = child.value;
  node.header.count = static_cast<uint16_t>(count + 1);
}

void remove_entry(format::TreeNode& node, uint32_t at) {
  const uint32_t count = node.header.count;
  UDAX_ASSERT(at < count);
  std::memmove(&node.entries[at], &node.entries[at + 1], (count - at - 1) * sizeof(format::TreeEntry));
  node.header.count = static_cast<uint16_t>(count - 1);
}

// The hash at which to cut a leaf in two, the name to be added counted in: at a change of hash, where the fuller
// part is least full. 0: all have one hash.
uint64_t choose_cut(const LeafView& leaf, uint64_t hash, uint32_t need) {
  SortedSlots sorted;
  leaf.sort_into(sorted, 0);
  const uint32_t total = leaf.live_bytes() + need;
  uint64_t best_key = 0;
  uint32_t best_fill = total;
  uint64_t before = 0;
  uint32_t lower = 0;  // bytes below the cut
  bool added = false;
  const auto step = [&](uint64_t next_hash, uint32_t bytes) {
    const uint32_t fill = std::max(lower, total - lower);
    if (lower > 0 && next_hash != before && fill < best_fill) {
      best_fill = fill;
      best_key = next_hash;
    }
    before = next_hash;
    lower += bytes;
  };
  for (uint32_t i = 0; i < sorted.count; ++i) {
    const HashedSlot& item = sorted.items[i];
    if (!added && hash < item.hash) {
      step(hash, need);
      added = true;
    }
    step(item.hash, static_cast<uint32_t>(sizeof(format::DirSlot)) + leaf.slot(item.index).length);
  }
  if (!added) step(hash, need);
  return best_key;
}

}  // namespace

Result<DeviceBlock> TreeEditor::allocate(DeviceBlock goal) {
  UDAX_TRY(const DeviceBlock b, tx_.allocate_block(purpose_, goal));
  inode_.size = inode_.size + kBlockSize;
  inode_.block_count = inode_.block_count + 1;
  return b;
}

Result<LeafEdit> TreeEditor::create_leaf(DeviceBlock b) {
  UDAX_TRY(std::byte* const image, tx_.tx().create_block(b, format::kKindDirLeaf, source_.owner()));
  LeafEdit leaf(image);
  leaf.clear();
  return leaf;
}

Result<format::TreeNode*> TreeEditor::create_node(DeviceBlock b, uint32_t level) {
  UDAX_TRY(std::byte* const image, tx_.tx().create_block(b, format::kKindDirNode, source_.owner()));
  auto* node = reinterpret_cast<format::TreeNode*>(image);
  node->header.level = static_cast<uint16_t>(level);
  return node;
}

Status TreeEditor::drop(DeviceBlock b) {
  if (inode_.size < kBlockSize || inode_.block_count == 0) {
    return source_.corrupted("directory: fewer blocks counted than there are", b);
  }
  UDAX_CHECK(tx_.free_metadata(b));
  inode_.size = inode_.size - kBlockSize;
  inode_.block_count = inode_.block_count - 1;
  return {};
}

Result<LeafEdit> TreeEditor::edit_leaf(DeviceBlock b) {
  UDAX_TRY(std::byte* const image, tx_.tx().edit_block(b, format::kKindDirLeaf, source_.owner()));
  UDAX_CHECK(source_.leaf(b));  // checks the shadow: nothing changes it behind our back
  return LeafEdit(image);
}

Result<format::TreeNode*> TreeEditor::edit_node(const Step& step) {
  UDAX_TRY(std::byte* const image, tx_.tx().edit_block(step.block, format::kKindDirNode, source_.owner()));
  UDAX_TRY(const format::TreeNode* node, source_.node(step.block, step.level));  // the shadow
  if (!keys_hold(*node, step.range)) return source_.corrupted("directory node: keys", step.block);
  return reinterpret_cast<format::TreeNode*>(image);
}

Status TreeEditor::plant() {
  UDAX_TRY(const DeviceBlock b, allocate(kNoBlock));
  UDAX_CHECK(create_leaf(b));
  format::DirRoot root = load_root(inode_);
  if (root.entry_count != 0) return source_.corrupted("directory: names counted, none there", kNoBlock);
  root.block = b.value;
  root.level = 0;
  store_root(inode_, root);
  return {};
}

Status TreeEditor::split_leaf(const Path& path, uint64_t hash, uint32_t need) {
  UDAX_TRY(LeafEdit lower, edit_leaf(path.leaf));
  if (!lower.holds(path.leaf_range)) return source_.corrupted("directory leaf: contents", path.leaf);
  const uint64_t key = choose_cut(lower, hash, need);
  if (key == 0) return Error::kNoSpace;
  UDAX_TRY(const DeviceBlock b, allocate(path.leaf + 1));
  UDAX_TRY(LeafEdit upper, create_leaf(b));

  const BlockCopy old(lower.image());
  const LeafView all(old.bytes.data());
  lower.clear();
  for (uint32_t i = 0; i < all.count(); ++i) {
    const format::DirSlot s = all.slot(i);
    (s.hash < key ? lower : upper).append(s.hash, all.name(s), all.dentry(s));
  }
  return add_sibling(path, path.depth, key, b);
}

Status TreeEditor::add_sibling(const Path& path, uint32_t depth, uint64_t key, DeviceBlock child) {
  for (; depth > 0; --depth) {
    const Step& up = path.steps[depth - 1];
    UDAX_TRY(format::TreeNode* const node, edit_node(up));
    const uint32_t at = up.index + 1;
    const uint32_t count = node->header.count;
    if (count < format::kEntriesPerNode) {
      insert_entry(*node, at, key, child);
      return {};
    }
    const uint32_t half = count / 2;
    UDAX_TRY(const DeviceBlock b, allocate(up.block + 1));
    UDAX_TRY(format::TreeNode* const upper, create_node(b, up.level));
    std::memcpy(upper->entries, &node->entries[half], (count - half) * sizeof(format::TreeEntry));
    upper->header.count = static_cast<uint16_t>(count - half);
    node->header.count = static_cast<uint16_t>(half);  // what is above stays as it is: nothing to journal
    if (at <= half) {
      insert_entry(*node, at, key, child);
    } else {
      insert_entry(*upper, at - half, key, child);
    }
    key = upper->entries[0].key;
    child = b;
  }
  return add_root(key, child);
}

Status TreeEditor::add_root(uint64_t key, DeviceBlock child) {
  format::DirRoot root = load_root(inode_);
  const uint32_t level = root.level + 1;
  if (level >= format::kTreeLevelsMax) return Error::kNoSpace;
  UDAX_TRY(const DeviceBlock b, allocate(DeviceBlock(root.block) + 1));
  UDAX_TRY(format::TreeNode* const node, create_node(b, level));
  insert_entry(*node, 0, 0, DeviceBlock(root.block));
  insert_entry(*node, 1, key, child);
  root.block = b.value;
  root.level = level;
  store_root(inode_, root);
  return {};
}

Status TreeEditor::tidy(const Path& path) {
  UDAX_TRY(const LeafView leaf, source_.leaf(path.leaf));
  uint32_t depth = path.depth;
  bool changed = false;
  if (leaf.count() == 0) {
    UDAX_TRY(depth, unlink_leaf(path));
    if (depth == kTreeGone) return {};
    changed = true;
  } else if (leaf.live_bytes() > kMergeBytesMax) {
    return {};
  }
  for (; depth > 0; --depth) {
    UDAX_TRY(const bool merged, merge(path, depth));
    if (!merged) break;
    changed = true;
  }
  return changed ? collapse_root() : Status();
}

Result<uint32_t> TreeEditor::unlink_leaf(const Path& path) {
  uint32_t depth = path.depth;
  for (DeviceBlock empty = path.leaf;;) {
    UDAX_CHECK(drop(empty));
    if (depth == 0) break;
    const Step& up = path.steps[--depth];
    UDAX_TRY(const format::TreeNode* present, source_.node(up.block, up.level));
    if (present->header.count == 1) {
      empty = up.block;
      continue;
    }
    UDAX_TRY(format::TreeNode* const node, edit_node(up));
    const uint64_t key = node->entries[up.index].key;
    remove_entry(*node, up.index);
    if (up.index == 0) {
      // The second child becomes the first, and takes the range over.
      node->entries[0].key = key;
      UDAX_CHECK(lower_first_keys(DeviceBlock(node->entries[0].child), up.level - 1, key));
    }
    return depth;
  }
  format::DirRoot root = load_root(inode_);
  if (root.entry_count != 0) return source_.corrupted("directory: names counted, none left", path.leaf);
  root = format::DirRoot{};
  store_root(inode_, root);
  return kTreeGone;
}

Status TreeEditor::lower_first_keys(DeviceBlock b, uint32_t level, uint64_t key) {
  for (; level > 0; --level) {
    UDAX_CHECK(source_.node(b, level));
    UDAX_TRY(std::byte* const image, tx_.tx().edit_block(b, format::kKindDirNode, source_.owner()));
    auto* node = reinterpret_cast<format::TreeNode*>(image);
    if (node->entries[0].key < key) return source_.corrupted("directory node: first key", b);
    node->entries[0].key = key;
    b = DeviceBlock(node->entries[0].child);
  }
  return {};
}

Result<bool> TreeEditor::merge(const Path& path, uint32_t depth) {
  const Step& up = path.steps[depth - 1];
  UDAX_TRY(const format::TreeNode* parent, source_.node(up.block, up.level));
  const uint32_t count = parent->header.count;
  // With the neighbour above, then with the one below.
  for (const uint32_t left : {up.index, up.index - 1}) {
    if (left >= count || left + 1 >= count) continue;
    UDAX_TRY(const bool merged, up.level == 1 ? merge_leaves(up, *parent, left) : merge_nodes(up, *parent, left));
    if (merged) return true;
  }
  return false;
}

Result<bool> TreeEditor::merge_leaves(const Step& up, const format::TreeNode& parent, uint32_t left) {
  const DeviceBlock keep(parent.entries[left].child);
  const DeviceBlock gone(parent.entries[left + 1].child);
  UDAX_TRY(const LeafView lower, source_.leaf(keep));
  UDAX_TRY(const LeafView upper, source_.leaf(gone));
  if (lower.live_bytes() + upper.live_bytes() > kMergeBytesMax) return false;
  if (keep == gone || !lower.holds(child_range(parent, left, up.range)) ||
      !upper.holds(child_range(parent, left + 1, up.range))) {
    return source_.corrupted("directory leaf: contents", keep);
  }
  const BlockCopy copy(upper.image());  // freeing drops the shadow
  const LeafView moved(copy.bytes.data());
  const Status dropped = drop(gone);
  if (!dropped) {
    // Too many groups for one transaction: merging can wait.
    if (dropped.error() == Error::kAgain) return false;
    return dropped.error();
  }
  UDAX_TRY(LeafEdit grown, edit_leaf(keep));
  if (grown.gap() < moved.live_bytes()) grown.compact();
  grown.append_all(moved);
  UDAX_TRY(format::TreeNode* const node, edit_node(up));
  remove_entry(*node, left + 1);
  return true;
}

Result<bool> TreeEditor::merge_nodes(const Step& up, const format::TreeNode& parent, uint32_t left) {
  const DeviceBlock keep(parent.entries[left].child);
  const DeviceBlock gone(parent.entries[left + 1].child);
  const uint32_t level = up.level - 1;
  UDAX_TRY(const format::TreeNode* lower, source_.node(keep, level));
  UDAX_TRY(const format::TreeNode* upper, source_.node(gone, level));
  const uint32_t count = lower->header.count;
  const uint32_t more = upper->header.count;
  if (count + more > kMergeEntriesMax) return false;
  if (keep == gone || !keys_hold(*lower, child_range(parent, left, up.range)) ||
      !keys_hold(*upper, child_range(parent, left + 1, up.range))) {
    return source_.corrupted("directory node: keys", keep);
  }
  const BlockCopy copy(reinterpret_cast<const std::byte*>(upper));
  const Status dropped = drop(gone);
  if (!dropped) {
    if (dropped.error() == Error::kAgain) return false;
    return dropped.error();
  }
  UDAX_TRY(std::byte* const image, tx_.tx().edit_block(keep, format::kKindDirNode, source_.owner()));
  auto* grown = reinterpret_cast<format::TreeNode*>(image);
  const auto* moved = reinterpret_cast<const format::TreeNode*>(copy.bytes.data());
  std::memcpy(&grown->entries[count], moved->entries, more * sizeof(format::TreeEntry));
  grown->header.count = static_cast<uint16_t>(count + more);
  UDAX_TRY(format::TreeNode* const node, edit_node(up));
  remove_entry(*node, left + 1);
  return true;
}

Status TreeEditor::collapse_root() {
  format::DirRoot root = load_root(inode_);
  while (root.level > 0) {
    const DeviceBlock b(root.block);
    UDAX_TRY(const format::TreeNode* node, source_.node(b, root.level));
    if (node->header.count > 1) break;
    root.block = node->entries[0].child;
    root.level = root.level - 1;
    UDAX_CHECK(drop(b));
  }
  store_root(inode_, root);
  return {};
}

}  // namespace udax::dir
