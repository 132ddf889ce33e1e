// SPDX-License-Identifier: BSD-3-Clause
#include "direct/op_stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace udax::direct {
namespace {

int ms_until(OpStream::Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - OpStream::Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 60'000));
}

bool can_join(const Op& before, const Op& op) {
  return before.type == static_cast<uint16_t>(OpType::kMap) && op.type == before.type &&
         op.flags == before.flags && (op.flags & kOpAck) == 0 && op.prot == before.prot &&
         before.offset + before.length == op.offset && before.device + before.length == op.device;
}

}  // namespace

bool OpStream::add(Op op) {
  if (count_ > 0 && can_join(ops_[count_ - 1], op)) {
    ops_[count_ - 1].length += op.length;
    return true;
  }
  if (count_ == ops_.size() && !flush()) return false;
  op.sequence = last_.load(std::memory_order_relaxed) + 1;
  last_.store(op.sequence, std::memory_order_relaxed);
  ops_[count_++] = op;
  return true;
}

bool OpStream::flush() {
  if (count_ == 0) return true;
  const size_t size = count_ * sizeof(Op);
  count_ = 0;
  const auto deadline = Clock::now() + std::chrono::milliseconds(kAckDeadlineMs);
  for (;;) {
    const ssize_t n = ::send(socket_.get(), ops_.data(), size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) return true;
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS) return false;
    if (!wait_for_room(deadline)) return false;
  }
}

bool OpStream::wait_for_room(Clock::time_point deadline) {
  // The mapper may stand still until its events are read.
  std::array<pollfd, 2> fds{{{socket_.get(), POLLOUT, 0}, {faults_.descriptor().fd(), POLLIN, 0}}};
  const int left = ms_until(deadline);
  if (left == 0) return false;
  const int ready = ::poll(fds.data(), fds.size(), left);
  if (ready < 0) return errno == EINTR;
  if (ready == 0 || (fds[0].revents & (POLLERR | POLLHUP)) != 0) return false;
  return fds[1].revents == 0 || faults_.pump();
}

bool OpStream::await(uint64_t sequence, Clock::time_point deadline) {
  std::unique_lock lock(ack_mutex_);
  while (acked_ < sequence) {
    if (ended_ || Clock::now() >= deadline) return false;
    if (has_leader_) {
      ack_changed_.wait_until(lock, deadline);
      continue;
    }
    has_leader_ = true;
    lock.unlock();
    const bool is_alive = read_acks(deadline);
    lock.lock();
    has_leader_ = false;
    if (!is_alive) ended_ = true;
    ack_changed_.notify_all();
  }
  return true;
}

// Waits until something comes, and reads it. False: nothing will come any more.
bool OpStream::read_acks(Clock::time_point deadline) {
  std::array<pollfd, 2> fds{{{socket_.get(), POLLIN, 0}, {faults_.descriptor().fd(), POLLIN, 0}}};
  const int ready = ::poll(fds.data(), fds.size(), ms_until(deadline));
  if (ready <= 0) return ready == 0 || errno == EINTR;
  // Of one that has ended there are no faults to read, but perhaps what it said last.
  const bool has_more = fds[0].revents == 0 || take_acks();
  return (fds[1].revents == 0 || faults_.pump()) && has_more;
}

// Those that are there. False: none will come any more.
bool OpStream::take_acks() {
  for (;;) {
    Ack ack;
    const ssize_t n = ::recv(socket_.get(), &ack, sizeof(ack), MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
    if (n != sizeof(ack) || !take_ack(ack)) return false;
  }
}

// False: it is none.
bool OpStream::take_ack(const Ack& ack) {
  // What was never sent cannot have been done.
  if (ack.sequence > last_.load(std::memory_order_relaxed)) return false;
  if (ack.error > kAckErrorMax || ack.reserved != 0) return false;
  const std::lock_guard guard(ack_mutex_);
  if (ack.error == 0) acked_ = std::max(acked_, ack.sequence);
  if (ack.error != 0 && failure_count_ < failures_.size()) failures_[failure_count_++] = ack;
  return true;
}

uint64_t OpStream::acked() {
  const std::lock_guard guard(ack_mutex_);
  return acked_;
}

bool OpStream::drain() {
  {
    const std::lock_guard guard(ack_mutex_);
    if (ended_) return false;
    if (has_leader_) return true;
    has_leader_ = true;
  }
  const bool is_alive = read_acks(Clock::now());
  const std::lock_guard guard(ack_mutex_);
  has_leader_ = false;
  if (!is_alive) ended_ = true;
  ack_changed_.notify_all();
  return is_alive;
}

std::optional<Ack> OpStream::take_failure() {
  const std::lock_guard guard(ack_mutex_);
  if (failure_count_ == 0) return std::nullopt;
  return failures_[--failure_count_];
}

void OpStream::shut() {
  (void)::shutdown(socket_.get(), SHUT_RDWR);
  const std::lock_guard guard(ack_mutex_);
  ended_ = true;
  ack_changed_.notify_all();
}

}  // namespace udax::direct
