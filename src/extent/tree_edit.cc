// SPDX-License-Identifier: BSD-3-Clause
#include "extent/tree_edit.h"

#include <algorithm>
#include <cstring>

namespace udax::extent {

Status TreeEdit::seek(uint64_t at) {
  UDAX_TRY(leaf_, walk_.seek(at));
  groups_.set_path(walk_.root().is_tree ? walk_.root().level + 1 : 0);
  return {};
}

Result<uint64_t> TreeEdit::next_leaf_start() {
  if (leaf_.keys.high >= kFileBlockEnd.value) return kFileBlockEnd.value;
  UDAX_TRY(const LeafView next, walk_.next());
  return decode(next.extents[0]).file;
}

Status TreeEdit::raise_high(uint64_t high) {
  // The range ends where an entry of some node above starts the next child: that key moves, and with it the first
  // keys on the way down to the next leaf.
  uint32_t level = 1;
  while (level <= walk_.root().level && walk_.step(level).slot + 1 >= walk_.step(level).view.count) ++level;
  UDAX_ASSERT(walk_.root().is_tree && level <= walk_.root().level);
  UDAX_TRY(format::TreeNode * node, edit_node(walk_.step(level).block));
  format::TreeEntry& entry = node->entries[walk_.step(level).slot + 1];
  entry.key = high;
  DeviceBlock child(entry.child);
  for (uint32_t below = level - 1; below > 0; --below) {
    UDAX_TRY(format::TreeNode * first, edit_node(child));
    if (!is_header_sound(first->header, below)) return walk_.broken("header of extent node", child);
    first->entries[0].key = high;
    child = DeviceBlock(first->entries[0].child);
  }
  return {};
}

Status TreeEdit::splice(uint32_t first, uint32_t last, std::span<const Run> pieces) {
  UDAX_ASSERT(pieces.size() <= kPiecesMax && first <= last && last <= leaf_.count);
  Run runs[kPiecesMax + 2];
  uint32_t count = 0;
  if (first > 0) runs[count++] = run(--first);
  for (const Run& piece : pieces) runs[count++] = piece;
  if (last < leaf_.count) runs[count++] = run(last++);
  count = join_runs(runs, count);
  const std::span<const Run> joined(runs, count);

  const uint32_t before = leaf_.count;
  const uint32_t after = before - (last - first) + count;
  const uint32_t capacity = walk_.root().is_tree ? format::kExtentsPerLeaf : format::kInlineExtents;
  if (after > capacity) return grow(first, last, joined);
  if (after == 0) return before == 0 ? Status{} : erase_leaf();
  UDAX_CHECK(fill_leaf(first, last, joined));
  if (after < before && walk_.root().is_tree) return settle(0);
  return {};
}

Status TreeEdit::fill_leaf(uint32_t first, uint32_t last, std::span<const Run> runs) {
  const uint32_t count = leaf_.count;
  const auto added = static_cast<uint32_t>(runs.size());
  const uint32_t after = count - (last - first) + added;
  format::Extent inline_slots[format::kInlineExtents];
  format::Extent* slots = inline_slots;
  if (walk_.root().is_tree) {
    UDAX_TRY(format::ExtentLeaf * leaf, edit_leaf(walk_.leaf_block()));
    leaf->header.count = static_cast<uint16_t>(after);
    slots = leaf->extents;
  } else if (count > 0) {
    read_inline(inode_, count, inline_slots);
  }
  if (last < count && first + added != last) {
    std::memmove(slots + first + added, slots + last, (count - last) * sizeof(format::Extent));
  }
  for (uint32_t i = 0; i < added; ++i) slots[first + i] = encode(runs[i]);
  if (!walk_.root().is_tree) write_inline(inode_, {inline_slots, after});
  return {};
}

Result<uint64_t> TreeEdit::free_data(DeviceBlock start, uint64_t count) {
  uint64_t left = count;
  // Group by group, so that a run that takes more groups than a transaction has is freed as far as it goes.
  while (left > 0) {
    const uint64_t group = GroupBudget::group_of(start + (left - 1));
    const DeviceBlock from = std::max(start, DeviceBlock(group * format::kGroupBlocks));
    if (!groups_.admits(group)) break;
    if (!groups_.is_fresh() && tx_.nearly_full()) break;
    const Status freed = tx_.free({from, start + left - from});
    if (!freed) {
      if (freed.error() == Error::kAgain) break;
      return freed.error();
    }
    groups_.note(group);
    left = from - start;
  }
  UDAX_CHECK(count_freed(count - left));
  return count - left;
}

Result<format::ExtentLeaf*> TreeEdit::edit_leaf(DeviceBlock b) {
  UDAX_TRY(std::byte * bytes, tx_.tx().edit_block(b, format::kKindExtentNode, inode_.ino));
  return reinterpret_cast<format::ExtentLeaf*>(bytes);
}

Result<format::TreeNode*> TreeEdit::edit_node(DeviceBlock b) {
  UDAX_TRY(std::byte * bytes, tx_.tx().edit_block(b, format::kKindExtentNode, inode_.ino));
  return reinterpret_cast<format::TreeNode*>(bytes);
}

Result<DeviceBlock> TreeEdit::make_node(uint32_t level, DeviceBlock goal, std::byte** bytes) {
  UDAX_TRY(const DeviceBlock b, tx_.allocate_block(purpose_, goal));
  UDAX_TRY(*bytes, tx_.tx().create_block(b, format::kKindExtentNode, inode_.ino));
  reinterpret_cast<format::BlockHeader*>(*bytes)->level = static_cast<uint16_t>(level);
  groups_.note(GroupBudget::group_of(b));
  inode_.block_count = inode_.block_count + 1;
  return b;
}

Status TreeEdit::free_node(DeviceBlock b) {
  UDAX_CHECK(tx_.free_metadata(b));
  groups_.note(GroupBudget::group_of(b));
  return count_freed(1);
}

Status TreeEdit::count_freed(uint64_t blocks) {
  if (inode_.block_count < blocks) return source_.meta().corrupted("block count of inode", inode_.ino);
  inode_.block_count = inode_.block_count - blocks;
  return {};
}

}  // namespace udax::extent
