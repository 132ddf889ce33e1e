// SPDX-License-Identifier: BSD-3-Clause
#include "direct/scan_thread.h"

#include <system_error>

namespace udax::direct {

ScanThread::~ScanThread() {
  {
    const std::lock_guard guard(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

bool ScanThread::reserve(Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_until(lock, deadline, [this] { return state_ == State::kIdle; })) return false;
  state_ = State::kReserved;
  return true;
}

void ScanThread::cancel() {
  const std::lock_guard guard(mutex_);
  state_ = State::kIdle;
  changed_.notify_all();
}

bool ScanThread::is_busy() {
  const std::lock_guard guard(mutex_);
  return state_ == State::kAsked || state_ == State::kScanning;
}

bool ScanThread::scan(Job job, Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  if (!thread_.joinable()) {
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error&) {
      state_ = State::kIdle;
      changed_.notify_all();
      throw;
    }
  }
  job_ = std::move(job);
  state_ = State::kAsked;
  is_awaited_ = true;
  changed_.notify_all();
  const bool is_done = changed_.wait_until(lock, deadline, [this] { return state_ == State::kDone; });
  is_awaited_ = false;
  if (!is_done) return false;
  state_ = State::kIdle;
  changed_.notify_all();
  return true;
}

void ScanThread::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || state_ == State::kAsked; });
    if (stopping_) return;
    state_ = State::kScanning;
    lock.unlock();
    job_.scan();
    lock.lock();
    for (bool is_awaited = true; is_awaited;) {
      is_awaited = is_awaited_;
      lock.unlock();
      job_.finish(is_awaited);
      lock.lock();
      if (is_awaited == is_awaited_) break;  // else he has given up meanwhile: once more
    }
    state_ = is_awaited_ ? State::kDone : State::kIdle;
    changed_.notify_all();
  }
}

}  // namespace udax::direct
