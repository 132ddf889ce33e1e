// SPDX-License-Identifier: BSD-3-Clause
//
// FUSE over io_uring: a queue for each possible CPU, all or none. What the kernel does not send by rings (forgets,
// interrupts) comes by /dev/fuse, to a ReaderPool beside this.
//
// Thread safety: one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "fuse/dispatcher.h"
#include "fuse/ring_queue.h"
#include "fuse/slow_guess.h"
#include "fuse/worker.h"

namespace udax::fuse {

class RingPool {
 public:
  /// Rings and buffers for all CPUs; nothing runs yet. On failure `why` gets a sentence that says what to do.
  /// kNotSupported: the kernel has no such transport, or it is switched off.
  [[nodiscard]] static Result<std::unique_ptr<RingPool>> create(int fd, Dispatcher& dispatcher,
                                                                const media::Medium& medium, std::string* why);
  ~RingPool() { stop(); }
  RingPool(const RingPool&) = delete;
  RingPool& operator=(const RingPool&) = delete;

  /// Starts the threads, once INIT has agreed. kNoMemory: not all could be started, and requests may hang: unmount.
  [[nodiscard]] Status start();
  void stop();

 private:
  explicit RingPool(Dispatcher& dispatcher) : slow_worker_(dispatcher, "fuse-slow", kSlowThreads) {}

  static constexpr uint32_t kSlowThreads = 2;
  Worker slow_worker_;
  SlowGuess slow_guess_;
  std::vector<std::unique_ptr<RingQueue>> queues_;
};

}  // namespace udax::fuse
