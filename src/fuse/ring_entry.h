// SPDX-License-Identifier: BSD-3-Clause
//
// One entry of a ring's queue: the buffers that a request comes in and its reply leaves in.
//
// A request is taken apart into the form that the dispatcher knows: a header, and a body in one piece. The fixed-size
// arguments are copied to just below the payload, where room is kept for them; the payload stays where it is, so that the
// bytes of a WRITE are at a page's start.
//
// Thread safety: one thread at a time; an entry is handed to another thread and back as a whole.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "fuse/dispatcher.h"
#include "fuse/pages.h"
#include "fuse/ring_protocol.h"
#include "media/medium.h"

namespace udax::fuse {

class RingEntry final : public ReplyChannel, public std::enable_shared_from_this<RingEntry> {
 public:
  /// `replied` is told when a reply is in place that another thread than the queue's own made. Throws std::bad_alloc.
  RingEntry(const media::Medium& medium, std::function<void(RingEntry&)> replied);

  /// What REGISTER takes.
  [[nodiscard]] const std::array<iovec, 2>& buffers() const { return buffers_; }
  /// What came. kInvalid: its lengths do not fit together; there is still a header to reply to.
  [[nodiscard]] Result<Request> request();
  [[nodiscard]] const fuse_in_header& header() const { return header_; }
  [[nodiscard]] uint64_t commit_id() const { return commit_id_; }

  /// Puts the reply into the entry. The ring's own thread sends it off.
  [[nodiscard]] Delivery send(const fuse_out_header& header, std::span<const iovec> pieces) override;
  /// From now on a reply is announced with `replied`.
  [[nodiscard]] std::shared_ptr<ReplyChannel> detach() override;
  /// True until detach() was called for the request at hand: its reply is in place when the dispatcher returns.
  [[nodiscard]] bool is_attached() const { return is_attached_; }

 private:
  // For the largest fixed arguments, below the payload.
  static constexpr size_t kLead = 4096;

  const media::Medium& medium_;
  const std::function<void(RingEntry&)> replied_;
  Pages area_;     // RingHeaderArea
  Pages message_;  // lead and payload
  std::array<iovec, 2> buffers_;
  fuse_in_header header_{};
  uint64_t commit_id_ = 0;
  bool is_attached_ = true;
};

}  // namespace udax::fuse
