// SPDX-License-Identifier: BSD-3-Clause
//
// Taking names away, and what follows when the last one goes.
//
// States of an inode whose last name goes:
//   not open, fits one transaction    freed together with the name; lives on in memory as a ghost while the kernel
//                                     knows its number
//   open                              orphan; evicted when the last handle is released, or after a crash at mount
//   too large for one transaction     orphan; evicted in steps before the call returns
//
// Persistence: an orphan slot is set in the transaction that takes the last name, and cleared in the one that frees
// the inode: a crash between leaves an orphan, never a leak.
//
// Locks: the directory's rwsem, then the victim's, exclusive.
#include "base/log.h"
#include "base/sync_point.h"
#include "fs/ops.h"
#include "inode/xattr_store.h"

namespace udax::fs {

Result<bool> Ops::remove_contents(Change& change, format::Inode& image) const {
  constexpr alloc::Purpose kPurpose = alloc::Purpose::kMustSucceed;
  switch (image.payload_kind) {
    case format::kPayloadInlineExtents:
    case format::kPayloadExtentTree: {
      UDAX_TRY(const FileBlock left,
               extent::Editor(change.blocks(), image, kPurpose).remove(FileBlock(0), extent::kFileBlockEnd));
      if (left != FileBlock(0) || change.nearly_full()) return false;
      break;
    }
    case format::kPayloadSymlinkBlock: {
      auto* root = reinterpret_cast<format::SymlinkRoot*>(image.payload);
      UDAX_CHECK(change.blocks().free_metadata(DeviceBlock(root->block)));
      image.payload_kind = format::kPayloadNone;
      image.block_count = image.block_count - 1;
      break;
    }
    default: break;  // nothing outside the inode; a directory is empty by now
  }
  if (image.xattr_block == 0) return true;
  const Status freed = inode::xattr_free_all(change.blocks(), image);
  if (freed) return true;
  if (freed.error() == Error::kAgain) return false;  // what is freed so far is whole
  return freed.error();
}

Status Ops::remove_name_apart(inode::Inode& dir, std::string_view name) const {
  Change change(table());
  UDAX_TRY(format::Inode * image, change.edit(dir));
  UDAX_CHECK(dir::Editor(change.blocks(), *image, alloc::Purpose::kMustSucceed).remove(name));
  return change.commit();
}

Status Ops::drop_subdirectory(format::Inode& dir) const {
  if (dir.nlink <= 2) return meta().corrupted("link count of a directory with subdirectories", dir.ino);
  dir.nlink = dir.nlink - 1;
  return {};
}

namespace {

/// Whether all that `image` owns surely goes in one transaction: it lies in few groups.
bool goes_at_once(const format::Inode& image) {
  constexpr uint64_t kBlocksAnywhere = 8;  // each in another group, at worst
  if (image.block_count <= kBlocksAnywhere) return true;
  return image.payload_kind != format::kPayloadExtentTree && image.xattr_block == 0 &&
         image.block_count <= format::kGroupBlocks;
}

}  // namespace

Result<Ops::Fate> Ops::drop_link(Change& change, inode::Inode& victim, format::TimeStamp t) const {
  UDAX_TRY(format::Inode * image, change.edit(victim));
  const bool is_dir = victim.is_dir();
  if (image->nlink == 0) return meta().corrupted("link count of a named inode is zero", victim.ino().value);
  image->nlink = is_dir ? 0U : image->nlink - 1;
  set_ctime(*image, t);
  if (image->nlink != 0) return Fate::kStays;
  if (victim.open_count.load() != 0) {
    if (!victim.orphan && !UDAX_KNOB("fs.unlink_forgets_orphan")) UDAX_CHECK(change.tx().add_orphan(victim.ino()));
    return Fate::kOrphaned;
  }
  // What may not go at once is made an orphan first: a transaction full of groups may have none with room for the slot.
  bool orphan = victim.orphan;
  if (!orphan && !goes_at_once(*image)) {
    UDAX_CHECK(change.tx().add_orphan(victim.ino()));
    orphan = true;
  }
  UDAX_TRY(const bool gone, remove_contents(change, *image));
  if (!gone) {
    if (!orphan) UDAX_CHECK(change.tx().add_orphan(victim.ino()));
    return Fate::kToEvict;
  }
  if (orphan) UDAX_CHECK(change.tx().remove_orphan(victim.ino()));
  // Before the commit that frees it: nobody may be given the number while the kernel still knows it.
  table().hold_number(victim.ino());
  if (const Status freed = change.free(victim, *image); !freed) {
    table().release_number(victim.ino());
    return freed.error();
  }
  return Fate::kFreed;
}

Status Ops::commit_unlink(Change& change, inode::Inode& victim, Fate fate) const {
  const Status committed = change.commit();
  if (!committed && fate == Fate::kFreed) table().release_number(victim.ino());
  return committed;
}

void Ops::finish_unlink(inode::Inode& victim, Fate fate) const {
  switch (fate) {
    case Fate::kStays: break;
    case Fate::kOrphaned: victim.orphan = true; break;
    case Fate::kFreed:
      victim.orphan = false;
      victim.forget_space();
      break;
    case Fate::kToEvict:
      victim.orphan = true;
      if (const Status done = evict(victim); !done) {
        log::error("unlinked inode {} cannot be freed now: {}", victim.ino().value, to_string(done.error()));
      }
      break;
  }
}

Status Ops::evict(inode::Inode& inode) const {
  for (bool gone = false; !gone;) {
    Change change(table());
    UDAX_TRY(format::Inode * image, change.edit(inode));
    UDAX_TRY(gone, remove_contents(change, *image));
    if (!gone) {
      UDAX_CHECK(change.commit());
      continue;
    }
    table().hold_number(inode.ino());
    Status freed = change.tx().remove_orphan(inode.ino());
    if (freed) freed = change.free(inode, *image);
    if (freed) freed = change.commit();
    if (!freed) {
      table().release_number(inode.ino());
      return freed;
    }
  }
  finish_unlink(inode, Fate::kFreed);
  return {};
}

namespace {

/// unlink and rmdir. `directory`: which of them.
Status remove_name(const Ops& ops, Ino parent_ino, std::string_view name, bool directory) {
  UDAX_CHECK(ops.check_writable());
  UDAX_CHECK(check_name(name));
  UDAX_TRY(const inode::InodeRef parent, ops.get_dir(parent_ino));
  // Declared before the locks: released after them, since the last reference of a dead inode may delete it.
  inode::InodeRef victim;
  RwsemSet locks;
  locks.lock(parent.get());
  UDAX_CHECK(Ops::check_dir_change(*parent, true));
  UDAX_TRY(const dir::Dentry dentry, dir::Reader(ops.meta(), parent->image()).lookup(name));
  UDAX_TRY(victim, ops.get_child(*parent, dentry));
  if (victim.get() == parent.get()) return ops.meta().corrupted("directory that holds itself", parent_ino.value);
  if (directory && !victim->is_dir()) return Error::kNotDirectory;
  if (!directory && victim->is_dir()) return Error::kIsDirectory;
  locks.lock(victim.get());
  if ((victim->image().flags & (format::kFlagImmutable | format::kFlagAppend)) != 0) return Error::kPermission;
  if (directory && dir::Reader(ops.meta(), victim->image()).entry_count() != 0) return Error::kNotEmpty;

  const bool name_first = UDAX_KNOB("fs.name_before_link_count");
  const bool name_last = UDAX_KNOB("fs.name_after_link_count");
  if (name_first) UDAX_CHECK(ops.remove_name_apart(*parent, name));
  Ops::Fate fate = Ops::Fate::kStays;
  {
    const format::TimeStamp t = now();
    Change change(ops.table());
    UDAX_TRY(format::Inode * dir_image, change.edit(*parent));
    if (!name_first && !name_last) {
      UDAX_CHECK(dir::Editor(change.blocks(), *dir_image, alloc::Purpose::kMustSucceed).remove(name));
    }
    touch_modified(*dir_image, t);
    if (directory) UDAX_CHECK(ops.drop_subdirectory(*dir_image));
    UDAX_TRY(fate, ops.drop_link(change, *victim, t));
    UDAX_CHECK(ops.commit_unlink(change, *victim, fate));
  }
  if (name_last) UDAX_CHECK(ops.remove_name_apart(*parent, name));
  ops.finish_unlink(*victim, fate);
  return {};
}

}  // namespace

Status Filesystem::unlink(Ino parent, std::string_view name) {
  return remove_name(Ops{*this}, parent, name, false);
}

Status Filesystem::rmdir(Ino parent, std::string_view name) {
  if (name == ".") return Error::kInvalid;
  if (name == "..") return Error::kNotEmpty;
  return remove_name(Ops{*this}, parent, name, true);
}

}  // namespace udax::fs
