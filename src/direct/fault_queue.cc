// SPDX-License-Identifier: BSD-3-Clause
#include "direct/fault_queue.h"

#include <unistd.h>

#include <new>

namespace udax::direct {

bool FaultQueue::pump() noexcept {
  bool has_some = false;
  for (;;) {
    FaultDescriptor::Batch batch;
    size_t count = 0;
    {
      // Held while reading: faults are queued in the order in which they were read.
      const LockGuard guard(mutex_);
      const auto got = descriptor_.read(batch);
      if (!got) return false;
      count = *got;
      for (size_t i = 0; i < count; ++i) {
        if (queue_.size() >= kMax) return false;
        try {
          queue_.push_back(batch[i]);
        } catch (const std::bad_alloc&) {
          descriptor_.wake(batch[i].address, kBlockSize);  // it faults once more
        }
      }
    }
    if (count == 0) break;
    has_some = true;
    if (count < batch.size()) break;
  }
  const uint64_t one = 1;
  if (has_some) (void)!::write(kick_, &one, sizeof(one));
  return true;
}

std::optional<FaultEvent> FaultQueue::take() {
  const LockGuard guard(mutex_);
  if (queue_.empty()) return std::nullopt;
  const FaultEvent first = queue_.front();
  queue_.pop_front();
  return first;
}

}  // namespace udax::direct
