// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/background.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace udax::daemon {
namespace {

// A report: the status as one byte, then the text.
void wait_for_report [[noreturn]] (int pipe, pid_t child) {
  std::string report;
  std::array<char, 1024> buffer{};
  for (;;) {
    const ssize_t n = ::read(pipe, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    report.append(buffer.data(), static_cast<size_t>(n));
  }
  if (report.empty()) {
    int status = 0;
    (void)::waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) {
      std::fprintf(stderr, "udaxfs: the daemon was killed by signal %d (%s)\n", WTERMSIG(status),
                   strsignal(WTERMSIG(status)));
    } else {
      std::fprintf(stderr, "udaxfs: the daemon ended without a report\n");
    }
    std::_Exit(kExitInternal);
  }
  if (report.size() > 1) std::fprintf(stderr, "udaxfs: %s\n", report.c_str() + 1);
  std::_Exit(static_cast<unsigned char>(report[0]));
}

}  // namespace

Result<Background> Background::enter(bool stay) {
  if (stay) return Background(-1);
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return from_errno(errno);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) {
    const int error = errno;
    ::close(ends[0]);
    ::close(ends[1]);
    return from_errno(error);
  }
  if (child > 0) {
    ::close(ends[1]);
    wait_for_report(ends[0], child);
  }
  ::close(ends[0]);
  (void)::setsid();
  return Background(ends[1]);
}

Background::Background(Background&& other) noexcept : pipe_(std::exchange(other.pipe_, -1)) {}

Background::~Background() {
  if (pipe_ >= 0) ::close(pipe_);
}

void Background::report(int status, const std::string& text) {
  std::string message(1, static_cast<char>(status));
  message += text;
  size_t done = 0;
  while (done < message.size()) {
    const ssize_t n = ::write(pipe_, message.data() + done, message.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;  // nobody is there any more
    done += static_cast<size_t>(n);
  }
  ::close(std::exchange(pipe_, -1));
}

void Background::ready() {
  if (::chdir("/") != 0) return;
  if (pipe_ < 0) return;
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) {
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) (void)::dup2(null, stream);
    if (null > STDERR_FILENO) ::close(null);
  }
  report(kExitOk, {});
}

int Background::fail(int status, const std::string& text) {
  if (pipe_ >= 0) {
    report(status, text);
  } else {
    std::fprintf(stderr, "udaxfs: %s\n", text.c_str());
  }
  return status;
}

}  // namespace udax::daemon
