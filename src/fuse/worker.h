// SPDX-License-Identifier: BSD-3-Clause
//
// A thread for what a reader must not do: wait for the kernel to let go of pages, which it does only after readers have
// served it. A request that needs that is finished here, and replied to from here.
//
// Thread safety: defer() from anywhere; stop() once.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "fuse/dispatcher.h"

namespace udax::fuse {

class Worker final : public Deferrer {
 public:
  explicit Worker(std::unique_ptr<ReplyChannel> channel) : channel_(std::move(channel)) {}
  ~Worker() override { stop(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  [[nodiscard]] bool defer(Job job) override;
  /// Finishes what was deferred; what comes later is refused. Readers must still serve: a job may wait for them.
  void stop();

 private:
  void run();

  const std::unique_ptr<ReplyChannel> channel_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::thread thread_;  // started with the first job
};

}  // namespace udax::fuse
