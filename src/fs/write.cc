// SPDX-License-Identifier: BSD-3-Clause
//
// Writing. data=inplace: bytes that are there are overwritten where they are; everything else goes to blocks that
// nothing points at yet.
//
// Persistence
// - New blocks: their bytes, and zeroes for the rest of each, are stored and drained before the transaction
//   that maps them and sets the size. A crash shows the old file or the new one, never what the blocks held.
// - An unwritten extent is filled the same way before it is marked written.
// - Growing past a block that is partly behind the old end zeroes that part first (zero_tail).
// - Overwritten bytes are durable when the call returns, unless the medium's granularity is a page: then fsync.
// - Times change with the kernel's tick, as in kernel filesystems: a write within the same tick changes none.
//
//   What is left to fsync is noted as DIRTY entries (dax/writeback.cc), which a write never removes.
//
// Locks: overwriting mapped bytes takes rwsem shared (the kernel keeps overlapping write(2)s apart where POSIX
// wants it); all else exclusive, also what changes bytes of which copies are out (copies.cc). extent_lock shared while
// bytes are copied in place, exclusive in a Change. Faults go on meanwhile: one that has mapped zeroes is caught up with
// after the commit (Dax::filled), before the write returns.
#include <algorithm>
#include <array>
#include <utility>

#include "base/sync_point.h"
#include "fs/ops.h"

namespace udax::fs {

void Ops::store_data(uint64_t device_offset, const std::byte* data, uint64_t size) const {
  if (medium().granularity() == media::Granularity::kPage) {
    medium().store(device_offset, data, size);
  } else {
    medium().store_nt(device_offset, data, size);
  }
}

Status Ops::settle() const {
  if (medium().granularity() == media::Granularity::kPage) return {};
  return medium().drain();
}

Status Ops::note_stored(inode::Inode& inode, uint64_t offset, uint64_t device_offset, uint64_t size) const {
  if (medium().granularity() != media::Granularity::kPage || size == 0) return {};
  const FileBlock at(offset >> kBlockShift);
  return dax().note_dirty(inode, at, DeviceBlock(device_offset >> kBlockShift),
                          blocks_for(offset + size) - at.value);
}

Status Ops::zero_partial(Change& change, const format::Inode& image, uint64_t from, uint64_t to) const {
  if (from >= to) return {};
  UDAX_ASSERT(from >> kBlockShift == (to - 1) >> kBlockShift);
  const FileBlock at(from >> kBlockShift);
  // The shadow is an editor's root; looking up through one sees what this change did.
  format::Inode root = image;
  UDAX_TRY(const extent::Mapping m, extent::Editor(change.blocks(), root).lookup(at, 1));
  if (!m.is_data()) return {};
  medium().zero_nt(offset_of(m.device) + (from & (kBlockSize - 1)), to - from);
  change.tx().tx().data_pending();
  return {};
}

Status Ops::zero_tail(Change& change, const format::Inode& image, uint64_t from) const {
  return zero_partial(change, image, from, align_up(from, kBlockSize));
}

namespace {

/// What was stored in place, to be noted once extent_lock is free. Holds a few pieces, and flushes what does not fit.
class StoredPieces {
 public:
  StoredPieces(const Ops& ops, inode::Inode& inode) : ops_(ops), inode_(inode) {}

  void add(uint64_t offset, uint64_t device_offset, uint64_t size) {
    if (count_ < pieces_.size()) {
      pieces_[count_++] = {offset, device_offset, size};
    } else {
      ops_.medium().flush(device_offset, size);
      flushed_ = true;
    }
  }
  /// REQUIRES: rwsem; not extent_lock.
  [[nodiscard]] Status note() {
    for (const Piece& piece : std::span(pieces_).first(std::exchange(count_, 0))) {
      UDAX_CHECK(ops_.note_stored(inode_, piece.offset, piece.device_offset, piece.size));
    }
    return std::exchange(flushed_, false) ? ops_.medium().drain() : Status();
  }

 private:
  struct Piece {
    uint64_t offset = 0;
    uint64_t device_offset = 0;
    uint64_t size = 0;
  };
  const Ops& ops_;
  inode::Inode& inode_;
  std::array<Piece, 16> pieces_{};
  size_t count_ = 0;
  bool flushed_ = false;
};

/// Stores `data` at file offset `offset` into the blocks of `run`, which start at file block `at`, and zeroes around it
/// to the blocks' edges.
void fill_blocks(media::Medium& medium, FileBlock at, DeviceBlock device, uint64_t offset, const std::byte* data,
                 uint64_t size) {
  const uint64_t start = at.value << kBlockShift;
  const uint64_t base = offset_of(device);
  const uint64_t head = offset - start;
  const uint64_t tail = align_up(head + size, kBlockSize);
  if (head > 0) medium.zero_nt(base, head);
  medium.store_nt(base + head, data, size);
  if (tail > head + size) medium.zero_nt(base + head + size, tail - (head + size));
}

struct Step {
  const Ops& ops;
  Change& change;
  format::Inode& image;
  StoredPieces& stored;
  DeviceBlock last_device = kNoBlock;  // behind what was mapped last: where the next block should go
  bool map_is_whole = true;  // false while the editor is at work: an error there leaves a transaction to abort
  bool has_filled = false;   // holes, or unwritten blocks
};

/// Writes one mapping's worth at `offset`. Gives the bytes done.
Result<uint64_t> write_piece(Step& s, uint64_t offset, std::span<const std::byte> data) {
  const FileBlock at(offset >> kBlockShift);
  const uint64_t in_block = offset & (kBlockSize - 1);
  const uint64_t blocks = blocks_for(in_block + data.size());
  extent::Editor map(s.change.blocks(), s.image);
  UDAX_TRY(const extent::Mapping m, map.lookup(at, blocks));
  DeviceBlock device = m.device;
  uint64_t count = std::min(m.count, blocks);
  if (m.is_hole()) {
    if (s.last_device == kNoBlock && at.value > 0) {
      UDAX_TRY(const extent::Mapping before, map.lookup(at - 1, 1));
      if (!before.is_hole()) s.last_device = before.device + 1;
    }
    alloc::Request request;
    request.count = count;
    request.goal = s.last_device;
    request.file_block = at.value;
    UDAX_TRY(const DeviceRun run, s.change.blocks().allocate(request));
    device = run.start;
    count = run.count;
  }
  const uint64_t size = std::min<uint64_t>(data.size(), count * kBlockSize - in_block);
  if (m.is_data() && offset + size > s.image.size) {
    // Durable before the size that shows them: what they replace was cut off once.
    s.ops.medium().store_nt(offset_of(device) + in_block, data.data(), size);
  } else if (m.is_data()) {
    s.ops.store_data(offset_of(device) + in_block, data.data(), size);
    s.stored.add(offset, offset_of(device) + in_block, size);
  } else {
    s.has_filled = true;
    fill_blocks(s.ops.medium(), at, device, offset, data.data(), size);
    const uint64_t touched = blocks_for(in_block + size);
    s.map_is_whole = false;
    if (m.is_hole()) {
      UDAX_CHECK(map.insert(at, {device, count}, false));
    } else {
      UDAX_TRY(const FileBlock done, map.set_unwritten(at, at + touched, false));
      if (done != at + touched) return Error::kAgain;  // a fresh transaction holds it
    }
    s.map_is_whole = true;
  }
  s.change.tx().tx().data_pending();
  s.last_device = device + count;
  return size;
}

// Mappings that one transaction of a write touches at most.
constexpr size_t kPiecesMax = 256;

/// One transaction's worth of a write, from `offset` on, within `change`. Gives the bytes that are committed.
Result<uint64_t> write_in(Step& step, uint64_t offset, std::span<const std::byte> data, bool first,
                          bool kill_suidgid, size_t pieces_max) {
  format::Inode& image = step.image;
  if (first) UDAX_CHECK(step.ops.kill_privileges(step.change, image, kill_suidgid));
  if (offset > image.size) UDAX_CHECK(step.ops.zero_tail(step.change, image, image.size));
  uint64_t done = 0;
  for (size_t pieces = 0;
       done < data.size() && (pieces == 0 || (pieces < pieces_max && !step.change.nearly_full())); ++pieces) {
    const auto piece = write_piece(step, offset + done, data.subspan(done));
    if (!piece) {
      // What is mapped so far is whole, and is kept, unless the map itself was left half edited.
      if (done > 0 && (piece.error() == Error::kAgain || piece.error() == Error::kNoSpace) && step.map_is_whole) {
        break;
      }
      return piece.error();
    }
    done += *piece;
  }
  if (offset + done > image.size) image.size = offset + done;
  touch_modified(image, now());
  UDAX_SYNC_POINT("fs.write.stored");
  UDAX_CHECK(step.change.commit());
  return done;
}

Result<uint64_t> write_pieces(const Ops& ops, inode::Inode& inode, uint64_t offset,
                              std::span<const std::byte> data, bool first, bool kill_suidgid, size_t pieces_max) {
  StoredPieces stored(ops, inode);
  uint64_t done = 0;
  bool has_filled = false;
  {
    Change change(ops.table());
    UDAX_TRY(format::Inode * image, change.edit(inode));
    Step step{ops, change, *image, stored};
    UDAX_TRY(done, write_in(step, offset, data, first, kill_suidgid, pieces_max));
    has_filled = step.has_filled;
  }
  UDAX_SYNC_POINT("fs.write.committed");
  // Whoever has zeroes mapped there must see what was written, before the writer is told so.
  if (has_filled) ops.dax().filled(inode, FileBlock(offset >> kBlockShift), FileBlock(blocks_for(offset + done)));
  UDAX_CHECK(stored.note());
  return done;
}

/// The same; what outgrows a transaction's groups in the middle of an edit is done again piece by piece.
Result<uint64_t> write_step(const Ops& ops, inode::Inode& inode, uint64_t offset, std::span<const std::byte> data,
                            bool first, bool kill_suidgid) {
  const auto done = write_pieces(ops, inode, offset, data, first, kill_suidgid, kPiecesMax);
  if (done || done.error() != Error::kAgain) return done;
  return write_pieces(ops, inode, offset, data, first, kill_suidgid, 1);
}

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
  UDAX_TRY(extent::Mapping m, map.lookup(first, last - first));
  if (!m.is_data()) return false;
  for (extent::Mapping next = m; next.end() < last;) {
    UDAX_TRY(next, map.lookup(next.end(), last - next.end()));
    if (!next.is_data()) return false;
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
  UDAX_TRY(const bool done, overwrite_mapped(ops, inode, offset, data, stored));
  if (!done) return false;
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

Result<bool> Ops::try_overwrite(inode::Inode& inode, uint64_t offset, std::span<const std::byte> data) const {
  const format::Inode before = inode.snapshot();
  UDAX_TRY(const bool done, overwrite(*this, inode, offset, data));
  if (done) UDAX_CHECK(touch_after_overwrite(*this, inode, before));
  return done;
}

Result<uint64_t> Ops::write_exclusive(inode::Inode& inode, uint64_t offset, std::span<const std::byte> data,
                                      bool kill_suidgid) const {
  uint64_t done = 0;
  while (done < data.size()) {
    auto step = write_step(*this, inode, offset + done, data.subspan(done), done == 0, kill_suidgid);
    if (!step && step.error() == Error::kNoSpace && data.size() - done > kBlockSize) {
      // Less may still fit: the rest of this block, as write(2) would.
      const uint64_t part = kBlockSize - ((offset + done) & (kBlockSize - 1));
      step = write_step(*this, inode, offset + done, data.subspan(done, part), done == 0, kill_suidgid);
    }
    if (!step) {
      if (done > 0) return done;
      return step.error();
    }
    done += *step;
  }
  return done;
}

Result<uint64_t> Filesystem::write(OpenFile& file, uint64_t offset, std::span<const std::byte> data, bool append,
                                   bool kill_suidgid, StaleCopies* stale) {
  const Ops ops{*this};
  UDAX_CHECK(ops.check_writable());
  inode::Inode& inode = file.inode();
  if (inode.is_dir()) return Error::kIsDirectory;
  if (!inode.is_reg()) return Error::kInvalid;
  if (data.empty()) return uint64_t{0};
  const auto write_shared = [&]() -> Result<bool> {
    if (offset > format::kFileSizeMax || data.size() > format::kFileSizeMax - offset) return Error::kFileTooBig;
    const SharedLockGuard guard(inode.rwsem);
    if (has_copies(inode, offset, data.size())) return false;
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
    const bool copies = has_copies(inode, offset, data.size());
    if (copies) UDAX_CHECK(ops.keep_copies(inode, offset, data.size()));
    UDAX_TRY(const uint64_t done, ops.write_exclusive(inode, offset, data, kill_suidgid));
    if (copies && stale != nullptr) {
      *stale = {FileBlock(offset >> kBlockShift), FileBlock(blocks_for(offset + done)),
                inode.space()->copies.begin_wave()};
    }
    return done;
  };
  uint64_t done = data.size();
  bool is_done = false;
  if (!append) {
    UDAX_TRY(is_done, write_shared());
  }
  if (!is_done) {
    UDAX_TRY(done, write_alone());
  }
  if ((inode.snapshot().flags & format::kFlagSync) != 0) UDAX_CHECK(ops.flush_data(inode));
  return done;
}

}  // namespace udax::fs
