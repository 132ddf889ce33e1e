// SPDX-License-Identifier: BSD-3-Clause
//
// A medium in memory that loses pages: what they held is gone for good, they show zeroes, and what is stored to them
// makes the next drain of the thread that stored it fail.
//
// Thread safety: as a medium; lose() and heal() while nobody uses the pages.
#pragma once

#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include "media/memory_medium.h"

namespace udax::test {

class LossyMedium final : public media::MemoryMedium {
 public:
  explicit LossyMedium(uint64_t size, media::Granularity granularity = media::Granularity::kCacheLine)
      : MemoryMedium(size, granularity), lost_(size / kBlockSize) {}

  void lose(DeviceBlock block) {
    if (lost_[block.value].exchange(true)) return;
    std::memset(raw() + offset_of(block), 0, kBlockSize);
    ++count_;
  }
  /// All is well again, as after the bad blocks of a device have been cleared: lost pages hold zeroes.
  void heal() {
    for (uint64_t b = 0; b < lost_.size(); ++b) {
      if (lost_[b].exchange(false)) std::memset(raw() + b * kBlockSize, 0, kBlockSize);
    }
    count_ = 0;
  }

  void store(uint64_t offset, const void* source, uint64_t size) override {
    MemoryMedium::store(offset, source, size);
    note(offset, size);
  }
  void store_nt(uint64_t offset, const void* source, uint64_t size) override {
    MemoryMedium::store_nt(offset, source, size);
    note(offset, size);
  }
  void zero_nt(uint64_t offset, uint64_t size) override {
    MemoryMedium::zero_nt(offset, size);
    note(offset, size);
  }
  void flush(uint64_t offset, uint64_t size) override {
    MemoryMedium::flush(offset, size);
    note(offset, size);
  }
  [[nodiscard]] Status drain() override {
    failed_ = std::exchange(noted_, false);
    return failed_ ? Status(Error::kIo) : MemoryMedium::drain();
  }
  [[nodiscard]] Status deep_flush(uint64_t offset, uint64_t size) override {
    failed_ = is_lost(offset, size);
    return failed_ ? Status(Error::kIo) : Status();
  }
  [[nodiscard]] bool failed_by_loss() const override { return failed_; }
  [[nodiscard]] bool is_lost(uint64_t offset, uint64_t size) const override {
    if (count_ == 0 || size == 0) return false;
    for (uint64_t b = offset / kBlockSize; b <= (offset + size - 1) / kBlockSize; ++b) {
      if (lost_[b]) return true;
    }
    return false;
  }
  [[nodiscard]] uint64_t lost_pages() const override { return count_; }
  [[nodiscard]] std::vector<media::LostRange> lost_ranges() const override {
    std::vector<media::LostRange> ranges;
    for (uint64_t b = 0; b < lost_.size(); ++b) {
      if (lost_[b]) ranges.push_back({b * kBlockSize, kBlockSize});
    }
    return ranges;
  }

 private:
  void note(uint64_t offset, uint64_t size) {
    if (is_lost(offset, size)) noted_ = true;
  }

  std::vector<std::atomic<bool>> lost_;
  std::atomic<uint64_t> count_{0};
  static inline thread_local bool noted_ = false;
  static inline thread_local bool failed_ = false;
};

}  // namespace udax::test
