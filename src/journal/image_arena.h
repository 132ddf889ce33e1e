// SPDX-License-Identifier: BSD-3-Clause
//
// Memory for the shadows of transactions: two size classes, recycled by each thread for itself, so that a
// transaction in steady state does not go to the heap.
//
// Invariants: an image may be given back by another thread than took it; the cache of a thread is bounded.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace udax::journal {

class ImageArena {
 public:
  /// The calling thread's own.
  [[nodiscard]] static ImageArena& local();

  ImageArena() = default;
  ~ImageArena();
  ImageArena(const ImageArena&) = delete;
  ImageArena& operator=(const ImageArena&) = delete;

  /// An image of at least `size` bytes (at most 4096), aligned to 64, of undefined content; nullptr: no memory.
  [[nodiscard]] std::byte* take(uint32_t size) noexcept;
  /// REQUIRES: taken with the same `size`.
  void give(std::byte* image, uint32_t size) noexcept;

 private:
  static constexpr uint32_t kSmallBytes = 256;
  static constexpr uint32_t kSmallKept = 64;
  static constexpr uint32_t kBlocksKept = 128;  // more than a transaction of kUnitsPerTx and kGroupsPerTx has

  template <uint32_t kKept>
  struct Cache {
    std::array<std::byte*, kKept> images{};
    uint32_t count = 0;
  };
  Cache<kSmallKept> small_;
  Cache<kBlocksKept> blocks_;
};

}  // namespace udax::journal
