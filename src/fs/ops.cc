// SPDX-License-Identifier: BSD-3-Clause
#include "fs/ops.h"

#include <algorithm>

namespace udax::fs {

RwsemSet::~RwsemSet() {
  while (count_ > 0) held_[--count_]->rwsem.unlock();
}

void RwsemSet::lock(inode::Inode* inode) {
  if (inode == nullptr) return;
  UDAX_ASSERT(count_ < held_.size());
  inode->rwsem.lock();
  held_[count_++] = inode;
}

Attr to_attr(const format::Inode& image) {
  Attr a;
  a.ino = Ino(image.ino);
  a.generation = image.generation;
  a.mode = image.mode;
  a.nlink = image.nlink;
  a.uid = image.uid;
  a.gid = image.gid;
  if (image.payload_kind == format::kPayloadDevice) {
    const auto* device = reinterpret_cast<const format::DeviceNumber*>(image.payload);
    a.rdev_major = device->major;
    a.rdev_minor = device->minor;
  }
  a.size = image.size;
  a.blocks = image.block_count;
  a.flags = image.flags;
  a.project_id = image.project_id;
  a.atime = {static_cast<int64_t>(image.atime_s.get()), image.atime_ns};
  a.mtime = {static_cast<int64_t>(image.mtime_s.get()), image.mtime_ns};
  a.ctime = {static_cast<int64_t>(image.ctime_s.get()), image.ctime_ns};
  a.btime = {static_cast<int64_t>(image.btime_s.get()), image.btime_ns};
  return a;
}

Status check_name(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return Error::kInvalid;
  if (name.size() > format::kNameMax) return Error::kNameTooLong;
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos)
    return Error::kInvalid;
  return {};
}

Status Ops::check_writable() const {
  if (fs.read_only() || fs.journal_->failed()) return Error::kReadOnly;
  return {};
}

Result<inode::InodeRef> Ops::get(Ino ino) const {
  auto ref = cache().get(ino);
  if (!ref && ref.error() == Error::kNotFound) return Error::kStale;
  return ref;
}

Result<inode::InodeRef> Ops::get_dir(Ino ino) const {
  UDAX_TRY(inode::InodeRef ref, get(ino));
  if (!ref->is_dir()) return Error::kNotDirectory;
  return ref;
}

Result<inode::InodeRef> Ops::get_child(const inode::Inode& dir, const dir::Dentry& dentry) const {
  auto ref = cache().get(dentry.ino);
  if (ref) return ref;
  if (ref.error() == Error::kStale || ref.error() == Error::kNotFound) {
    return meta().corrupted("directory entry names a free inode", dir.ino().value);
  }
  return ref.error();
}

Status Ops::count_lookup(Ino ino) const {
  if (!fs.options_.count_lookups) return {};
  return cache().add_lookup(ino);
}

void Ops::uncount_lookup(Ino ino) const {
  if (fs.options_.count_lookups) cache().forget(ino, 1);
}

Status Ops::check_dir_change(const inode::Inode& dir, bool removing) {
  const uint32_t flags = dir.image().flags;
  if ((flags & format::kFlagImmutable) != 0) return Error::kPermission;
  if (removing && (flags & format::kFlagAppend) != 0) return Error::kPermission;
  // A directory that was removed while somebody stood in it.
  if (!removing && (dir.image().nlink == 0 || dir.dead.load(std::memory_order_relaxed))) return Error::kNotFound;
  return {};
}

bool Ops::effective_dax(const format::Inode& image, bool of_children) const {
  if (type_of(image.mode) != 0100000U && !of_children) return false;
  switch (fs.options_.dax) {
    case DaxMode::kAlways: return true;
    case DaxMode::kNever: return false;
    case DaxMode::kInode: return (image.flags & format::kFlagDax) != 0;
  }
  return false;
}

}  // namespace udax::fs
