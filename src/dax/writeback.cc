// SPDX-License-Identifier: BSD-3-Clause
//
// Writeback: what fsync does. Costs what is dirty, not what the file has.
//
//   collect  mappers that track stores tell which pages were stored to; these are flushed, and stay mapped writable
//   tag      every DIRTY entry of the range becomes TOWRITE, at once: what is dirtied later is not chased
//   each     lock the entry; is it still there, and TOWRITE? (a truncation may have removed it, another fsync done it);
//            clear TOWRITE; write-protect its views in every mapper; flush its lines; clear DIRTY; unlock
//   drain    once; then wait for other writebacks that may have cleared a mark and not drained yet
//
// A store that came before is flushed: it is in the cache or on the medium when the views are write-protected. A store
// that comes after faults, waits for the entry's lock, and makes the entry DIRTY again.
//
// Persistence: nothing is durable before the drain. A drain that fails leaves the marks cleared: the error is told to each
// open handle once (Inode::write_errors), as kernel filesystems do it.
//
// Locks: an entry's lock at a time, with the mappers called under it; none of the inode's. Truncation removes an entry
// only with its lock held, so a flush is over before its blocks are freed.
#include <algorithm>
#include <new>
#include <vector>

#include "base/log.h"
#include "base/sync_point.h"
#include "dax/dax.h"
#include "inode/times.h"

namespace udax::dax {

using mapping::Entry;
using mapping::EntryTree;
using mapping::Mark;

Status Dax::flush_entry(inode::Inode& inode, EntryTree::Locked& entry) {
  const Entry e = entry.entry();
  UDAX_SYNC_POINT("dax.writeback.locked");
  entry.clear_mark(Mark::kToWrite);
  if (!UDAX_KNOB("dax.writeback.skip_write_protect")) {
    mappers_.write_protect(inode.ino(), mapping::bytes_of(entry.start(), entry.end()));
  }
  if (UDAX_KNOB("dax.writeback.unlock_early")) entry.unlock();
  UDAX_SYNC_POINT("dax.writeback.protected");
  const uint64_t size = entry.count() * kBlockSize;
  if (!UDAX_KNOB("dax.writeback.skip_flush")) medium_.flush(offset_of(e.device), size);
  UDAX_SYNC_POINT("dax.writeback.flushed");
  if (UDAX_KNOB("dax.writeback.unlock_early")) {
    if (auto again = inode.space()->entries.grab_existing(entry.start()); again) again->clear_mark(Mark::kDirty);
  } else {
    entry.clear_mark(Mark::kDirty);
  }
  count(counters_.entries_flushed);
  count(counters_.bytes_flushed, size);
  return {};
}

// Throws std::bad_alloc.
bool Dax::flush_collected(inode::Inode& inode, FileBlock from, FileBlock to) {
  mapping::Stored stored;
  if (!UDAX_KNOB("dax.writeback.skip_collect")) mappers_.collect(inode.ino(), mapping::bytes_of(from, to), stored);
  UDAX_SYNC_POINT("dax.writeback.collected");
  for (const mapping::ByteRange& range : stored.ranges) {
    const FileBlock end(blocks_for(range.end));
    for (FileBlock at(range.start >> kBlockShift); at < end;) {
      auto entry = inode.space()->entries.grab_next(at, end);
      if (!entry) break;
      const FileBlock first = std::max(at, entry->start());
      at = entry->end();
      // Gone with its bytes, if a truncation or a punch was faster.
      if (entry->entry().kind != Entry::Kind::kData) continue;
      const uint64_t size = (std::min(at, end) - first) * kBlockSize;
      medium_.flush(offset_of(entry->entry().device + (first - entry->start())), size);
      count(counters_.bytes_flushed, size);
    }
  }
  if (stored.is_untimed) touch_stored(inode);
  return !stored.ranges.empty();
}

// mtime and ctime of stores that made no fault. One that cannot be noted is not worth failing an fsync for.
void Dax::touch_stored(inode::Inode& inode) {
  const Status done = touch(inode);
  if (!done && done.error() != Error::kStale) {  // that one has been freed meanwhile
    log::warning("mtime of inode {}: {}", inode.ino().value, to_string(done.error()));
  }
}

Status Dax::touch(inode::Inode& inode) {
  const format::TimeStamp t = inode::now();
  if (inode::is_touched(inode.snapshot(), t)) return {};
  inode::Change change(table_);
  UDAX_TRY(format::Inode * image, change.edit(inode));
  inode::touch_modified(*image, t);
  return commit_untold(inode, change);
}

Status Dax::commit_untold(const inode::Inode& inode, inode::Change& change) {
  UDAX_CHECK(change.commit());
  if (mapping::AddressSpace* const space = inode.space(); space != nullptr) {
    space->has_untold_attributes.store(true);
  }
  return {};
}

void Dax::note_stored(inode::Inode& inode, FileBlock from, FileBlock to) {
  mapping::AddressSpace* const space = inode.space();
  if (space == nullptr) return;
  for (FileBlock at = from; at < to;) {
    auto entry = space->entries.grab_next(at, to);
    if (!entry) return;
    at = entry->end();
    if (entry->entry().kind == Entry::Kind::kData) entry->set_mark(Mark::kDirty);
  }
}

Status Dax::writeback(inode::Inode& inode, FileBlock from, FileBlock to) {
  return write_back(inode, from, to, Views::kStay);
}

Status Dax::stop_stores(inode::Inode& inode) {
  return write_back(inode, FileBlock(0), FileBlock(mapping::kFileBlockEnd), Views::kGo);
}

// Between the two steps neither a mapper nor a mark tells of what was stored; who comes then waits for the pass.
void Dax::withdraw(inode::Inode& inode, FileBlock from, FileBlock to) {
  if (!UDAX_KNOB("dax.drop.skip_invalidate")) mappers_.invalidate(inode.ino(), mapping::bytes_of(from, to));
  if (inode.space()->trackers.load() != 0) note_stored(inode, from, to);
}

Status Dax::write_back(inode::Inode& inode, FileBlock from, FileBlock to, Views views) try {
  mapping::AddressSpace* const space = inode.space();
  if (space == nullptr || from >= to) return {};
  EntryTree& entries = space->entries;
  mapping::WritebackGate::Pass pass(space->writeback);
  if (views == Views::kGo) withdraw(inode, from, to);
  // What is told is flushed before this ends, or the call fails; so the pass covers it as it does cleared marks.
  const bool was_told = space->trackers.load() != 0 && flush_collected(inode, from, to);
  const bool found = entries.tag(from, to, Mark::kDirty, Mark::kToWrite) != 0;
  UDAX_SYNC_POINT("dax.writeback.tagged");
  Status drained;
  if (found || was_told) {
    count(counters_.writebacks);
    for (FileBlock at = from; at < to;) {
      auto entry = entries.grab_next_marked(at, to, Mark::kToWrite);
      if (!entry) break;
      at = entry->end();
      UDAX_CHECK(flush_entry(inode, *entry));
    }
    UDAX_SYNC_POINT("dax.writeback.before_drain");
    drained = medium_.drain();
    UDAX_SYNC_POINT("dax.writeback.drained");
  }
  // Before the others are let go: who found nothing dirty, because this one had cleared the marks, must tell of it.
  if (!drained) inode.write_errors.fetch_add(1, std::memory_order_relaxed);
  const bool others = UDAX_KNOB("dax.writeback.skip_wait") || pass.finish(drained.has_value());
  UDAX_CHECK(drained);
  return others ? Status() : Status(Error::kIo);
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status Dax::note_dirty(inode::Inode& inode, FileBlock at, DeviceBlock device, uint64_t count) {
  const auto space = inode.make_space();
  if (space && (*space)->entries.mark_dirty_run(at, device, count)) return {};
  medium_.flush(offset_of(device), count * kBlockSize);
  return medium_.drain();
}

}  // namespace udax::dax
