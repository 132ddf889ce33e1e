// SPDX-License-Identifier: BSD-3-Clause
#include "base/mutex.h"

#include <sched.h>

namespace udax {

void SpinLock::lock_slow() {
  for (;;) {
    for (int i = 0; i < 256; ++i) {
      if (!flag_.load(std::memory_order_relaxed) && !flag_.exchange(true, std::memory_order_acquire)) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    sched_yield();
  }
}

}  // namespace udax
