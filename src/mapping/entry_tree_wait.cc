// SPDX-License-Identifier: BSD-3-Clause
#include "mapping/entry_tree_wait.h"

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>

#include "base/mutex.h"
#include "base/sync_point.h"
#include "base/types.h"

namespace udax::mapping {

struct alignas(kCacheLine) EntryWait::Queue {
  std::atomic<uint64_t> wakes{0};  // written under the mutex
  Mutex mutex;
  std::condition_variable_any woken;
};

namespace {

constexpr size_t kQueues = 256;

// Made when the program starts: a condition variable takes memory, and whoever wakes others may not fail.
std::array<EntryWait::Queue, kQueues> queues;

EntryWait::Queue& queue_of(const void* tree, uint64_t start) {
  uint64_t key = (reinterpret_cast<uint64_t>(tree) >> 4) + start * 0x9E3779B97F4A7C15ULL;
  key *= 0xBF58476D1CE4E5B9ULL;
  return queues[static_cast<size_t>(key >> 56)];
}
static_assert(kQueues == size_t{1} << 8);

}  // namespace

EntryWait::EntryWait(const void* tree, uint64_t start)
    : queue_(queue_of(tree, start)), wakes_seen_(queue_.wakes.load(std::memory_order_relaxed)) {}

void EntryWait::sleep() {
  UDAX_SYNC_POINT("entry.wait");
  const LockGuard guard(queue_.mutex);
  while (queue_.wakes.load(std::memory_order_relaxed) == wakes_seen_) queue_.woken.wait(queue_.mutex);
}

void EntryWait::wake_all(const void* tree, uint64_t start) {
  Queue& queue = queue_of(tree, start);
  {
    const LockGuard guard(queue.mutex);
    queue.wakes.fetch_add(1, std::memory_order_relaxed);
  }
  queue.woken.notify_all();
}

}  // namespace udax::mapping
