// SPDX-License-Identifier: BSD-3-Clause
//
// Which pages of a mapping were stored to: PAGEMAP_SCAN over a range that is registered with a userfaultfd for asynchronous write
// protection. What is reported is protected again in the same step, so that it is reported once for each time it was stored to.
//
// Pages count as stored to that are PRESENT and WRITTEN, never WRITTEN alone: asking for that of ranges without pages makes
// touches of devdax SIGBUS later. A page that was mapped and not scanned yet is WRITTEN.
#pragma once

#include <cstdint>
#include <functional>

#include "base/error.h"

namespace udax::direct {

/// Calls `stored(start, end)` for the pages of [start, end) that were stored to. kIo: it cannot be told of all of it, for instance
/// since not all is registered so.
[[nodiscard]] Status scan_pages(int pagemap, uint64_t start, uint64_t end,
                                const std::function<void(uint64_t, uint64_t)>& stored);

enum class MemoryState : uint8_t {
  kLives,
  kGone,     // its process has ended, or runs another program: no thread can load or store there any more
  kUnknown,  // this is no pagemap
};

/// Of the memory that a pagemap was opened for. Never waits: the memory's own lock, which a thread of its process may hold
/// while it waits for an answer of ours (mmap(2) of a file on the mount, say), is not taken.
[[nodiscard]] MemoryState ask_memory(int pagemap);

/// Whether it works for shared mappings of `fd`: each of two stores to a page, with a scan in between, is reported, and a scan
/// without a store reports nothing. (On a devdax of 2 MiB pages the second store is not.) The page at `offset` is mapped,
/// and has one of its bytes replaced by itself.
[[nodiscard]] bool can_track(int fd, uint64_t offset);

}  // namespace udax::direct
