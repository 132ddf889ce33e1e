// SPDX-License-Identifier: BSD-3-Clause
//
// rename, with NOREPLACE and EXCHANGE: both names change in one transaction.
//
// Locks (the kernel's own scheme, Documentation/filesystems/directory-locking.rst): a rename across directories
// holds rename_mutex, which keeps the tree's shape still. Then the two parents, the ancestor first, unrelated ones by
// inode number; then the two children, directories first, then by inode number.
#include "base/sync_point.h"
#include "fs/ops.h"

namespace udax::fs {
namespace {

constexpr uint64_t kDepthMax = uint64_t{1} << 20;  // of a directory; more is a loop on the medium

/// True if `ancestor` is `ino` or above it. The tree's shape must stand still.
Result<bool> is_above(const Ops& ops, Ino ancestor, Ino ino) {
  for (uint64_t depth = 0; depth < kDepthMax; ++depth) {
    if (ino == ancestor) return true;
    if (ino == kRootIno) return false;
    UDAX_TRY(const inode::InodeRef ref, ops.get_dir(ino));
    const format::Inode image = ref->snapshot();
    if (image.nlink == 0) return false;  // removed: hangs from nothing
    ino = Ino(image.parent);
  }
  return ops.meta().corrupted("loop of parent directories", ino.value);
}

struct Side {
  inode::InodeRef dir;
  std::string_view name;
  inode::InodeRef child;  // empty: no such name
  [[nodiscard]] Ino child_ino() const { return child ? child->ino() : kNoIno; }
};

Status find_child(const Ops& ops, Side& side, bool must_exist) {
  const auto dentry = dir::Reader(ops.meta(), side.dir->image()).lookup(side.name);
  if (!dentry) {
    if (dentry.error() == Error::kNotFound && !must_exist) return {};
    return dentry.error();
  }
  UDAX_TRY(side.child, ops.get_child(*side.dir, *dentry));
  return {};
}

/// What the children themselves can refuse. REQUIRES: parents and children locked.
Status check_children(const Ops& ops, const Side& from, const Side& to, uint32_t flags) {
  constexpr uint32_t kPinned = format::kFlagImmutable | format::kFlagAppend;
  if ((from.child->image().flags & kPinned) != 0) return Error::kPermission;
  if (to.child && (to.child->image().flags & kPinned) != 0) return Error::kPermission;
  const auto leaves_project = [](const inode::Inode& child, const inode::Inode& dir) {
    return (dir.image().flags & format::kFlagProjInherit) != 0 &&
           dir.image().project_id != child.image().project_id;
  };
  const bool exchange = (flags & kRenameExchange) != 0;
  if (from.dir.get() != to.dir.get() &&
      (leaves_project(*from.child, *to.dir) || (exchange && leaves_project(*to.child, *from.dir)))) {
    return Error::kCrossDevice;
  }
  if (!exchange && to.child && to.child->is_dir() &&
      dir::Reader(ops.meta(), to.child->image()).entry_count() != 0) {
    return Error::kNotEmpty;
  }
  return {};
}

/// What the parents can refuse, and the tree's shape. REQUIRES: parents locked, children found.
Status check_sides(const Ops& ops, const Side& from, const Side& to, uint32_t flags) {
  const bool exchange = (flags & kRenameExchange) != 0;
  UDAX_CHECK(Ops::check_dir_change(*from.dir, true));
  UDAX_CHECK(Ops::check_dir_change(*to.dir, false));
  if (to.child) UDAX_CHECK(Ops::check_dir_change(*to.dir, true));
  if ((flags & kRenameNoReplace) != 0 && to.child) return Error::kExists;
  if (exchange && !to.child) return Error::kNotFound;

  if (from.child->is_dir()) {
    UDAX_TRY(const bool into_itself, is_above(ops, from.child->ino(), to.dir->ino()));
    if (into_itself) return Error::kInvalid;
  }
  if (to.child && to.child->is_dir()) {
    UDAX_TRY(const bool onto_ancestor, is_above(ops, to.child->ino(), from.dir->ino()));
    if (onto_ancestor) return exchange ? Error::kInvalid : Error::kNotEmpty;
  }
  if (exchange || !to.child) return {};
  if (from.child->is_dir() && !to.child->is_dir()) return Error::kNotDirectory;
  if (!from.child->is_dir() && to.child->is_dir()) return Error::kIsDirectory;
  return {};
}

void lock_parents(RwsemSet& locks, inode::Inode* a, inode::Inode* b, bool b_first) {
  if (a == b) {
    locks.lock(a);
  } else {
    locks.lock(b_first ? b : a);
    locks.lock(b_first ? a : b);
  }
}

void lock_children(RwsemSet& locks, inode::Inode* a, inode::Inode* b) {
  if (b == nullptr) {
    locks.lock(a);
    return;
  }
  const bool b_first = a->is_dir() != b->is_dir() ? b->is_dir() : b->ino() < a->ino();
  locks.lock(b_first ? b : a);
  locks.lock(b_first ? a : b);
}

struct Images {
  format::Inode* from_dir = nullptr;
  format::Inode* to_dir = nullptr;
  format::Inode* moved = nullptr;
  format::Inode* other = nullptr;  // exchanged with
};

Status gain_subdirectory(format::Inode& dir) {
  if (dir.nlink >= format::kNlinkMax) return Error::kTooManyLinks;
  dir.nlink = dir.nlink + 1;
  return {};
}

/// Each directory counts its subdirectories. What leaves is counted first: a directory at the limit may still
/// exchange one, or have one replaced.
Status move_links(const Ops& ops, const Side& from, const Side& to, bool exchange, Images& images) {
  const bool cross = from.dir.get() != to.dir.get();
  const bool moved_is_dir = from.child->is_dir();
  const bool other_is_dir = to.child && to.child->is_dir();
  if (other_is_dir && (cross || !exchange)) UDAX_CHECK(ops.drop_subdirectory(*images.to_dir));
  if (!cross) return {};
  if (moved_is_dir) UDAX_CHECK(ops.drop_subdirectory(*images.from_dir));
  if (moved_is_dir) UDAX_CHECK(gain_subdirectory(*images.to_dir));
  if (exchange && other_is_dir) UDAX_CHECK(gain_subdirectory(*images.from_dir));
  return {};
}

/// The transaction. REQUIRES: everything locked and checked.
Status commit_rename(const Ops& ops, Side& from, Side& to, uint32_t flags) {
  const bool exchange = (flags & kRenameExchange) != 0;
  const bool cross = from.dir.get() != to.dir.get();
  const format::TimeStamp t = now();
  Ops::Fate fate = Ops::Fate::kStays;
  const bool apart = !exchange && UDAX_KNOB("fs.rename_removes_first");
  if (apart) UDAX_CHECK(ops.remove_name_apart(*from.dir, from.name));
  {
    Change change(ops.table());
    Images images;
    UDAX_TRY(images.from_dir, change.edit(*from.dir));
    UDAX_TRY(images.to_dir, change.edit(*to.dir));
    UDAX_TRY(images.moved, change.edit(*from.child));
    dir::Editor from_names(change.blocks(), *images.from_dir);
    dir::Editor to_names(change.blocks(), *images.to_dir);
    const dir::Dentry moved{from.child->ino(), dirent_type(from.child->mode())};
    if (to.child) {
      UDAX_CHECK(to_names.replace(to.name, moved));
    } else {
      UDAX_CHECK(to_names.insert(to.name, moved));
    }
    if (exchange) {
      UDAX_TRY(images.other, change.edit(*to.child));
      UDAX_CHECK(from_names.replace(from.name, {to.child->ino(), dirent_type(to.child->mode())}));
      if (cross && to.child->is_dir()) images.other->parent = from.dir->ino().value;
      set_ctime(*images.other, t);
    } else if (!apart) {
      UDAX_CHECK(from_names.remove(from.name));
    }
    if (!UDAX_KNOB("fs.rename_keeps_counts")) UDAX_CHECK(move_links(ops, from, to, exchange, images));
    if (cross && from.child->is_dir() && !UDAX_KNOB("fs.rename_keeps_parent")) {
      images.moved->parent = to.dir->ino().value;
    }
    set_ctime(*images.moved, t);
    touch_modified(*images.from_dir, t);
    touch_modified(*images.to_dir, t);
    if (!exchange && to.child) {
      UDAX_TRY(fate, ops.drop_link(change, *to.child, t));
      UDAX_CHECK(ops.commit_unlink(change, *to.child, fate));
    } else {
      UDAX_CHECK(change.commit());
    }
  }
  if (!exchange && to.child) ops.finish_unlink(*to.child, fate);
  return {};
}

/// With rename_mutex held if the parents differ.
Status rename_locked(const Ops& ops, Side& from, Side& to, uint32_t flags) {
  bool to_first = false;
  if (from.dir.get() != to.dir.get()) {
    UDAX_TRY(const bool from_above, is_above(ops, from.dir->ino(), to.dir->ino()));
    if (!from_above) {
      UDAX_TRY(const bool to_above, is_above(ops, to.dir->ino(), from.dir->ino()));
      to_first = to_above || to.dir->ino() < from.dir->ino();
    }
  }
  RwsemSet locks;
  lock_parents(locks, from.dir.get(), to.dir.get(), to_first);
  UDAX_CHECK(find_child(ops, from, true));
  UDAX_CHECK(find_child(ops, to, false));
  UDAX_CHECK(check_sides(ops, from, to, flags));
  if (from.child_ino() == to.child_ino()) return {};  // two names of one inode: rename(2) does nothing
  if (from.child.get() == to.dir.get() || from.child.get() == from.dir.get() ||
      (to.child && (to.child.get() == from.dir.get() || to.child.get() == to.dir.get()))) {
    return ops.meta().corrupted("directory that holds itself", from.dir->ino().value);
  }
  lock_children(locks, from.child.get(), to.child.get());
  UDAX_CHECK(check_children(ops, from, to, flags));
  return commit_rename(ops, from, to, flags);
}

}  // namespace

Status Filesystem::rename(Ino parent, std::string_view name, Ino new_parent, std::string_view new_name,
                          uint32_t flags) {
  const Ops ops{*this};
  UDAX_CHECK(ops.check_writable());
  if ((flags & ~(kRenameNoReplace | kRenameExchange)) != 0 || flags == (kRenameNoReplace | kRenameExchange)) {
    return Error::kInvalid;
  }
  UDAX_CHECK(check_name(name));
  UDAX_CHECK(check_name(new_name));
  Side from;
  Side to;
  from.name = name;
  to.name = new_name;
  UDAX_TRY(from.dir, ops.get_dir(parent));
  UDAX_TRY(to.dir, ops.get_dir(new_parent));
  if (parent == new_parent) return rename_locked(ops, from, to, flags);
  const LockGuard guard(rename_mutex_);
  return rename_locked(ops, from, to, flags);
}

}  // namespace udax::fs
