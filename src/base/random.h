// SPDX-License-Identifier: BSD-3-Clause
//
// Random numbers: the kernel's, for keys and identifiers; and a seeded generator, for tests and jitter.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace udax {

/// Fills `size` bytes from the kernel's generator. May wait during early boot; does not fail.
void fill_random(void* data, size_t size);

/// xoshiro256** (D. Blackman, S. Vigna, 2018), its state made from the seed by splitmix64. The same seed gives
/// the same numbers in every build. Not for secrets. Not thread-safe. A UniformRandomBitGenerator.
class Random {
 public:
  using result_type = uint64_t;

  explicit Random(uint64_t seed);

  [[nodiscard]] uint64_t next();
  /// Evenly distributed in [0, bound). REQUIRES: bound > 0.
  [[nodiscard]] uint64_t below(uint64_t bound);
  /// Evenly distributed in [low, high]. REQUIRES: low <= high.
  [[nodiscard]] uint64_t between(uint64_t low, uint64_t high);
  /// True once in `n` times on average. REQUIRES: n > 0.
  [[nodiscard]] bool one_in(uint64_t n) { return below(n) == 0; }
  void fill(void* data, size_t size);

  uint64_t operator()() { return next(); }
  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return std::numeric_limits<uint64_t>::max(); }

 private:
  std::array<uint64_t, 4> state_;
};

}  // namespace udax
