// SPDX-License-Identifier: BSD-3-Clause
//
// The long, random form of the races: threads that load, store, write, read, cut, punch, sync and flip one file at once,
// each byte of which is checked against a model.
//
// Who owns what: the file is cut into stripes of 32 bytes; stripe i belongs to thread i mod threads. Only its owner stores
// to a stripe and looks at it, so that it knows what must be there; several threads share each page, and each cache line.
//
// Wipes (truncation and growth back, punch, zero range) make zeroes of many stripes at once, whosever they are. Each
// stripe counts the wipes of it that have begun, and those that have ended. What its owner stored is, when it looks,
//   there       if no wipe had begun that had not ended before the store began;
//   zero        if more wipes had ended than had begun when the store returned: one of them came after it;
//   either      else.
// Under ThreadSanitizer wipes are of whole pages: the bytes of a partly wiped page are an application's race.
//
// Everything else that is checked: no bus error but behind the end, no error from any call, a private copy that stays
// what it was, the entry tree's invariants between rounds, and the whole file, by read and through views.
#pragma once

#include <cstdint>
#include <string>

#include "fs/filesystem.h"

namespace udax::races {

/// How often which operation is picked, relative to each other.
struct Mix {
  uint32_t loads = 0;
  uint32_t stores = 0;
  uint32_t writes = 0;
  uint32_t reads = 0;
  uint32_t truncates = 0;
  uint32_t punches = 0;
  uint32_t zero_ranges = 0;
  uint32_t allocates = 0;
  uint32_t fsyncs = 0;
  uint32_t flips = 0;
  uint32_t copies = 0;  // private mappings
};

struct StormResult {
  uint64_t operations = 0;
  uint64_t wrong = 0;
  std::string first;  // what was wrong first
};

/// Runs the mix on `fs` with 8 threads, for `seconds`.
[[nodiscard]] StormResult run_storm(fs::Filesystem& fs, const Mix& mix, double seconds, uint64_t seed);

/// The same on a pool of its own, expected to find nothing wrong; the pool is checked after. UDAX_STORM_SECONDS (default 1)
/// and UDAX_STORM_SEED are what their names say; both are printed.
void storm(const Mix& mix, double scale = 1, const fs::MountOptions& options = {},
           media::Granularity granularity = media::Granularity::kCacheLine);

}  // namespace udax::races
