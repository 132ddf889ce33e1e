// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/worker.h"

#include <pthread.h>

#include <exception>

#include "base/log.h"

namespace udax::fuse {

bool Worker::defer(ThreadJob job) try {
  const std::lock_guard guard(mutex_);
  if (stopping_) return false;
  if (idle_ <= jobs_.size() && running_.size() < threads_max_) {
    auto mine = std::make_unique<Thread>();
    const auto stats = dispatcher_.add_stats();
    if (stats) mine->stats = *stats;
    threads_.push_back(std::move(mine));
    running_.emplace_back([this, &own = *threads_.back()] { run(own); });
  }
  jobs_.push_back(std::move(job));
  wake_.notify_one();
  return true;
} catch (const std::exception& e) {  // no memory, no thread
  log::error("fuse: a request cannot be handed over: {}", e.what());
  return false;
}

bool Worker::defer_job(Job job) {
  return defer([job = std::move(job)](Thread&) { job(); });
}

void Worker::run(Thread& mine) {
  (void)::pthread_setname_np(::pthread_self(), name_);
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    --idle_;
    if (jobs_.empty()) return;
    {
      const ThreadJob job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job(mine);
    }
    lock.lock();
  }
}

void Worker::stop() {
  {
    const std::lock_guard guard(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  for (std::thread& thread : running_) thread.join();
  running_.clear();
}

}  // namespace udax::fuse
