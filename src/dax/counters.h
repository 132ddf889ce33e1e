// SPDX-License-Identifier: BSD-3-Clause
//
// What the DAX core has done, for `udaxctl stat` and benchmarks.
#pragma once

#include <atomic>
#include <cstdint>

namespace udax::dax {

/// Running totals. `T` is uint64_t in a snapshot.
template <typename T>
struct BasicCounters {
  // Faults, by what they met. Each fault counts in one of these.
  T read_data{};
  T read_zero{};           // a hole, or unwritten
  T write_data{};          // mkwrite
  T write_filled{};        // a hole or unwritten blocks, now written
  T copied{};              // private (COW) writes
  T beyond_end{};          // SIGBUS
  T failed{};              // no room, bad media, ...
  T huge{};                // of all these, by a 2 MiB entry
  T zero_views_dropped{};  // zero views replaced by data
  // Writeback
  T writebacks{};  // fsync and the like that found something dirty
  T entries_flushed{};
  T bytes_flushed{};
  // Copies (the kernel's page cache)
  T pages_filled{};     // handed out to it, of files that are also accessed directly
  T pages_returned{};   // written back by it
  T pages_twinned{};    // changed by others while a copy was out
  T copies_recalled{};  // times that copies were taken back
  T copies_doubted{};   // cached writes of which a copy might have lacked the bytes
  T flips{};            // of the DAX flag
};

using CounterValues = BasicCounters<uint64_t>;

struct Counters : BasicCounters<std::atomic<uint64_t>> {
  [[nodiscard]] CounterValues values() const {
    return {read_data,    read_zero,      write_data,         write_filled,    copied,          beyond_end,
            failed,       huge,           zero_views_dropped, writebacks,      entries_flushed, bytes_flushed,
            pages_filled, pages_returned, pages_twinned,      copies_recalled, copies_doubted,  flips};
  }
};

inline void count(std::atomic<uint64_t>& counter, uint64_t n = 1) {
  counter.fetch_add(n, std::memory_order_relaxed);
}

}  // namespace udax::dax
