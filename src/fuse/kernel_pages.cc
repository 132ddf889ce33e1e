// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/kernel_pages.h"

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

}  // namespace udax::fuse
