// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>

#include "extent/extent_map.h"
#include "extent/tree_walk.h"

namespace udax::extent {

Result<Mapping> Reader::lookup(FileBlock at, uint64_t count_max) const {
  return lookup_in(CommittedSource(meta_, inode_.ino), inode_, at, count_max);
}

Status Reader::for_each(FileBlock from, FileBlock to, const std::function<bool(const Mapping&)>& visit) const {
  if (from > to) return Error::kInvalid;
  to = std::min(to, kFileBlockEnd);
  if (from >= to) return {};
  const CommittedSource source(meta_, inode_.ino);
  TreeWalk walk(source, inode_);
  UDAX_TRY(LeafView leaf, walk.seek(from.value));
  uint32_t slot = leaf.upper_bound(from.value);
  if (slot > 0) --slot;
  uint64_t end = leaf.keys.low;
  for (;;) {
    for (; slot < leaf.count; ++slot) {
      UDAX_TRY(const Run run, walk.load(leaf, slot));
      if (run.file < end) return walk.broken("order of extent leaf", walk.leaf_block());
      end = run.end();
      if (run.file >= to.value) return {};
      if (end <= from.value) continue;
      const Run part = run.part(std::max(run.file, from.value), std::min(end, to.value));
      if (!visit({FileBlock(part.file), part.count, DeviceBlock(part.device), part.unwritten})) return {};
    }
    if (leaf.keys.high >= to.value) return {};
    UDAX_TRY(leaf, walk.next());
    slot = 0;
  }
}

Result<uint64_t> Reader::count() const {
  const CommittedSource source(meta_, inode_.ino);
  TreeWalk walk(source, inode_);
  UDAX_TRY(LeafView leaf, walk.seek(0));
  uint64_t total = leaf.count;
  while (leaf.keys.high < kFileBlockEnd.value) {
    UDAX_TRY(leaf, walk.next());
    // One extent in its place shows that this is no leaf counted before: without it, nodes that share children
    // could keep the walk going for ever.
    UDAX_CHECK(walk.load(leaf, 0));
    total += leaf.count;
  }
  return total;
}

}  // namespace udax::extent
