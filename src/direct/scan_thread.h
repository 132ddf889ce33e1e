// SPDX-License-Identifier: BSD-3-Clause
//
// A thread that scans a client's pages for others, who wait for a while only.
//
// The scan takes the lock of the client's memory. A thread of the client may hold that while it waits for a request of the mount,
// and who waits here may be one of the few that serve requests.
//
// One scan at a time: reserve(), then scan() or cancel(). The next can be reserved when `Job::finish` of the last has noted what must
// be.
//
// Thread safety: everything. Locks: its own, a leaf; jobs run with none.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace udax::direct {

class ScanThread {
 public:
  using Clock = std::chrono::steady_clock;
  struct Job {
    std::function<void()> scan;
    /// Behind it, by the same thread. `is_awaited`: who asked takes the results; else nobody does. If he gives up just then, once more.
    std::function<void(bool is_awaited)> finish;
  };

  ScanThread() = default;
  ~ScanThread();
  ScanThread(const ScanThread&) = delete;
  ScanThread& operator=(const ScanThread&) = delete;

  /// False: somebody else's scan is not over by the deadline.
  [[nodiscard]] bool reserve(Clock::time_point deadline);
  void cancel();
  /// A scan is asked for or under way: the end of this would wait for it.
  [[nodiscard]] bool is_busy();
  /// False: it is not over by the deadline, or will not be done. REQUIRES: reserve(). Throws std::system_error: no thread, and nothing
  /// is reserved any more.
  [[nodiscard]] bool scan(Job job, Clock::time_point deadline);

 private:
  enum class State : uint8_t { kIdle, kReserved, kAsked, kScanning, kDone };
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  State state_ = State::kIdle;
  bool is_awaited_ = false;
  bool stopping_ = false;
  Job job_;
  std::thread thread_;
};

}  // namespace udax::direct
