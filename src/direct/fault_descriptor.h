// SPDX-License-Identifier: BSD-3-Clause
//
// A client's userfaultfd, as the daemon uses it: reads what faults, puts zero pages in, wakes, and tells whether the memory
// behind it still exists. It is the client's: what it says is hostile, and it may be anything but a userfaultfd.
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

enum class ZeroResult : uint8_t {
  kDone,   // there, write-protected, and who waits was woken
  kAgain,  // the mappings are changing: read events, and try again
  kOther,  // something else is there, or nothing that may be
  kGone,   // the memory is gone
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
  /// A zero page at `address`, write-protected.
  [[nodiscard]] ZeroResult put_zeroes(uint64_t address) const;
  void wake(uint64_t address, uint64_t length) const;
  /// The memory behind it is gone: its process has ended, or runs another program. `address`: some page that it is
  /// registered for, on which nothing is.
  [[nodiscard]] bool is_gone(uint64_t address) const;

 private:
  OwnedFd fd_;
};

}  // namespace udax::direct
