// SPDX-License-Identifier: BSD-3-Clause
//
// Another name for an inode; also the first one, for a file made by O_TMPFILE.
//
// Locks: the directory's rwsem, then the inode's, exclusive.
#include "fs/ops.h"

namespace udax::fs {

Result<Attr> Filesystem::link(Ino ino, Ino new_parent, std::string_view new_name) {
  const Ops ops{*this};
  UDAX_CHECK(ops.check_writable());
  UDAX_CHECK(check_name(new_name));
  UDAX_TRY(const inode::InodeRef target, ops.get(ino));
  if (target->is_dir()) return Error::kPermission;
  UDAX_TRY(const inode::InodeRef parent, ops.get_dir(new_parent));
  RwsemSet locks;
  locks.lock(parent.get());
  locks.lock(target.get());
  UDAX_CHECK(Ops::check_dir_change(*parent, false));
  const format::Inode& current = target->image();
  if (target->dead || (current.nlink == 0 && !target->orphan)) return Error::kNotFound;
  if ((current.flags & (format::kFlagImmutable | format::kFlagAppend)) != 0) return Error::kPermission;
  if (current.nlink >= format::kNlinkMax) return Error::kTooManyLinks;
  if ((parent->image().flags & format::kFlagProjInherit) != 0 &&
      parent->image().project_id != current.project_id) {
    return Error::kCrossDevice;  // as ext4 and xfs: a link must not leave the project
  }
  // No orphan from here on: nothing would finish it after a crash.
  UDAX_CHECK(ops.resume_truncate(*target));
  const format::TimeStamp t = now();
  Change change(ops.table());
  UDAX_TRY(format::Inode * dir_image, change.edit(*parent));
  UDAX_TRY(format::Inode * image, change.edit(*target));
  UDAX_CHECK(dir::Editor(change.blocks(), *dir_image).insert(new_name, {ino, dirent_type(current.mode)}));
  const bool was_orphan = current.nlink == 0;
  if (was_orphan) UDAX_CHECK(change.tx().remove_orphan(ino));
  image->nlink = image->nlink + 1;
  set_ctime(*image, t);
  touch_modified(*dir_image, t);
  UDAX_CHECK(change.commit());
  if (was_orphan) target->orphan = false;
  UDAX_CHECK(ops.count_lookup(ino));
  return to_attr(target->snapshot());
}

}  // namespace udax::fs
