// SPDX-License-Identifier: BSD-3-Clause
#include "dir/dir_index.h"
#include "dir/leaf.h"
#include "dir/tree.h"
#include "dir/tree_editor.h"

namespace udax::dir {
namespace {

// A first leaf, then two splits at most, then room: see TreeEditor::split_leaf.
constexpr int kInsertStepsMax = 5;

struct Found {
  Path path;
  uint32_t index = 0;
  Dentry dentry;
};

// Finds the leaf and the slot of `name`. kNotFound, kCorrupted.
Status find(const Source& source, const format::Inode& inode, uint64_t hash, std::string_view name, Found& found) {
  UDAX_TRY(const bool any, find_leaf(source, inode, hash, found.path));
  if (!any) return Error::kNotFound;
  UDAX_TRY(const LeafView leaf, source.leaf(found.path.leaf));
  format::DirSlot slot;
  const int index = leaf.find(hash, name, &slot);
  if (index == LeafView::kAbsent) return Error::kNotFound;
  if (index == LeafView::kBroken) return source.corrupted("directory leaf: slot", found.path.leaf);
  found.index = static_cast<uint32_t>(index);
  found.dentry = leaf.dentry(slot);
  return {};
}

}  // namespace

Result<Dentry> Editor::lookup(std::string_view name) const {
  if (name.empty() || name.size() > format::kNameMax) return Error::kNotFound;
  const Source source(tx_.tx(), inode_);
  Found found;
  UDAX_CHECK(find(source, inode_, name_hash(tx_.meta().geometry(), name), name, found));
  return found.dentry;
}

Status Editor::insert(std::string_view name, Dentry dentry) {
  if (name.size() > format::kNameMax) return Error::kNameTooLong;
  if (!is_valid_name(name) || dentry.ino == kNoIno) return Error::kInvalid;
  const Source source(tx_.tx(), inode_);
  const uint64_t hash = name_hash(tx_.meta().geometry(), name);
  const uint32_t need = entry_bytes(static_cast<uint32_t>(name.size()));
  TreeEditor tree(tx_, inode_, purpose_);

  for (int step = 0; step < kInsertStepsMax; ++step) {
    Path path;
    UDAX_TRY(const bool any, find_leaf(source, inode_, hash, path));
    if (!any) {
      UDAX_CHECK(tree.plant());
      continue;
    }
    UDAX_TRY(const LeafView leaf, source.leaf(path.leaf));
    const int present = leaf.find(hash, name);
    if (present == LeafView::kBroken) return source.corrupted("directory leaf: slot", path.leaf);
    if (present != LeafView::kAbsent) return Error::kExists;
    if (leaf.room() < need) {
      UDAX_CHECK(tree.split_leaf(path, hash, need));
      continue;
    }
    UDAX_TRY(LeafEdit edited, tree.edit_leaf(path.leaf));
    if (edited.gap() < need) {
      if (!edited.holds(path.leaf_range)) return source.corrupted("directory leaf: contents", path.leaf);
      edited.compact();
    }
    edited.append(hash, name, dentry);
    format::DirRoot root = load_root(inode_);
    root.entry_count = root.entry_count + 1;
    store_root(inode_, root);
    return {};
  }
  return Error::kNoSpace;
}

Status Editor::remove(std::string_view name) {
  const Source source(tx_.tx(), inode_);
  Found found;
  UDAX_CHECK(find(source, inode_, name_hash(tx_.meta().geometry(), name), name, found));
  format::DirRoot root = load_root(inode_);
  if (root.entry_count == 0) return source.corrupted("directory: a name, but none counted", found.path.leaf);
  TreeEditor tree(tx_, inode_, purpose_);
  UDAX_TRY(LeafEdit leaf, tree.edit_leaf(found.path.leaf));
  if (!leaf.remove(found.index)) return source.corrupted("directory leaf: heap", found.path.leaf);
  root.entry_count = root.entry_count - 1;
  store_root(inode_, root);
  return tree.tidy(found.path);
}

Status Editor::replace(std::string_view name, Dentry dentry) {
  if (dentry.ino == kNoIno) return Error::kInvalid;
  const Source source(tx_.tx(), inode_);
  Found found;
  UDAX_CHECK(find(source, inode_, name_hash(tx_.meta().geometry(), name), name, found));
  TreeEditor tree(tx_, inode_, purpose_);
  UDAX_TRY(LeafEdit leaf, tree.edit_leaf(found.path.leaf));
  if (!leaf.replace(found.index, dentry)) return source.corrupted("directory leaf: slot", found.path.leaf);
  return {};
}

}  // namespace udax::dir
