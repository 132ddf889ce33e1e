// SPDX-License-Identifier: BSD-3-Clause
#include "alloc/pending_frees.h"

#include <iterator>

namespace udax::alloc {

void PendingFrees::push(Batches& batches) noexcept {
  uint64_t blocks = 0;
  uint64_t runs = 0;
  for (const Batch& batch : batches) {
    runs += batch.runs.size();
    for (const DeviceRun& run : batch.runs) blocks += run.count;
  }
  if (runs == 0) return;
  LockGuard guard(mutex_);
  queue_.splice(queue_.end(), batches);
  blocks_.fetch_add(blocks, std::memory_order_release);
  runs_.fetch_add(runs, std::memory_order_relaxed);
  oldest_.store(queue_.front().lsn.value, std::memory_order_release);
}

PendingFrees::Batches PendingFrees::take_below(Lsn tail) noexcept {
  Batches out;
  LockGuard guard(mutex_);
  auto end = queue_.begin();
  while (end != queue_.end() && end->lsn < tail) ++end;
  out.splice(out.begin(), queue_, queue_.begin(), end);
  oldest_.store(queue_.empty() ? kNone : queue_.front().lsn.value, std::memory_order_release);
  return out;
}

void PendingFrees::done(uint64_t runs, uint64_t blocks) noexcept {
  blocks_.fetch_sub(blocks, std::memory_order_release);
  runs_.fetch_sub(runs, std::memory_order_relaxed);
}

}  // namespace udax::alloc
