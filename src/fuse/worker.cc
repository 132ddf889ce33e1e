// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/worker.h"

#include <pthread.h>

#include <exception>

#include "base/log.h"

namespace udax::fuse {

bool Worker::defer(Job job) try {
  const std::lock_guard guard(mutex_);
  if (stopping_) return false;
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  jobs_.push_back(std::move(job));
  wake_.notify_one();
  return true;
} catch (const std::exception& e) {  // no memory, no thread
  log::error("fuse: a request cannot be handed over: {}", e.what());
  return false;
}

void Worker::run() {
  (void)::pthread_setname_np(::pthread_self(), "fuse-worker");
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job(*channel_);
    lock.lock();
  }
}

void Worker::stop() {
  {
    const std::lock_guard guard(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace udax::fuse
