// SPDX-License-Identifier: BSD-3-Clause
//
// Draws the operations of one process: the same seed, setup and sizes give the same ones.
#pragma once

#include <array>
#include <cstdint>

#include "base/random.h"
#include "tools/fsx/op.h"
#include "tools/fsx/session.h"

namespace udax::fsx {

struct Choice {
  std::array<uint32_t, kKinds> weights{};  // 0: never. Those of Kind::kAll... are among themselves
  uint64_t length_min = 1;
  uint64_t length_max = 65536;

  /// Everything as often as op.cc has it, but for what must be asked for (flips, stores past the end).
  [[nodiscard]] static Choice usual();
  void leave_out(Group group);
};

class Generator {
 public:
  /// REQUIRES: some weight is not 0; length_min <= length_max.
  Generator(uint64_t seed, const Setup& setup, const Choice& choice, uint8_t me);

  /// The next one for a file of this size.
  [[nodiscard]] Op next(uint64_t size);
  /// The next one for all processes; drawn by each of them from its own generator of the same seed.
  [[nodiscard]] Op next_for_all();

 private:
  [[nodiscard]] Kind pick(size_t begin, size_t end);
  [[nodiscard]] uint64_t offset_below(uint64_t limit, uint64_t size);
  [[nodiscard]] uint64_t length();
  [[nodiscard]] uint64_t own_offset();
  void place(Op& op, uint64_t size);

  Random random_;
  const Setup setup_;
  Choice choice_;
  const uint8_t me_;
};

/// A seed made of two, for the rounds and processes of a run.
[[nodiscard]] uint64_t derive_seed(uint64_t seed, uint64_t number);

}  // namespace udax::fsx
