// SPDX-License-Identifier: BSD-3-Clause
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "direct/packets.h"
#include "direct/request_check.h"

namespace udax::direct {
namespace {

Request request(RequestType type) {
  Request out;
  out.type = static_cast<uint32_t>(type);
  return out;
}

TEST(Requests, EveryByteThatATypeDoesNotUseMustBeZero) {
  // How many of the 80 bytes may be something else, by type: those of the fields that it uses, and the id.
  const std::array<std::pair<RequestType, size_t>, 10> kUsed{{{RequestType::kOpen, 16},
                                                              {RequestType::kClose, 4},
                                                              {RequestType::kMap, 4 + 16 + 8},
                                                              {RequestType::kUnmap, 16},
                                                              {RequestType::kRemap, 32},
                                                              {RequestType::kProtect, 16},
                                                              {RequestType::kSync, 16},
                                                              {RequestType::kAdvise, 16},
                                                              {RequestType::kQuery, 16},
                                                              {RequestType::kDetach, 0}}};
  for (const auto& [type, used] : kUsed) {
    EXPECT_TRUE(check_request(request(type), 0));
    EXPECT_FALSE(check_request(request(type), 1)) << "descriptors";
    size_t accepted = 0;
    for (size_t at = 4; at < sizeof(Request); ++at) {
      Request r = request(type);
      auto* const bytes = reinterpret_cast<unsigned char*>(&r);
      bytes[at] = 0x80;
      accepted += check_request(r, 0) ? 1 : 0;
    }
    EXPECT_EQ(accepted, used + sizeof(Request::id)) << "type " << static_cast<uint32_t>(type);
  }
}

TEST(Requests, UnknownTypesFlagsAndProtections) {
  for (const uint32_t type : {0U, 1U, 2U, 13U, ~0U}) {
    Request r;
    r.type = type;
    EXPECT_FALSE(check_request(r, 0)) << type;
  }
  for (const uint32_t prot : {kProtWrite, 4U, 8U, 7U}) {
    Request r = request(RequestType::kMap);
    r.prot = prot;
    EXPECT_FALSE(check_request(r, 0)) << prot;
  }
  Request r = request(RequestType::kMap);
  r.prot = kProtRead | kProtWrite;
  r.flags = kMapSync | kMapPopulate;
  EXPECT_TRUE(check_request(r, 0));
  r.flags = 4;
  EXPECT_FALSE(check_request(r, 0));
}

struct Pair {
  OwnedFd a, b;
  Pair() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    a = OwnedFd(ends[0]);
    b = OwnedFd(ends[1]);
  }
};

int count_open() {
  int open = 0;
  for (int fd = 0; fd < 256; ++fd) open += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return open;
}

TEST(Packets, OnlyWholeOnesOfTheRightSize) {
  const Pair pair;
  std::array<std::byte, 8> into{};
  std::array<std::byte, 16> bytes{};
  for (const size_t size : {1U, 7U, 9U, 16U}) {
    ASSERT_TRUE(send_packet(pair.a.get(), std::span(bytes).first(size)));
    EXPECT_EQ(receive_packet(pair.b.get(), into).error(), Error::kInvalid) << size;
  }
  ASSERT_TRUE(send_packet(pair.a.get(), std::span(bytes).first(8)));
  EXPECT_TRUE(receive_packet(pair.b.get(), into));
}

TEST(Packets, DescriptorsComeAlongAndNoneIsLeftOpen) {
  const Pair pair;
  const int before = count_open();
  std::array<std::byte, 8> bytes{};
  const std::array<int, 2> some{pair.a.get(), pair.b.get()};
  ASSERT_TRUE(send_packet(pair.a.get(), bytes, some));
  {
    const auto got = receive_packet(pair.b.get(), bytes);
    ASSERT_TRUE(got);
    EXPECT_EQ(got->size(), 2U);
  }
  EXPECT_EQ(count_open(), before);
  // With a packet that is not taken, and more than there may be.
  ASSERT_TRUE(send_packet(pair.a.get(), std::span(bytes).first(3), some));
  EXPECT_FALSE(receive_packet(pair.b.get(), bytes));
  EXPECT_EQ(count_open(), before);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(6 * sizeof(int))> control{};
  iovec piece{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* const c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(6 * sizeof(int));
  for (size_t i = 0; i < 6; ++i) {
    const int fd = pair.a.get();
    std::memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(fd));
  }
  ASSERT_EQ(::sendmsg(pair.a.get(), &message, 0), static_cast<ssize_t>(bytes.size()));
  EXPECT_FALSE(receive_packet(pair.b.get(), bytes));
  EXPECT_EQ(count_open(), before);
}

TEST(Packets, TheEnd) {
  Pair pair;
  pair.a.reset();
  std::array<std::byte, 8> bytes{};
  EXPECT_EQ(receive_packet(pair.b.get(), bytes).error(), Error::kNoData);
}

}  // namespace
}  // namespace udax::direct
