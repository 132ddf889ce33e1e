// SPDX-License-Identifier: BSD-3-Clause
//
// Taking views back: before blocks go (truncate, punch, zero range, a flip of the flag), after holes were filled, and where
// a page cache is to have the pages.
#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/sync_point.h"
#include "dax/dax.h"
#include "extent/extent_map.h"

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

mapping::ByteRange Dax::views_to_take(inode::Inode& inode, FileBlock from, FileBlock to, bool all) {
  mapping::AddressSpace* const space = inode.space();
  constexpr mapping::ByteRange kNone{0, 0};
  if (space == nullptr || space->entries.empty()) return kNone;
  FileBlock first = to;
  FileBlock last = from;
  for (FileBlock at = from; at < to;) {
    const auto entry = space->entries.grab_next(at, to);
    if (!entry) break;
    at = entry->end();
    if (!all && entry->entry().kind != Entry::Kind::kZero) continue;
    first = std::min(first, entry->start());
    last = std::max(last, entry->end());
  }
  return first < last ? mapping::bytes_of(first, last) : kNone;
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

Status Dax::read_page(inode::Inode& inode, FileBlock at, mapping::PageCopies::Page& page) const {
  const SharedLockGuard extents(inode.extent_lock);
  UDAX_TRY(const extent::Mapping m, extent::Reader(meta_, inode.image()).lookup(at, 1));
  const uint64_t start = at.value << kBlockShift;
  const uint64_t size = inode.image().size;
  const uint64_t valid = m.is_data() && size > start ? std::min<uint64_t>(size - start, kBlockSize) : 0;
  if (valid > 0) {
    if (medium_.probe(offset_of(m.device), valid)) return meta_.lost("a part of a file", inode.ino().value);
    std::memcpy(page.data(), medium_.block(m.device), valid);
  }
  std::memset(page.data() + valid, 0, kBlockSize - valid);
  return {};
}

// A store that comes through a view that is late must not be covered by a copy that comes back whole: of the copy only what
// differs from the page as it is now will be taken.
Status Dax::keep_beside_views(inode::Inode& inode, FileBlock from, FileBlock to) {
  if (UDAX_KNOB("dax.revoke.skip_late")) return {};
  mapping::AddressSpace* const space = inode.space();
  return space->copies.keep(
      from, to, [&](FileBlock at, mapping::PageCopies::Page& page) { return read_page(inode, at, page); });
}

void Dax::revoke(inode::Inode& inode, FileBlock from, FileBlock to) {
  mapping::AddressSpace* const space = inode.space();
  if (space == nullptr || !mappers_.has_mappers() || UDAX_KNOB("dax.revoke.skip")) return;
  // Faults put their entry in before they look for copies, so one that saw none is met here.
  for (FileBlock at = from; at < to;) {
    auto entry = space->entries.grab_next(at, to);
    if (!entry) break;
    at = entry->end();
    // Whether a view that is tracked was stored to is not asked for: it counts as if.
    const bool is_data = entry->entry().kind == Entry::Kind::kData;
    if (is_data && space->trackers.load() != 0) entry->set_mark(mapping::Mark::kDirty);
    mappers_.invalidate(inode.ino(), mapping::bytes_of(entry->start(), entry->end()));
    if (!entry->marked(mapping::Mark::kDirty)) entry->erase();
  }
  if (!mappers_.may_hold(inode.ino(), mapping::bytes_of(from, to))) return;
  if (const Status done = keep_beside_views(inode, from, to); !done) {
    log::warning("inode {}: pages cannot be told from late stores: {}", inode.ino().value,
                 to_string(done.error()));
  }
}

}  // namespace udax::dax
