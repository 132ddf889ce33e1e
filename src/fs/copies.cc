// SPDX-License-Identifier: BSD-3-Clause
//
// Files of which a kernel's page cache holds pages while others access them directly: which pages are out, what comes
// back, and what must be recalled. mapping/page_copies.h has the scheme.
//
// Only files that are DAX, or have handles that were opened so, are tracked: of others every change goes through the
// same page cache. A flip of the flag takes all copies back on both sides of it (flags.cc).
//
// Locks: rwsem, exclusive where what is out changes.
#include <fcntl.h>

#include <algorithm>
#include <new>

#include "fs/ops.h"

namespace udax::fs {
namespace {

// Of a range that becomes a hole, so many pages get twins at most. The kernel writes such a range back before it asks,
// and drops it after; only a write-back just between the two needs them.
constexpr uint64_t kKeptMax = 4U << 20;

FileBlock first_block(uint64_t offset) { return FileBlock(offset >> kBlockShift); }
FileBlock end_block(uint64_t end) { return FileBlock(blocks_for(end)); }

mapping::PageCopies* copies_of(const inode::Inode& inode) {
  mapping::AddressSpace* const space = inode.space();
  return space == nullptr || space->copies.empty() ? nullptr : &space->copies;
}

}  // namespace

bool Ops::tracks_copies(const inode::Inode& inode) const {
  // What is known of pages that are out must stay right also while nobody needs it: the flag may come back.
  return inode.open_dax.load(std::memory_order_relaxed) > 0 || copies_of(inode) != nullptr ||
         effective_dax(inode.snapshot());
}

Status Ops::copies_go_out(inode::Inode& inode, FileBlock from, FileBlock to, bool is_fresh) const {
  UDAX_TRY(mapping::AddressSpace* const space, inode.make_space());
  UDAX_CHECK(is_fresh ? space->copies.hand_out(from, to) : space->copies.note_out(from, to));
  dax().revoke(inode, from, to);
  return {};
}

Status Ops::keep_copies(inode::Inode& inode, uint64_t offset, uint64_t size) const {
  mapping::PageCopies* const copies = copies_of(inode);
  if (copies == nullptr || size == 0) return {};
  const size_t before = copies->twins();
  const uint64_t end = offset + std::min(size, kKeptMax);
  UDAX_CHECK(copies->keep(first_block(offset), end_block(end), [&](FileBlock at, mapping::PageCopies::Page& page) {
    return dax().read_page(inode, at, page);
  }));
  dax::count(dax().counters().pages_twinned, copies->twins() - before);
  return {};
}

Result<uint64_t> Ops::write_beside_copies(inode::Inode& inode, uint64_t offset, std::span<const std::byte> data,
                                          bool kill_suidgid, Tearing tearing, DoubtfulCopies* doubtful) const {
  UDAX_TRY(mapping::AddressSpace* const space, inode.make_space());
  mapping::PageCopies& copies = space->copies;
  const FileBlock from = first_block(offset);
  const FileBlock to = end_block(offset + data.size());
  const bool is_doubtful = doubtful != nullptr && copies.may_lack(from, to) && !UDAX_KNOB("fs.copies.no_doubt");
  DoubtfulCopies doubt;
  if (is_doubtful) {
    doubt = {offset, {data.begin(), data.end()}, inode.image().size};
    // What comes back may have the bytes or not: told from what was there before, neither harms them.
    UDAX_CHECK(keep_copies(inode, offset, data.size()));
  }
  UDAX_CHECK(copies_go_out(inode, from, to, false));
  UDAX_TRY(const uint64_t done, write_exclusive(inode, offset, data, kill_suidgid, tearing));
  copies.note_written(from, to);
  if (is_doubtful) {
    doubt.bytes.resize(done);
    *doubtful = std::move(doubt);
    dax::count(dax().counters().copies_doubted);
  } else {
    // The same bytes go to the file and to the copies, so nothing needs to be kept to tell them apart.
    copies.overlay(offset, data.first(done));
  }
  return done;
}

void Ops::copies_cut(inode::Inode& inode, uint64_t size) {
  mapping::PageCopies* const copies = copies_of(inode);
  if (copies == nullptr) return;
  copies->zero(size, align_up(size, kBlockSize) - size);
  copies->forget(end_block(size), extent::kFileBlockEnd);
}

void Ops::copies_zeroed_at_edges(inode::Inode& inode, uint64_t offset, uint64_t end) {
  mapping::PageCopies* const copies = copies_of(inode);
  if (copies == nullptr) return;
  const uint64_t head_end = std::min(end, align_up(offset, kBlockSize));
  const uint64_t tail = std::max(head_end, align_down(end, kBlockSize));
  if (head_end > offset) copies->zero(offset, head_end - offset);
  if (end > tail) copies->zero(tail, end - tail);
}

Status Filesystem::fill(OpenFile& file, uint64_t offset, uint64_t size, const ReadSink& sink) try {
  const Ops ops{*this};
  inode::Inode& inode = file.inode();
  if (!inode.is_reg()) return inode.is_dir() ? Error::kIsDirectory : Error::kInvalid;
  if (offset > format::kFileSizeMax || size > format::kFileSizeMax - offset) return Error::kInvalid;
  const FileBlock from = first_block(offset);
  const FileBlock to = end_block(offset + size);
  const auto read_shared = [&]() -> Result<bool> {
    const SharedLockGuard guard(inode.rwsem);
    if (ops.tracks_copies(inode)) {
      mapping::AddressSpace* const space = inode.space();
      if (space == nullptr || !space->copies.hand_out_again(from, to)) return false;
    }
    UDAX_CHECK(ops.read_held(inode, offset, size, sink, true));
    return true;
  };
  UDAX_TRY(const bool done, read_shared());
  if (!done) {
    mapping::HeldViews held;
    hold_before(*this, inode, from, to, true, held);
    const LockGuard guard(inode.rwsem);
    UDAX_CHECK(ops.copies_go_out(inode, from, to, true));
    dax::count(dax_->counters().pages_filled, to - from);
    UDAX_CHECK(ops.read_held(inode, offset, size, sink, true));
  }
  if ((file.flags() & O_NOATIME) == 0) ops.update_atime(inode);
  return {};
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status Filesystem::write_back(OpenFile& file, uint64_t offset, std::span<const std::byte> data) {
  const Ops ops{*this};
  UDAX_CHECK(ops.check_writable());
  inode::Inode& inode = file.inode();
  if (!inode.is_reg()) return Error::kInvalid;
  {
    const SharedLockGuard guard(inode.rwsem);
    if (copies_of(inode) == nullptr && offset + data.size() <= inode.snapshot().size) {
      UDAX_TRY(const bool done, ops.try_overwrite(inode, offset, data));
      if (done) return {};
    }
  }
  const LockGuard guard(inode.rwsem);
  if (inode.dead) return Error::kStale;
  // Pages do not make a file grow: who sets its size does.
  const uint64_t size = inode.image().size;
  if (offset >= size) return {};
  data = data.first(std::min<uint64_t>(data.size(), size - offset));
  const auto store = [&](uint64_t at, std::span<const std::byte> bytes) -> Status {
    UDAX_TRY(const bool in_place, ops.try_overwrite(inode, at, bytes));
    if (in_place) return {};
    UDAX_TRY(const uint64_t done, ops.write_exclusive(inode, at, bytes, false));
    return done == bytes.size() ? Status() : Status(Error::kNoSpace);
  };
  mapping::PageCopies* const copies = copies_of(inode);
  if (copies == nullptr) return store(offset, data);
  dax::count(dax_->counters().pages_returned, blocks_for(data.size()));
  return copies->merge(offset, data, store);
}

Result<uint64_t> Filesystem::write_through(OpenFile& file, uint64_t offset, std::span<const std::byte> data,
                                           bool kill_suidgid, DoubtfulCopies* doubtful) try {
  return write_as(Bytes::kCached, file, offset, data, false, kill_suidgid, nullptr, doubtful);
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

bool Filesystem::mend_copies(OpenFile& file, const DoubtfulCopies& doubtful) {
  const uint64_t shown = doubtful.shown();
  mappers().drop_copies_unlike(file.inode().ino(), doubtful.offset, std::span(doubtful.bytes).first(shown));
  if (shown < doubtful.bytes.size() && (doubtful.size_before & (kBlockSize - 1)) != 0) return false;
  settle_copies(file.inode(), doubtful);
  return true;
}

void Filesystem::mend_copies_at_end(OpenFile& file, const DoubtfulCopies& doubtful) {
  const FileBlock last = first_block(doubtful.size_before);
  mappers().drop_copies(file.inode().ino(), mapping::bytes_of(last, FileBlock(last.value + 1)));
  settle_copies(file.inode(), doubtful);
}

void Filesystem::settle_copies(inode::Inode& inode, const DoubtfulCopies& doubtful) {
  const LockGuard guard(inode.rwsem);
  inode.space()->copies.settle(doubtful.offset, doubtful.bytes);
}

void Filesystem::recall(OpenFile& file, const StaleCopies& stale) { recall(file.inode(), stale); }

void Filesystem::recall_edges(OpenFile& file, uint64_t offset, uint64_t end) {
  const auto drop = [&](FileBlock at) {
    mappers().drop_copies(file.inode().ino(), mapping::bytes_of(at, FileBlock(at.value + 1)));
  };
  const FileBlock first = first_block(offset);
  const FileBlock last = first_block(end);
  if ((offset & (kBlockSize - 1)) != 0) drop(first);
  if ((end & (kBlockSize - 1)) != 0 && (last != first || (offset & (kBlockSize - 1)) == 0)) drop(last);
}

void Filesystem::recall(inode::Inode& inode, const StaleCopies& stale) {
  if (!stale.any()) return;
  dax::count(dax_->counters().copies_recalled);
  mappers().drop_copies(inode.ino(), mapping::bytes_of(stale.from, stale.to));
  const LockGuard guard(inode.rwsem);
  if (mapping::AddressSpace* const space = inode.space(); space != nullptr) {
    space->copies.end_wave(stale.from, stale.to, stale.wave, mappers().return_late());
  }
}

void Filesystem::tell_attributes(inode::Inode& inode) {
  mapping::AddressSpace* const space = inode.space();
  if (space == nullptr || !space->has_untold_attributes.load(std::memory_order_relaxed)) return;
  if (!space->has_untold_attributes.exchange(false) || UDAX_KNOB("fs.attributes.tell_nobody")) return;
  mappers().drop_attributes(inode.ino());
}

Result<dax::FaultResult> Filesystem::fault(inode::Inode& inode, FileBlock at, dax::Access access,
                                           uint32_t order_max, const dax::Install& install) {
  const Ops ops{*this};
  for (;;) {
    UDAX_TRY(const dax::FaultResult result, dax_->fault(inode, at, access, order_max, install));
    tell_attributes(inode);
    if (result != dax::FaultResult::kCopiesOut) return result;
    // Of a page that is out itself only that page: whoever else uses the file's pages is not to lose them all.
    const bool is_out = inode.space()->copies.any_or_late(at, at + 1);
    const uint64_t blocks = order_max >= mapping::kHugeOrder && !is_out ? kHugeBlocks : 1;
    StaleCopies out{FileBlock(align_down(at.value, blocks)), {}, {}};
    out.to = out.from + blocks;
    if (mappers().return_late()) {
      // What is stored through the view to come is not to be covered by a page that comes back late, now or later.
      const LockGuard guard(inode.rwsem);
      UDAX_CHECK(ops.keep_copies(inode, out.from.value << kBlockShift, blocks << kBlockShift));
      out.wave = inode.space()->copies.begin_wave();
    } else {
      const SharedLockGuard guard(inode.rwsem);
      out.wave = inode.space()->copies.begin_wave();
    }
    recall(inode, out);
  }
}

}  // namespace udax::fs
