// SPDX-License-Identifier: BSD-3-Clause
//
// Surviving media errors: a load or store that the medium cannot satisfy raises SIGBUS; while a mapping is
// watched, the handler puts an anonymous page of zeroes in the place of the one that failed, remembers that it is
// lost, and lets the access go on. Pages that the device itself calls bad are noted before anybody touches them.
//
// Invariants
// - A page once lost stays lost until the mapping goes: what it shows from then on was never on the medium, and
//   what is stored to it never gets there.
// - A page that was noted is lost, and its neighbours of one unit are not, until somebody touches it after all.
// - A SIGBUS outside watched mappings goes to whoever handled it before, or kills the process as it would have.
//
// Locks: none on the fault path; the handler only uses atomics and mmap(2).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/error.h"
#include "media/medium.h"

namespace udax::media {

class FaultLog {
 public:
  /// Watches [base, base + size) until destroyed. `unit`: bytes that have to be replaced together (devdax cannot
  /// split its mapping below its alignment), a multiple of 4096. kNoMemory, kTooManyFiles (64 mappings a process).
  [[nodiscard]] static Result<std::unique_ptr<FaultLog>> watch(std::byte* base, uint64_t size, uint64_t unit,
                                                               bool is_writable);
  ~FaultLog();
  FaultLog(const FaultLog&) = delete;
  FaultLog& operator=(const FaultLog&) = delete;

  /// Faults survived.
  [[nodiscard]] uint64_t count() const { return count_.load(std::memory_order_acquire); }
  /// True if some page of the range is lost. Costs one load while nothing is.
  [[nodiscard]] bool is_lost(uint64_t offset, uint64_t size) const {
    return lost_pages() != 0 && size != 0 && is_lost_slow(offset, size);
  }
  [[nodiscard]] uint64_t lost_pages() const { return lost_pages_.load(std::memory_order_acquire); }
  /// The first so many ranges that were lost, in order, neighbours joined.
  [[nodiscard]] std::vector<LostRange> lost_ranges() const;

  /// Calls the pages of a range lost that the device says cannot be read.
  void note(uint64_t offset, uint64_t size);

  /// The handler's work: true if `address` was in a watched mapping and the access may be tried again.
  /// Async-signal-safe.
  [[nodiscard]] static bool absorb(const void* address);

 private:
  FaultLog(std::byte* base, uint64_t size, uint64_t unit, bool is_writable);
  [[nodiscard]] bool is_lost_slow(uint64_t offset, uint64_t size) const;
  [[nodiscard]] bool replace(uint64_t offset);
  void set_lost(uint64_t begin, uint64_t end);
  [[nodiscard]] uint64_t bitmap_bytes() const;

  struct Seen {
    std::atomic<uint64_t> begin{0};
    std::atomic<uint64_t> end{0};  // 0: not written yet
  };

  std::byte* base_;
  uint64_t size_;
  uint64_t unit_;
  int protection_;
  // A bit a page each; sparse.
  std::atomic<uint64_t>* lost_ = nullptr;
  std::atomic<uint64_t>* replaced_ = nullptr;  // of a unit: its first page's bit; by whom it is or was replaced
  std::atomic<uint64_t> count_{0};
  std::atomic<uint64_t> lost_pages_{0};
  std::array<Seen, 64> seen_;  // what was lost first, for showing
  std::atomic<uint32_t> seen_count_{0};
  std::atomic<bool> all_lost_{false};
  std::atomic<void*> spare_{nullptr};  // mappings kept for the last resort
  uint32_t slot_ = 0;
};

}  // namespace udax::media
