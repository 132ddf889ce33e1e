// SPDX-License-Identifier: BSD-3-Clause
//
// A process that ends the FUSE connection of a daemon that was killed.
//
// The kernel ends it when the last descriptor of /dev/fuse is closed, that is, when the daemon's last thread is gone. One
// that was telling the kernel to drop pages waits, beyond SIGKILL, for their write-back, which nobody answers any more: it
// never goes, and with it stay the connection, whoever waits for an answer, and the pool's lock. The guard is told of the death of
// the daemon's main thread (PR_SET_PDEATHSIG), and writes to the connection's "abort" file of fusectl.
//
// That file is reached by /sys/fs/fuse/connections where fusectl is mounted, or by a mount of its own as root; where neither can be
// had there is no guard, and a daemon killed in such a moment is ended by "umount -f", as root.
#pragma once

#include <cstdint>

#include "base/error.h"

namespace udax::daemon {

class Guard {
 public:
  /// Forks it. REQUIRES: no other thread yet; the caller is the thread that ends last. Without one (no process, no pipe) the daemon
  /// works all the same.
  Guard();
  /// Lets it go: nothing is left to be ended. It has ended when this returns.
  ~Guard();
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  /// The mount point is served from now on.
  void watch(const char* mountpoint);

 private:
  int pipe_ = -1;
  int child_ = -1;
};

}  // namespace udax::daemon
