// SPDX-License-Identifier: BSD-3-Clause
//
// A medium in memory that knows what a power failure would leave at the least: the bytes as they were when they were
// flushed (or stored around the cache), once the same thread has drained.
//
// New media hold kStale everywhere, so that a block which is shown before it was written shows.
//
// Thread safety: as a medium. Locks: its own, a leaf.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "media/memory_medium.h"

namespace udax::test {

inline constexpr char kStale = 'S';

class PowerMedium final : public media::MemoryMedium {
 public:
  explicit PowerMedium(uint64_t size, media::Granularity granularity = media::Granularity::kCacheLine)
      : MemoryMedium(size, granularity), durable_(size, granularity) {
    std::memset(raw(), kStale, size);
    std::memset(durable_.raw(), kStale, size);
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
    const uint64_t start = align_down(offset, kCacheLine);
    note(start, align_up(offset + size, kCacheLine) - start);
    const std::lock_guard guard(mutex_);
    if (on_flush_) on_flush_(offset, size);
  }
  [[nodiscard]] Status drain() override {
    if (fail_drains_.load() > 0 && fail_drains_.fetch_sub(1) > 0) return Error::kIo;
    const std::lock_guard guard(mutex_);
    for (const Noted& n : noted_[std::this_thread::get_id()]) {
      std::memcpy(durable_.raw() + n.offset, n.bytes.data(), n.bytes.size());
    }
    noted_.erase(std::this_thread::get_id());
    return MemoryMedium::drain();
  }
  [[nodiscard]] Status deep_flush(uint64_t offset, uint64_t size) override {
    // Of pages it is msync; of cache lines it drains what has left the CPUs' caches, and does not reach into these.
    if (granularity() == media::Granularity::kPage) note(offset, size);
    return drain();
  }
  [[nodiscard]] bool is_lost(uint64_t offset, uint64_t size) const override {
    const uint64_t lost = lost_.load();
    return lost != 0 && lost < offset + size && lost + kBlockSize > offset;
  }

  /// The next `n` drains fail.
  void fail_drains(int n) { fail_drains_.store(n); }
  /// From now on this block is lost to a media error; kNoBlock: none is.
  void lose(DeviceBlock block) { lost_.store(offset_of(block)); }
  /// Called with each range flushed.
  void on_flush(std::function<void(uint64_t, uint64_t)> hook) {
    const std::lock_guard guard(mutex_);
    on_flush_ = std::move(hook);
  }
  /// What a power failure leaves now.
  [[nodiscard]] std::shared_ptr<media::MemoryMedium> after_power_failure() {
    auto copy = std::make_shared<media::MemoryMedium>(size(), granularity());
    const std::lock_guard guard(mutex_);
    copy->copy_from(durable_);
    return copy;
  }

 private:
  struct Noted {
    uint64_t offset = 0;
    std::vector<std::byte> bytes;
  };
  void note(uint64_t offset, uint64_t size) {
    const std::lock_guard guard(mutex_);
    noted_[std::this_thread::get_id()].push_back({offset, {at(offset), at(offset) + size}});
  }

  std::mutex mutex_;
  std::map<std::thread::id, std::vector<Noted>> noted_;
  std::function<void(uint64_t, uint64_t)> on_flush_;
  media::MemoryMedium durable_;
  std::atomic<int> fail_drains_{0};
  std::atomic<uint64_t> lost_{0};
};

}  // namespace udax::test
