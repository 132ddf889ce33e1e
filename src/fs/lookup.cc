// SPDX-License-Identifier: BSD-3-Clause
//
// Finding names: lookup, readlink, readdir.
//
// Locks: the directory's rwsem shared. A child is found in the cache while it is held, so that the child cannot be
// freed between its name and its inode (a free takes the last name's directory exclusive).
#include <fcntl.h>

#include <new>

#include "base/crc32c.h"
#include "fs/ops.h"

namespace udax::fs {

Result<Attr> Filesystem::lookup(Ino parent, std::string_view name) {
  const Ops ops{*this};
  UDAX_TRY(const inode::InodeRef dir, ops.get(parent));
  if (name == ".") {  // by handle: of any type
    const SharedLockGuard guard(dir->rwsem);
    if (dir->dead) return Error::kStale;
    UDAX_CHECK(ops.count_lookup(parent));
    return to_attr(dir->snapshot());
  }
  if (!dir->is_dir()) return Error::kNotDirectory;
  if (name.size() > format::kNameMax) return Error::kNameTooLong;
  const SharedLockGuard guard(dir->rwsem);
  Ino ino;
  if (name == "..") {
    if (dir->image().nlink == 0) return Error::kStale;  // removed: it hangs from nothing
    ino = Ino(dir->image().parent);
  } else {
    UDAX_TRY(const dir::Dentry dentry, dir::Reader(ops.meta(), dir->image()).lookup(name));
    ino = dentry.ino;
  }
  UDAX_TRY(const inode::InodeRef child, ops.get_child(*dir, dir::Dentry{ino, 0}));
  UDAX_CHECK(ops.count_lookup(ino));
  return to_attr(child->snapshot());
}

namespace {

/// REQUIRES: rwsem.
Result<std::string> target_of(const Ops& ops, const inode::Inode& link) {
  const format::Inode& image = link.image();
  const uint64_t size = image.size;
  if (image.payload_kind == format::kPayloadInlineSymlink && size <= format::kSymlinkInlineMax) {
    return std::string(reinterpret_cast<const char*>(image.payload), size);
  }
  if (image.payload_kind != format::kPayloadSymlinkBlock || size > format::kSymlinkMax) {
    // One that was removed while still known: it has no target any more.
    if (image.nlink == 0) return Error::kStale;
    return ops.meta().corrupted("symbolic link's payload", link.ino().value);
  }
  const auto* root = reinterpret_cast<const format::SymlinkRoot*>(image.payload);
  const DeviceBlock block(root->block);
  const media::Geometry& geometry = ops.meta().geometry();
  if (!geometry.is_data(block, 1)) {
    return ops.meta().corrupted("symbolic link's block number", link.ino().value);
  }
  const std::byte* target = ops.medium().block(block);
  if (crc32c(geometry.checksum_seed, target, kBlockSize) != root->checksum) {
    return ops.meta().corrupted("symbolic link's block", link.ino().value);
  }
  return std::string(reinterpret_cast<const char*>(target), size);
}

}  // namespace

Result<std::string> Filesystem::readlink(Ino ino) try {
  const Ops ops{*this};
  UDAX_TRY(const inode::InodeRef ref, ops.get(ino));
  if (!ref->is_symlink()) return Error::kInvalid;
  Result<std::string> target = Error::kStale;
  {
    const SharedLockGuard guard(ref->rwsem);
    target = target_of(ops, *ref);
  }
  if (target) ops.update_atime(*ref);
  return target;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

namespace {

Status list(const Ops& ops, const inode::Inode& dir, uint64_t cookie, const DirSink& sink) {
  if (dir.dead.load(std::memory_order_relaxed) || dir.image().nlink == 0) return Error::kNotFound;
  if (cookie < 1 && !sink({".", dir.ino(), dirent_type(dir.mode()), 1})) return {};
  if (cookie < 2 && !sink({"..", Ino(dir.image().parent), dirent_type(dir.mode()), 2})) return {};
  return dir::Reader(ops.meta(), dir.image()).iterate(cookie, [&sink](const dir::Listed& entry) {
    return sink({entry.name, entry.ino, entry.type, entry.cookie});
  });
}

}  // namespace

Status Filesystem::readdir(OpenFile& directory, uint64_t cookie, const DirSink& sink) {
  const Ops ops{*this};
  inode::Inode& dir = directory.inode();
  if (!dir.is_dir()) return Error::kNotDirectory;
  {
    const SharedLockGuard guard(dir.rwsem);
    UDAX_CHECK(list(ops, dir, cookie, sink));
  }
  if ((directory.flags() & O_NOATIME) == 0) ops.update_atime(dir);
  return {};
}

}  // namespace udax::fs
