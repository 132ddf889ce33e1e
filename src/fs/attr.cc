// SPDX-License-Identifier: BSD-3-Clause
//
// getattr, setattr; and the privileges that changes of owner or content take away.
//
// Rules (chown(2), chmod(2), truncate(2), setxattr(2); the kernel's FUSE_HANDLE_KILLPRIV_V2): chown clears setuid,
// and setgid where the group may execute, for all but directories; a write or truncate clears the same when the
// kernel says that the caller lacks CAP_FSETID; file capabilities go in each of these cases.
//
// Locks: the inode's rwsem, exclusive for changes. getattr takes none but the image's.
#include <new>

#include "fs/acl.h"
#include "fs/ops.h"
#include "inode/xattr_store.h"

namespace udax::fs {
namespace {

constexpr uint32_t kSetUid = 04000;
constexpr uint32_t kSetGid = 02000;
constexpr uint32_t kGroupExecute = 010;
constexpr inode::XattrName kCapability{format::kXattrSecurity, "capability"};

uint32_t without_suidgid(uint32_t mode) {
  mode &= ~kSetUid;
  if ((mode & kGroupExecute) != 0) mode &= ~kSetGid;
  return mode;
}

Result<bool> has_capability(const journal::MetaStore& meta, const format::Inode& image) {
  if (image.xattr_block == 0) return false;
  const auto value = inode::xattr_get(meta, image, kCapability);
  if (value) return true;
  if (value.error() == Error::kNoData) return false;
  return value.error();
}

/// chmod's effect on the access ACL.
Status chmod_acl(const journal::MetaStore& meta, Change& change, format::Inode& image, uint32_t mode) {
  if (image.xattr_block == 0) return {};
  const inode::XattrName name{format::kXattrAclAccess, {}};
  const auto stored = inode::xattr_get(meta, image, name);
  if (!stored) return stored.error() == Error::kNoData ? Status() : Status(stored.error());
  auto acl = Acl::parse(*stored);
  if (!acl) return meta.corrupted("access ACL", image.ino);
  acl->chmod(mode);
  return inode::xattr_set(change.blocks(), image, name, acl->serialize(), inode::XattrSetMode::kEither);
}

}  // namespace

Result<bool> Ops::has_privileges(const format::Inode& image, bool suidgid) const {
  if (suidgid && without_suidgid(image.mode) != image.mode) return true;
  return has_capability(meta(), image);
}

Status Ops::kill_privileges(Change& change, format::Inode& image, bool suidgid) const {
  if (suidgid) image.mode = static_cast<uint16_t>(without_suidgid(image.mode));
  UDAX_TRY(const bool capability, has_capability(meta(), image));
  if (!capability) return {};
  return inode::xattr_remove(change.blocks(), image, kCapability);
}

Result<Attr> Filesystem::getattr(Ino ino) {
  UDAX_TRY(const inode::InodeRef ref, Ops{*this}.get(ino));
  return to_attr(ref->snapshot());
}

namespace {

/// All but the size. REQUIRES: rwsem exclusive.
Status apply(const Ops& ops, Change& change, format::Inode& image, const SetAttr& s, format::TimeStamp t) {
  const bool is_dir = type_of(image.mode) == 0040000U;
  if (s.uid || s.gid) {
    if (!is_dir) UDAX_CHECK(ops.kill_privileges(change, image, true));
    if (s.uid) image.uid = *s.uid;
    if (s.gid) image.gid = *s.gid;
  } else if (!is_dir && (s.kill_suidgid || s.size)) {
    UDAX_CHECK(ops.kill_privileges(change, image, s.kill_suidgid));
  }
  if (s.mode) {
    image.mode = static_cast<uint16_t>(type_of(image.mode) | (*s.mode & 07777U));
    UDAX_CHECK(chmod_acl(ops.meta(), change, image, *s.mode));
  }
  if (s.atime_now) {
    set_atime(image, t);
  } else if (s.atime) {
    set_atime(image, *s.atime);
  }
  if (s.size) set_mtime(image, t);  // POSIX's truncate() and ftruncate(): even if it is the size that the file has
  if (s.mtime_now) {
    set_mtime(image, t);
  } else if (s.mtime) {
    set_mtime(image, *s.mtime);
  }
  set_ctime(image, s.ctime.value_or(t));
  return {};
}

Status check_setattr(const format::Inode& image, const SetAttr& s) {
  const uint32_t flags = image.flags;
  if ((flags & format::kFlagImmutable) != 0) return Error::kPermission;
  if ((flags & format::kFlagAppend) != 0) {
    // As the kernel's: times may be set to now, nothing else (setattr_prepare, may_setattr).
    if (s.mode || s.uid || s.gid || s.size || (s.atime && !s.atime_now) || (s.mtime && !s.mtime_now)) {
      return Error::kPermission;
    }
  }
  if (s.size) {
    if (type_of(image.mode) == 0040000U) return Error::kIsDirectory;
    if (type_of(image.mode) != 0100000U) return Error::kInvalid;
    if (*s.size > format::kFileSizeMax) return Error::kFileTooBig;
  }
  return {};
}

}  // namespace

Result<Attr> Filesystem::setattr(Ino ino, const SetAttr& s, const Caller& /*caller*/) try {
  const Ops ops{*this};
  UDAX_CHECK(ops.check_writable());
  UDAX_TRY(const inode::InodeRef ref, ops.get(ino));
  mapping::HeldViews held;
  if (s.size && *s.size < ref->snapshot().size) {
    hold_views(*this, *ref, {align_down(*s.size, kBlockSize), ~uint64_t{0}}, mapping::Patience::kShort, held);
  }
  const LockGuard guard(ref->rwsem);
  if (ref->dead) return Error::kStale;
  UDAX_CHECK(check_setattr(ref->image(), s));
  const format::TimeStamp t = now();
  const auto also = [&](Change& change, format::Inode& image) { return apply(ops, change, image, s, t); };
  if (s.size) {
    UDAX_CHECK(ops.resize(*ref, *s.size, also));
  } else {
    Change change(ops.table());
    UDAX_TRY(format::Inode * image, change.edit(*ref));
    UDAX_CHECK(also(change, *image));
    UDAX_CHECK(change.commit());
  }
  return to_attr(ref->snapshot());
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

}  // namespace udax::fs
