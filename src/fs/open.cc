// SPDX-License-Identifier: BSD-3-Clause
//
// Opening and releasing. An open handle keeps an inode's bytes: the last release of one without a name evicts it.
//
// Locks: open counts up with the inode's rwsem shared, so that an unlink (exclusive) sees every handle there is.
#include <fcntl.h>

#include <new>

#include "base/log.h"
#include "fs/ops.h"

namespace udax::fs {

OpenFile::OpenFile(Filesystem& fs, inode::InodeRef ref, uint32_t flags, bool dax)
    : fs_(fs), ref_(std::move(ref)), flags_(flags), dax_(dax), errors_seen_(ref_->write_errors.load()) {
  ref_->open_count.fetch_add(1);
  (dax_ ? ref_->open_dax : ref_->open_cached).fetch_add(1);
}

OpenFile::~OpenFile() { fs_.release(*this); }

Result<OpenFileSpace> Ops::open_file_space() {
  static_assert(alignof(OpenFile) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
  OpenFileSpace space(::operator new(sizeof(OpenFile), std::nothrow));
  if (space == nullptr) return Error::kNoMemory;
  return space;
}

OpenFilePtr Ops::make_open_file(OpenFileSpace space, inode::InodeRef ref, uint32_t flags) const {
  const bool dax = effective_dax(ref->snapshot());
  return OpenFilePtr(new (space.release()) OpenFile(fs, std::move(ref), flags, dax));
}

Result<OpenFilePtr> Ops::make_open_file(inode::InodeRef ref, uint32_t flags) const {
  UDAX_TRY(OpenFileSpace space, open_file_space());
  return make_open_file(std::move(space), std::move(ref), flags);
}

Result<OpenFilePtr> Filesystem::open(Ino ino, uint32_t flags, bool kill_suidgid) try {
  const Ops ops{*this};
  UDAX_TRY(inode::InodeRef ref, ops.get(ino));
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  const bool truncates = (flags & O_TRUNC) != 0 && ref->is_reg();
  if (writes || truncates) {
    UDAX_CHECK(ops.check_writable());
    const uint32_t pinned = ref->snapshot().flags;
    if ((pinned & format::kFlagImmutable) != 0) return Error::kPermission;
    // open(2): an append-only file is opened for writing with O_APPEND only, and not truncated.
    if ((pinned & format::kFlagAppend) != 0 && ref->is_reg() && ((flags & O_APPEND) == 0 || truncates)) {
      return Error::kPermission;
    }
  }
  if (writes && ref->is_dir()) return Error::kIsDirectory;
  if (truncates) {
    mapping::HeldViews held;
    hold_views(*this, *ref, {}, mapping::Patience::kShort, held);
    const LockGuard guard(ref->rwsem);
    if (ref->dead) return Error::kStale;
    const format::TimeStamp t = now();
    UDAX_CHECK(ops.resize(*ref, 0, [&](Change& change, format::Inode& image) -> Status {
      UDAX_CHECK(ops.kill_privileges(change, image, kill_suidgid));
      touch_modified(image, t);
      return {};
    }));
    return ops.make_open_file(ref.share(), flags);
  }
  const SharedLockGuard guard(ref->rwsem);
  if (ref->dead) return Error::kStale;
  return ops.make_open_file(ref.share(), flags);
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

void Filesystem::release(OpenFile& file) {
  inode::Inode& inode = file.inode();
  const Ops ops{*this};
  (file.dax_ ? inode.open_dax : inode.open_cached).fetch_sub(1);
  if (inode.open_count.fetch_sub(1) != 1) return;
  if (inode.snapshot().nlink != 0 || read_only()) return;
  const LockGuard guard(inode.rwsem);
  if (inode.open_count.load() != 0 || inode.image().nlink != 0 || !inode.orphan || inode.dead) return;
  if (const Status done = ops.evict(inode); !done) {
    log::error("released inode {} cannot be freed now: {}", inode.ino().value, to_string(done.error()));
  }
}

}  // namespace udax::fs
