// SPDX-License-Identifier: BSD-3-Clause
#include "client/control.h"

#include <sys/uio.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

#include "client/kernel.h"

namespace udax::client {
namespace {

constexpr size_t kPassedMax = 4;  // descriptors with one message
constexpr uint32_t kErrnoMax = 4095;

}  // namespace

int ask_leave(int fd, udax_ioc_direct* leave) {
  *leave = {};
  if (::ioctl(fd, UDAX_IOC_DIRECT, leave) != 0) {
    // EINVAL of a FUSE filesystem that is not ours, too.
    return errno == ENOTTY || errno == EINVAL || errno == ENODEV ? ENOSYS : errno;
  }
  if (leave->version == 0 || leave->reserved != 0 || leave->address_length < 2 ||
      leave->address_length > sizeof leave->address) {
    return ENOSYS;
  }
  return 0;
}

int Control::connect(const udax_ioc_direct& leave) {
  Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return errno;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  static_assert(sizeof address.sun_path == sizeof leave.address);
  std::memcpy(address.sun_path, leave.address, leave.address_length);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + leave.address_length);
  if (::syscall(SYS_connect, socket.get(), &address, size) != 0) {
    return errno == ECONNREFUSED || errno == ENOENT ? ECONNRESET : errno;
  }
  // An abstract address may have been taken by anybody since the daemon's death.
  ucred peer{};
  socklen_t peer_size = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) != 0) return errno;
  if (peer.uid != leave.uid) return EPERM;
  socket_ = std::move(socket);
  last_id_ = 0;
  return 0;
}

int Control::send(const direct::Request& request, std::span<const int> passed) {
  direct::Request copy = request;
  iovec part{&copy, sizeof copy};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kPassedMax)> ancillary{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!passed.empty()) {
    message.msg_control = ancillary.data();
    message.msg_controllen = CMSG_SPACE(passed.size_bytes());
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(passed.size_bytes());
    std::memcpy(CMSG_DATA(header), passed.data(), passed.size_bytes());
  }
  return kernel::send_message(socket_.get(), &message) == sizeof copy ? 0 : ECONNRESET;
}

int Control::receive(const direct::Request& request, direct::Reply* reply, std::span<Descriptor> taken) {
  iovec part{reply, sizeof *reply};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kPassedMax)> ancillary{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = ancillary.data();
  message.msg_controllen = ancillary.size();
  const ssize_t got = kernel::receive_message(socket_.get(), &message, MSG_CMSG_CLOEXEC);
  // All that came is taken, so that none is left open whatever else is wrong.
  std::array<Descriptor, kPassedMax> came;
  size_t count = 0;
  for (cmsghdr* h = got < 0 ? nullptr : CMSG_FIRSTHDR(&message); h != nullptr; h = CMSG_NXTHDR(&message, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
    const size_t held = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < held && count < came.size(); ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
      came.at(count++) = Descriptor(fd);
    }
  }
  if (got != sizeof *reply || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return ECONNRESET;
  if (reply->type != request.type || reply->id != request.id || reply->error > kErrnoMax) return ECONNRESET;
  if (reply->descriptors != count || count > taken.size()) return ECONNRESET;
  for (size_t i = 0; i < count; ++i) taken[i] = std::move(came.at(i));
  return 0;
}

int Control::call(direct::Request request, direct::Reply* reply, std::span<const int> passed,
                  std::span<Descriptor> taken) {
  if (!socket_) return ECONNRESET;
  request.id = ++last_id_;
  *reply = {};
  int error = send(request, passed);
  if (error == 0) error = receive(request, reply, taken);
  if (error != 0) {
    socket_.reset();
    return error;
  }
  return static_cast<int>(reply->error);
}

}  // namespace udax::client
