// SPDX-License-Identifier: BSD-3-Clause
#include "direct/packets.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <new>

namespace udax::direct {

OwnedFd& OwnedFd::operator=(OwnedFd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void OwnedFd::reset() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

namespace {

union ControlBuffer {
  cmsghdr align;
  std::array<char, CMSG_SPACE(kDescriptorsMax * sizeof(int))> bytes;
};

// Takes all descriptors out of a message, so that none stays open by mistake. `out` has room for them.
void take_descriptors(msghdr& message, std::vector<OwnedFd>& out) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
      out.emplace_back(fd);
    }
  }
}

}  // namespace

Result<std::vector<OwnedFd>> receive_packet(int socket, std::span<std::byte> into) try {
  ControlBuffer control{};
  iovec piece{into.data(), into.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.bytes.size();
  std::vector<OwnedFd> descriptors;
  descriptors.reserve(kDescriptorsMax);
  ssize_t n = 0;
  do {
    n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_TRUNC);
  } while (n < 0 && errno == EINTR);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Error::kAgain;
  if (n < 0 && errno == ECONNRESET) return Error::kNoData;
  if (n < 0) return Error::kIo;
  if (n == 0) return Error::kNoData;
  take_descriptors(message, descriptors);
  if (static_cast<size_t>(n) != into.size()) return Error::kInvalid;
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return Error::kInvalid;
  return descriptors;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status send_packet(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors) {
  if (descriptors.size() > kDescriptorsMax) return Error::kInvalid;
  ControlBuffer control{};
  // Read only: iovec serves both ways.
  iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* const c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(c), descriptors.data(), descriptors.size_bytes());
  }
  for (;;) {
    const ssize_t n = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    if (n >= 0) return {};
    if (errno == EINTR) continue;
    return errno == EAGAIN || errno == EWOULDBLOCK ? Error::kAgain : Error::kIo;
  }
}

}  // namespace udax::direct
