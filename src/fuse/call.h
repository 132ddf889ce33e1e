// SPDX-License-Identifier: BSD-3-Clause
//
// One request on its way through the dispatcher: what it says, and its one reply.
#pragma once

#include <array>
#include <cstring>
#include <span>

#include "base/error.h"
#include "base/types.h"
#include "fs/types.h"
#include "fuse/decoder.h"
#include "fuse/dispatcher.h"
#include "fuse/wire.h"

namespace udax::fuse {

class Call {
 public:
  Call(const Request& request, ReplyChannel& channel) : in(request.body), request_(request), channel_(channel) {}
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  Decoder in;

  [[nodiscard]] const fuse_in_header& header() const { return *request_.header; }
  [[nodiscard]] Ino ino() const { return Ino(request_.header->nodeid); }
  [[nodiscard]] fs::Caller caller(uint32_t umask = 0) const {
    return {.uid = header().uid, .gid = header().gid, .pid = header().pid, .umask = umask & 0777U};
  }
  [[nodiscard]] std::span<std::byte> scratch() const { return request_.scratch; }

  /// The reply of a request that is no longer at hand: `body`, or the error alone.
  static void send_to(ReplyChannel& channel, uint64_t unique, const Status& status,
                      std::span<const std::byte> body) {
    if (!status) body = {};
    const fuse_out_header header{static_cast<uint32_t>(sizeof(fuse_out_header) + body.size()),
                                 status ? 0 : -to_errno(status.error()), unique};
    const iovec piece = piece_of(body);
    (void)channel.send(header, std::span(&piece, body.empty() ? 0U : 1U));
  }

  [[nodiscard]] ReplyChannel& channel() const { return channel_; }
  /// Somebody else replies, or has.
  void set_replied() { replied_ = true; }
  [[nodiscard]] bool replied() const { return replied_; }
  /// A reply was tried that could not be sent.
  [[nodiscard]] bool attempted() const { return attempted_; }
  [[nodiscard]] bool failed() const { return failed_; }

  Delivery send_error(Error error) {
    failed_ = true;
    return send_header(-to_errno(error), {}, 0);
  }
  Delivery send_empty() { return send_header(0, {}, 0); }
  template <typename T>
  requires std::is_trivially_copyable_v<T> Delivery send(const T& body) {
    return send_bytes(std::as_bytes(std::span(&body, 1)));
  }
  Delivery send_bytes(std::span<const std::byte> bytes) {
    const iovec piece = piece_of(bytes);
    return send_header(0, std::span(&piece, 1), bytes.size());
  }
  /// Two parts, one after the other.
  template <typename A, typename B>
  Delivery send_two(const A& first, const B& second) {
    const std::array<iovec, 2> pieces{piece_of(std::as_bytes(std::span(&first, 1))),
                                      piece_of(std::as_bytes(std::span(&second, 1)))};
    return send_header(0, pieces, sizeof(A) + sizeof(B));
  }
  Delivery send_pieces(std::span<const iovec> pieces, uint64_t bytes) { return send_header(0, pieces, bytes); }

  [[nodiscard]] static iovec piece_of(std::span<const std::byte> bytes) {
    // Read only: iovec serves reading and writing alike.
    return {const_cast<std::byte*>(bytes.data()), bytes.size()};
  }

 private:
  Delivery send_header(int32_t error, std::span<const iovec> pieces, uint64_t bytes) {
    UDAX_ASSERT(!replied_);
    const fuse_out_header out{static_cast<uint32_t>(sizeof(fuse_out_header) + bytes), error, header().unique};
    const Delivery delivery = channel_.send(out, pieces);
    attempted_ = true;
    replied_ = delivery != Delivery::kFailed || error != 0;  // an error that cannot be sent is not tried again
    return delivery;
  }

  const Request& request_;
  ReplyChannel& channel_;
  bool replied_ = false;
  bool attempted_ = false;
  bool failed_ = false;
};

}  // namespace udax::fuse
