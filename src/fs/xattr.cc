// SPDX-License-Identifier: BSD-3-Clause
//
// Extended attributes. The kernel checks who may (xattr(7)); the filesystem stores, and keeps mode and access ACL
// in step: an access ACL sets the mode's bits, and one that says no more than the mode is not stored.
// user.udax.* are the filesystem's own.
//
// Locks: the inode's rwsem, shared to read, exclusive to change.
#include <new>

#include "fs/acl.h"
#include "fs/ops.h"
#include "inode/xattr_store.h"

namespace udax::fs {
namespace {

constexpr uint32_t kXattrCreate = 1;
constexpr uint32_t kXattrReplace = 2;

bool is_acl(const inode::XattrName& name) {
  return name.name_space == format::kXattrAclAccess || name.name_space == format::kXattrAclDefault;
}

// Not stored: the DAX flag and state, in words that setfattr and getfattr carry.
constexpr std::string_view kDaxFlag = "user.udax.dax";     // "0" or "1": the flag
constexpr std::string_view kDaxState = "user.udax.state";  // "dax" or "cached": what the next open gets; read-only
constexpr std::string_view kOurs = "user.udax.";

std::vector<std::byte> to_bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// `name` is one of the filesystem's own. kNoData: it has no such meaning for this inode, or at all.
Result<std::vector<std::byte>> get_own(Filesystem& fs, Ino ino, std::string_view name) {
  const Ops ops{fs};
  UDAX_TRY(const inode::InodeRef ref, ops.get(ino));
  if (!ref->is_reg() && !ref->is_dir()) return Error::kNoData;
  UDAX_TRY(const DaxState state, fs.dax_state(ino));
  if (name == kDaxFlag) return to_bytes(state.flag ? "1" : "0");
  // Of a directory: what a file made in it gets.
  if (name == kDaxState) return to_bytes(state.is_dax ? "dax" : "cached");
  return Error::kNoData;
}

/// kPermission: the state follows from the flag and the mount. kInvalid: neither 0 nor 1.
Status set_own(Filesystem& fs, Ino ino, std::string_view name, std::span<const std::byte> value, uint32_t flags,
               const Caller& caller) {
  if (name == kDaxState) return Error::kPermission;
  if (name != kDaxFlag) return Error::kNotSupported;
  if ((flags & kXattrCreate) != 0) return Error::kExists;
  const std::string_view text(reinterpret_cast<const char*>(value.data()), value.size());
  if (text != "0" && text != "1") return Error::kInvalid;
  return fs.set_flags(ino, text == "1" ? format::kFlagDax : 0, format::kFlagDax, std::nullopt, caller);
}

Result<inode::InodeRef> get_for_change(const Ops& ops, Ino ino) {
  UDAX_CHECK(ops.check_writable());
  return ops.get(ino);
}

Status check_change(const inode::Inode& inode) {
  if (inode.dead) return Error::kStale;
  if ((inode.image().flags & (format::kFlagImmutable | format::kFlagAppend)) != 0) return Error::kPermission;
  return {};
}

Status remove_if_there(Change& change, format::Inode& image, const inode::XattrName& name) {
  const Status removed = inode::xattr_remove(change.blocks(), image, name);
  if (!removed && removed.error() == Error::kNoData) return {};
  return removed;
}

Status set_acl(Change& change, format::Inode& image, const inode::XattrName& name,
               std::span<const std::byte> value, bool kill_sgid) {
  const bool access = name.name_space == format::kXattrAclAccess;
  const uint32_t type = type_of(image.mode);
  if (type == 0120000U) return Error::kNotSupported;
  if (!access && type != 0040000U) return value.size() <= 4 ? Status() : Status(Error::kAccess);
  if (value.size() <= 4) return remove_if_there(change, image, name);  // an ACL without entries
  UDAX_TRY(const Acl acl, Acl::parse(value));
  if (access) {
    image.mode = static_cast<uint16_t>((image.mode & ~0777U) | acl.mode());
    if (kill_sgid) image.mode = static_cast<uint16_t>(image.mode & ~02000U);
    if (acl.is_minimal()) return remove_if_there(change, image, name);
  }
  return inode::xattr_set(change.blocks(), image, name, value, inode::XattrSetMode::kEither);
}

}  // namespace

Result<std::vector<std::byte>> Filesystem::getxattr(Ino ino, std::string_view name) {
  if (name.starts_with(kOurs)) return get_own(*this, ino, name);
  const Ops ops{*this};
  UDAX_TRY(const inode::XattrName parsed, inode::parse_xattr_name(name));
  UDAX_TRY(const inode::InodeRef ref, ops.get(ino));
  const SharedLockGuard guard(ref->rwsem);
  const format::Inode image = ref->snapshot();
  if (image.xattr_block == 0) return Error::kNoData;
  return inode::xattr_get(ops.meta(), image, parsed);
}

Result<std::string> Filesystem::listxattr(Ino ino, const Caller& caller) {
  const Ops ops{*this};
  UDAX_TRY(const inode::InodeRef ref, ops.get(ino));
  const SharedLockGuard guard(ref->rwsem);
  std::string names;
  const format::Inode image = ref->snapshot();
  // Listed where it says something, so that a copy of a tree with its attributes carries the flag.
  if ((image.flags & format::kFlagDax) != 0) (names += kDaxFlag) += '\0';
  UDAX_CHECK(inode::xattr_list(ops.meta(), image, [&](const inode::XattrName& name) {
    if (name.name_space == format::kXattrTrusted && !caller.is_root()) return;
    names += inode::full_xattr_name(name);
    names += '\0';
  }));
  return names;
}

Status Filesystem::setxattr(Ino ino, std::string_view name, std::span<const std::byte> value, uint32_t flags,
                            bool kill_sgid, const Caller& caller) try {
  const Ops ops{*this};
  if ((flags & ~(kXattrCreate | kXattrReplace)) != 0) return Error::kInvalid;
  if (name.starts_with(kOurs)) return set_own(*this, ino, name, value, flags, caller);
  UDAX_TRY(const inode::XattrName parsed, inode::parse_xattr_name(name));
  UDAX_TRY(const inode::InodeRef ref, get_for_change(ops, ino));
  const LockGuard guard(ref->rwsem);
  UDAX_CHECK(check_change(*ref));
  Change change(ops.table());
  UDAX_TRY(format::Inode * image, change.edit(*ref));
  if (is_acl(parsed)) {
    UDAX_CHECK(set_acl(change, *image, parsed, value, kill_sgid));
  } else {
    const auto mode = (flags & kXattrCreate) != 0    ? inode::XattrSetMode::kCreate
                      : (flags & kXattrReplace) != 0 ? inode::XattrSetMode::kReplace
                                                     : inode::XattrSetMode::kEither;
    UDAX_CHECK(inode::xattr_set(change.blocks(), *image, parsed, value, mode));
  }
  set_ctime(*image, now());
  return change.commit();
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status Filesystem::removexattr(Ino ino, std::string_view name, const Caller& caller) {
  const Ops ops{*this};
  // To take the flag's attribute away is to take the flag away.
  if (name == kDaxFlag) return set_flags(ino, 0, format::kFlagDax, std::nullopt, caller);
  if (name == kDaxState) return Error::kPermission;
  UDAX_TRY(const inode::XattrName parsed, inode::parse_xattr_name(name));
  UDAX_TRY(const inode::InodeRef ref, get_for_change(ops, ino));
  const LockGuard guard(ref->rwsem);
  UDAX_CHECK(check_change(*ref));
  Change change(ops.table());
  UDAX_TRY(format::Inode * image, change.edit(*ref));
  const Status removed = inode::xattr_remove(change.blocks(), *image, parsed);
  // An ACL that says no more than the mode is not stored, so that its absence is no error.
  if (!removed && removed.error() == Error::kNoData && is_acl(parsed)) return {};
  UDAX_CHECK(removed);
  set_ctime(*image, now());
  return change.commit();
}

}  // namespace udax::fs
