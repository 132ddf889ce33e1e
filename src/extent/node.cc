// SPDX-License-Identifier: BSD-3-Clause
#include "extent/node.h"

namespace udax::extent {

uint32_t LeafView::upper_bound(uint64_t at) const {
  // Appends and sequential reads end up past the last extent's start.
  if (count > 0 && extents[count - 1].file_block <= at) return count;
  uint32_t first = 0;
  uint32_t size = count;
  while (size > 0) {
    const uint32_t half = size / 2;
    if (extents[first + half].file_block <= at) {
      first += half + 1;
      size -= half + 1;
    } else {
      size = half;
    }
  }
  return first;
}

bool LeafView::load(uint32_t slot, const media::Geometry& geometry, Run* out) const {
  const format::Extent& e = extents[slot];
  const uint32_t flags = e.flags;
  const Run run{e.file_block, e.device_block, e.count, (flags & format::kExtentUnwritten) != 0};
  if (run.count == 0 || run.count > format::kExtentBlocksMax) return false;
  if ((flags & ~format::kExtentUnwritten) != 0) return false;
  if (run.file < keys.low || run.file >= keys.high || run.count > keys.high - run.file) return false;
  if (!geometry.is_data(DeviceBlock(run.device), run.count)) return false;
  *out = run;
  return true;
}

bool LeafView::is_sound(const media::Geometry& geometry) const {
  uint64_t end = keys.low;
  for (uint32_t slot = 0; slot < count; ++slot) {
    Run run;
    if (!load(slot, geometry, &run) || run.file < end) return false;
    end = run.end();
  }
  return true;
}

uint32_t NodeView::find(uint64_t at) const {
  uint32_t first = 1;
  uint32_t size = count - 1;
  while (size > 0) {
    const uint32_t half = size / 2;
    if (node->entries[first + half].key <= at) {
      first += half + 1;
      size -= half + 1;
    } else {
      size = half;
    }
  }
  return first - 1;
}

KeyRange NodeView::child_keys(uint32_t slot) const {
  return {slot == 0 ? keys.low : node->entries[slot].key.get(),
          slot + 1 < count ? node->entries[slot + 1].key.get() : keys.high};
}

bool NodeView::is_sound_at(uint32_t slot) const {
  const uint64_t key = node->entries[slot].key;
  if (key < keys.low || (slot > 0 && key == keys.low)) return false;
  const uint64_t next = slot + 1 < count ? node->entries[slot + 1].key.get() : keys.high;
  if (key >= next) return false;
  return slot + 1 >= count || next < keys.high;
}

bool NodeView::is_sound() const {
  for (uint32_t slot = 0; slot < count; ++slot) {
    if (!is_sound_at(slot)) return false;
  }
  return true;
}

bool is_header_sound(const format::BlockHeader& header, uint32_t level) {
  const uint32_t count = header.count;
  const uint32_t most = level == 0 ? format::kExtentsPerLeaf : format::kEntriesPerNode;
  return header.level == level && count > 0 && count <= most;
}

uint32_t join_runs(Run* runs, uint32_t count) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (kept > 0 && runs[kept - 1].joins(runs[i])) {
      runs[kept - 1].count += runs[i].count;
    } else {
      runs[kept++] = runs[i];
    }
  }
  return kept;
}

}  // namespace udax::extent
