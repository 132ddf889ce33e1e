// SPDX-License-Identifier: BSD-3-Clause
//
// The medium: a mapped pool and the primitives that store to it. Nothing else in the project writes to media.
//
// Reading is by pointer (`at`). Writing is by offset, in three steps that the caller orders:
//   store / store_nt / zero_nt   the bytes are visible to every reader of the mapping at once
//   flush                        the cached stores of a range are on their way to the medium
//   drain                        everything this *thread* stored non-temporally or flushed before is durable
//
// Implementations: PoolMedium (a file or /dev/dax through libpmem2), MemoryMedium (tests), RecordingMedium
// (wraps a memory; logs stores, flushes and drains for crash exploration).
//
// Persistence
// - Granularity byte (eADR): flush does nothing, drain is a store fence.
// - Granularity cache line: flush is clwb of the lines, drain is sfence.
// - Granularity page: flush notes the range for this thread, drain is msync of the noted pages. On a tmpfs,
//   which has no store behind it, msync is left out: what the mapping holds is all there is.
// - 8-byte aligned stores of 8 bytes are atomic against a crash; nothing larger is.
//
// Media errors: a load that the medium cannot satisfy raises SIGBUS. PoolMedium's handler puts a zero page in
// its place and counts it, so that the daemon lives; `faults()` lets a copy tell that it hit one. The page is lost from
// then on, as one is from the start that the device has on its list of bad blocks.
//
// Locks: none; callers see to it that no two threads store to one place at once.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/types.h"

namespace udax::media {

enum class Granularity : uint8_t { kByte, kCacheLine, kPage };

/// Running totals, for `udaxctl stat` and benchmarks. Each thread adds to a line of its own.
struct Counters {
  uint64_t stores = 0;  // calls
  uint64_t stored_bytes = 0;
  uint64_t flushed_lines = 0;  // 64-byte lines flushed or stored non-temporally
  uint64_t drains = 0;
  uint64_t deep_flushes = 0;  // asked for; a platform may have none
  uint64_t faults = 0;        // media errors survived
};

/// Pages that a media error has taken.
struct LostRange {
  uint64_t offset = 0;  // bytes, whole pages
  uint64_t size = 0;
  [[nodiscard]] uint64_t end() const { return offset + size; }
};

class Medium {
 public:
  Medium() = default;
  Medium(const Medium&) = delete;
  Medium& operator=(const Medium&) = delete;
  virtual ~Medium() = default;

  /// Bytes; a multiple of the block size.
  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] uint64_t block_count() const { return size_ / kBlockSize; }
  [[nodiscard]] Granularity granularity() const { return granularity_; }
  [[nodiscard]] bool read_only() const { return read_only_; }

  /// The mapped bytes at `offset`. REQUIRES: offset < size().
  [[nodiscard]] const std::byte* at(uint64_t offset) const { return base_ + offset; }
  [[nodiscard]] const std::byte* block(DeviceBlock b) const { return base_ + offset_of(b); }
  template <typename T>
  [[nodiscard]] const T* as(uint64_t offset) const {
    return reinterpret_cast<const T*>(base_ + offset);
  }

  // REQUIRES for all below: [offset, offset + size) within the pool, and not read_only().

  /// Cached store. Not durable before flush and drain.
  virtual void store(uint64_t offset, const void* source, uint64_t size) = 0;
  /// Store that goes around the cache where that pays (or store + flush). Not durable before drain.
  virtual void store_nt(uint64_t offset, const void* source, uint64_t size) = 0;
  /// Like store_nt, of zeroes.
  virtual void zero_nt(uint64_t offset, uint64_t size) = 0;
  /// Starts the write-back of the lines of a range stored with store().
  virtual void flush(uint64_t offset, uint64_t size) = 0;
  /// Waits until what this thread flushed or stored non-temporally is durable. kIo: the medium said no
  /// (msync failed); nothing may be assumed durable.
  [[nodiscard]] virtual Status drain() = 0;
  /// Pushes a range to the deepest persistence the platform has (unmount, UDAX_IOC_SYNC).
  [[nodiscard]] virtual Status deep_flush(uint64_t offset, uint64_t size) = 0;

  /// Media errors survived so far, of all threads. A copy that must not return invented bytes compares it
  /// before and after.
  [[nodiscard]] virtual uint64_t faults() const { return 0; }
  /// True if some page of the range was lost to a media error, now or earlier: what it shows is invented, and what
  /// is stored to it does not last (drain then says kIo). faults() tells only of pages lost meanwhile. Costs next
  /// to nothing while nothing is lost.
  [[nodiscard]] virtual bool is_lost(uint64_t offset, uint64_t size) const {
    static_cast<void>(offset);
    static_cast<void>(size);
    return false;
  }
  [[nodiscard]] bool is_lost(DeviceBlock b) const { return is_lost(offset_of(b), kBlockSize); }
  /// After a drain() or deep_flush() of this thread that said kIo: true if all that it waited for is durable but what was stored to
  /// lost pages. Nothing else needs to be doubted then.
  [[nodiscard]] virtual bool failed_by_loss() const { return false; }
  /// Pages lost, and the first few ranges of them, for showing. May throw std::bad_alloc.
  [[nodiscard]] virtual uint64_t lost_pages() const { return 0; }
  [[nodiscard]] virtual std::vector<LostRange> lost_ranges() const { return {}; }
  /// Touches each page of the range, so that one that cannot be read becomes known as lost: true if one is.
  bool probe(uint64_t offset, uint64_t size) const;
  /// Bytes from `offset` up to the first lost page, `size` at most.
  [[nodiscard]] uint64_t sound_bytes(uint64_t offset, uint64_t size) const;
  [[nodiscard]] virtual Counters counters() const { return {}; }

  /// The descriptor of the pool, to be mapped by others; -1 if it has none.
  [[nodiscard]] virtual int fd() const { return -1; }

  /// store + flush, for single fields.
  void store_flush(uint64_t offset, const void* source, uint64_t size) {
    store(offset, source, size);
    flush(offset, size);
  }

 protected:
  void set(std::byte* base, uint64_t size, Granularity granularity, bool read_only) {
    base_ = base;
    size_ = size;
    granularity_ = granularity;
    read_only_ = read_only;
  }
  [[nodiscard]] std::byte* writable(uint64_t offset) { return base_ + offset; }

 private:
  std::byte* base_ = nullptr;
  uint64_t size_ = 0;
  Granularity granularity_ = Granularity::kPage;
  bool read_only_ = false;
};

}  // namespace udax::media
