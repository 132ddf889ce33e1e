// SPDX-License-Identifier: BSD-3-Clause
#include "client/descriptor.h"

#include <fcntl.h>

#include <array>
#include <atomic>
#include <cstdint>

#include "client/kernel.h"

namespace udax::client {
namespace {

constexpr int kTrackedMax = 1 << 16;  // of larger numbers nobody closes one by one
// Programs that hand out the lowest numbers to their children, select(2) and loops up to a few hundred do not meet it.
constexpr int kLowest = 500;

std::array<std::atomic<uint64_t>, kTrackedMax / 64>& bits() {
  static constinit std::array<std::atomic<uint64_t>, kTrackedMax / 64> own{};
  return own;
}

void note(int fd, bool own) {
  if (fd < 0 || fd >= kTrackedMax) return;
  auto& word = bits().at(static_cast<size_t>(fd) / 64);
  const uint64_t bit = uint64_t{1} << (fd % 64);
  if (own) {
    word.fetch_or(bit, std::memory_order_relaxed);
  } else {
    word.fetch_and(~bit, std::memory_order_relaxed);
  }
}

}  // namespace

bool is_own_descriptor(int fd) {
  if (fd < 0 || fd >= kTrackedMax) return false;
  return (bits().at(static_cast<size_t>(fd) / 64).load(std::memory_order_relaxed) >> (fd % 64) & 1) != 0;
}

Descriptor::Descriptor(int fd) : fd_(fd) {
  if (fd_ < 0) return;
  if (fd_ < kLowest) {
    const auto moved = static_cast<int>(::syscall(SYS_fcntl, fd_, F_DUPFD_CLOEXEC, kLowest));
    if (moved >= 0) {
      kernel::close_fd(fd_);
      fd_ = moved;
    }
  }
  note(fd_, true);
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

void Descriptor::reset() {
  if (fd_ < 0) return;
  const int fd = release();
  note(fd, false);
  kernel::close_fd(fd);
}

}  // namespace udax::client
