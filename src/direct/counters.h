// SPDX-License-Identifier: BSD-3-Clause
//
// What the direct-mapping server has done, for `udaxctl stat`.
#pragma once

#include <atomic>
#include <cstdint>

namespace udax::direct {

/// Running totals but for what is said to be current. `T` is uint64_t in a snapshot.
template <typename T>
struct BasicCounters {
  T clients{};   // current: connections
  T regions{};   // current: mappings of files
  T connects{};  // accepted
  T refused{};   // by policy, or by a limit
  T cut_offs{};  // did not answer, or broke the protocol, and were ended
  T faults{};    // that came from clients
  T maps{};      // ops sent, by kind
  T holes{};
  T buses{};
  T zero_pages{};   // put in
  T revocations{};  // times that clients were waited for
  T late{};         // of these, that one had not answered in time (late_views.h)
  T handovers{};    // mappings of files that were DAX files no more: they became the kernel's
};

using CounterValues = BasicCounters<uint64_t>;

struct Counters : BasicCounters<std::atomic<uint64_t>> {
  [[nodiscard]] CounterValues values() const {
    return {clients, regions, connects,   refused,     cut_offs, faults,   maps,
            holes,   buses,   zero_pages, revocations, late,     handovers};
  }
};

inline void count(std::atomic<uint64_t>& counter, uint64_t n = 1) {
  counter.fetch_add(n, std::memory_order_relaxed);
}

}  // namespace udax::direct
