// SPDX-License-Identifier: BSD-3-Clause
//
// Replies by way of a /dev/fuse descriptor: one writev, header and pieces together, so that the kernel copies
// straight from where the bytes are.
//
// Thread safety: one thread at a time each.
#pragma once

#include <climits>
#include <vector>

#include "fuse/dispatcher.h"

namespace udax::fuse {

class DeviceChannel final : public ReplyChannel {
 public:
  explicit DeviceChannel(int fd) : fd_(fd), pieces_(IOV_MAX) {}
  [[nodiscard]] Delivery send(const fuse_out_header& header, std::span<const iovec> pieces) override;
  [[nodiscard]] std::shared_ptr<ReplyChannel> detach() override { return std::make_shared<DeviceChannel>(fd_); }

 private:
  const int fd_;
  std::vector<iovec> pieces_;
};

}  // namespace udax::fuse
