// SPDX-License-Identifier: BSD-3-Clause
//
// Taking views back. The filesystem's threads come here with locks of an inode held, so nothing here takes one.
#include <unistd.h>

#include <chrono>

#include "base/sync_point.h"
#include "direct/client.h"

namespace udax::direct {

bool Client::send(Op op) {
  if (broken_.load()) return false;
  if (stream_->add(op)) return true;
  break_off("does not read its stream");
  return false;
}

Op Client::op_on(OpType type, Span span, uint32_t prot) {
  Op op;
  op.type = static_cast<uint16_t>(type);
  op.prot = prot;
  op.offset = span.start;
  op.length = span.length();
  return op;
}

uint64_t Client::send_barrier() { return send_acknowledged(op_on(OpType::kSync, {})); }

uint64_t Client::send_acknowledged(Op op) {
  op.flags = static_cast<uint16_t>(op.flags | kOpAck);
  (void)send(op);
  const uint64_t sequence = stream_->last();
  flush();
  return sequence;
}

void Client::flush() {
  if (!broken_.load() && !stream_->flush()) break_off("does not read its stream");
}

void Client::wake_in_order(uint64_t at) {
  (void)send(op_on(OpType::kWake, {at, at + kBlockSize}));
  flush();
}

void Client::hole(Span span, uint32_t prot) {
  count(shared_.counters.holes);
  (void)send(op_on(OpType::kHole, span, prot));
}

uint64_t Client::begin_revoke(Ino ino, mapping::ByteRange range, Revoke which) {
  if (!is_set_up_.load(std::memory_order_acquire)) return 0;
  // Whatever is stored to a view that is tracked will be told.
  if (which == Revoke::kWritable && is_tracking_) return 0;
  const LockGuard guard(mutex_);
  bool has_sent = false;
  for (const auto& [start, region] : regions_.in({0, size_})) {
    if (region.ino != ino) continue;
    Span shown = part_showing(region, range);
    if (shown.empty()) continue;
    shown = widened(shown);
    if (which == Revoke::kWritable && !views_.has_writable(shown)) continue;
    if (UDAX_KNOB("direct.revoke.skip_hole")) {
      (void)views_.erase(shown);
      continue;
    }
    const Span gone = which == Revoke::kAside ? drop_views(shown) : take_views(shown);
    if (gone.empty()) continue;
    hole(gone, region.prot);
    has_sent = true;
  }
  if (has_sent) return send_barrier();
  // Somebody else may be waiting for them at this moment.
  return UDAX_KNOB("direct.revoke.own_ops") ? 0 : takings_.last(ino, range, stream_->acked());
}

void Client::loosen(Span span) {
  for (const uint64_t end : {span.start, span.end}) {
    if (end % shared_.unit == 0) continue;
    const Span gone = drop_views(widened({end, end + 1}));
    const Region* const region = gone.empty() ? nullptr : regions_.find(gone.start);
    if (region != nullptr) hole(gone, region->prot);
  }
}

Span Client::take_views(Span span) {
  const Span gone = views_.erase(span);
  if (gone.empty()) return gone;
  for (const auto& [start, region] : regions_.in(gone)) {
    takings_.note(region.ino, region.file_range_of(clipped(gone, region.start, region.end)), stream_->last() + 1);
  }
  return gone;
}

void Client::kick() {
  const uint64_t one = 1;
  (void)!::write(kick_.get(), &one, sizeof(one));
}

std::chrono::milliseconds Client::patience() const {
  const OpStream::Clock::time_point late_at{OpStream::Clock::duration(late_at_.load())};
  const bool was_late = late_at_.load() != 0 && OpStream::Clock::now() - late_at < kGrudge;
  return was_late ? kPatienceMin : kPatience;
}

bool Client::has_revoked(uint64_t sequence, OpStream::Clock::time_point deadline) {
  if (!broken_.load() && stream_->await(sequence, deadline)) return true;
  // An end of file is how a client's exit is met first; its memory is gone by then.
  return is_gone();
}

bool Client::finish_revoke(uint64_t sequence, OpStream::Clock::time_point deadline) {
  constexpr std::chrono::milliseconds kPatience{2000};
  if (has_revoked(sequence, deadline)) return true;
  break_off("does not answer");
  return wait_gone(kPatience);
}

bool Client::await(uint64_t sequence) {
  return finish_revoke(sequence, OpStream::Clock::now() + std::chrono::milliseconds(kLateDeadlineMs));
}

}  // namespace udax::direct
