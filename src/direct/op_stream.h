// SPDX-License-Identifier: BSD-3-Clause
//
// The ordered stream of ops to a client's mapper thread, and the wait for its acknowledgements.
//
// Waiting: one of those that wait reads the socket (the leader), and the client's faults meanwhile; the others sleep until
// it has read their acknowledgement, or leaves the lead to one of them. Every wait has a deadline.
//
// Thread safety: add() and flush() one at a time (the client's mutex); await() from any number of threads.
// Locks: ack_mutex_, a leaf; never held while polling.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>

#include "direct/fault_queue.h"
#include "direct/packets.h"
#include "direct/protocol.h"

namespace udax::direct {

class OpStream {
 public:
  using Clock = std::chrono::steady_clock;

  /// `socket`: non-blocking. `faults` must outlive this.
  OpStream(OwnedFd socket, FaultQueue& faults) : socket_(std::move(socket)), faults_(faults) {}

  /// Adds an op, numbered; a MAP that goes on where the last one ends becomes part of it. False: the client does not take it.
  [[nodiscard]] bool add(Op op);
  /// Sends what was added. False: the client does not take it.
  [[nodiscard]] bool flush();
  /// The number of the last op that was added.
  [[nodiscard]] uint64_t last() const { return last_; }

  /// Until the client has acknowledged `sequence`. False: it has not by the deadline, or never will.
  [[nodiscard]] bool await(uint64_t sequence, Clock::time_point deadline);
  /// It has, as far as its acknowledgements have been read.
  [[nodiscard]] bool has_acked(uint64_t sequence) { return acked() >= sequence; }
  /// The last that it has, as far.
  [[nodiscard]] uint64_t acked();
  /// Reads what acknowledgements there are, without waiting. False: none will come any more.
  bool drain();
  /// What told of a failure, each once; the first few, if nobody asks in between.
  [[nodiscard]] std::optional<Ack> take_failure();
  /// To be polled for acknowledgements.
  [[nodiscard]] int fd() const { return socket_.get(); }

  /// Nothing goes or comes any more; who waits is let go.
  void shut();

 private:
  [[nodiscard]] bool wait_for_room(Clock::time_point deadline);
  [[nodiscard]] bool read_acks(Clock::time_point deadline);
  [[nodiscard]] bool take_acks();
  [[nodiscard]] bool take_ack(const Ack& ack);

  OwnedFd socket_;
  FaultQueue& faults_;
  std::array<Op, kOpsMax> ops_{};
  size_t count_ = 0;
  std::atomic<uint64_t> last_{0};
  std::mutex ack_mutex_;
  std::condition_variable ack_changed_;
  uint64_t acked_ = 0;
  std::array<Ack, 8> failures_{};
  size_t failure_count_ = 0;
  bool has_leader_ = false;
  bool ended_ = false;
};

}  // namespace udax::direct
