// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/kernel_pages.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

#include "fuse/call.h"

namespace udax::fuse {

void KernelPages::drop_copies(Ino ino, mapping::ByteRange range) {
  UDAX_ASSERT(!in_fuse_request());
  constexpr uint64_t kOffsetMax = std::numeric_limits<int64_t>::max();
  if (range.start > kOffsetMax || range.end <= range.start) return;
  const uint64_t length = range.end > kOffsetMax ? 0 : range.end - range.start;  // 0: to the end
  const fuse_notify_inval_inode_out out{ino.value, static_cast<int64_t>(range.start),
                                        static_cast<int64_t>(length)};
  const iovec piece = Call::piece_of(std::as_bytes(std::span(&out, 1)));
  (void)notifier_.notify(FUSE_NOTIFY_INVAL_INODE, std::span(&piece, 1));
}

void KernelPages::drop_copies_unlike(Ino ino, uint64_t offset, std::span<const std::byte> bytes) {
  UDAX_ASSERT(!in_fuse_request());
  while (!bytes.empty()) {
    const uint64_t page = offset & ~(kBlockSize - 1);
    const uint64_t size = std::min<uint64_t>(bytes.size(), page + kBlockSize - offset);
    if (differs(ino, offset, bytes.first(size))) drop_copies(ino, {page, page + kBlockSize});
    offset += size;
    bytes = bytes.subspan(size);
  }
}

bool KernelPages::differs(Ino ino, uint64_t offset, std::span<const std::byte> bytes) {
  const std::lock_guard one(one_look_);
  std::unique_lock lock(mutex_);
  const uint64_t id = ++look_;
  expected_ = bytes;
  is_answered_ = false;
  differs_ = false;
  lock.unlock();
  const fuse_notify_retrieve_out out{id, ino.value, offset, static_cast<uint32_t>(bytes.size()), 0};
  const iovec piece = Call::piece_of(std::as_bytes(std::span(&out, 1)));
  const bool is_asked = notifier_.notify(FUSE_NOTIFY_RETRIEVE, std::span(&piece, 1));
  lock.lock();
  // The answer may get lost with the mount.
  while (is_asked && !is_answered_ && notifier_.is_connected()) {
    answered_.wait_for(lock, std::chrono::milliseconds(200));
  }
  is_answered_ = true;
  return differs_;
}

void KernelPages::take_retrieved(uint64_t id, std::span<const std::byte> bytes) {
  const std::lock_guard guard(mutex_);
  if (id != look_ || is_answered_) return;
  const size_t size = std::min(bytes.size(), expected_.size());
  differs_ = std::memcmp(bytes.data(), expected_.data(), size) != 0;
  is_answered_ = true;
  answered_.notify_all();
}

}  // namespace udax::fuse
