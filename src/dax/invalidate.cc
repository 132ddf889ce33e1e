// SPDX-License-Identifier: BSD-3-Clause
//
// Taking views back: before blocks go (truncate, punch, zero range, a flip of the flag), after holes were filled, and where
// a page cache is to have the pages.
#include "base/sync_point.h"
#include "dax/dax.h"

namespace udax::dax {

using mapping::Entry;
using mapping::EntryTree;

Status Dax::drop(inode::Inode& inode, FileBlock from, FileBlock to) {
  mapping::AddressSpace* const space = inode.space();
  if (space == nullptr || space->entries.empty()) return {};
  // Views first: with invalidate_lock held no new one can come.
  if (!UDAX_KNOB("dax.drop.skip_invalidate")) mappers_.invalidate(inode.ino(), mapping::bytes_of(from, to));
  UDAX_SYNC_POINT("dax.drop.invalidated");
  return space->entries.erase_range(from, to);
}

void Dax::filled(inode::Inode& inode, FileBlock from, FileBlock to) {
  mapping::AddressSpace* const space = inode.space();
  if (space == nullptr || space->entries.empty()) return;
  if (UDAX_KNOB("dax.filled.skip")) return;
  // Faults put their entry in before they look at the extents, so one that found the hole is met here.
  for (FileBlock at = from; at < to;) {
    auto entry = space->entries.grab_next(at, to);
    if (!entry) return;
    at = entry->end();
    // One that is data was resolved after the commit, or by a write fault: it may be DIRTY, and stays.
    if (entry->entry().kind == Entry::Kind::kData && !UDAX_KNOB("dax.filled.erase_all")) continue;
    if (entry->entry().kind == Entry::Kind::kZero) {
      count(counters_.zero_views_dropped);
      mappers_.invalidate(inode.ino(), mapping::bytes_of(entry->start(), entry->end()));
    }
    entry->erase();
  }
}

void Dax::grown(inode::Inode& inode, uint64_t old_size) {
  mapping::AddressSpace* const space = inode.space();
  if (space == nullptr || !space->touched_behind.load()) return;
  // Behind the end there are no views but of nothing: no store is lost. A fault that has looked at the size before it changed
  // looks once more when it has noted what it put there.
  space->touched_behind.store(false);
  mappers_.invalidate(inode.ino(),
                      mapping::bytes_of(FileBlock(blocks_for(old_size)), FileBlock(mapping::kFileBlockEnd)));
}

void Dax::revoke(inode::Inode& inode, FileBlock from, FileBlock to) {
  mapping::AddressSpace* const space = inode.space();
  if (space == nullptr || space->entries.empty() || !mappers_.has_mappers()) return;
  if (UDAX_KNOB("dax.revoke.skip")) return;
  // Faults put their entry in before they look for copies, so one that saw none is met here.
  for (FileBlock at = from; at < to;) {
    auto entry = space->entries.grab_next(at, to);
    if (!entry) return;
    at = entry->end();
    // Whether a view that is tracked was stored to is not asked for: it counts as if.
    const bool is_data = entry->entry().kind == Entry::Kind::kData;
    if (is_data && space->trackers.load() != 0) entry->set_mark(mapping::Mark::kDirty);
    mappers_.invalidate(inode.ino(), mapping::bytes_of(entry->start(), entry->end()));
    if (!entry->marked(mapping::Mark::kDirty)) entry->erase();
  }
}

}  // namespace udax::dax
