// SPDX-License-Identifier: BSD-3-Clause
//
// sync: what is stored to a mount becomes durable, deep flush included. Linux does not tell a FUSE daemon of syncfs(2), and does not
// wait for the writes that it makes the kernel send (fs/fuse/inode.c, fuse_sync_fs); so this waits until none is on its way.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/fusectl.h"
#include "udax/ioctl.h"
#include "udaxctl.h"

namespace udax::ctl {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 20s;
constexpr auto kPause = 1ms;
constexpr int kLooks = 3;

enum class Requests : uint8_t { kNone, kAlways, kUnknown };

/// How many requests of a connection wait, or are being served; negative: unknown.
long requests_of(int fusectl, uint32_t connection) {
  const int file = open_fuse_connection(fusectl, connection, "waiting", O_RDONLY);
  char text[32] = {};
  const ssize_t length = ::read(file, text, sizeof(text) - 1);
  if (file >= 0) ::close(file);
  return length > 0 ? std::strtol(text, nullptr, 10) : -1;
}

/// Whether there was a moment, within kPatience, without a request of the mount of `fd`, which is open on it. A truncation holds
/// writes back until just after its own request: one look is not enough.
Requests wait_for_none(int fd) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return Requests::kUnknown;
  const int fusectl = open_fusectl(O_RDONLY);
  if (fusectl < 0) return Requests::kUnknown;
  const auto end = std::chrono::steady_clock::now() + kPatience;
  long requests = 0;
  int none = 0;
  while (none < kLooks && requests >= 0 && std::chrono::steady_clock::now() < end) {
    if (none != 0 || requests != 0) std::this_thread::sleep_for(kPause);
    requests = requests_of(fusectl, minor(st.st_dev));
    none = requests == 0 ? none + 1 : 0;
  }
  ::close(fusectl);
  if (requests < 0) return Requests::kUnknown;
  return none == kLooks ? Requests::kNone : Requests::kAlways;
}

}  // namespace

int run_sync(const std::string& path) {
  const Fd fd(path, O_RDONLY | O_NONBLOCK);
  if (!fd) return fail(path + ": " + std::strerror(errno));
  if (!ask_mount(path)) {
    return fail(path +
                (errno == ENOTTY ? " is not on a mounted udaxfs" : std::string(": ") + std::strerror(errno)));
  }
  if (::syncfs(fd.get()) != 0) return fail(path + ": " + std::strerror(errno));
  const Requests requests = wait_for_none(fd.get());
  if (::ioctl(fd.get(), UDAX_IOC_SYNC) != 0) return fail(path + ": " + std::strerror(errno));
  switch (requests) {
    case Requests::kNone: return kExitDone;
    case Requests::kAlways:
      return fail(path +
                  ": too busy to tell whether all that is stored through mappings has come; fsync the files");
    case Requests::kUnknown: break;
  }
  return fail(path +
              ": cannot tell whether all that is stored through mappings has come, without fusectl at "
              "/sys/fs/fuse/connections; fsync the files");
}

}  // namespace udax::ctl
