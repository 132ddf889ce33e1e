// SPDX-License-Identifier: BSD-3-Clause
//
// Guesses whether a request will take long, from what the last ones of its kind took: a queue should not be held up by
// an fsync that waits for a disk, nor should one that is over in a microsecond be handed to another thread.
//
// Thread safety: everything; a lost update does no harm.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "fuse/wire.h"

namespace udax::fuse {

class SlowGuess {
 public:
  static constexpr uint64_t kSlowNs = 300'000;  // several times what handing over costs

  [[nodiscard]] bool is_slow(uint32_t opcode) const {
    return opcode < wire::kOpcodeCount && average_ns_[opcode].load(std::memory_order_relaxed) > kSlowNs;
  }
  void note(uint32_t opcode, uint64_t took_ns) {
    if (opcode >= wire::kOpcodeCount) return;
    std::atomic<uint64_t>& average = average_ns_[opcode];
    const uint64_t old = average.load(std::memory_order_relaxed);
    // An eighth of the new: a single long one is soon forgotten.
    average.store(old - old / 8 + took_ns / 8, std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<uint64_t>, wire::kOpcodeCount> average_ns_{};
};

}  // namespace udax::fuse
