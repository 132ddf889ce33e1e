// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>

#include "dir/dir_index.h"
#include "dir/leaf.h"
#include "dir/tree.h"

namespace udax::dir {
namespace {

// Delivers the leaf's names with a hash of `from` or above, in order. False: `visit` had enough.
Result<bool> deliver(const Source& source, const media::Geometry& geometry, const Path& path, uint64_t from,
                     const std::function<bool(const Listed&)>& visit) {
  UDAX_TRY(const LeafView leaf, source.leaf(path.leaf));
  // An empty leaf would fit any range, hence could be visited without end.
  if (leaf.count() == 0) return source.corrupted("directory leaf: empty", path.leaf);
  SortedSlots sorted;
  leaf.sort_into(sorted, from);
  for (uint32_t i = 0; i < sorted.count; ++i) {
    const format::DirSlot slot = leaf.slot(sorted.items[i].index);
    const uint64_t hash = sorted.items[i].hash;
    if (!path.leaf_range.holds(hash) || !leaf.slot_holds(slot)) {
      return source.corrupted("directory leaf: slot", path.leaf);
    }
    const std::string_view name = leaf.name(slot);
    // A name filed under another hash could be listed, yet never found.
    if (name_hash(geometry, name) != hash) return source.corrupted("directory leaf: hash of a name", path.leaf);
    const Dentry dentry = leaf.dentry(slot);
    // Who stops within names of equal hash has to see all of them again.
    const bool last_of_hash = i + 1 == sorted.count || sorted.items[i + 1].hash != hash;
    if (!visit({name, dentry.ino, dentry.type, last_of_hash ? hash : hash - 1})) return false;
  }
  return true;
}

}  // namespace

Result<Dentry> Reader::lookup(std::string_view name) const {
  if (name.empty() || name.size() > format::kNameMax) return Error::kNotFound;
  const Source source(meta_, inode_);
  const uint64_t hash = name_hash(meta_.geometry(), name);
  Path path;
  UDAX_TRY(const bool found, find_leaf(source, inode_, hash, path));
  if (!found) return Error::kNotFound;
  UDAX_TRY(const LeafView leaf, source.leaf(path.leaf));
  format::DirSlot stored;
  const int index = leaf.find(hash, name, &stored);
  if (index == LeafView::kAbsent) return Error::kNotFound;
  if (index == LeafView::kBroken) return source.corrupted("directory leaf: slot", path.leaf);
  return leaf.dentry(stored);
}

Status Reader::iterate(uint64_t after, const std::function<bool(const Listed&)>& visit) const {
  if (after >= kHashEnd - 1) return {};
  const uint64_t from = std::max(after + 1, format::kDirHashMin);
  const Source source(meta_, inode_);
  Path path;
  UDAX_TRY(bool more, find_leaf(source, inode_, from, path));
  while (more) {
    UDAX_TRY(const bool go_on, deliver(source, meta_.geometry(), path, from, visit));
    if (!go_on) break;
    UDAX_TRY(more, next_leaf(source, path));
  }
  return {};
}

uint64_t Reader::entry_count() const { return load_root(inode_).entry_count; }

}  // namespace udax::dir
