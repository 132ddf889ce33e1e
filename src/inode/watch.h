// SPDX-License-Identifier: BSD-3-Clause
//
// What those are told of an inode who watch its state (mapping/state_watch.h): the committed image, at every commit that changes it.
#pragma once

#include "base/error.h"
#include "inode/inode.h"
#include "mapping/state_watch.h"

namespace udax::inode {

[[nodiscard]] mapping::FileState state_of(const format::Inode& image);
/// From `before` to `after` somebody may do less than before: cut the file off, or what its owner, flags or xattrs forbid.
[[nodiscard]] bool is_narrowed(const format::Inode& before, const format::Inode& after);

/// Tells `watcher` the state, and from then on each change of it. kNoMemory. REQUIRES: no lock of the inode; it stays until unwatch().
[[nodiscard]] Status watch(Inode& inode, mapping::StateWatcher& watcher);
/// REQUIRES: watched.
void unwatch(Inode& inode, mapping::StateWatcher& watcher);

}  // namespace udax::inode
