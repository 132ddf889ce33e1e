// SPDX-License-Identifier: BSD-3-Clause
//
// fallocate(2): allocate, keep the size, punch a hole, zero a range.
//
// Allocated blocks are unwritten: they read as zeroes whatever they hold. Punching and zeroing work on whole blocks
// in the map, and on the bytes of the blocks at the edges. Each transaction leaves a consistent file; the size and
// the times change in the last one.
//
// Locks: rwsem exclusive; punch and zero also invalidate_lock exclusive, after every mapper has let go.
#include <algorithm>

#include "base/sync_point.h"
#include "fs/ops.h"

namespace udax::fs {
namespace {

struct BlockRange {
  FileBlock from;
  FileBlock to;
  [[nodiscard]] bool empty() const { return to <= from; }
};

/// The blocks that [offset, end) touches, and those that it covers.
BlockRange touched(uint64_t offset, uint64_t end) {
  return {FileBlock(offset >> kBlockShift), FileBlock(blocks_for(end))};
}
BlockRange covered(uint64_t offset, uint64_t end) {
  return {FileBlock(blocks_for(offset)), FileBlock(end >> kBlockShift)};
}

// Holes that one transaction fills at most.
constexpr size_t kHolesMax = 256;

/// Fills up to `holes_max` holes of `range` with unwritten extents, as far as one transaction goes. Gives where it
/// stopped. kAgain: fewer would have fitted.
Result<FileBlock> fill_holes(Change& change, format::Inode& image, BlockRange range, size_t holes_max) {
  extent::Editor map(change.blocks(), image);
  FileBlock at = range.from;
  DeviceBlock goal = kNoBlock;
  for (size_t filled = 0; at < range.to && filled < holes_max && (filled == 0 || !change.nearly_full());) {
    UDAX_TRY(const extent::Mapping m, map.lookup(at, range.to - at));
    if (!m.is_hole()) {
      goal = m.device + m.count;
      at = m.end();
      continue;
    }
    alloc::Request request;
    request.count = m.count;
    request.goal = goal;
    request.file_block = at.value;
    const auto run = change.blocks().allocate(request);
    if (!run) {
      if (run.error() == Error::kAgain && at > range.from) return at;
      return run.error();
    }
    UDAX_CHECK(map.insert(at, *run, true));
    goal = run->end();
    at += run->count;
    ++filled;
  }
  return at;
}

/// Size, times, privileges: the last step of every mode.
Status finish(const Ops& ops, Change& change, format::Inode& image, uint64_t new_size) {
  if (new_size > image.size) {
    UDAX_CHECK(ops.zero_tail(change, image, image.size));
    image.size = new_size;
  }
  UDAX_CHECK(ops.kill_privileges(change, image, true));
  touch_modified(image, now());
  return {};
}

Status allocate(const Ops& ops, inode::Inode& inode, BlockRange range, uint64_t new_size) {
  for (size_t holes_max = kHolesMax;;) {
    Change change(ops.table());
    UDAX_TRY(format::Inode * image, change.edit(inode));
    const auto at = fill_holes(change, *image, range, holes_max);
    if (!at && at.error() == Error::kAgain && holes_max > 1) {
      holes_max = 1;
      continue;
    }
    if (!at) return at.error();
    if (*at >= range.to) {
      UDAX_CHECK(finish(ops, change, *image, new_size));
      return change.commit();
    }
    UDAX_CHECK(change.commit());
    range.from = *at;
    holes_max = kHolesMax;
  }
}

/// The last step of punch and zero range: the bytes of [offset, end) in blocks that it does not cover. Last, so that what
/// fails before has changed no byte.
Status finish_edges(const Ops& ops, Change& change, format::Inode& image, uint64_t offset, uint64_t end,
                    uint64_t new_size) {
  const uint64_t head_end = std::min(end, align_up(offset, kBlockSize));
  UDAX_CHECK(ops.zero_partial(change, image, offset, head_end));
  UDAX_CHECK(ops.zero_partial(change, image, std::max(head_end, align_down(end, kBlockSize)), end));
  return finish(ops, change, image, new_size);
}

Status punch(const Ops& ops, inode::Inode& inode, uint64_t offset, uint64_t end) {
  BlockRange whole = covered(offset, end);
  for (;;) {
    Change change(ops.table());
    UDAX_TRY(format::Inode * image, change.edit(inode));
    if (!whole.empty()) {
      // Splitting an extent may need a block: what frees space may take one of the reserve.
      UDAX_TRY(whole.to,
               extent::Editor(change.blocks(), *image, alloc::Purpose::kMustSucceed).remove(whole.from, whole.to));
    }
    const bool done = whole.empty();
    if (done) UDAX_CHECK(finish_edges(ops, change, *image, offset, end, 0));
    UDAX_CHECK(change.commit());
    if (done) return {};
  }
}

/// Holes are filled before bytes are cleared: if room runs out nothing is lost.
Status zero_range(const Ops& ops, inode::Inode& inode, uint64_t offset, uint64_t end, uint64_t new_size) {
  BlockRange holes = touched(offset, end);
  BlockRange whole = covered(offset, end);
  for (;;) {
    Change change(ops.table());
    UDAX_TRY(format::Inode * image, change.edit(inode));
    UDAX_TRY(holes.from, fill_holes(change, *image, holes, kHolesMax));
    if (holes.empty() && !whole.empty() && !change.nearly_full()) {
      UDAX_TRY(whole.from, extent::Editor(change.blocks(), *image).set_unwritten(whole.from, whole.to, true));
    }
    const bool done = holes.empty() && whole.empty();
    if (done) UDAX_CHECK(finish_edges(ops, change, *image, offset, end, new_size));
    UDAX_CHECK(change.commit());
    if (done) return {};
  }
}

}  // namespace

Status Filesystem::fallocate(OpenFile& file, uint32_t mode, uint64_t offset, uint64_t length) {
  const Ops ops{*this};
  UDAX_CHECK(ops.check_writable());
  inode::Inode& inode = file.inode();
  if (inode.is_dir()) return Error::kIsDirectory;
  if (!inode.is_reg()) return Error::kNoDevice;
  if (length == 0) return Error::kInvalid;
  if (offset > format::kFileSizeMax || length > format::kFileSizeMax - offset) return Error::kFileTooBig;
  const uint64_t end = offset + length;
  const bool keep = (mode & kFallocKeepSize) != 0;
  const uint32_t what = mode & ~kFallocKeepSize;
  if (what != 0 && what != kFallocPunchHole && what != kFallocZeroRange) return Error::kNotSupported;
  if (what == kFallocPunchHole && !keep) return Error::kNotSupported;

  // The blocks that go. Those at the edges stay, with the views of them and what is dirty in them.
  const BlockRange whole = what == 0 ? BlockRange{} : covered(offset, end);
  mapping::HeldViews held;
  if (!whole.empty()) {
    hold_views(*this, inode, mapping::bytes_of(whole.from, whole.to), mapping::Patience::kLong, held);
  }
  const LockGuard guard(inode.rwsem);
  const uint32_t flags = inode.image().flags;
  if ((flags & format::kFlagImmutable) != 0) return Error::kPermission;
  if ((flags & format::kFlagAppend) != 0 && what != 0) return Error::kPermission;
  const uint64_t new_size = keep ? 0 : end;
  const uint64_t old_size = inode.image().size;
  UDAX_CHECK(ops.resume_truncate(inode));
  if (what == 0) {
    // What can never fit is refused before any of it is taken.
    const uint64_t wanted = length >> kBlockShift;
    if (wanted > statfs().blocks_available + inode.snapshot().block_count) return Error::kNoSpace;
    UDAX_CHECK(allocate(ops, inode, touched(offset, end), new_size));
    if (new_size > old_size) ops.dax().grown(inode, old_size);
    return {};
  }
  UDAX_CHECK(ops.keep_copies(inode, offset, length));
  const InvalidateLock invalidate(inode);
  UDAX_SYNC_POINT("fs.fallocate.locked");
  if (!whole.empty()) UDAX_CHECK(ops.dax().drop(inode, whole.from, whole.to));
  UDAX_CHECK(what == kFallocPunchHole ? punch(ops, inode, offset, end)
                                      : zero_range(ops, inode, offset, end, new_size));
  Ops::copies_zeroed_at_edges(inode, offset, end);
  if (new_size > old_size) ops.dax().grown(inode, old_size);
  return {};
}

}  // namespace udax::fs
