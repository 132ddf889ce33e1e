// SPDX-License-Identifier: BSD-3-Clause
//
// copy_file_range(2): copies within the pool, from mapped memory to mapped memory. Holes of the source stay holes
// where the destination has none of its own bytes, and become zeroes elsewhere. The copy ends before a page of the
// source that is lost to a media error.
//
// Locks: the source's rwsem shared and the destination's exclusive, by inode number; one and the same: exclusive.
#include <algorithm>
#include <new>

#include "fs/ops.h"

namespace udax::fs {
namespace {

constexpr uint64_t kZeroBytes = 64 * 1024;
alignas(64) const std::byte kZeroes[kZeroBytes] = {};
/// Copied in one call at most; the caller comes back for the rest. Bounds the time that locks are held.
constexpr uint64_t kCopyMax = 64 * 1024 * 1024;

class BothLocks {
 public:
  BothLocks(inode::Inode& from, inode::Inode& to) UDAX_NO_THREAD_SAFETY_ANALYSIS : from_(from), to_(to) {
    if (&from_ != &to_ && from_.ino() < to_.ino()) from_.rwsem.lock_shared();
    to_.rwsem.lock();
    if (&from_ != &to_ && to_.ino() < from_.ino()) from_.rwsem.lock_shared();
  }
  ~BothLocks() UDAX_NO_THREAD_SAFETY_ANALYSIS {
    to_.rwsem.unlock();
    if (&from_ != &to_) from_.rwsem.unlock_shared();
  }
  BothLocks(const BothLocks&) = delete;
  BothLocks& operator=(const BothLocks&) = delete;

 private:
  inode::Inode& from_;
  inode::Inode& to_;
};

Result<extent::Mapping> map_at(const Ops& ops, inode::Inode& inode, uint64_t offset, uint64_t end) {
  const SharedLockGuard guard(inode.extent_lock);
  const FileBlock at(offset >> kBlockShift);
  return extent::Reader(ops.meta(), inode.image()).lookup(at, blocks_for(end) - at.value);
}

/// A copy that takes at least so much is cut to whole pages; of a shorter one nothing is done.
constexpr uint64_t kCutMin = 64 * 1024;

/// The length without the destination's last page, if that has other bytes behind the copied ones.
Result<uint64_t> cut_to_pages(uint64_t offset, uint64_t length, uint64_t size) {
  const uint64_t beyond = (offset + length) & (kBlockSize - 1);
  if ((offset & (kBlockSize - 1)) != 0) return Error::kNotSupported;
  if (beyond == 0 || offset + length >= size) return length;
  if (length < kCutMin) return Error::kNotSupported;
  return length - beyond;
}

/// A hole of the source at [offset, +size) of the destination. Gives the bytes dealt with.
Result<uint64_t> copy_hole(const Ops& ops, inode::Inode& to, uint64_t offset, uint64_t size) {
  UDAX_TRY(const extent::Mapping there, map_at(ops, to, offset, offset + size));
  const uint64_t same = std::min(size, (there.end().value << kBlockShift) - offset);
  if (there.is_data()) {
    return ops.write_exclusive(to, offset, {kZeroes, std::min(same, kZeroBytes)}, true);
  }
  if (offset + same > to.image().size) {
    const format::TimeStamp t = now();
    UDAX_CHECK(ops.resize(to, offset + same, [&ops, t](Change& change, format::Inode& image) -> Status {
      UDAX_CHECK(ops.kill_privileges(change, image, true));
      touch_modified(image, t);
      return {};
    }));
  }
  return same;
}

Result<uint64_t> copy_piece(const Ops& ops, inode::Inode& from, uint64_t from_offset, inode::Inode& to,
                            uint64_t to_offset, uint64_t size) try {
  UDAX_TRY(const extent::Mapping m, map_at(ops, from, from_offset, from_offset + size));
  const uint64_t n = std::min(size, (m.end().value << kBlockShift) - from_offset);
  if (!m.is_data()) return copy_hole(ops, to, to_offset, n);
  const uint64_t place = offset_of(m.device) + (from_offset & (kBlockSize - 1));
  uint64_t sound = n;
  if (ops.medium().probe(place, n)) sound = ops.medium().sound_bytes(place, n);
  if (sound == 0) return ops.meta().lost("a part of a file", from.ino().value);
  return ops.write_exclusive(to, to_offset, {ops.medium().at(place), sound}, true);
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

}  // namespace

Result<uint64_t> Filesystem::copy_range(OpenFile& from, uint64_t from_offset, OpenFile& to, uint64_t to_offset,
                                        uint64_t length, bool whole_pages) {
  const Ops ops{*this};
  UDAX_CHECK(ops.check_writable());
  inode::Inode& source = from.inode();
  inode::Inode& target = to.inode();
  if (source.is_dir() || target.is_dir()) return Error::kIsDirectory;
  if (!source.is_reg() || !target.is_reg()) return Error::kInvalid;
  if (from_offset > format::kFileSizeMax || to_offset > format::kFileSizeMax) return Error::kFileTooBig;
  const BothLocks locks(source, target);
  const uint64_t size = source.snapshot().size;
  if (from_offset >= size) return uint64_t{0};
  length = std::min({length, size - from_offset, format::kFileSizeMax - to_offset, kCopyMax});
  if (&source == &target && from_offset < to_offset + length && to_offset < from_offset + length) {
    return Error::kInvalid;
  }
  if ((target.image().flags & (format::kFlagImmutable | format::kFlagAppend)) != 0) return Error::kPermission;
  UDAX_CHECK(ops.resume_truncate(target));
  if (whole_pages) {
    UDAX_TRY(length, cut_to_pages(to_offset, length, target.snapshot().size));
  }
  UDAX_CHECK(ops.keep_copies(target, to_offset, length));
  uint64_t done = 0;
  while (done < length) {
    const auto n = copy_piece(ops, source, from_offset + done, target, to_offset + done, length - done);
    if (!n) {
      if (done > 0) return done;
      return n.error();
    }
    done += *n;
  }
  return done;
}

}  // namespace udax::fs
