// SPDX-License-Identifier: BSD-3-Clause
//
// SEEK_DATA, SEEK_HOLE, and where a file lies. Unwritten extents count as holes: they hold nothing. What was stored to a hole through a
// page cache is not in the file yet, and the kernel does not write it back before it asks: who asks finds out by `in_doubt`.
//
// Locks: rwsem and extent_lock shared.
#include <algorithm>
#include <new>

#include "fs/ops.h"

namespace udax::fs {

Result<uint64_t> Filesystem::seek(OpenFile& file, uint64_t offset, bool data, bool* in_doubt) {
  const Ops ops{*this};
  inode::Inode& inode = file.inode();
  if (!inode.is_reg()) return Error::kInvalid;
  const SharedLockGuard guard(inode.rwsem);
  const SharedLockGuard extents(inode.extent_lock);
  const uint64_t size = inode.image().size;
  if (offset >= size) return Error::kNoDevice;
  const extent::Reader map(ops.meta(), inode.image());
  const FileBlock end(blocks_for(size));
  for (FileBlock at(offset >> kBlockShift); at < end;) {
    UDAX_TRY(const extent::Mapping m, map.lookup(at, end - at));
    if (!m.is_data() && in_doubt != nullptr && inode.has_shown_holes.load()) *in_doubt = true;
    if (m.is_data() == data) return std::max(offset, at.value << kBlockShift);
    at = m.end();
  }
  if (data) return Error::kNoDevice;
  return size;  // the hole that follows every file
}

void Filesystem::recall_holes(OpenFile& file) {
  file.inode().has_shown_holes.store(false);  // from here on they count anew
  mappers().drop_copies(file.inode().ino(), {});
}

Result<std::vector<ExtentInfo>> Filesystem::extents(Ino ino, uint64_t offset, size_t count_max) try {
  const Ops ops{*this};
  UDAX_TRY(const inode::InodeRef ref, ops.get(ino));
  if (!ref->is_reg()) return Error::kInvalid;
  if (offset > format::kFileSizeMax) return std::vector<ExtentInfo>();
  const SharedLockGuard guard(ref->rwsem);
  const SharedLockGuard extents(ref->extent_lock);
  std::vector<ExtentInfo> found;
  if (count_max == 0) return found;
  UDAX_CHECK(extent::Reader(ops.meta(), ref->image())
                 .for_each(FileBlock(offset >> kBlockShift), extent::kFileBlockEnd, [&](const extent::Mapping& m) {
                   found.push_back(
                       {m.start.value << kBlockShift, offset_of(m.device), m.count << kBlockShift, m.unwritten});
                   return found.size() < count_max;
                 }));
  return found;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

}  // namespace udax::fs
