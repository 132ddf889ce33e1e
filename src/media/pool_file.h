// SPDX-License-Identifier: BSD-3-Clause
//
// A pool that is a regular file: what the kernel says of how it can be mapped, and giving it all of its blocks.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"
#include "media/medium.h"

namespace udax::media {

struct FileFacts {
  bool is_memory = false;     // tmpfs and its like: there is nothing behind the page cache
  bool is_dax = false;        // mapped around the page cache
  bool has_map_sync = false;  // a mapping's faults commit the filesystem's own metadata
  std::string pmem;           // "pmem0", the device of the filesystem; empty: another kind of device
};

/// May throw std::bad_alloc.
[[nodiscard]] FileFacts look_at_file(int fd);

/// What the user should know about a pool on such a file, mapped with this granularity; empty: nothing.
[[nodiscard]] std::string advice(const FileFacts& facts, Granularity granularity, const std::string& path);

/// Sets the size of a regular file. A DAX file gets all its blocks, in pieces of whole 2 MiB where its filesystem takes hints: a
/// fault that finds no space is a SIGBUS, and each that allocates a commit of that filesystem. kNoSpace, kIo...
[[nodiscard]] Status resize_file(int fd, uint64_t size);

}  // namespace udax::media
