// SPDX-License-Identifier: BSD-3-Clause
//
// sync: what is stored to a mount becomes durable, deep flush included. Linux does not tell a FUSE daemon of syncfs(2).
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "udax/ioctl.h"
#include "udaxctl.h"

namespace udax::ctl {

int run_sync(const std::string& path) {
  const Fd fd(path, O_RDONLY | O_NONBLOCK);
  if (!fd) return fail(path + ": " + std::strerror(errno));
  // The kernel sends what it holds of stores through its mappings; it does not wait until that is here.
  if (::syncfs(fd.get()) != 0) return fail(path + ": " + std::strerror(errno));
  if (::ioctl(fd.get(), UDAX_IOC_SYNC) != 0) {
    return fail(path +
                (errno == ENOTTY ? " is not on a mounted udaxfs" : std::string(": ") + std::strerror(errno)));
  }
  return kExitDone;
}

}  // namespace udax::ctl
