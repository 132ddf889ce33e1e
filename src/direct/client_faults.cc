// SPDX-License-Identifier: BSD-3-Clause
//
// Faults of a client: from its fault descriptor, through the filesystem's fault path, to an op on its stream.
//
//   found                                        done
//   no region (any more), or a view is on        WAKE: behind whatever is on its way, who waits tries again
//   its way that will do
//   read of a hole                               ZERO: a zero page, write-protected
//   data, region read-only                       MAP read-only
//   data, region writable                        MAP writable; the entry is DIRTY first, even for a load: the first store
//                                                to a page that is mapped does not fault
//   behind the end, no room, bad media           BUS for a moment: every touch after it faults anew
//   the file is a DAX file no more               KERNEL (client_kernel.cc)
//   a page that cannot be mapped by itself       KERNEL of the 2 MiB around it (devdax)
//
// A writable region's page that may not be stored to any more (the file has become immutable) is mapped read-only.
#include <poll.h>
#include <unistd.h>

#include <new>

#include "base/log.h"
#include "direct/client.h"

namespace udax::direct {
namespace {

// How long a page stays SIGBUS by itself: room may come, and nobody says so.
constexpr std::chrono::milliseconds kBusTime{20};

}  // namespace

struct Client::Fault {
  uint64_t at = 0;  // in the reservation
  bool is_write = false;
  uint64_t region_id = 0;
  uint32_t prot = 0;
  FileBlock block;
  FileRef file;
  bool has_waiter = true;  // false: nobody has touched it; mapped ahead
};

void Client::work() noexcept {
  while (!ending_.load()) {
    if (!faults_->pump()) return break_off("its fault descriptor cannot be read");
    while (const auto event = faults_->take()) {
      if (ending_.load()) return;
      serve_fault(*event);
      if (!faults_->pump()) return break_off("its fault descriptor cannot be read");
    }
    clear_buses(false);
    settle_handovers();
    std::array<pollfd, 4> fds{{{faults_->descriptor().fd(), POLLIN, 0},
                               {kick_.get(), POLLIN, 0},
                               {peer_.pidfd.get(), POLLIN, 0},
                               {handovers_.empty() ? -1 : stream_->fd(), POLLIN, 0}}};
    const int wait_ms = buses_.empty() ? -1 : static_cast<int>(kBusTime.count());
    if (::poll(fds.data(), fds.size(), wait_ms) < 0) continue;
    uint64_t ignored = 0;
    if (fds[1].revents != 0 && ::read(kick_.get(), &ignored, sizeof(ignored)) > 0) serve_parked();
    // Its end: the control thread, which an inherited descriptor may keep waiting, takes it down. What it said last still counts.
    if (fds[2].revents != 0) {
      settle_handovers();
      return break_off("has ended");
    }
    if ((fds[0].revents & (POLLERR | POLLNVAL)) != 0) return break_off("its fault descriptor cannot be polled");
  }
}

bool Client::is_held(const Region& region, uint64_t at) const {
  return shared_.holds != nullptr && shared_.holds->covers(region.ino, region.file_offset_of(at));
}

void Client::park(const FaultEvent& event) {
  if (parked_.size() >= FaultQueue::kMax) return break_off("faults more often than it has threads");
  try {
    parked_.push_back(event);
  } catch (const std::bad_alloc&) {
    faults_->descriptor().wake(event.address, kBlockSize);
  }
}

// Who is released kicks after it; so one that is parked since, and of what was held before, is met by the next kick.
// Who held has settled what he took, but may not tell.
void Client::serve_parked() {
  tell_of_mapped();
  std::vector<FaultEvent> events;
  events.swap(parked_);
  for (const FaultEvent& event : events) {
    if (ending_.load()) return;
    serve_fault(event);
  }
}

std::optional<Client::Fault> Client::look_up(const FaultEvent& event) {
  const uint64_t at = event.address - base_;
  const bool is_write = event.is_write;
  const LockGuard guard(mutex_);
  const Region* const region = regions_.find(at);
  const uint32_t needed = is_write ? kProtWrite : kProtRead;
  if (region == nullptr || (region->prot & needed) == 0) {
    wake_in_order(at);
    return std::nullopt;
  }
  const View* const view = views_.find(at);
  if (view != nullptr && view->kind == View::Kind::kData && (view->is_writable || !is_write)) {
    wake_in_order(at);
    return std::nullopt;
  }
  if (is_held(*region, at)) {
    park(event);
    return std::nullopt;
  }
  if (!is_direct(*region) && region->handle->shown() == nullptr) {
    hand_over(*region, at);
    return std::nullopt;
  }
  return fault_at(*region, at, is_write);
}

Client::Fault Client::fault_at(const Region& region, uint64_t at, bool is_write) {
  const FileBlock block(region.file_offset_of(at) >> kBlockShift);
  return {at, is_write, region.id, region.prot, block, region.handle};
}

void Client::serve_fault(const FaultEvent& event) {
  count(shared_.counters.faults);
  if (event.address < base_ || event.address >= base_ + size_) return break_off("touched its staging area");
  trim_mappings();
  std::optional<Fault> fault = look_up(event);
  if (!fault) return;
  // Of what it reads and writes by itself nothing becomes the kernel's: it goes there on its own.
  const bool is_lost = fault->file->shown() != nullptr && !shared_.fs.is_dax(fault->file->inode());
  if (is_lost) return place_bus(*fault);
  const auto result = resolve(*fault);
  const bool is_too_small = !result && result.error() == Error::kNotSupported;
  if (is_too_small && fault->file->shown() == nullptr) return hand_over_unit(fault->at, fault->region_id);
  if (result && *result != dax::FaultResult::kBeyondEnd) return map_around(fault->at, *fault->file, fault->prot);
  place_bus(*fault);
  // A file that has grown in between has taken back what it found, before this was there.
  if (result && fault->block < FileBlock(blocks_for(fault->file->inode().snapshot().size))) clear_buses(true);
}

Result<dax::FaultResult> Client::resolve(const Fault& fault) {
  inode::Inode& inode = fault.file->inode();
  const bool may_write = (fault.prot & kProtWrite) != 0;
  const auto run = [&](dax::Access access, const dax::Install& install) {
    return shared_.fs.fault(inode, fault.block, access, mapping::kHugeOrder, install);
  };
  const dax::Install put = [&](const dax::View& view) { return place(fault, view); };
  bool is_store = fault.is_write;
  if (is_tracking_) {
    const dax::Access load = may_write ? dax::Access::kReadTracked : dax::Access::kRead;
    return run(is_store ? dax::Access::kWriteTracked : load, put);
  }
  if (!is_store) {
    const dax::Install look = [&](const dax::View& view) -> Status {
      // Who reads and writes by himself: a load is a read, and marks no times.
      if (view.is_zero() || !may_write || fault.file->shown() != nullptr) return place(fault, view);
      is_store = true;
      return {};
    };
    const auto result = run(dax::Access::kRead, look);
    if (!result || !is_store) return result;
  }
  const auto result = run(dax::Access::kWrite, put);
  if (result || fault.is_write || result.error() != Error::kPermission) return result;
  return run(dax::Access::kRead, put);
}

// The filesystem's Install: the entry is locked, so who takes this view back comes after it.
Status Client::place(const Fault& fault, const dax::View& view) try {
  const LockGuard guard(mutex_);
  const Region* const region = regions_.find(fault.at);
  if (region == nullptr || region->id != fault.region_id) {
    if (fault.has_waiter) wake_in_order(fault.at);
    return {};
  }
  if (is_held(*region, fault.at) || !is_direct(*region)) {
    // Since it was looked up. Who waits faults again, and waits for the release then, or is given the kernel's mapping.
    if (fault.has_waiter) wake_in_order(fault.at);
    return {};
  }
  if (view.is_zero()) return place_zero(fault);
  const uint64_t from = view.start.value << kBlockShift;
  const Span span = part_showing(*region, {from, from + view.count * kBlockSize});
  const uint64_t device = offset_of(view.device) + (region->file_offset_of(span.start) - from);
  if ((span.start | span.end | device) % shared_.unit != 0) return Error::kNotSupported;
  const bool is_woken = place_data(*region, span, device, fault.at, view.is_writable);
  if (!fault.has_waiter) return {};
  if (!is_woken) wake_in_order(fault.at);
  flush();
  return {};
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

// What is there as wanted stays: a mapping of its own that replaced it would lose which pages were stored to. True: who waits
// at `at` is woken by what was sent.
bool Client::place_data(const Region& region, Span span, uint64_t device, uint64_t at, bool is_writable) {
  const uint64_t start = span.start;
  bool is_woken = false;
  const auto is_there = [&](const View& v) { return v.kind == View::Kind::kData && v.is_writable == is_writable; };
  while (!span.empty()) {
    // Up to where a view that may stay begins, in one piece.
    auto it = views_.from(span.start);
    while (it != views_.all().end() && it->first < span.end && !is_there(it->second)) ++it;
    const uint64_t end = it == views_.all().end() ? span.end : std::clamp(it->first, span.start, span.end);
    if (end > span.start) {
      View view;
      view.kind = View::Kind::kData;
      view.device = device + (span.start - start);
      view.is_writable = is_writable;
      views_.put({span.start, end}, view);
      ++view_puts_;
      const uint32_t prot = is_writable ? region.prot : region.prot & ~kProtWrite;
      Op op = op_on(OpType::kMap, {span.start, end}, prot);
      op.device = view.device;
      count(shared_.counters.maps);
      (void)send(op);
      is_woken |= at >= span.start && at < end;
      span.start = end;
    } else {
      span.start = it->second.end;
    }
  }
  return is_woken;
}

// By the mapper, as everything: a thread of ours that put it there would wait for the memory's lock, with the entry locked.
Status Client::place_zero(const Fault& fault) {
  if (!fault.has_waiter) return {};
  views_.put({fault.at, fault.at + kBlockSize}, View{});
  count(shared_.counters.zero_pages);
  (void)send(op_on(OpType::kZero, {fault.at, fault.at + kBlockSize}));
  flush();
  return {};
}

void Client::place_bus(const Fault& fault) try {
  // Whoever gets memory of its own there looks at the slot again, and asks the kernel what is wrong.
  if (BoardEntry* const shown = fault.file->shown(); shown != nullptr) {
    shown->close();
  } else {
    buses_.push_back({fault.at, OpStream::Clock::now()});
  }
  const LockGuard guard(mutex_);
  const Region* const region = regions_.find(fault.at);
  if (region == nullptr || region->id != fault.region_id) return wake_in_order(fault.at);
  View view;
  view.kind = View::Kind::kBus;
  views_.put({fault.at, fault.at + kBlockSize}, view);
  count(shared_.counters.buses);
  (void)send(op_on(OpType::kBus, {fault.at, fault.at + kBlockSize}));
  flush();
} catch (const std::bad_alloc&) {
  faults_->descriptor().wake(base_ + fault.at, kBlockSize);
}

void Client::clear_buses(bool all) {
  const auto now = OpStream::Clock::now();
  const LockGuard guard(mutex_);
  bool has_sent = false;
  while (!buses_.empty() && (all || now - buses_.front().since >= kBusTime)) {
    const uint64_t at = buses_.front().at;
    buses_.pop_front();
    const View* const view = views_.find(at);
    const Region* const region = regions_.find(at);
    if (view == nullptr || view->kind != View::Kind::kBus || region == nullptr) continue;
    const Span gone = views_.erase({at, at + kBlockSize});
    hole(gone, region->prot);
    has_sent = true;
  }
  if (has_sent) flush();
}

// From `at` on, the next page of data that is not mapped. None: there is none before `end`, or mappings run out.
std::optional<Client::Fault> Client::look_ahead(uint64_t at, uint64_t end) {
  while (at < end) {
    Fault fault;
    uint64_t region_end = 0;
    {
      const LockGuard guard(mutex_);
      const Region* const region = regions_.find(at);
      if (region == nullptr || region->prot == kProtNone || views_.mappings() >= shared_.mappings_max / 2) {
        return std::nullopt;
      }
      if (!is_direct(*region)) return std::nullopt;
      region_end = region->end;
      const View* const view = views_.find(at);
      if (view != nullptr) {
        at = std::min(view->end, region_end);
        continue;
      }
      fault = fault_at(*region, at, (region->prot & kProtWrite) != 0);
    }
    const uint64_t offset = fault.block.value << kBlockShift;
    const auto data = shared_.fs.seek(fault.file->open(), offset, true);
    at = data ? std::min(region_end, at + (*data - offset)) : region_end;
    if (!data || at == region_end) continue;
    fault.at = at;
    fault.block = FileBlock(*data >> kBlockShift);
    fault.has_waiter = false;
    return fault;
  }
  return std::nullopt;
}

// Data only: holes stay lazy.
Result<uint64_t> Client::map_ahead(Span span) {
  // Of faults that a request resolves: 2 GiB in 2 MiB windows.
  constexpr int kFaultsMax = 1024;
  uint64_t bytes = 0;
  uint64_t at = span.start;
  for (int i = 0; i < kFaultsMax && at < span.end && !broken_.load(); ++i) {
    const std::optional<Fault> fault = look_ahead(at, span.end);
    if (!fault) break;
    at = align_down(fault->at, shared_.unit) + shared_.unit;
    const dax::Install put = [&](const dax::View& view) {
      at = fault->at + (view.start + view.count - fault->block) * kBlockSize;
      bytes += at - fault->at;
      return place(*fault, view);
    };
    const dax::Access untold = fault->is_write ? dax::Access::kWrite : dax::Access::kRead;
    const dax::Access access = is_tracking_ && fault->is_write ? dax::Access::kReadTracked : untold;
    (void)shared_.fs.fault(fault->file->inode(), fault->block, access, mapping::kHugeOrder, put);
  }
  const LockGuard guard(mutex_);
  flush();
  return std::min(bytes, span.length());
}

// A process has a limit of mappings; at it, its own malloc would fail. So some views go before there are too many: a
// part of the reservation after the other, in turns.
void Client::trim_mappings() {
  uint64_t sequence = 0;
  {
    const LockGuard guard(mutex_);
    while (views_.mappings() + regions_.size() > shared_.mappings_max && views_.mappings() > 0) {
      auto it = views_.from(trim_from_);
      if (it == views_.all().end()) it = views_.all().begin();
      const Region* const region = regions_.find(it->first);
      UDAX_ASSERT(region != nullptr);
      Span span{it->first, it->first};
      constexpr int kAtOnce = 64;
      for (int i = 0; i < kAtOnce && it != views_.all().end() && it->first < region->end; ++i, ++it) {
        span.end = std::min(it->second.end, region->end);
      }
      trim_from_ = span.end;
      hole(drop_views(span), region->prot);
      sequence = stream_->last();
    }
    if (sequence != 0) {
      sequence = send_barrier();
    }
  }
  if (sequence != 0 && await(sequence)) settle_dropped(sequence);
}

}  // namespace udax::direct
