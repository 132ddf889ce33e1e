// SPDX-License-Identifier: BSD-3-Clause
#include "client/vault.h"

#include <sys/uio.h>

#include <array>
#include <cstring>

#include "client/kernel.h"

namespace udax::client {
namespace {

struct Letter {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> ancillary{};
  msghdr message{};

  Letter() {
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.data();
    message.msg_controllen = ancillary.size();
  }
};

}  // namespace

Descriptor seal(int fd) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return {};
  Descriptor keeper(ends[0]);
  const Descriptor sender(ends[1]);
  Letter letter;
  cmsghdr* const header = CMSG_FIRSTHDR(&letter.message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (kernel::send_message(sender.get(), &letter.message) != 1) return {};
  return keeper;
}

Descriptor unseal(const Descriptor& vault) { return Descriptor(take_copy(vault.get())); }

int take_copy(int vault) {
  if (vault < 0) return -1;
  Letter letter;
  if (kernel::receive_message(vault, &letter.message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1) return -1;
  const cmsghdr* const header = CMSG_FIRSTHDR(&letter.message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int))) return -1;
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

}  // namespace udax::client
