// SPDX-License-Identifier: BSD-3-Clause
//
// The watchdog: what a client does when its daemon is dead.
//
// Who waits in a fault then is woken, and finds an empty file: SIGBUS, or EFAULT in a system call. What was mapped goes too:
// the pool may be mounted again while this process runs, and its blocks be given to other files.
#include <array>

#include "base/sync_point.h"
#include "client/client.h"
#include "client/kernel.h"
#include "client/process.h"

namespace udax::client {

// Reads the fault descriptor in the daemon's place: one batch. Moves of the mapper, too, wait until they have been read.
void Client::serve_fault(bool buried, int timeout_ms) {
  if (kernel::poll_one(memory_.fault, POLLIN, timeout_ms) <= 0) return;
  std::array<uffd_msg, 16> messages{};
  const ssize_t got = kernel::read_fd(memory_.fault, messages.data(), sizeof messages);
  if (got <= 0) return;
  for (size_t i = 0; i < static_cast<size_t>(got) / sizeof(uffd_msg); ++i) {
    if (messages.at(i).event != UFFD_EVENT_PAGEFAULT) continue;
    const uint64_t page = messages.at(i).arg.pagefault.address & ~(kernel::kPage - 1);
    // The mutex's holder may be the one who waits: then its page goes before the rest does.
    if (!buried && in_span(page, kernel::kPage)) static_cast<void>(map_empty(memory_, page, kernel::kPage));
    kernel::uffd_wake(memory_.fault, page, kernel::kPage);
  }
}

// All views at once. False: the mutex was taken.
bool Client::bury() {
  if (!mutex_.try_lock()) return false;
  const Inside inside;
  settle();
  for (const auto& [begin, view] : views_.all()) static_cast<void>(map_empty(memory_, begin, view.end - begin));
  mutex_.unlock();
  return true;
}

void Client::watch() {
  constexpr int kForEver = -1;
  constexpr int kRetry_ms = 10;
  for (;;) {
    const int found = kernel::poll_one(life_.get(), POLLIN | POLLRDHUP, kForEver);
    char byte = 0;
    // Nothing is ever sent on it; should anything be, it is no sign of life that counts.
    if (found > 0 && kernel::read_fd(life_.get(), &byte, 1) <= 0 && errno != EINTR) break;
  }
  dead_.store(true, std::memory_order_release);
  ::shutdown(stream_.get(), SHUT_RDWR);
  if (UDAX_KNOB("client.no_watchdog")) return;
  bool buried = false;
  while (!buried) {
    // Those whose faults the daemon had read already fault again, and are seen here.
    kernel::uffd_wake(memory_.fault, memory_.base, memory_.size);
    serve_fault(false, kRetry_ms);
    buried = bury();
  }
  kernel::uffd_wake(memory_.fault, memory_.base, memory_.size);
  for (;;) serve_fault(true, kForEver);
}

}  // namespace udax::client
