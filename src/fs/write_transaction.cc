// SPDX-License-Identifier: BSD-3-Clause
//
// data=inplace: bytes that are there are overwritten where they are; everything else goes to blocks that nothing points
// at yet. data=atomic (Tearing::kNever): bytes that can be seen are replaced, block by block, by new ones in which what
// surrounds them is copied; all in one transaction, so that a crash shows the old bytes or the new.
//
// Persistence
// - New blocks: their bytes, and zeroes for the rest of each, are stored and drained before the transaction
//   that maps them and sets the size. A crash shows the old file or the new one, never what the blocks held.
// - An unwritten extent is filled the same way before it is marked written.
// - Growing past a block that is partly behind the old end zeroes that part first (zero_tail).
// - Blocks lost to media errors are replaced like that in either mode by a write that leaves nothing of them to be seen;
//   another fails.
// - Overwritten bytes are durable when the call returns, unless the medium's granularity is a page: then they are noted
//   as DIRTY entries, which fsync flushes (dax/writeback.cc).
#include "fs/write_transaction.h"

#include <algorithm>

#include "base/sync_point.h"

namespace udax::fs {
namespace {

/// Stores `data` at file offset `offset` into the blocks of `run`, which start at file block `at`, and zeroes around it
/// to the blocks' edges.
void fill_blocks(media::Medium& medium, FileBlock at, DeviceBlock device, uint64_t offset, const std::byte* data,
                 uint64_t size) {
  const uint64_t start = at.value << kBlockShift;
  const uint64_t base = offset_of(device);
  const uint64_t head = offset - start;
  const uint64_t tail = align_up(head + size, kBlockSize);
  const bool zeroes = !UDAX_KNOB("fs.skip_fill_zeroes");
  if (head > 0 && zeroes) medium.zero_nt(base, head);
  if (UDAX_KNOB("fs.last_bytes_cached") && size > 8) {
    medium.store_nt(base + head, data, size - 8);
    medium.store(base + head + size - 8, data + size - 8, 8);
  } else {
    medium.store_nt(base + head, data, size);
  }
  if (tail > head + size && zeroes) medium.zero_nt(base + head + size, tail - (head + size));
}

/// `size` bytes at `offset` of the new blocks from `device` on, which take the place of those from `old` on: the bytes around
/// them, to the blocks' edges, are copied.
void copy_blocks(media::Medium& medium, DeviceBlock device, DeviceBlock old, uint64_t head, const std::byte* data,
                 uint64_t size) {
  const uint64_t to = offset_of(device);
  const uint64_t from = offset_of(old);
  const uint64_t end = head + size;
  const uint64_t tail = align_up(end, kBlockSize);
  if (head > 0) medium.store_nt(to, medium.at(from), head);
  medium.store_nt(to + head, data, size);
  if (tail > end) medium.store_nt(to + end, medium.at(from + end), tail - end);
}

/// Of the blocks from `device` on, so many as are all lost to media errors, or all not.
struct Alike {
  uint64_t count = 0;
  bool is_lost = false;
};
Alike alike(const media::Medium& medium, DeviceBlock device, uint64_t count) {
  const auto is_lost = [&](uint64_t i) { return medium.is_lost(offset_of(device + i), kBlockSize); };
  if (!medium.is_lost(offset_of(device), count * kBlockSize)) return {count, false};
  uint64_t same = 1;
  while (same < count && is_lost(same) == is_lost(0)) ++same;
  return {same, is_lost(0)};
}

/// Bytes of a write of `size` at `offset`, from the start on, that leave nothing to be seen of the blocks that they touch.
uint64_t covering(const format::Inode& image, uint64_t offset, uint64_t size) {
  const uint64_t end = offset + size;
  if (offset % kBlockSize != 0 && align_down(offset, kBlockSize) < image.size) return 0;
  if (end % kBlockSize == 0 || end >= image.size) return size;
  return align_down(end, kBlockSize) > offset ? align_down(end, kBlockSize) - offset : 0;
}

struct Step {
  const Ops& ops;
  Change& change;
  format::Inode& image;
  StoredPieces& stored;
  Tearing tearing = Tearing::kAllowed;
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
  bool is_lost = false;
  if (!m.is_hole()) {
    const Alike run = alike(s.ops.medium(), m.device, count);
    count = run.count;
    is_lost = run.is_lost;
  }
  if (is_lost && m.is_data()) {
    const uint64_t most = std::min<uint64_t>(data.size(), count * kBlockSize - in_block);
    const uint64_t whole = covering(s.image, offset, most);
    if (whole == 0) return s.ops.meta().lost("a part of a file", s.image.ino);
    data = data.first(whole);
    count = blocks_for(in_block + whole);
  }
  // Bytes that somebody can see are not touched: others take their place when all are there.
  const bool replaces = !is_lost && m.is_data() && s.tearing == Tearing::kNever && offset < s.image.size &&
                        !UDAX_KNOB("fs.atomic_in_place");
  if (m.is_hole() || replaces || is_lost) {
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
  if (is_lost) {
    fill_blocks(s.ops.medium(), at, device, offset, data.data(), size);
    s.map_is_whole = false;
    UDAX_CHECK(map.replace(at, {device, blocks_for(in_block + size)}, false));
    s.map_is_whole = true;
  } else if (replaces) {
    const bool is_partial = in_block != 0 || size % kBlockSize != 0;
    if (is_partial && s.ops.medium().probe(offset_of(m.device), count * kBlockSize)) return Error::kIo;
    copy_blocks(s.ops.medium(), device, m.device, in_block, data.data(), size);
    s.map_is_whole = false;
    UDAX_CHECK(map.replace(at, {device, count}, false));
    s.map_is_whole = true;
  } else if (m.is_data() && offset + size > s.image.size) {
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
  if (!UDAX_KNOB("fs.skip_data_pending")) s.change.tx().tx().data_pending();
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
      const bool may_stop =
          piece.error() == Error::kAgain || piece.error() == Error::kNoSpace || piece.error() == Error::kIo;
      if (done > 0 && may_stop && step.map_is_whole) {
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

/// Makes the blocks of [from, to) ready to be replaced: what was stored to them is durable, and nobody has a view of them.
/// REQUIRES: invalidate_lock exclusive.
Status take_back(const Ops& ops, inode::Inode& inode, FileBlock from, FileBlock to, bool has_lost) {
  const Status flushed = ops.dax().writeback(inode, from, to);
  // What was stored to pages that are lost is told of by fsync(2), and is about to be replaced.
  if (!flushed && !has_lost) return flushed;
  return ops.dax().drop(inode, from, to);
}

Result<uint64_t> write_pieces(const Ops& ops, inode::Inode& inode, uint64_t offset,
                              std::span<const std::byte> data, bool first, bool kill_suidgid, size_t pieces_max,
                              Tearing tearing) {
  StoredPieces stored(ops, inode);
  uint64_t done = 0;
  bool has_filled = false;
  const uint64_t old_size = inode.image().size;
  {
    Change change(ops.table());
    UDAX_TRY(format::Inode * image, change.edit(inode));
    Step step{ops, change, *image, stored, tearing};
    UDAX_TRY(done, write_in(step, offset, data, first, kill_suidgid, pieces_max));
    has_filled = step.has_filled;
  }
  UDAX_SYNC_POINT("fs.write.committed");
  // Whoever has zeroes mapped there must see what was written, before the writer is told so.
  if (has_filled) ops.dax().filled(inode, FileBlock(offset >> kBlockShift), FileBlock(blocks_for(offset + done)));
  if (offset + done > old_size) ops.dax().grown(inode, old_size);
  UDAX_CHECK(stored.note());
  return done;
}

/// The same; what outgrows a transaction's groups in the middle of an edit is done again piece by piece.
Result<uint64_t> write_fitting(const Ops& ops, inode::Inode& inode, uint64_t offset,
                               std::span<const std::byte> data, bool first, bool kill_suidgid, Tearing tearing) {
  const auto done = write_pieces(ops, inode, offset, data, first, kill_suidgid, kPiecesMax, tearing);
  if (done || done.error() != Error::kAgain) return done;
  return write_pieces(ops, inode, offset, data, first, kill_suidgid, 1, tearing);
}

}  // namespace

Result<uint64_t> write_transaction(const Ops& ops, inode::Inode& inode, uint64_t offset,
                                   std::span<const std::byte> data, bool first, bool kill_suidgid,
                                   Tearing tearing) {
  const FileBlock from(offset >> kBlockShift);
  const FileBlock to(blocks_for(offset + data.size()));
  for (;;) {
    const uint64_t lost = ops.medium().lost_pages();
    UDAX_TRY(const bool has_lost, ops.has_lost(inode, offset, data.size()));
    const auto write_it = [&]() -> Result<uint64_t> {
      if (tearing == Tearing::kAllowed && !has_lost) {
        return write_fitting(ops, inode, offset, data, first, kill_suidgid, tearing);
      }
      const InvalidateLock guard(inode);
      UDAX_CHECK(take_back(ops, inode, from, to, has_lost));
      return write_fitting(ops, inode, offset, data, first, kill_suidgid, tearing);
    };
    const Result<uint64_t> done = write_it();
    // What was lost only now, of the blocks at hand or of new ones, is known now: it goes around them.
    if (done || done.error() != Error::kIo || ops.medium().lost_pages() == lost) return done;
  }
}

}  // namespace udax::fs
