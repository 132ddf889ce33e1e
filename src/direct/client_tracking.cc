// SPDX-License-Identifier: BSD-3-Clause
//
// What was stored to through a client's views: asked of the kernel, page by page, when a file is flushed.
//
// Invariant: a store through a tracked view is told by collect() until it has been told once, or its entry is DIRTY. Views that we
// give up ourselves (unmapping, too many mappings, the client's end) go to dropped_ in the same section of mutex_; from there
// to the entries' marks, once the client has let go; and only then out of dropped_. Those that the filesystem takes are its business.
//
// Whatever cannot be told (a mapping that is not made yet, or not registered; a client that has ended) counts as stored to.
#include <algorithm>
#include <new>

#include "direct/client.h"
#include "direct/page_scan.h"

namespace udax::direct {
namespace {

bool is_tracked(const View& view) { return view.kind == View::Kind::kData && view.is_writable; }

mapping::ByteRange file_range(const Region& region, Span span) {
  return {region.file_offset_of(span.start), region.file_offset_of(span.start) + span.length()};
}

Span clipped(Span span, uint64_t start, uint64_t end) {
  return {std::max(span.start, start), std::min(span.end, end)};
}

}  // namespace

Result<FileRef> MappedFile::take(fs::OpenFilePtr file, bool is_tracked) try {
  FileRef out(new MappedFile(std::move(file)));
  if (!is_tracked) return out;
  UDAX_TRY(out->space_, out->inode().make_space());
  out->space_->trackers.fetch_add(1);
  return out;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Span Client::drop_views(Span span) {
  if (!is_tracking_) return views_.erase(span);
  try {
    for (const auto& [start, region] : regions_.in(span)) {
      const Span part = clipped(span, region.start, region.end);
      for (auto it = views_.from(part.start); it != views_.all().end() && it->first < part.end; ++it) {
        if (!is_tracked(it->second)) continue;
        dropped_.push_back({region.handle, file_range(region, clipped(part, it->first, it->second.end))});
      }
    }
  } catch (const std::bad_alloc&) {
    lost_track_ = true;
  }
  return views_.erase(span);
}

// What was dropped is out of the client's reach now: the marks keep it from here on.
void Client::settle_dropped() {
  for (;;) {
    Dropped one;
    {
      const LockGuard guard(mutex_);
      if (dropped_.empty()) return;
      one = dropped_.back();
    }
    shared_.fs.dax().note_stored(one.file->inode(), FileBlock(one.range.start >> kBlockShift),
                                 FileBlock(blocks_for(one.range.end)));
    const LockGuard guard(mutex_);
    const auto same = std::find_if(dropped_.begin(), dropped_.end(), [&](const Dropped& d) {
      return d.file == one.file && d.range.start == one.range.start && d.range.end == one.range.end;
    });
    if (same != dropped_.end()) dropped_.erase(same);
  }
}

bool Client::may_have_stores(Ino ino, mapping::ByteRange range) {
  bool found = lost_track_;
  for (const Dropped& d : dropped_) found |= d.file->ino() == ino;
  for (const auto& [start, region] : regions_.in({0, size_})) {
    if (region.ino == ino) found |= views_.has_writable(part_showing(region, range));
  }
  return found;
}

void Client::scan(const Region& region, Span span, std::vector<mapping::ByteRange>& stored) {
  const auto told = [&](uint64_t start, uint64_t end) {
    const Span part = clipped(span, start - base_, end - base_);
    if (!part.empty()) stored.push_back(file_range(region, part));
  };
  if (!broken_.load() && scan_pages(pagemap_.get(), base_ + span.start, base_ + span.end, told)) return;
  stored.push_back(file_range(region, span));
}

void Client::collect(Ino ino, mapping::ByteRange range, std::vector<mapping::ByteRange>& stored) {
  if (!is_set_up_.load(std::memory_order_acquire) || !is_tracking_) return;
  uint64_t sequence = 0;
  {
    const LockGuard guard(mutex_);
    if (!may_have_stores(ino, range)) return;
    // Behind it, whatever was mapped so far can be scanned, and whatever was taken is out of reach.
    Op barrier;
    barrier.type = static_cast<uint16_t>(OpType::kSync);
    sequence = send_acknowledged(barrier);
  }
  (void)await(sequence);
  const LockGuard guard(mutex_);
  try {
    if (lost_track_) stored.push_back(range);
    for (const Dropped& d : dropped_) {
      if (d.file->ino() == ino) stored.push_back(d.range);
    }
    for (const auto& [start, region] : regions_.in({0, size_})) {
      if (region.ino != ino) continue;
      const Span shown = part_showing(region, range);
      for (auto it = views_.from(shown.start); it != views_.all().end() && it->first < shown.end; ++it) {
        if (is_tracked(it->second)) scan(region, clipped(shown, it->first, it->second.end), stored);
      }
    }
  } catch (const std::bad_alloc&) {
    lost_track_ = true;
    throw;
  }
}

}  // namespace udax::direct
