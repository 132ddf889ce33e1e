// SPDX-License-Identifier: BSD-3-Clause
//
// Makes several threads run one at a time, changing over at stores, flushes and drains as a seed says, so that a
// schedule can be had again. A thread that has the turn and does not come to its next store, because it waits for
// a lock that another one holds, loses the turn after a while to one that can go on.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <vector>

#include "base/mutex.h"
#include "base/random.h"

namespace udax::crash {

class Turns {
 public:
  Turns(size_t threads, uint64_t seed) : random_(seed), states_(threads) {}
  /// A thread begins, as number `thread`; none goes on before all have begun.
  void enter(size_t thread);
  /// The calling thread may be made to wait here. Nothing for a thread that has not entered.
  void step();
  void leave();

 private:
  enum class State : uint8_t { kOutside, kInside, kGone };
  void pass_on() UDAX_REQUIRES(mutex_);
  void wait_for_turn(size_t thread) UDAX_REQUIRES(mutex_);

  Mutex mutex_;
  std::condition_variable_any changed_;
  Random random_ UDAX_GUARDED_BY(mutex_);
  std::vector<State> states_ UDAX_GUARDED_BY(mutex_);
  size_t entered_ UDAX_GUARDED_BY(mutex_) = 0;
  size_t turn_ UDAX_GUARDED_BY(mutex_) = 0;
  uint64_t steps_ UDAX_GUARDED_BY(mutex_) = 0;
};

}  // namespace udax::crash
