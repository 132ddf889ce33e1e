// SPDX-License-Identifier: BSD-3-Clause
//
// Threads for what those that take requests must not do: wait for the kernel to let go of pages, which it does only after
// they have served it; or wait for a disk, while others' requests queue up. A request that needs that is finished
// here, and replied to from here.
//
// Thread safety: defer() from anywhere; stop() once.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "fuse/dispatcher.h"
#include "fuse/pages.h"

namespace udax::fuse {

class Worker final : public Deferrer {
 public:
  /// What a thread has of its own.
  struct Thread {
    Pages scratch{kScratchSize};
    OpStats* stats = nullptr;
  };
  using ThreadJob = std::function<void(Thread&)>;

  /// `threads`: at most; they start when there is something to do.
  Worker(Dispatcher& dispatcher, const char* name, uint32_t threads)
      : dispatcher_(dispatcher), name_(name), threads_max_(threads) {}
  ~Worker() override { stop(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// False: it will not run.
  [[nodiscard]] bool defer(ThreadJob job);
  [[nodiscard]] bool defer_job(Job job) override;
  /// Finishes what was deferred; what comes later is refused. Requests must still be served: a job may wait for them.
  void stop();

 private:
  void run(Thread& mine);

  Dispatcher& dispatcher_;
  const char* const name_;
  const uint32_t threads_max_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<ThreadJob> jobs_;
  uint32_t idle_ = 0;
  bool stopping_ = false;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<std::thread> running_;
};

}  // namespace udax::fuse
