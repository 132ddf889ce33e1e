// SPDX-License-Identifier: BSD-3-Clause
//
// A medium in memory (a sparse anonymous mapping), for tests and for in-process recovery of images.
#pragma once

#include <cstdint>

#include "media/medium.h"

namespace udax::media {

class MemoryMedium : public Medium {
 public:
  /// `size`: bytes, rounded down to blocks; all zero; pages come as they are touched.
  explicit MemoryMedium(uint64_t size, Granularity granularity = Granularity::kCacheLine);
  ~MemoryMedium() override;

  void store(uint64_t offset, const void* source, uint64_t size) override;
  void store_nt(uint64_t offset, const void* source, uint64_t size) override;
  void zero_nt(uint64_t offset, uint64_t size) override;
  void flush(uint64_t offset, uint64_t size) override;
  [[nodiscard]] Status drain() override;
  [[nodiscard]] Status deep_flush(uint64_t offset, uint64_t size) override;
  [[nodiscard]] Counters counters() const override;

  /// The bytes, to be broken by tests.
  [[nodiscard]] std::byte* raw();
  /// A copy of the present contents.
  void copy_from(const Medium& other);

 private:
  void* mapping_ = nullptr;
  mutable std::atomic<uint64_t> stores_{0};
  mutable std::atomic<uint64_t> stored_bytes_{0};
  mutable std::atomic<uint64_t> flushed_lines_{0};
  mutable std::atomic<uint64_t> drains_{0};
  mutable std::atomic<uint64_t> deep_flushes_{0};
};

}  // namespace udax::media
