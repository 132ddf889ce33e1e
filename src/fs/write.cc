// SPDX-License-Identifier: BSD-3-Clause
//
// Writing: in place where the bytes are there already, else in transactions (write_transaction.cc).
//
// Times change with the kernel's tick, as in kernel filesystems: a write within the same tick changes none.
//
// data=atomic: each write of up to kAtomicMax bytes is all or nothing, over a crash as well. One that one transaction
// does not hold (no long free runs are left) is cut short: what write(2) says was written is all there, the rest not.
//
// Locks: overwriting mapped bytes takes rwsem shared (the kernel keeps overlapping write(2)s apart where POSIX
// wants it); all else exclusive, also what changes bytes of which copies are out (copies.cc). extent_lock shared while
// bytes are copied in place, exclusive in a Change. Faults go on meanwhile: one that has mapped zeroes is caught up with
// after the commit (Dax::filled), before the write returns. Blocks are replaced with invalidate_lock exclusive.
#include <algorithm>

#include "fs/write_transaction.h"

namespace udax::fs {

void Ops::store_data(uint64_t device_offset, const std::byte* data, uint64_t size) const {
  if (medium().granularity() == media::Granularity::kPage || UDAX_KNOB("fs.data_cached")) {
    medium().store(device_offset, data, size);
  } else {
    medium().store_nt(device_offset, data, size);
  }
}

Status Ops::settle() const {
  if (medium().granularity() == media::Granularity::kPage || UDAX_KNOB("fs.skip_settle")) return {};
  return medium().drain();
}

Status Ops::note_stored(inode::Inode& inode, uint64_t offset, uint64_t device_offset, uint64_t size) const {
  if (medium().granularity() != media::Granularity::kPage || size == 0) return {};
  const FileBlock at(offset >> kBlockShift);
  return dax().note_dirty(inode, at, DeviceBlock(device_offset >> kBlockShift),
                          blocks_for(offset + size) - at.value);
}

Status Ops::zero_partial(Change& change, const format::Inode& image, uint64_t from, uint64_t to) const {
  if (from >= to || UDAX_KNOB("fs.skip_zero_partial")) return {};
  UDAX_ASSERT(from >> kBlockShift == (to - 1) >> kBlockShift);
  const FileBlock at(from >> kBlockShift);
  // The shadow is an editor's root; looking up through one sees what this change did.
  format::Inode root = image;
  UDAX_TRY(const extent::Mapping m, extent::Editor(change.blocks(), root).lookup(at, 1));
  if (!m.is_data()) return {};
  // The bytes that stay are gone.
  if (medium().probe(offset_of(m.device), kBlockSize)) return meta().lost("a part of a file", image.ino);
  medium().zero_nt(offset_of(m.device) + (from & (kBlockSize - 1)), to - from);
  change.tx().tx().data_pending();
  return {};
}

Status Ops::zero_tail(Change& change, const format::Inode& image, uint64_t from) const {
  return zero_partial(change, image, from, align_up(from, kBlockSize));
}

namespace {

/// The whole range is mapped, written bytes within the file: copies it in place. False: it is not so.
/// REQUIRES: rwsem.
Result<bool> overwrite_mapped(const Ops& ops, inode::Inode& inode, uint64_t offset,
                              std::span<const std::byte> data, StoredPieces& stored) {
  const SharedLockGuard extents(inode.extent_lock);
  const format::Inode& image = inode.image();
  const uint64_t end = offset + data.size();
  if (end > image.size) return false;
  const extent::Reader map(ops.meta(), image);
  // First all lookups, then the bytes: a write that turns out to need more starts over under the exclusive lock.
  const FileBlock first(offset >> kBlockShift);
  const FileBlock last(blocks_for(end));
  const auto is_sound = [&ops](const extent::Mapping& run) {
    return run.is_data() && !ops.medium().is_lost(offset_of(run.device), run.count * kBlockSize);
  };
  UDAX_TRY(extent::Mapping m, map.lookup(first, last - first));
  if (!is_sound(m)) return false;
  for (extent::Mapping next = m; next.end() < last;) {
    UDAX_TRY(next, map.lookup(next.end(), last - next.end()));
    if (!is_sound(next)) return false;
  }
  for (uint64_t at = offset; at < end;) {
    const FileBlock block(at >> kBlockShift);
    if (block >= m.end()) {
      UDAX_TRY(m, map.lookup(block, last - block));
    }
    const uint64_t run_end = std::min(end, m.end().value << kBlockShift);
    const uint64_t device_offset = offset_of(m.device) + (at & (kBlockSize - 1));
    ops.store_data(device_offset, data.data() + (at - offset), run_end - at);
    stored.add(at, device_offset, run_end - at);
    at = run_end;
  }
  return true;
}

Result<bool> overwrite(const Ops& ops, inode::Inode& inode, uint64_t offset, std::span<const std::byte> data) {
  StoredPieces stored(ops, inode);
  const uint64_t lost = ops.medium().lost_pages();
  UDAX_TRY(const bool done, overwrite_mapped(ops, inode, offset, data, stored));
  if (!done) return false;
  if (ops.medium().lost_pages() != lost) {
    // Perhaps under this write: then others are to take the place of the blocks that are gone.
    UDAX_TRY(const bool is_hit, ops.has_lost(inode, offset, data.size()));
    if (is_hit) {
      if (!ops.medium().drain() && !ops.medium().failed_by_loss()) return Error::kIo;
      return false;
    }
  }
  UDAX_CHECK(stored.note());
  UDAX_CHECK(ops.settle());
  return true;
}

/// mtime and ctime, if the tick has moved on since `before`.
Status touch_after_overwrite(const Ops& ops, inode::Inode& inode, const format::Inode& before) {
  const format::TimeStamp t = now();
  if (inode::is_touched(before, t)) return {};
  Change change(ops.table());
  UDAX_TRY(format::Inode * image, change.edit(inode));
  touch_modified(*image, t);
  return change.commit();
}

/// What a handle cannot do whatever it was opened for: the flag may be younger than the handle.
Status check_pinned(const format::Inode& image, bool append, uint64_t offset) {
  if ((image.flags & format::kFlagImmutable) != 0) return Error::kPermission;
  if ((image.flags & format::kFlagAppend) != 0 && !append && offset < image.size) return Error::kPermission;
  return {};
}

/// REQUIRES: rwsem.
bool has_copies(const inode::Inode& inode, uint64_t offset, uint64_t size) {
  const mapping::AddressSpace* const space = inode.space();
  return space != nullptr &&
         space->copies.any(FileBlock(offset >> kBlockShift), FileBlock(blocks_for(offset + size)));
}

}  // namespace

Result<bool> Ops::has_lost(inode::Inode& inode, uint64_t offset, uint64_t size) const {
  if (medium().lost_pages() == 0) return false;
  const SharedLockGuard extents(inode.extent_lock);
  const extent::Reader map(meta(), inode.image());
  const FileBlock end(blocks_for(offset + size));
  for (FileBlock at(offset >> kBlockShift); at < end;) {
    UDAX_TRY(const extent::Mapping m, map.lookup(at, end - at));
    if (!m.is_hole() && medium().is_lost(offset_of(m.device), m.count * kBlockSize)) return true;
    at = m.end();
  }
  return false;
}

Result<bool> Ops::try_overwrite(inode::Inode& inode, uint64_t offset, std::span<const std::byte> data) const {
  const format::Inode before = inode.snapshot();
  if (UDAX_KNOB("fs.touch_before_data")) UDAX_CHECK(touch_after_overwrite(*this, inode, before));
  UDAX_TRY(const bool done, overwrite(*this, inode, offset, data));
  if (done) UDAX_CHECK(touch_after_overwrite(*this, inode, before));
  return done;
}

Result<uint64_t> Ops::write_exclusive(inode::Inode& inode, uint64_t offset, std::span<const std::byte> data,
                                      bool kill_suidgid, Tearing tearing) const {
  uint64_t done = 0;
  const auto write_step = [&](std::span<const std::byte> part) {
    return write_transaction(*this, inode, offset + done, part, done == 0, kill_suidgid, tearing);
  };
  if (tearing == Tearing::kNever) data = data.first(std::min<uint64_t>(data.size(), kAtomicMax));
  while (done < data.size()) {
    auto step = write_step(data.subspan(done));
    if (!step && step.error() == Error::kNoSpace && data.size() - done > kBlockSize) {
      // Less may still fit: the rest of this block, as write(2) would.
      step = write_step(data.subspan(done, kBlockSize - ((offset + done) & (kBlockSize - 1))));
    }
    if (!step) {
      if (done > 0) return done;
      return step.error();
    }
    done += *step;
    if (tearing == Tearing::kNever) break;
  }
  return done;
}

Result<uint64_t> Filesystem::write(OpenFile& file, uint64_t offset, std::span<const std::byte> data, bool append,
                                   bool kill_suidgid, StaleCopies* stale) {
  return write_as(Bytes::kApart, file, offset, data, append, kill_suidgid, stale, nullptr);
}

// What is written over while its views are there keeps them, but where blocks move, or pages become copies.
void Filesystem::hold_for_write(Bytes bytes, inode::Inode& inode, uint64_t offset, uint64_t size,
                                mapping::HeldViews& held) {
  if (offset > format::kFileSizeMax || size > format::kFileSizeMax - offset) return;
  const bool all =
      options_.data == DataMode::kAtomic || (bytes == Bytes::kCached && Ops{*this}.tracks_copies(inode));
  hold_before(*this, inode, FileBlock(offset >> kBlockShift), FileBlock(blocks_for(offset + size)), all, held);
}

Result<uint64_t> Filesystem::write_as(Bytes bytes, OpenFile& file, uint64_t offset,
                                      std::span<const std::byte> data, bool append, bool kill_suidgid,
                                      StaleCopies* stale, DoubtfulCopies* doubtful) {
  const Ops ops{*this};
  UDAX_CHECK(ops.check_writable());
  inode::Inode& inode = file.inode();
  if (inode.is_dir()) return Error::kIsDirectory;
  if (!inode.is_reg()) return Error::kInvalid;
  if (data.empty()) return uint64_t{0};
  const Tearing tearing = options_.data == DataMode::kAtomic ? Tearing::kNever : Tearing::kAllowed;
  const auto write_shared = [&]() -> Result<bool> {
    if (offset > format::kFileSizeMax || data.size() > format::kFileSizeMax - offset) return Error::kFileTooBig;
    const SharedLockGuard guard(inode.rwsem);
    if (tearing == Tearing::kNever || has_copies(inode, offset, data.size())) return false;
    if (bytes == Bytes::kCached && ops.tracks_copies(inode)) return false;
    const format::Inode image = inode.snapshot();
    UDAX_CHECK(check_pinned(image, append, offset));
    UDAX_TRY(const bool privileged, ops.has_privileges(image, kill_suidgid));
    if (privileged) return false;
    return ops.try_overwrite(inode, offset, data);
  };
  const auto write_alone = [&]() -> Result<uint64_t> {
    const LockGuard guard(inode.rwsem);
    UDAX_CHECK(check_pinned(inode.image(), append, offset));
    UDAX_CHECK(ops.resume_truncate(inode));
    if (append) {
      offset = inode.image().size;
      if (data.size() > format::kFileSizeMax - offset) return Error::kFileTooBig;
    }
    const FileBlock first(offset >> kBlockShift);
    if (bytes == Bytes::kCached && ops.tracks_copies(inode)) {
      return ops.write_beside_copies(inode, offset, data, kill_suidgid, tearing, doubtful);
    }
    const bool copies = has_copies(inode, offset, data.size());
    if (copies) UDAX_CHECK(ops.keep_copies(inode, offset, data.size()));
    UDAX_TRY(const uint64_t done, ops.write_exclusive(inode, offset, data, kill_suidgid, tearing));
    if (copies && stale != nullptr) {
      *stale = {first, FileBlock(blocks_for(offset + done)), inode.space()->copies.begin_wave()};
    }
    return done;
  };
  uint64_t done = data.size();
  bool is_done = false;
  if (!append) {
    UDAX_TRY(is_done, write_shared());
  }
  if (!is_done) {
    mapping::HeldViews held;
    const uint64_t at = append ? uint64_t{inode.snapshot().size} : offset;
    hold_for_write(bytes, inode, at, data.size(), held);
    UDAX_TRY(done, write_alone());
  }
  if ((inode.snapshot().flags & format::kFlagSync) != 0) UDAX_CHECK(ops.flush_data(inode));
  return done;
}

}  // namespace udax::fs
