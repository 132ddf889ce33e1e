// SPDX-License-Identifier: BSD-3-Clause
//
// Faults of a client that have been read from its fault descriptor, and not been served.
//
// Whoever waits for the client reads them, too (pump): the client's mapper thread may stand still until its events are
// read, and the client's own worker may be the one that waits, or be kept waiting by locks of him who does.
//
// Thread safety: everything. Locks: its own, a leaf.
#pragma once

#include <deque>
#include <optional>

#include "base/mutex.h"
#include "base/types.h"
#include "direct/fault_descriptor.h"

namespace udax::direct {

class FaultQueue {
 public:
  /// A client has a fault outstanding for each of its threads; one that keeps more in flight than this is no client.
  static constexpr size_t kMax = 1U << 16;

  /// `kick`: an eventfd that is signalled when faults come in by pump().
  FaultQueue(FaultDescriptor descriptor, int kick) : descriptor_(std::move(descriptor)), kick_(kick) {}

  [[nodiscard]] const FaultDescriptor& descriptor() const { return descriptor_; }
  /// Reads what has come; never waits. False: it cannot be read any more, or it is too much.
  [[nodiscard]] bool pump() noexcept;
  [[nodiscard]] std::optional<FaultEvent> take();

 private:
  const FaultDescriptor descriptor_;
  const int kick_;
  Mutex mutex_;
  std::deque<FaultEvent> queue_ UDAX_GUARDED_BY(mutex_);
};

}  // namespace udax::direct
