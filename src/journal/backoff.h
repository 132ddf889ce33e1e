// SPDX-License-Identifier: BSD-3-Clause
//
// Waiting for another thread's progress: most waits are for a drain of a few hundred nanoseconds, some (page
// granularity) for an msync of milliseconds. Spins, then yields, then sleeps in growing steps.
#pragma once

#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <ctime>

#include "base/clock.h"

namespace udax::journal {

class Backoff {
 public:
  void pause() {
    if (rounds_ < kSpinRounds) {
      ++rounds_;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
      return;
    }
    const uint64_t now = monotonic_ns();
    if (since_ns_ == 0) since_ns_ = now;
    if (now - since_ns_ < kYieldFor_ns) {
      sched_yield();
      return;
    }
    timespec pause{};
    pause.tv_nsec = sleep_ns_;
    ::nanosleep(&pause, nullptr);
    sleep_ns_ = std::min(sleep_ns_ * 2, kSleepMax_ns);
  }

 private:
  static constexpr uint32_t kSpinRounds = 256;
  static constexpr uint64_t kYieldFor_ns = 200'000;
  static constexpr long kSleepMin_ns = 20'000;
  static constexpr long kSleepMax_ns = 500'000;

  uint32_t rounds_ = 0;
  uint64_t since_ns_ = 0;
  long sleep_ns_ = kSleepMin_ns;
};

}  // namespace udax::journal
