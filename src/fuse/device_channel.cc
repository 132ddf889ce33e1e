// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/device_channel.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace udax::fuse {

Delivery DeviceChannel::send(const fuse_out_header& header, std::span<const iovec> pieces) {
  UDAX_ASSERT(pieces.size() < pieces_.size());  // kIoMax in pieces of a block are 257
  // Read only: iovec serves reading and writing alike.
  pieces_[0] = {const_cast<fuse_out_header*>(&header), sizeof(header)};
  std::copy(pieces.begin(), pieces.end(), pieces_.begin() + 1);
  for (;;) {
    if (::writev(fd_, pieces_.data(), static_cast<int>(pieces.size() + 1)) >= 0) return Delivery::kDelivered;
    switch (errno) {
      case EINTR: continue;
      case ENOENT:  // the request was interrupted
      case ENODEV:  // the mount is gone
      case ECONNABORTED: return Delivery::kGone;
      case EFAULT: log::error("fuse: bytes of a reply could not be read from the pool"); return Delivery::kFailed;
      default:
        log::error("fuse: reply of {} bytes: {}", header.len, std::strerror(errno));
        return Delivery::kFailed;
    }
  }
}

}  // namespace udax::fuse
