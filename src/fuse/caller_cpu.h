// SPDX-License-Identifier: BSD-3-Clause
//
// Keeps a thread that serves one caller on that caller's CPU: while the caller waits, its CPU is free, and waking a thread
// there costs a switch; on another CPU, which may be halted, it costs many times as much. Left alone, schedulers prefer
// the CPU that is idle.
//
// Only while all requests come from one thread. With two callers it was measured to halve the throughput: each would
// wait until the other is off its CPU.
//
// Thread safety: none; an object belongs to the thread that calls it.
#pragma once

#include <sched.h>

#include <cstdint>
#include <string_view>

namespace udax::fuse {

class CallerCpu {
 public:
  CallerCpu();
  /// A request came from thread `tid` (0: one that we cannot see): goes to its CPU every kStreak requests in a row, and
  /// lets go when another one calls.
  void note(uint32_t tid) {
    if (tid == last_) {
      if (++streak_ % kStreak == 0 && tid != 0) follow();
      return;
    }
    last_ = tid;
    streak_ = 0;
    if (is_pinned_) let_go();
  }
  /// May run anywhere again.
  void let_go();

  /// The CPU in the text of /proc/<tid>/stat (field 39); -1: it is not there.
  [[nodiscard]] static int parse_cpu(std::string_view stat);

 private:
  static constexpr uint32_t kStreak = 256;
  void follow();

  uint32_t last_ = 0;
  uint32_t streak_ = 0;
  bool is_pinned_ = false;
  bool can_ = false;
  int cpu_ = -1;     // where it is pinned
  cpu_set_t all_{};  // where it may run
};

}  // namespace udax::fuse
