// SPDX-License-Identifier: BSD-3-Clause
//
// Packets on a client's sockets, with the descriptors that come along. What comes from the other side is hostile:
// descriptors that nobody asked for are closed, a packet of another size than its struct is an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"

namespace udax::direct {

/// An open descriptor, closed when it goes.
class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept;
  ~OwnedFd() { reset(); }
  void reset();
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

inline constexpr size_t kDescriptorsMax = 4;

/// One packet of exactly `into`'s size; waits for it. Gives the descriptors that came with it, close-on-exec. kNoData: end of
/// file. kAgain: the socket's time-out. kInvalid: another size, too many descriptors. kIo. kNoMemory.
[[nodiscard]] Result<std::vector<OwnedFd>> receive_packet(int socket, std::span<std::byte> into);

/// Sends one packet; waits for room as long as the socket's time-out says. kAgain, kIo.
[[nodiscard]] Status send_packet(int socket, std::span<const std::byte> bytes,
                                 std::span<const int> descriptors = {});

}  // namespace udax::direct
