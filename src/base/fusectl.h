// SPDX-License-Identifier: BSD-3-Clause
//
// The kernel's files of a FUSE connection (Documentation/filesystems/fuse.rst, "FUSE connection control"): how many requests wait,
// and the one that ends it.
#pragma once

#include <cstdint>

namespace udax {

/// fusectl's folder, to read its files or to write them (O_RDONLY, O_WRONLY): where it is mounted, else a mount that nobody else sees,
/// which takes root. The caller closes it; -1: it cannot be had.
int open_fusectl(int access);
/// A file ("abort", "waiting") of a connection, which has the number of its mount's device (minor). The kernel's count in "waiting"
/// stays as it was when it was opened. The caller closes it; -1: it is not there.
int open_fuse_connection(int fusectl, uint32_t connection, const char* file, int access);

}  // namespace udax
