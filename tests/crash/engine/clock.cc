// SPDX-License-Identifier: BSD-3-Clause
#include "tests/crash/engine/clock.h"

#include <atomic>
#include <ctime>

namespace udax::crash {
namespace {

constexpr int64_t kStart_s = 1'700'000'000;
constexpr uint64_t kTick_ns = 4'000'000;
constexpr uint64_t kSecond_ns = 1'000'000'000;
std::atomic<uint64_t> clock_ns{0};

}  // namespace

void set_clock(uint64_t ticks) { clock_ns.store(ticks * kTick_ns); }

}  // namespace udax::crash

// The names are the linker's.
extern "C" {
int __real_clock_gettime(clockid_t clock, timespec* out);  // NOLINT(bugprone-reserved-identifier)
int __wrap_clock_gettime(clockid_t clock, timespec* out);  // NOLINT(bugprone-reserved-identifier)
int __wrap_sched_getcpu();                                 // NOLINT(bugprone-reserved-identifier)

int __wrap_clock_gettime(clockid_t clock, timespec* out) {  // NOLINT(bugprone-reserved-identifier)
  if (clock != CLOCK_REALTIME_COARSE) return __real_clock_gettime(clock, out);
  const uint64_t ns = udax::crash::clock_ns.load();
  out->tv_sec = udax::crash::kStart_s + static_cast<int64_t>(ns / udax::crash::kSecond_ns);
  out->tv_nsec = static_cast<int64_t>(ns % udax::crash::kSecond_ns);
  return 0;
}

int __wrap_sched_getcpu() { return 0; }  // NOLINT(bugprone-reserved-identifier)
}
