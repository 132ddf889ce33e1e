// SPDX-License-Identifier: BSD-3-Clause
//
// The queue of one CPU in FUSE over io_uring, and its thread, which is pinned to that CPU: request and reply stay where
// the caller runs, and nobody has to be woken on another CPU.
//
// One system call a request: it sends the reply off and waits for the next. What is likely to take long (by what such
// requests took lately) is handed to the slow worker, so that it does not hold up the queue; its reply comes back here,
// since only this thread may submit.
//
// Lifetime: create() -> INIT is answered -> start() -> ... -> stop(). Ends by itself when the mount is gone.
//
// Thread safety: start and stop from one thread.
#pragma once

#include <liburing.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "fuse/dispatcher.h"
#include "fuse/pages.h"
#include "fuse/ring_entry.h"
#include "fuse/slow_guess.h"
#include "fuse/worker.h"

namespace udax::fuse {

class RingQueue {
 public:
  struct Shared {
    int fd = -1;  // /dev/fuse
    Dispatcher* dispatcher = nullptr;
    const media::Medium* medium = nullptr;
    Worker* slow_worker = nullptr;
    SlowGuess* slow_guess = nullptr;
  };
  /// Rings and buffers. kNotSupported: io_uring cannot do it; kNoMemory; else what the kernel said.
  [[nodiscard]] static Result<std::unique_ptr<RingQueue>> create(const Shared& shared, uint16_t cpu);
  ~RingQueue();
  RingQueue(const RingQueue&) = delete;
  RingQueue& operator=(const RingQueue&) = delete;

  /// kNoMemory: no thread.
  [[nodiscard]] Status start();
  /// Asks the thread to end, and waits.
  void stop();

 private:
  RingQueue(const Shared& shared, uint16_t cpu) : shared_(shared), cpu_(cpu) {}
  void run();
  [[nodiscard]] bool set_up_thread();
  void submit(RingEntry& entry, uint32_t operation);
  void arm_wake();
  [[nodiscard]] bool wait();
  [[nodiscard]] bool handle(const io_uring_cqe& completion);
  void serve(RingEntry& entry);
  [[nodiscard]] bool serve_slowly(RingEntry& entry, const Request& request);
  void take_replied();
  void announce(RingEntry& entry);

  static constexpr uint32_t kEntries = 8;

  const Shared shared_;
  const uint16_t cpu_;
  io_uring ring_{};
  bool has_ring_ = false;
  int wake_fd_ = -1;
  std::vector<std::shared_ptr<RingEntry>> entries_;
  Pages scratch_{kScratchSize};
  OpStats* stats_ = nullptr;
  uint32_t dead_entries_ = 0;  // that the kernel has given back for good
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::vector<RingEntry*> replied_;  // by other threads; kEntries are reserved
};

}  // namespace udax::fuse
