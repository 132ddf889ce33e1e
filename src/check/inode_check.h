// SPDX-License-Identifier: BSD-3-Clause
//
// Checking one inode, for the passes. Private to this folder.
#pragma once

#include "check/scan.h"

namespace udax::check {

/// What an inode in use owns: extents, target, xattrs. Of directories nothing: see check_directories().
void check_contents(Scan& scan, uint64_t ino, InodeNote& note);
/// Its count against what was found.
void check_block_count(Scan& scan, uint64_t ino, const format::Inode& inode, uint64_t found);

}  // namespace udax::check
