// SPDX-License-Identifier: BSD-3-Clause
//
// Mappings of files that have ceased to be DAX files: the client has the kernel map the file in their place (op KERNEL), when one
// of their pages is touched next.
//
// Who changes the flag has taken all views before (mapping::HeldViews), and no new one is made: is_direct() is asked with the entry
// locked, when the flag cannot change. So when the op is sent there is nothing of the pool in that mapping any more, and nothing to
// wait for. The mapping is forgotten in the same section of mutex_: every request after it finds none, and is answered only when
// the client has done the op; before that it would take the range for free, or for its own.
//
// On devdax the kernel maps no less than 2 MiB. A page that is not in a 2 MiB block of the pool, or whose mapping is not so large, makes the
// 2 MiB around it the kernel's as well, of a file that is a DAX file still. No view is there: what can be mapped is never half mapped.
//
// The worker alone hands over; handovers_ is its own.
#include <cstring>
#include <new>

#include "base/log.h"
#include "base/sync_point.h"
#include "direct/client.h"

namespace udax::direct {

bool Client::is_direct(const Region& region) const {
  return shared_.fs.is_dax(region.handle->inode()) || UDAX_KNOB("direct.flip.stays");
}

// The whole mapping, as it stands. `region` is a copy: the table's own goes.
void Client::hand_over(Region region, uint64_t at) try {
  const Span span{region.start, region.end};
  handovers_.reserve(handovers_.size() + 1);
  RegionTable::Handles files;
  files.reserve(1);
  (void)drop_views(span);
  regions_.remove(span, files);
  count_regions();
  Op op = op_on(OpType::kKernel, span, region.prot);
  op.device = region.file_offset;
  op.handle = region.handle->handle();
  const uint64_t sequence = send_acknowledged(op);
  handed_over_.store(sequence);
  // The file is let go of later: not with mutex_.
  handovers_.push_back({sequence, std::move(region.handle)});
  count(shared_.counters.handovers);
} catch (const std::bad_alloc&) {
  faults_->descriptor().wake(base_ + at, kBlockSize);
}

void Client::hand_over_unit(uint64_t at, uint64_t region_id) try {
  const LockGuard guard(mutex_);
  const Region* const region = regions_.find(at);
  if (region == nullptr || region->id != region_id) return wake_in_order(at);
  // What has no whole unit in it would become the kernel's in two parts, which it does not move as one (mremap(2)).
  const bool has_unit = align_up(region->start, shared_.unit) < align_down(region->end, shared_.unit);
  const Span part = has_unit ? widened({at, at + 1}) : Span{region->start, region->end};
  regions_.cut(clipped(part, region->start, region->end));
  hand_over(*regions_.find(at), at);
} catch (const std::bad_alloc&) {
  faults_->descriptor().wake(base_ + at, kBlockSize);
}

void Client::report_failures() {
  while (const auto failure = stream_->take_failure()) {
    for (const Handover& one : handovers_) {
      if (one.sequence != failure->sequence) continue;
      log::warning(
          "direct: process {} of user {} cannot map inode {} by the kernel ({}), now that it is no DAX "
          "file: touching its mapping is SIGBUS",
          peer_.pid, peer_.uid, one.file->ino().value, std::strerror(static_cast<int>(failure->error)));
    }
  }
}

void Client::settle_handovers() {
  if (handovers_.empty()) return;
  const bool may_come = stream_->drain();
  const uint64_t acked = stream_->acked();  // before the failures: these come first
  report_failures();
  uint64_t done = 0;
  std::erase_if(handovers_, [&](const Handover& one) {
    if (one.sequence > acked) return !may_come;
    done = std::max(done, one.sequence);
    return true;
  });
  if (done != 0) settle_dropped(done);
}

bool Client::await_handovers() {
  const uint64_t sequence = handed_over_.load();
  return sequence == 0 || stream_->has_acked(sequence) || await(sequence);
}

}  // namespace udax::direct
