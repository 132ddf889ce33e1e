// SPDX-License-Identifier: BSD-3-Clause
#include "client/handover.h"

#include <linux/futex.h>
#include <sched.h>

#include <cstdio>

#include "base/sync_point.h"
#include "client/blocked_signals.h"
#include "client/kernel.h"
#include "client/vault.h"

namespace udax::client {
namespace {

constexpr uint64_t slot_of(uint32_t handle, int vault) {
  return uint64_t{handle} << 32 | (static_cast<uint32_t>(vault) + 1);
}

/// What a thread with a descriptor table of its own does.
struct Errand {
  int (*run)(const void* what) = nullptr;  // gives an errno, or 0
  const void* what = nullptr;
  std::array<int, 2> spare{-1, -1};  // to be closed first
  int error = 0;
  std::atomic<uint32_t> running{1};  // cleared by the kernel when the errand's thread needs its memory no more
};

// A new description of an open file, as it is opened now. -1: it cannot be had (its mode has changed, there is no /proc).
int open_anew(int fd) {
  std::array<char, 40> path{};
  static_cast<void>(std::snprintf(path.data(), path.size(), "/proc/thread-self/fd/%d", fd));
  const auto mode = static_cast<int>(::syscall(SYS_fcntl, fd, F_GETFL));
  return mode < 0 ? -1 : kernel::open_file(path.data(), mode & O_ACCMODE);
}

int map_file(const void* what) {
  const auto& m = *static_cast<const KernelMapping*>(what);
  const int fd = UDAX_KNOB("client.fail_kernel_map") ? -1 : take_copy(m.vault);
  if (fd < 0) return EBADF;
  const auto map = [&](int from) {
    return kernel::map(m.address, m.length, m.prot, MAP_SHARED | MAP_FIXED, from, m.file_offset) != MAP_FAILED;
  };
  const int anew = open_anew(fd);
  return (anew >= 0 && map(anew)) || map(fd) ? 0 : errno;
}

struct Hole {
  int vault = -1;
  uint64_t offset = 0;
  uint64_t length = 0;
};

int punch_file(const void* what) {
  const auto& hole = *static_cast<const Hole*>(what);
  const int fd = take_copy(hole.vault);
  if (fd < 0) return EBADF;
  return kernel::punch(fd, hole.offset, hole.length) == 0 ? 0 : errno;
}

// On a table of its own: nothing need be closed, and it shares errno with who waits for it.
int run_errand(void* argument) {
  auto& errand = *static_cast<Errand*>(argument);
  for (const int fd : errand.spare) {
    if (fd >= 0) kernel::close_fd(fd);
  }
  errand.error = errand.run(errand.what);
  return 0;
}

// False: there can be no such thread now.
bool run_apart(Errand& errand, ErrandStack& stack) {
  constexpr int kFlags = CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
  if (UDAX_KNOB("client.no_errands")) return false;
  if (::clone(&run_errand, stack.data() + stack.size(), kFlags, &errand, nullptr, nullptr, &errand.running) < 0) {
    return false;
  }
  while (errand.running.load(std::memory_order_acquire) != 0) {
    static_cast<void>(::syscall(SYS_futex, &errand.running, FUTEX_WAIT, 1, nullptr, nullptr, 0));
  }
  return true;
}

}  // namespace

void Shelf::put(uint32_t handle, int vault) {
  if (vault < 0) return;
  for (auto& slot : slots_) {
    if (slot.load(std::memory_order_relaxed) != 0) continue;
    slot.store(slot_of(handle, vault), std::memory_order_release);
    return;
  }
}

void Shelf::remove(uint32_t handle) {
  for (auto& slot : slots_) {
    const uint64_t found = slot.load(std::memory_order_relaxed);
    if (found != 0 && found >> 32 == handle) slot.store(0, std::memory_order_release);
  }
}

void Shelf::clear() {
  for (auto& slot : slots_) slot.store(0, std::memory_order_release);
}

int Shelf::find(uint32_t handle) const {
  for (const auto& slot : slots_) {
    const uint64_t found = slot.load(std::memory_order_acquire);
    if (found != 0 && found >> 32 == handle) return static_cast<int>(static_cast<uint32_t>(found) - 1);
  }
  return -1;
}

HandedOver::~HandedOver() {
  if (ranges_ != nullptr) kernel::unmap(kernel::to_address(ranges_), kSize * sizeof(Range));
}

int HandedOver::start() {
  if (ranges_ != nullptr) return 0;
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* const got = kernel::map(0, kSize * sizeof(Range), PROT_READ | PROT_WRITE, kFlags, -1, 0);
  if (got == MAP_FAILED) return errno;
  ranges_ = static_cast<Range*>(got);
  return 0;
}

bool HandedOver::add(Range range) {
  const uint64_t at = added_.load(std::memory_order_relaxed);
  if (ranges_ == nullptr || at - taken_.load(std::memory_order_acquire) == kSize) return false;
  ranges_[at % kSize] = range;
  added_.store(at + 1, std::memory_order_release);
  return true;
}

bool HandedOver::peek(Range* range) const {
  const uint64_t at = taken_.load(std::memory_order_relaxed);
  if (at == added_.load(std::memory_order_acquire)) return false;
  *range = ranges_[at % kSize];
  return true;
}

int map_by_mount(const KernelMapping& mapping, std::span<const int, 2> spare, ErrandStack& stack) {
  if (mapping.vault < 0) return EBADF;
  Errand errand;
  errand.run = &map_file;
  errand.what = &mapping;
  errand.spare = {spare[0], spare[1]};
  if (run_apart(errand, stack)) return errand.error;
  // With the program's own table. What is opened in it then stays open: closing it would drop the program's locks.
  errand.spare = {-1, -1};
  static_cast<void>(run_errand(&errand));
  return errand.error;
}

int punch_by_mount(int vault, uint64_t offset, uint64_t length, ErrandStack& stack) {
  const Hole hole{vault, offset, length};
  Errand errand;
  errand.run = &punch_file;
  errand.what = &hole;
  // A handler of the program's, on that thread, would find this one's storage.
  const BlockedSignals blocked;
  return run_apart(errand, stack) ? errand.error : EAGAIN;
}

}  // namespace udax::client
