// SPDX-License-Identifier: BSD-3-Clause
//
// A client's userfaultfd, as the daemon uses it: reads what faults, and wakes. It is the client's: what it says is hostile, and it
// may be anything but a userfaultfd. Nothing here takes the lock of the client's memory, which a thread of it may hold while it
// waits for us.
//
// Thread safety: everything (the kernel's).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "direct/packets.h"

namespace udax::direct {

struct FaultEvent {
  uint64_t address = 0;
  bool is_write = false;
};

class FaultDescriptor {
 public:
  static constexpr size_t kBatch = 64;
  using Batch = std::array<FaultEvent, kBatch>;

  FaultDescriptor() = default;
  /// kInvalid: not a userfaultfd.
  [[nodiscard]] static Result<FaultDescriptor> take(OwnedFd fd);

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool is_open() const { return fd_.is_open(); }
  /// Faults that have come, up to `into`'s size; 0: none. Other events are read, which lets their makers go on. Never waits.
  /// kIo: it cannot be read so.
  [[nodiscard]] Result<size_t> read(Batch& into) const;
  void wake(uint64_t address, uint64_t length) const;

 private:
  OwnedFd fd_;
};

}  // namespace udax::direct
