// SPDX-License-Identifier: BSD-3-Clause
//
// What a client asks for, on its control socket. Every number is hostile: check_request() (request_check.h) has looked at the form, and
// the reservation's table says whether it makes sense.
#include <fcntl.h>

#include <algorithm>
#include <new>

#include "base/clock.h"
#include "base/log.h"
#include "direct/client.h"
#include "direct/request_check.h"

namespace udax::direct {
namespace {

bool is_readable(const fs::OpenFile& file) { return (file.flags() & O_ACCMODE) != O_WRONLY; }
bool is_writable(const fs::OpenFile& file) {
  // As mmap(2): no stores through mappings of an append-only file.
  return (file.flags() & O_ACCMODE) == O_RDWR && (file.inode().snapshot().flags & format::kFlagAppend) == 0;
}

Status check_access(const fs::OpenFile& file, uint32_t prot) {
  if (!is_readable(file)) return Error::kAccess;
  if ((prot & kProtWrite) != 0 && !is_writable(file)) return Error::kAccess;
  return {};
}

}  // namespace

bool Client::serve_request() {
  Request request;
  auto descriptors = receive_packet(control_.get(), std::as_writable_bytes(std::span(&request, 1)));
  if (!descriptors) {
    if (descriptors.error() == Error::kInvalid) break_off("sent a packet that is no request");
    return false;
  }
  Reply out;
  Status done = check_request(request, descriptors->size());
  if (!done) {
    out.error = EPROTO;
    (void)reply(request, out);
    break_off("sent a malformed request");
    return false;
  }
  try {
    done = perform(request, out);
  } catch (const std::bad_alloc&) {
    done = Error::kNoMemory;
  }
  if (!done) out.error = static_cast<uint32_t>(to_errno(done.error()));
  tell_of_open();
  if (!await_handovers() || !reply(request, out)) return false;
  return !broken_.load() && request.type != static_cast<uint32_t>(RequestType::kDetach);
}

Status Client::perform(const Request& request, Reply& out) {
  const auto span = [&]() { return span_of(request.offset, request.length); };
  switch (static_cast<RequestType>(request.type)) {
    case RequestType::kOpen: return open_file(request, out);
    case RequestType::kClose: return close_file(request);
    case RequestType::kMap: return map(request, out);
    case RequestType::kRemap: return remap(request, out);
    case RequestType::kProtect: return protect(request);
    case RequestType::kAdvise: return advise(request, out);
    case RequestType::kUnmap: {
      UDAX_TRY(const Span range, span());
      return unmap(range);
    }
    case RequestType::kSync: {
      UDAX_TRY(const Span range, span());
      return sync(range);
    }
    case RequestType::kQuery: {
      UDAX_TRY(const Span range, span());
      return query(range, out);
    }
    case RequestType::kDetach: return unmap({0, size_});
    case RequestType::kHello:
    case RequestType::kSetup: break;
  }
  return Error::kInvalid;
}

Result<Span> Client::span_of(uint64_t offset, uint64_t length) const {
  if (length == 0 || offset % kBlockSize != 0 || length % kBlockSize != 0) return Error::kInvalid;
  if (offset >= size_ || length > size_ - offset) return Error::kInvalid;
  return Span{offset, offset + length};
}

Status Client::open_file(const Request& request, Reply& out) {
  if (handles_.size() >= kHandlesMax) return Error::kTooManyFiles;
  Cookie cookie;
  std::copy(std::begin(request.cookie), std::end(request.cookie), cookie.begin());
  UDAX_TRY(const Leave leave, shared_.cookies.redeem(cookie, peer_.uid, monotonic_ns()));
  constexpr uint32_t kOnce = O_CREAT | O_EXCL | O_TRUNC;
  UDAX_TRY(fs::OpenFilePtr opened, shared_.fs.open(leave.ino, leave.open_flags & ~kOnce, false));
  if (!opened->inode().is_reg()) return Error::kInvalid;
  if (opened->inode().snapshot().generation != leave.generation) return Error::kStale;
  if (!opened->dax()) return Error::kNotSupported;
  const bool may_store = is_writable(*opened);
  const uint32_t handle = ++last_handle_;
  UDAX_TRY(FileRef file, MappedFile::take(std::move(opened), is_tracking_ && may_store, handle));
  out.value[0] = handle;
  out.value[1] = (is_readable(file->open()) ? kOpenReadable : 0) | (may_store ? kOpenWritable : 0);
  UDAX_CHECK(show(*file, request, out));
  handles_.emplace(handle, std::move(file));
  return {};
}

Status Client::close_file(const Request& request) {
  return handles_.erase(request.handle) == 1 ? Status() : Status(Error::kBadHandle);
}

Status Client::map(const Request& request, Reply& out) {
  const auto found = handles_.find(request.handle);
  if (found == handles_.end()) return Error::kBadHandle;
  const FileRef& file = found->second;
  UDAX_TRY(const Span span, span_of(request.offset, request.length));
  if (request.file_offset % kBlockSize != 0) return Error::kInvalid;
  if (request.file_offset > format::kFileSizeMax || span.length() > format::kFileSizeMax - request.file_offset) {
    return Error::kOverflow;
  }
  UDAX_CHECK(check_access(file->open(), request.prot));
  if ((request.flags & kMapSync) != 0 && shared_.fs.medium().granularity() == media::Granularity::kPage) {
    return Error::kNotSupported;
  }
  UDAX_TRY(const fs::DaxState state, shared_.fs.dax_state(file->ino()));
  if (!state.is_dax) return Error::kNotSupported;
  Region region;
  region.start = span.start;
  region.end = span.end;
  region.file_offset = request.file_offset;
  region.prot = request.prot;
  region.ino = file->ino();
  region.handle = file;
  return add_region(std::move(region), (request.flags & kMapPopulate) != 0, out);
}

Status Client::add_region(Region region, bool populate, Reply& out) {
  const Span span{region.start, region.end};
  const uint32_t prot = region.prot;
  uint64_t sequence = 0;
  {
    const LockGuard guard(mutex_);
    if (regions_.size() >= kRegionsMax) return Error::kNoMemory;
    UDAX_CHECK(regions_.add(std::move(region)));
    count_regions();
    sequence = send_acknowledged(op_on(OpType::kProt, span, prot));
  }
  // Without tracking, a page that is mapped writable counts as stored to: only who asks for it gets that of all pages.
  const bool is_ahead = prot == kProtRead || (prot != kProtNone && (is_tracking_ || populate));
  if (is_ahead) {
    UDAX_TRY(out.value[0], map_ahead(span));
  }
  // What follows may be touched when the reply is there.
  return await(sequence) ? Status() : Status(Error::kIo);
}

Status Client::unmap(Span span) {
  RegionTable::Handles files;
  uint64_t sequence = 0;
  {
    const LockGuard guard(mutex_);
    if (!regions_.overlaps(span)) return {};
    loosen(span);
    regions_.cut(span);
    files.reserve(regions_.size());
    take_out(span);
    regions_.remove(span, files);
    count_regions();
    sequence = send_barrier();
  }
  // The files stay open until nothing of them is mapped.
  if (!await(sequence)) return Error::kIo;
  settle_dropped(sequence);
  return {};
}

// Region by region: what lies between them is the program's. REQUIRES: cut.
void Client::take_out(Span span) {
  Span run;
  const auto take = [&]() UDAX_NO_THREAD_SAFETY_ANALYSIS {
    if (run.empty()) return;
    (void)drop_views(run);
    (void)send(op_on(OpType::kUnmap, run));
  };
  for (const auto& [start, region] : regions_.in(span)) {
    if (run.end != start) {
      take();
      run.start = start;
    }
    run.end = region.end;
  }
  take();
}

void Client::count_regions() {
  shared_.counters.regions.fetch_add(regions_.size() - counted_regions_);
  counted_regions_ = regions_.size();
}

Status Client::remap(const Request& request, Reply& out) {
  UDAX_TRY(const Span old_span, span_of(request.offset, request.length));
  UDAX_TRY(const Span new_span, span_of(request.new_offset, request.new_length));
  Region region;
  {
    const LockGuard guard(mutex_);
    // One that has grown in its place is one for the client.
    regions_.join(old_span);
    count_regions();
    const Region* const found = regions_.find(old_span.start);
    if (found == nullptr || found->end < old_span.end) return Error::kInvalid;
    region = *found;
    region.file_offset = found->file_offset_of(old_span.start);
    if (new_span.length() > format::kFileSizeMax - region.file_offset) return Error::kOverflow;
    // Anything but the old place must be free.
    const Span before{new_span.start, std::min(new_span.end, std::max(new_span.start, old_span.start))};
    const Span behind{std::max(new_span.start, std::min(new_span.end, old_span.end)), new_span.end};
    if ((!before.empty() && regions_.overlaps(before)) || (!behind.empty() && regions_.overlaps(behind))) {
      return Error::kExists;
    }
  }
  region.start = new_span.start;
  region.end = new_span.end;
  UDAX_CHECK(unmap(old_span));
  return add_region(std::move(region), false, out);
}

Status Client::protect(const Request& request) {
  UDAX_TRY(const Span span, span_of(request.offset, request.length));
  uint64_t sequence = 0;
  {
    const LockGuard guard(mutex_);
    if (!regions_.covers(span)) return Error::kNoMemory;
    for (const auto& [start, region] : regions_.in(span)) {
      UDAX_CHECK(check_access(region.handle->open(), request.prot));
    }
    loosen(span);
    regions_.cut(span);
    for (auto& [start, region] : regions_.in(span)) region.prot = request.prot;
    // Pages that become writable must fault first, to be known as such.
    if (const Span gone = drop_views(span); !gone.empty()) hole(gone, request.prot);
    regions_.join(span);
    count_regions();
    sequence = send_acknowledged(op_on(OpType::kProt, span, request.prot));
  }
  if (!await(sequence)) return Error::kIo;
  settle_dropped(sequence);
  return {};
}

Status Client::sync(Span span) {
  struct Part {
    FileRef file;
    mapping::ByteRange range;
  };
  std::vector<Part> parts;
  {
    const LockGuard guard(mutex_);
    if (!regions_.covers(span)) return Error::kNoMemory;
    for (const auto& [start, region] : regions_.in(span)) {
      parts.push_back({region.handle, region.file_range_of(clipped(span, region.start, region.end))});
    }
  }
  Status all;
  for (const Part& part : parts) {
    const Status done = shared_.fs.fsync_range(part.file->open(), part.range.start, part.range.end);
    if (!done && all) all = done;
  }
  return all;
}

Status Client::advise(const Request& request, Reply& out) {
  UDAX_TRY(const Span span, span_of(request.offset, request.length));
  {
    const LockGuard guard(mutex_);
    if (!regions_.covers(span)) return Error::kNoMemory;
  }
  if ((request.flags & kAdviseWillNeed) == 0) return {};
  UDAX_TRY(out.value[0], map_ahead(span));
  return {};
}

Status Client::query(Span span, Reply& out) {
  const LockGuard guard(mutex_);
  uint64_t in_regions = 0;
  for (const auto& [start, region] : regions_.in(span)) {
    in_regions += std::min(span.end, region.end) - std::max(span.start, region.start);
  }
  for (auto it = views_.from(span.start); it != views_.all().end() && it->first < span.end; ++it) {
    const uint64_t bytes = std::min(span.end, it->second.end) - std::max(span.start, it->first);
    if (it->second.kind == View::Kind::kData) out.value[0] += bytes;
    if (it->second.kind == View::Kind::kZero) out.value[1] += bytes;
  }
  out.value[2] = span.length() - in_regions;
  out.value[3] = views_.mappings();
  return {};
}

}  // namespace udax::direct
