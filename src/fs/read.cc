// SPDX-License-Identifier: BSD-3-Clause
//
// Reading, without a copy: the sink gets pieces that point into the pool.
//
// Holes and unwritten extents read as zeroes. Pages lost to media errors are never shown: a read ends before the first
// of them, and one that begins with it fails. What fills pages of a kernel's cache must be whole, and fails.
//
// Locks: rwsem and extent_lock shared until the sink has returned, so
// the pieces stay what they are.
#include <fcntl.h>

#include <algorithm>
#include <new>
#include <vector>

#include "base/sync_point.h"
#include "fs/ops.h"

namespace udax::fs {
namespace {

constexpr uint64_t kZeroBytes = 1 << 20;
// What holes read as. Never written to.
alignas(kBlockSize) const std::byte kZeroes[kZeroBytes] = {};

/// One thread's list of pieces, kept between calls so that reading allocates nothing.
std::vector<iovec>& scratch() {
  thread_local std::vector<iovec> pieces;
  pieces.clear();
  return pieces;
}

void add_piece(std::vector<iovec>& pieces, const std::byte* data, uint64_t size) {
  // Read only: iovec takes mutable pointers.
  auto* base = const_cast<std::byte*>(data);
  if (!pieces.empty() && static_cast<std::byte*>(pieces.back().iov_base) + pieces.back().iov_len == base) {
    pieces.back().iov_len += size;
  } else {
    pieces.push_back({base, size});
  }
}

/// Gives the bytes gathered: fewer than `size` if a lost page follows.
Result<uint64_t> gather(const Ops& ops, const format::Inode& image, uint64_t offset, uint64_t size,
                        std::vector<iovec>& pieces) {
  const extent::Reader map(ops.meta(), image);
  const uint64_t start = offset;
  const uint64_t end = offset + size;
  while (offset < end) {
    const FileBlock at(offset >> kBlockShift);
    UDAX_TRY(const extent::Mapping m, map.lookup(at, blocks_for(end) - at.value));
    const uint64_t run_end = std::min(end, m.end().value << kBlockShift);
    uint64_t n = run_end - offset;
    if (m.is_data()) {
      const uint64_t place = offset_of(m.device) + (offset - (at.value << kBlockShift));
      const uint64_t sound = ops.medium().sound_bytes(place, n);
      if (sound > 0) add_piece(pieces, ops.medium().at(place), sound);
      if (sound < n) return offset + sound - start;
    } else {
      while (n > 0) {
        const uint64_t part = std::min(n, kZeroBytes);
        // Read only: iovec takes mutable pointers.
        pieces.push_back({const_cast<std::byte*>(kZeroes), part});
        n -= part;
      }
    }
    offset = run_end;
  }
  return size;
}

bool has_zeroes(const std::vector<iovec>& pieces) {
  return std::any_of(pieces.begin(), pieces.end(), [](const iovec& piece) { return piece.iov_base == kZeroes; });
}

/// The pieces could not be delivered: what cannot be read of them is known to be lost from now on.
void probe(const media::Medium& medium, const std::vector<iovec>& pieces) {
  for (const iovec& piece : pieces) {
    const auto* const data = static_cast<const std::byte*>(piece.iov_base);
    if (data < medium.at(0) || data >= medium.at(0) + medium.size()) continue;
    static_cast<void>(medium.probe(static_cast<uint64_t>(data - medium.at(0)), piece.iov_len));
  }
}

bool atime_is_due(const format::Inode& image, AtimeMode mode, format::TimeStamp t) {
  if (mode == AtimeMode::kNever || (image.flags & format::kFlagNoAtime) != 0) return false;
  const Attr a = to_attr(image);
  if (a.atime == t) return false;
  if (mode == AtimeMode::kStrict) return true;
  constexpr int64_t kDaySeconds = 24 * 60 * 60;  // relatime, mount(8)
  return a.atime <= a.mtime || a.atime <= a.ctime || t.seconds - a.atime.seconds >= kDaySeconds;
}

/// REQUIRES: rwsem, exclusive unless `inode` is a regular file (see inode::Inode::image()).
void store_atime(const Ops& ops, inode::Inode& inode, format::TimeStamp t) {
  if (inode.dead) return;
  Change change(ops.table());
  const auto image = change.edit(inode);
  if (!image) return;  // a time of reading is not worth an error
  set_atime(**image, t);
  static_cast<void>(change.commit());
}

}  // namespace

void Ops::update_atime(inode::Inode& inode) const {
  if (fs.read_only() || inode.dead) return;
  const format::TimeStamp t = now();
  if (!atime_is_due(inode.snapshot(), fs.options_.atime, t)) return;
  if (!inode.is_reg()) {
    const LockGuard guard(inode.rwsem);
    store_atime(*this, inode, t);
  } else {
    const SharedLockGuard guard(inode.rwsem);
    store_atime(*this, inode, t);
  }
}

Status Ops::read_held(inode::Inode& inode, uint64_t offset, uint64_t size, const ReadSink& sink,
                      bool is_whole) const {
  const SharedLockGuard extents(inode.extent_lock);
  const format::Inode& image = inode.image();
  const uint64_t end = image.size;
  if (offset >= end || size == 0) return sink({}, 0);
  size = std::min(size, end - offset);
  std::vector<iovec>& pieces = scratch();
  UDAX_TRY(const uint64_t sound, gather(*this, image, offset, size, pieces));
  if (sound < size && (is_whole || sound == 0)) return meta().lost("a part of a file", inode.ino().value);
  if (is_whole && !inode.has_shown_holes.load(std::memory_order_relaxed) && has_zeroes(pieces)) {
    inode.has_shown_holes.store(true);
  }
  UDAX_SYNC_POINT("fs.read.gathered");
  const Status delivered = sink(pieces, sound);
  if (!delivered && delivered.error() == Error::kIo) probe(medium(), pieces);
  return delivered;
}

Status Filesystem::read(OpenFile& file, uint64_t offset, uint64_t size, const ReadSink& sink) try {
  const Ops ops{*this};
  inode::Inode& inode = file.inode();
  if (inode.is_dir()) return Error::kIsDirectory;
  if (!inode.is_reg()) return Error::kInvalid;
  {
    const SharedLockGuard guard(inode.rwsem);
    UDAX_CHECK(ops.read_held(inode, offset, size, sink));
  }
  if ((file.flags() & O_NOATIME) == 0) ops.update_atime(inode);
  return {};
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

}  // namespace udax::fs
