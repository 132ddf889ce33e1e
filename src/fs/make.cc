// SPDX-License-Identifier: BSD-3-Clause
//
// Making inodes: files, directories, special files, symbolic links, and files without a name.
//
// Persistence: inode, chunk, bitmap, directory and parent change in one transaction.
//
// Locks: the parent's rwsem exclusive.
#include <cstring>
#include <functional>
#include <new>

#include "base/crc32c.h"
#include "base/sync_point.h"
#include "fs/acl.h"
#include "fs/ops.h"
#include "inode/xattr_store.h"

namespace udax::fs {
namespace {

constexpr uint32_t kSetGid = 02000;

Status set_acls(Change& change, format::Inode& image, const Ops::NewInode& with) {
  const std::span<const std::byte> access(with.access_acl);
  const std::span<const std::byte> inherited(with.default_acl);
  if (!access.empty()) {
    UDAX_CHECK(inode::xattr_set(change.blocks(), image, {format::kXattrAclAccess, {}}, access,
                                inode::XattrSetMode::kEither));
  }
  if (!inherited.empty()) {
    UDAX_CHECK(inode::xattr_set(change.blocks(), image, {format::kXattrAclDefault, {}}, inherited,
                                inode::XattrSetMode::kEither));
  }
  return {};
}

Status set_symlink_target(Change& change, format::Inode& image, std::string_view target, uint32_t seed) {
  image.size = target.size();
  if (target.size() <= format::kSymlinkInlineMax) {
    image.payload_kind = format::kPayloadInlineSymlink;
    std::memcpy(image.payload, target.data(), target.size());
    return {};
  }
  UDAX_TRY(const DeviceBlock block, change.blocks().allocate_block(alloc::Purpose::kMetadata, kNoBlock));
  UDAX_TRY(std::byte * content, change.tx().tx().create_raw_block(block));
  std::memcpy(content, target.data(), target.size() - (UDAX_KNOB("fs.symlink_one_short") ? 1 : 0));
  image.payload_kind = format::kPayloadSymlinkBlock;
  auto* root = reinterpret_cast<format::SymlinkRoot*>(image.payload);
  root->block = block.value;
  root->checksum = crc32c(seed, content, kBlockSize);
  image.block_count = image.block_count + 1;
  return {};
}

struct Special {
  uint32_t rdev_major = 0;
  uint32_t rdev_minor = 0;
  std::string_view target;
};

}  // namespace

Result<Ops::NewInode> Ops::inherit(const inode::Inode& parent, uint32_t mode, const Caller& caller) const {
  const format::Inode& dir = parent.image();
  NewInode with;
  with.uid = caller.uid;
  with.gid = caller.gid;
  if ((dir.mode & kSetGid) != 0) {
    with.gid = dir.gid;
    if (type_of(mode) == 0040000U) mode |= kSetGid;
  }
  const uint32_t type = type_of(mode);
  if (type == 0040000U || type == 0100000U) {
    uint32_t inherited = format::kFlagDax | format::kFlagNoAtime | format::kFlagNoDump | format::kFlagSync;
    if (type == 0040000U) inherited |= format::kFlagDirSync | format::kFlagProjInherit;
    with.flags = dir.flags & inherited;
  }
  if ((dir.flags & format::kFlagProjInherit) != 0) with.project_id = dir.project_id;
  with.mode = mode;
  if (type == 0120000U) return with;  // a symbolic link has neither umask nor ACL
  if (dir.xattr_block == 0) {
    with.mode = mode & ~(caller.umask & 0777U);
    return with;
  }
  auto stored = inode::xattr_get(meta(), dir, {format::kXattrAclDefault, {}});
  if (!stored && stored.error() != Error::kNoData) return stored.error();
  if (!stored) {
    with.mode = mode & ~(caller.umask & 0777U);
    return with;
  }
  auto acl = Acl::parse(*stored);
  if (!acl) return meta().corrupted("default ACL", dir.ino);
  with.mode = (mode & ~0777U) | acl->create_masq(mode & 0777U);
  if (!acl->is_minimal()) with.access_acl = acl->serialize();
  if (type == 0040000U) with.default_acl = std::move(*stored);
  return with;
}

Result<inode::InodeTx::Allocated> Ops::new_inode(Change& change, const inode::Inode& parent, const NewInode& with,
                                                 format::TimeStamp t) const {
  UDAX_TRY(inode::InodeTx::Allocated made, change.tx().allocate(parent.ino()));
  format::Inode& image = *made.image;
  image.mode = static_cast<uint16_t>(with.mode);
  image.uid = with.uid;
  image.gid = with.gid;
  image.flags = with.flags;
  image.project_id = with.project_id;
  touch_modified(image, t);
  set_atime(image, t);
  image.btime_s = static_cast<uint64_t>(t.seconds);
  image.btime_ns = t.nanoseconds;
  if (type_of(with.mode) == 0040000U) {
    image.nlink = 2;
    image.parent = parent.ino().value;
    image.payload_kind = format::kPayloadDirectory;
  } else {
    image.nlink = 1;
  }
  UDAX_CHECK(set_acls(change, image, with));
  return made;
}

namespace {

/// Commits the creation of `made`. What can fail comes before the commit: afterwards the inode is there.
Result<inode::InodeRef> commit_made(const Ops& ops, Change& change, const inode::InodeTx::Allocated& made) {
  UDAX_TRY(inode::FreshInode fresh, ops.cache().prepare(made.ino, made.slot_offset, *made.image));
  UDAX_CHECK(ops.count_lookup(made.ino));
  if (const Status done = change.commit(); !done) {
    ops.uncount_lookup(made.ino);
    return done.error();
  }
  return ops.cache().insert(std::move(fresh));
}

/// The common part of make, create and symlink; `open`, if given, is done within the parent's lock: nobody may take the
/// name away before the handle counts. The caller holds nothing.
Result<inode::InodeRef> make_named(const Ops& ops, Ino parent_ino, std::string_view name, uint32_t mode,
                                   const Special& special, const Caller& caller,
                                   const std::function<void(inode::InodeRef)>& open = {}) {
  UDAX_CHECK(ops.check_writable());
  UDAX_CHECK(check_name(name));
  UDAX_TRY(const inode::InodeRef parent, ops.get_dir(parent_ino));
  const LockGuard guard(parent->rwsem);
  UDAX_CHECK(Ops::check_dir_change(*parent, false));
  const bool is_dir = type_of(mode) == 0040000U;
  if (is_dir && parent->image().nlink >= format::kNlinkMax) return Error::kTooManyLinks;

  UDAX_TRY(const Ops::NewInode with, ops.inherit(*parent, mode, caller));
  const format::TimeStamp t = now();
  Change change(ops.table());
  UDAX_TRY(format::Inode * dir_image, change.edit(*parent));
  // Before the inode is allocated: a name that exists costs nothing then.
  if (const auto there = dir::Reader(ops.meta(), parent->image()).lookup(name); there) {
    return Error::kExists;
  } else if (there.error() != Error::kNotFound) {
    return there.error();
  }
  UDAX_TRY(const inode::InodeTx::Allocated made, ops.new_inode(change, *parent, with, t));
  if (type_of(mode) == 0120000U) {
    UDAX_CHECK(set_symlink_target(change, *made.image, special.target, ops.meta().seed()));
  } else if (type_of(mode) == 0020000U || type_of(mode) == 0060000U) {
    made.image->payload_kind = format::kPayloadDevice;
    auto* device = reinterpret_cast<format::DeviceNumber*>(made.image->payload);
    device->major = special.rdev_major;
    device->minor = special.rdev_minor;
  }
  UDAX_CHECK(dir::Editor(change.blocks(), *dir_image).insert(name, {made.ino, dirent_type(mode)}));
  touch_modified(*dir_image, t);
  if (is_dir) dir_image->nlink = dir_image->nlink + 1;
  UDAX_TRY(inode::InodeRef ref, commit_made(ops, change, made));
  if (open) open(ref.share());
  return ref;
}

}  // namespace

Result<Attr> Filesystem::make(Ino parent, std::string_view name, uint32_t mode, uint32_t rdev_major,
                              uint32_t rdev_minor, const Caller& caller) try {
  const uint32_t type = type_of(mode);
  if (type != 0100000U && type != 0040000U && type != 0010000U && type != 0140000U && type != 0020000U &&
      type != 0060000U) {
    return Error::kInvalid;
  }
  const Ops ops{*this};
  UDAX_TRY(const inode::InodeRef ref,
           make_named(ops, parent, name, mode & 0177777U, {rdev_major, rdev_minor, {}}, caller));
  return to_attr(ref->snapshot());
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Result<Attr> Filesystem::symlink(Ino parent, std::string_view name, std::string_view target,
                                 const Caller& caller) try {
  if (target.empty()) return Error::kNotFound;  // symlink(2)
  if (target.size() > format::kSymlinkMax) return Error::kNameTooLong;
  if (target.find('\0') != std::string_view::npos) return Error::kInvalid;
  const Ops ops{*this};
  UDAX_TRY(const inode::InodeRef ref, make_named(ops, parent, name, 0120777U, {0, 0, target}, caller));
  return to_attr(ref->snapshot());
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Result<OpenFilePtr> Filesystem::create(Ino parent, std::string_view name, uint32_t mode, uint32_t flags,
                                       const Caller& caller, Attr* attr) try {
  const Ops ops{*this};
  UDAX_TRY(OpenFileSpace space, Ops::open_file_space());
  OpenFilePtr file;
  const auto open = [&](inode::InodeRef ref) {
    file = ops.make_open_file(std::move(space), std::move(ref), flags);
  };
  UDAX_TRY(const inode::InodeRef ref, make_named(ops, parent, name, (mode & 07777U) | 0100000U, {}, caller, open));
  UDAX_SYNC_POINT("fs.create.made");
  *attr = to_attr(ref->snapshot());
  return file;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Result<OpenFilePtr> Filesystem::tmpfile(Ino parent_ino, uint32_t mode, uint32_t flags, const Caller& caller,
                                        Attr* attr) try {
  const Ops ops{*this};
  UDAX_CHECK(ops.check_writable());
  UDAX_TRY(const inode::InodeRef parent, ops.get_dir(parent_ino));
  const SharedLockGuard guard(parent->rwsem);
  UDAX_CHECK(Ops::check_dir_change(*parent, false));
  UDAX_TRY(const Ops::NewInode with, ops.inherit(*parent, (mode & 07777U) | 0100000U, caller));
  Change change(ops.table());
  UDAX_TRY(const inode::InodeTx::Allocated made, ops.new_inode(change, *parent, with, now()));
  made.image->nlink = 0;
  UDAX_CHECK(change.tx().add_orphan(made.ino));
  UDAX_TRY(OpenFileSpace space, Ops::open_file_space());
  UDAX_TRY(inode::InodeRef ref, commit_made(ops, change, made));
  ref->orphan = true;
  *attr = to_attr(ref->snapshot());
  return ops.make_open_file(std::move(space), std::move(ref), flags);
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

}  // namespace udax::fs
