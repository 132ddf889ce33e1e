// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/guard.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/fusectl.h"
#include "base/sync_point.h"

namespace udax::daemon {
namespace {

constexpr uint32_t kEnd = ~uint32_t{0};  // no connection has this number

int open_abort(uint32_t connection) {
  const int fusectl = open_fusectl(O_WRONLY);
  if (fusectl < 0) return -1;
  const int file = open_fuse_connection(fusectl, connection, "abort", O_WRONLY);
  ::close(fusectl);
  return file;
}

// The daemon is gone. If all of it is, so is the connection, and this changes nothing.
[[noreturn]] void end_connection(int abort_file) {
  if (abort_file >= 0) (void)!::write(abort_file, "1", 1);
  ::_exit(0);
}

[[noreturn]] void guard(int pipe, pid_t daemon) {
  (void)::setsid();  // Ctrl-C is for the daemon
  (void)::prctl(PR_SET_NAME, "udaxfs-guard", 0, 0, 0);
  // Who looks for the daemon by its arguments must not find this.
  std::snprintf(program_invocation_name, std::strlen(program_invocation_name) + 1, "[udaxfs-guard]");
  (void)!::chdir("/");
  // Everything but the pipe: a lock or a terminal must not be held here.
  if (pipe > 0) (void)::close_range(0, static_cast<unsigned>(pipe) - 1, 0);
  (void)::close_range(static_cast<unsigned>(pipe) + 1, ~0U, 0);
  sigset_t set;
  (void)::sigfillset(&set);
  (void)::sigprocmask(SIG_SETMASK, &set, nullptr);
  (void)::sigemptyset(&set);
  (void)::sigaddset(&set, SIGUSR1);
  const int signals = ::signalfd(-1, &set, SFD_CLOEXEC);
  if (signals < 0 || ::prctl(PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0) != 0) ::_exit(1);
  int abort_file = -1;
  if (::getppid() != daemon) end_connection(abort_file);  // it died before that
  for (;;) {
    std::array<pollfd, 2> fds{{{pipe, POLLIN, 0}, {signals, POLLIN, 0}}};
    if (::poll(fds.data(), fds.size(), -1) < 0) continue;
    if (fds[0].revents != 0) {
      uint32_t number = 0;
      const ssize_t n = ::read(pipe, &number, sizeof(number));
      if (n != sizeof(number)) end_connection(abort_file);
      if (number == kEnd) ::_exit(0);
      abort_file = open_abort(number);
      continue;
    }
    end_connection(abort_file);
  }
}

}  // namespace

Guard::Guard() {
  if (UDAX_KNOB("daemon.no_guard")) return;
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return;
  const pid_t daemon = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) guard(ends[0], daemon);
  ::close(ends[0]);
  if (child < 0) {
    ::close(ends[1]);
    return;
  }
  pipe_ = ends[1];
  child_ = child;
}

Guard::~Guard() {
  if (child_ < 0) return;
  (void)!::write(pipe_, &kEnd, sizeof(kEnd));
  ::close(pipe_);
  while (::waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Guard::watch(const char* mountpoint) {
  if (child_ < 0) return;
  struct statx info {};
  // Without asking the filesystem, which is ourselves.
  if (::statx(AT_FDCWD, mountpoint, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &info) != 0) return;
  const uint32_t number = info.stx_dev_minor;
  (void)!::write(pipe_, &number, sizeof(number));
}

}  // namespace udax::daemon
