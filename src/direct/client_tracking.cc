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
#include <system_error>

#include "base/sync_point.h"
#include "direct/client.h"
#include "direct/page_scan.h"

namespace udax::direct {
namespace {

bool is_tracked(const View& view) { return view.kind == View::Kind::kData && view.is_writable; }

}  // namespace

Result<FileRef> MappedFile::take(fs::OpenFilePtr file, bool is_tracked, uint32_t handle) try {
  FileRef out(new MappedFile(std::move(file), handle));
  if (!is_tracked) return out;
  UDAX_TRY(out->space_, out->inode().make_space());
  out->space_->trackers.fetch_add(1);
  return out;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Span Client::drop_views(Span span) {
  if (!is_tracking_) return take_views(span);
  const uint64_t taking = stream_->last() + 1;  // the caller's next op
  try {
    for (const auto& [start, region] : regions_.in(span)) {
      const Span part = clipped(span, region.start, region.end);
      for (auto it = views_.from(part.start); it != views_.all().end() && it->first < part.end; ++it) {
        if (!is_tracked(it->second)) continue;
        dropped_.push_back(
            {region.handle, region.file_range_of(clipped(part, it->first, it->second.end)), taking});
      }
    }
  } catch (const std::bad_alloc&) {
    lost_track_ = true;
  }
  return take_views(span);
}

// What was dropped is out of the client's reach now: the marks keep it from here on.
void Client::settle_dropped(uint64_t acknowledged) {
  const auto is_due = [&](const Dropped& d) { return d.sequence <= acknowledged; };
  for (;;) {
    Dropped one;
    {
      const LockGuard guard(mutex_);
      const auto due = std::find_if(dropped_.begin(), dropped_.end(), is_due);
      if (due == dropped_.end()) return;
      one = *due;
    }
    shared_.fs.dax().note_stored(one.file->inode(), FileBlock(one.range.start >> kBlockShift),
                                 FileBlock(blocks_for(one.range.end)));
    // Who reads and writes by himself has marked the times of what he wrote.
    if (one.file->shown() == nullptr) shared_.fs.dax().touch_stored(one.file->inode());
    const LockGuard guard(mutex_);
    const auto same = std::find_if(dropped_.begin(), dropped_.end(), [&](const Dropped& d) {
      return d.file == one.file && d.range.start == one.range.start && d.range.end == one.range.end && is_due(d);
    });
    if (same != dropped_.end()) dropped_.erase(same);
  }
}

void Client::tell_of_mapped() noexcept try {
  std::vector<FileRef> files;
  {
    const LockGuard guard(mutex_);
    for (const auto& [start, region] : regions_.in({0, size_})) {
      const mapping::AddressSpace* const space = region.handle->inode().space();
      if (space != nullptr && space->has_untold_attributes.load()) files.push_back(region.handle);
    }
  }
  for (const FileRef& file : files) shared_.fs.tell_attributes(file->inode());
} catch (const std::bad_alloc&) {
  // The next time, then.
}

void Client::tell_of_open() const {
  for (const auto& [handle, file] : handles_) shared_.fs.tell_attributes(file->inode());
}

bool Client::has_views(Ino ino, mapping::ByteRange range) {
  for (const auto& [start, region] : regions_.in({0, size_})) {
    if (region.ino == ino && views_.has_writable(part_showing(region, range))) return true;
  }
  return false;
}

bool Client::has_dropped(Ino ino) const {
  return lost_track_ ||
         std::any_of(dropped_.begin(), dropped_.end(), [&](const Dropped& d) { return d.file->ino() == ino; });
}

void Client::tell_dropped(Ino ino, mapping::ByteRange range, std::vector<mapping::ByteRange>& stored) const {
  if (lost_track_) stored.push_back(range);
  for (const Dropped& d : dropped_) {
    if (d.file->ino() == ino) stored.push_back(d.range);
  }
}

std::vector<Client::Part> Client::tracked_parts(Ino ino, mapping::ByteRange range) {
  std::vector<Part> parts;
  for (const auto& [start, region] : regions_.in({0, size_})) {
    if (region.ino != ino) continue;
    const Span shown = part_showing(region, range);
    for (auto it = views_.from(shown.start); it != views_.all().end() && it->first < shown.end; ++it) {
      if (!is_tracked(it->second)) continue;
      const Span span = clipped(shown, it->first, it->second.end);
      parts.push_back({span, region.file_offset_of(span.start)});
    }
  }
  return parts;
}

// Throws std::bad_alloc.
void Client::scan(const Part& part, std::vector<mapping::ByteRange>& stored) const {
  const auto told = [&](uint64_t start, uint64_t end) {
    const Span found = clipped(part.span, start - base_, end - base_);
    if (found.empty()) return;
    const uint64_t from = part.file_offset + (found.start - part.span.start);
    stored.push_back({from, from + found.length()});
  };
  while (UDAX_KNOB("direct.scan.hangs")) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const bool may_ask = !broken_.load() && !UDAX_KNOB("direct.scan.fails");
  if (may_ask && scan_pages(pagemap_.get(), base_ + part.span.start, base_ + part.span.end, told)) return;
  stored.push_back({part.file_offset, part.file_offset + part.span.length()});
}

// What is mapped there now, of whatever file, was perhaps scanned and nobody told of it: it counts as stored to.
bool Client::doubt_parts(const std::vector<Part>& parts) {
  bool has_doubt = false;
  for (const Part& part : parts) {
    for (const auto& [start, region] : regions_.in(part.span)) {
      const Span shared = clipped(part.span, region.start, region.end);
      for (auto it = views_.from(shared.start); it != views_.all().end() && it->first < shared.end; ++it) {
        if (!is_tracked(it->second)) continue;
        dropped_.push_back({region.handle, region.file_range_of(clipped(shared, it->first, it->second.end)), 0});
        has_doubt = true;
      }
    }
  }
  return has_doubt;
}

void Client::collect(Ino ino, mapping::ByteRange range, mapping::Stored& stored) {
  if (!is_set_up_.load(std::memory_order_acquire) || !is_tracking_) return;
  uint64_t sequence = 0;
  {
    const LockGuard guard(mutex_);
    if (!has_views(ino, range) && !has_dropped(ino)) return;
    // Behind it, whatever was mapped so far can be scanned, and whatever was taken is out of reach.
    sequence = send_barrier();
  }
  if (!has_revoked(sequence, OpStream::Clock::now() + patience())) note_late();
  const size_t before = stored.ranges.size();
  collect_behind(ino, range, stored.ranges);
  stored.is_untimed |= stored.ranges.size() > before && board_ == nullptr;
}

void Client::collect_behind(Ino ino, mapping::ByteRange range, std::vector<mapping::ByteRange>& stored) {
  const auto deadline = ScanThread::Clock::now() + patience();
  const auto job = std::make_shared<ScanJob>();
  const bool is_reserved = scans_.reserve(deadline);
  {
    const LockGuard guard(mutex_);
    try {
      tell_dropped(ino, range, stored);
      job->parts = tracked_parts(ino, range);
    } catch (const std::bad_alloc&) {
      if (is_reserved) scans_.cancel();
      throw;
    }
    job->puts = view_puts_;
  }
  if (job->parts.empty()) {
    if (is_reserved) scans_.cancel();
    return;
  }
  if (is_reserved && run_scan(job, deadline)) {
    stored.insert(stored.end(), job->stored.begin(), job->stored.end());
    return;
  }
  note_late();
  // What the scan takes from the kernel later, it notes itself.
  for (const Part& part : job->parts) {
    stored.push_back({part.file_offset, part.file_offset + part.span.length()});
  }
}

bool Client::run_scan(const std::shared_ptr<ScanJob>& job, ScanThread::Clock::time_point deadline) try {
  const auto scan_all = [this, job] {
    try {
      for (const Part& part : job->parts) scan(part, job->stored);
    } catch (const std::bad_alloc&) {
      job->has_failed = true;
    }
  };
  const auto finish = [this, job](bool is_awaited) {
    bool has_doubt = false;
    try {
      const LockGuard guard(mutex_);
      has_doubt = (!is_awaited || job->has_failed || view_puts_ != job->puts) && doubt_parts(job->parts);
    } catch (const std::bad_alloc&) {
      const LockGuard guard(mutex_);
      lost_track_ = true;
    }
    if (has_doubt) settle_dropped(0);
  };
  return scans_.scan({scan_all, finish}, deadline) && !job->has_failed;
} catch (const std::system_error&) {
  return false;
}

}  // namespace udax::direct
