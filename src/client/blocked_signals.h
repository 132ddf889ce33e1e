// SPDX-License-Identifier: BSD-3-Clause
//
// No handler of the program runs on this thread, nor on threads that it starts, which inherit that.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace udax::client {

class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace udax::client
