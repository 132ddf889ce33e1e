// SPDX-License-Identifier: BSD-3-Clause
//
// The threads that read /dev/fuse and serve what comes.
//
// A small request costs least when the thread that read the last one reads it too: handing over wakes another CPU,
// which takes longer than most requests do. So one thread, the leader, reads and serves; the others sleep. It
// hands the lead over before a request that may take long (by its size, or by what the last ones of its kind took), and
// a watcher takes the lead from one that has been in a request for too long (waiting for a lock, say), so that nobody
// waits behind it.
//
//   leader    reads; serves short requests itself
//   watcher   one of the others: looks at the leader every kStuckNs while requests come; sleeps while none do
//   idle      the rest
//
// Two leaders at once for a moment do no harm: the kernel gives each request to one reader.
//
// Thread safety: start and stop from one thread. Locks: mutex_, around changes of roles; never held while serving.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "fuse/device_channel.h"
#include "fuse/dispatcher.h"
#include "fuse/slow_guess.h"

namespace udax::fuse {

class ReaderPool {
 public:
  /// `fd` must stay open until stop() has returned.
  ReaderPool(int fd, Dispatcher& dispatcher, uint32_t threads);
  ~ReaderPool();
  ReaderPool(const ReaderPool&) = delete;
  ReaderPool& operator=(const ReaderPool&) = delete;

  /// Answers INIT on the calling thread, then starts the threads. kNotSupported: the kernel's protocol is too old;
  /// kIo: the mount went away; kNoMemory.
  [[nodiscard]] Status start();
  /// Requests come by rings; only forgets, interrupts and the like come here, and may wait a little.
  void throttle() { is_throttled_.store(true, std::memory_order_relaxed); }
  /// Ends the threads, after what they are serving, and waits for them.
  void stop();
  /// Becomes readable when the mount is gone and no thread reads any more. -1 before start().
  [[nodiscard]] int ended_fd() const { return ended_fd_; }

 private:
  struct Reader;
  enum class Got : uint8_t { kRequest, kNothing, kEnd };

  [[nodiscard]] Result<std::unique_ptr<Reader>> make_reader(uint32_t index);
  void run(Reader& me);
  [[nodiscard]] Got receive(Reader& me);
  void serve(Reader& me);
  static void pause_after(const Reader& me);
  [[nodiscard]] bool may_take_long(const Reader& me) const;

  [[nodiscard]] bool leads(const Reader& me) const;
  [[nodiscard]] bool take_lead(Reader& me);
  void pass_lead(Reader& me);
  [[nodiscard]] bool watch(Reader& me, std::unique_lock<std::mutex>& lock);
  void unpark_watcher();
  void leave();

  static constexpr uint32_t kNobody = ~0U;
  static constexpr uint32_t kForgetPauseUs = 3000;
  static constexpr uint64_t kStuckNs = 5'000'000;  // longer than a thread is kept off its CPU as a rule

  const int fd_;
  Dispatcher& dispatcher_;
  const uint32_t thread_count_;
  int ended_fd_ = -1;
  SlowGuess slow_guess_;
  std::vector<std::unique_ptr<Reader>> readers_;
  std::vector<std::thread> threads_;

  std::mutex mutex_;  // roles below; the atomics are also read without it
  std::condition_variable idle_cv_;
  std::condition_variable watcher_cv_;
  std::atomic<uint32_t> leader_{kNobody};
  uint32_t watcher_ = kNobody;
  uint32_t idle_count_ = 0;
  std::atomic<bool> watcher_parked_{false};
  std::atomic<bool> is_throttled_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<uint32_t> running_{0};
};

}  // namespace udax::fuse
