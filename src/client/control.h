// SPDX-License-Identifier: BSD-3-Clause
//
// The control socket to the daemon: one request, one reply (direct/protocol.h). Errors are errno values, positive, 0 for none:
// the library is an edge, and most of them come over the wire as such.
//
// What the daemon answers is checked; an answer that makes no sense ends the connection (ECONNRESET).
#pragma once

#include <udax/ioctl.h>

#include <array>
#include <cstdint>
#include <span>

#include "client/descriptor.h"
#include "direct/protocol.h"

namespace udax::client {

/// Leave to map the file directly, from the mount that `fd` lies on. ENOSYS: that is not udaxfs; EPERM, EOPNOTSUPP, EAGAIN...
[[nodiscard]] int ask_leave(int fd, udax_ioc_direct* leave);

/// Not thread-safe.
class Control {
 public:
  /// To the address that `leave` names, if the process there is that of the daemon. ECONNRESET: nobody there; EPERM: somebody else.
  [[nodiscard]] int connect(const udax_ioc_direct& leave);
  /// 0, the daemon's error, or ECONNRESET. `passed` go with the request; as many of `taken` are filled as come with the reply.
  [[nodiscard]] int call(direct::Request request, direct::Reply* reply, std::span<const int> passed = {},
                         std::span<Descriptor> taken = {});
  void close() { socket_.reset(); }
  [[nodiscard]] bool is_connected() const { return static_cast<bool>(socket_); }

 private:
  int send(const direct::Request& request, std::span<const int> passed);
  int receive(const direct::Request& request, direct::Reply* reply, std::span<Descriptor> taken);

  Descriptor socket_;
  uint32_t last_id_ = 0;
};

}  // namespace udax::client
