// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/ring_entry.h"

#include <cstring>

#include "base/log.h"

namespace udax::fuse {

RingEntry::RingEntry(const media::Medium& medium, std::function<void(RingEntry&)> replied)
    : medium_(medium),
      replied_(std::move(replied)),
      area_(kBlockSize),
      message_(kLead + kIoMax),
      buffers_{iovec{area_.data(), sizeof(wire::RingHeaderArea)}, iovec{message_.data() + kLead, kIoMax}} {}

Result<Request> RingEntry::request() {
  const auto& area = *reinterpret_cast<const wire::RingHeaderArea*>(area_.data());
  std::memcpy(&header_, area.in_out, sizeof(header_));  // the reply's header takes its place
  commit_id_ = area.info.commit_id;
  is_attached_ = true;
  const uint64_t payload = area.info.payload_size;
  if (payload > kIoMax || header_.len < sizeof(header_) + payload) return Error::kInvalid;
  const size_t arguments = header_.len - sizeof(header_) - payload;
  if (arguments > sizeof(area.arguments)) return Error::kInvalid;
  std::byte* const body = message_.data() + kLead - arguments;
  std::memcpy(body, area.arguments, arguments);
  Request request;
  request.header = &header_;
  request.body = {body, arguments + payload};
  return request;
}

Delivery RingEntry::send(const fuse_out_header& header, std::span<const iovec> pieces) {
  auto& area = *reinterpret_cast<wire::RingHeaderArea*>(area_.data());
  std::byte* const payload = message_.data() + kLead;
  const uint64_t faults = medium_.faults();
  size_t size = 0;
  for (const iovec& piece : pieces) {
    if (piece.iov_len > kIoMax - size) {
      log::error("fuse: a reply of more than {} bytes", kIoMax);
      return Delivery::kFailed;
    }
    std::memcpy(payload + size, piece.iov_base, piece.iov_len);
    size += piece.iov_len;
  }
  // Pieces may be pages of the pool: what a page gave that was lost meanwhile was never in the file.
  if (medium_.faults() != faults) return Delivery::kFailed;
  std::memcpy(area.in_out, &header, sizeof(header));
  area.info.payload_size = static_cast<uint32_t>(size);
  if (!is_attached_) replied_(*this);
  return Delivery::kDelivered;
}

std::shared_ptr<ReplyChannel> RingEntry::detach() {
  is_attached_ = false;
  return shared_from_this();
}

}  // namespace udax::fuse
