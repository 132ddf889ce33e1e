// SPDX-License-Identifier: BSD-3-Clause
#include "inode/watch.h"

namespace udax::inode {
namespace {

uint64_t to_ns(uint64_t seconds, uint32_t nanoseconds) {
  constexpr uint64_t kPerSecond = 1'000'000'000;
  constexpr uint64_t kSecondsMax = mapping::kNoTime / kPerSecond - 1;
  return seconds > kSecondsMax ? mapping::kNoTime : seconds * kPerSecond + nanoseconds;
}

}  // namespace

mapping::FileState state_of(const format::Inode& image) {
  mapping::FileState state;
  state.size = image.size;
  state.blocks = image.block_count;
  state.atime_ns = to_ns(image.atime_s, image.atime_ns);
  state.mtime_ns = to_ns(image.mtime_s, image.mtime_ns);
  state.ctime_ns = to_ns(image.ctime_s, image.ctime_ns);
  state.flags = image.flags;
  state.mode = image.mode;
  state.has_xattrs = image.xattr_block != 0;
  return state;
}

bool is_narrowed(const format::Inode& before, const format::Inode& after) {
  return after.size < before.size || after.flags != before.flags || after.mode != before.mode ||
         (before.xattr_block == 0) != (after.xattr_block == 0);
}

Status watch(Inode& inode, mapping::StateWatcher& watcher) {
  UDAX_TRY(mapping::AddressSpace* const space, inode.make_space());
  // Kept by whoever changes the image, from before it tells of it until after.
  const SharedLockGuard guard(inode.extent_lock);
  watcher.changed(state_of(inode.image()));
  space->watchers.add(&watcher);
  return {};
}

void unwatch(Inode& inode, mapping::StateWatcher& watcher) { inode.space()->watchers.remove(&watcher); }

}  // namespace udax::inode
