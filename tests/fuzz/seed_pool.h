// SPDX-License-Identifier: BSD-3-Clause
//
// What the fuzzers start from: a small empty pool, byte for byte the same in each run.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "base/log.h"
#include "media/memory_medium.h"
#include "mkfs/make_pool.h"

namespace udax::fuzz {

inline constexpr uint64_t kPoolSize = 8 * 1024 * 1024;

/// Ends the run, as a finding, if what has to work did not.
inline void must(bool done) {
  if (!done) std::abort();
}

struct SeedPool {
  media::MemoryMedium medium{kPoolSize};
  SeedPool() {
    static_cast<void>(log_init(LogLevel::kError, LogTarget::kStderr));
    mkfs::MakeOptions options;
    options.uuid.fill(1);
    options.hash_key.fill(2);
    options.journal_epoch = 1;
    options.journal_blocks = 256;
    options.time = {1, 1};
    must(mkfs::make_pool(medium, options).has_value());
  }
};

}  // namespace udax::fuzz
