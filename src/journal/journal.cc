// SPDX-License-Identifier: BSD-3-Clause
#include "journal/journal.h"

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/sync_point.h"
#include "journal/backoff.h"
#include "journal/record.h"

namespace udax::journal {

Journal::Journal(MetaStore& meta)
    : meta_(meta),
      ring_offset_(offset_of(meta.geometry().journal_start)),
      ring_bytes_(meta.geometry().journal_blocks * kBlockSize) {}

Lsn Journal::head() const { return Lsn(head_.load(std::memory_order_acquire)); }

Result<Lsn> Journal::append(std::span<const std::byte> ops, uint32_t op_count) {
  const uint64_t length = record::length_for(ops.size());
  if (length > record::kLengthMax) {
    log::error("journal: a transaction of {} bytes is larger than the largest there may be", ops.size());
    return Error::kTooBig;
  }
  tend_tail();
  UDAX_TRY(const Reservation record, reserve(length));
  UDAX_SYNC_POINT("journal.append.reserved");
  write_record(record.lsn, length, ops, op_count);
  if (UDAX_KNOB("journal.written_before_drain")) mark_written(record);
  if (!UDAX_KNOB("journal.skip_record_drain")) {
    if (!meta_.medium().drain()) {
      fail(meta_.medium().failed_by_loss() ? "a part of its ring is lost to a media error"
                                           : "a record could not be made durable");
      return Error::kIo;
    }
  }
  UDAX_SYNC_POINT("journal.append.written");
  if (!UDAX_KNOB("journal.written_before_drain")) mark_written(record);
  UDAX_CHECK(wait_committed(record.lsn + length));
  UDAX_SYNC_POINT("journal.append.committed");
  if (UDAX_KNOB("journal.tail_at_append")) {
    LockGuard guard(tail_mutex_);
    UDAX_CHECK(write_slot_locked(format::kJournalLive, record.lsn + length));
  }
  return Lsn(record.lsn);
}

bool Journal::try_reserve(uint64_t length, Reservation& out) {
  const uint64_t head = head_.load(std::memory_order_relaxed);
  const uint64_t used = head - tail_.load(std::memory_order_acquire);
  const bool has_room = ring_bytes_ - used >= length || UDAX_KNOB("journal.skip_room_check");
  if (!has_room || next_ - first_ == kInFlightMax) return false;
  out.number = next_++;
  out.lsn = head;
  entry(out.number) = InFlight{.lsn = head, .length = length, .written = false, .applied = false};
  head_.store(head + length, std::memory_order_release);
  ++commits_;
  bytes_ += length;
  return true;
}

Result<Journal::Reservation> Journal::reserve(uint64_t length) {
  Backoff backoff;
  for (bool waited = false;; waited = true) {
    Reservation out;
    {
      LockGuard guard(lock_);
      if (!live_.load(std::memory_order_relaxed)) return Error::kReadOnly;
      if (failed_.load(std::memory_order_relaxed)) return Error::kReadOnly;
      if (try_reserve(length, out)) return out;
    }
    if (!waited) waits_.fetch_add(1, std::memory_order_relaxed);
    UDAX_CHECK(advance_tail());
    backoff.pause();
  }
}

void Journal::ring_store(uint64_t position, const std::byte* bytes, uint64_t size) {
  const uint64_t at = position % ring_bytes_;
  const uint64_t before_wrap = std::min(size, ring_bytes_ - at);
  media::Medium& medium = meta_.medium();
  if (UDAX_KNOB("journal.record_cached")) return medium.store(ring_offset_ + at, bytes, before_wrap);
  medium.store_nt(ring_offset_ + at, bytes, before_wrap);
  if (before_wrap == size || UDAX_KNOB("journal.skip_wrapped_part")) return;
  medium.store_nt(ring_offset_, bytes + before_wrap, size - before_wrap);
}

void Journal::write_record(uint64_t lsn, uint64_t length, std::span<const std::byte> ops, uint32_t op_count) {
  // Three pieces, summed and stored one after another rather than put together first: the header, the whole lines
  // of `ops`, and its last line with the padding.
  const uint64_t whole = align_down(ops.size(), record::kAlignment);
  std::array<std::byte, record::kAlignment> last{};
  const uint64_t last_used = ops.size() - whole;
  if (last_used > 0) std::memcpy(last.data(), ops.data() + whole, last_used);

  const RealTime now = realtime_coarse();
  format::RecordHeader header{};
  header.magic = format::kRecordMagic;
  header.lsn = lsn;
  header.epoch = epoch_;
  header.length = static_cast<uint32_t>(length);
  header.op_count = op_count;
  header.time_ns = static_cast<uint64_t>(now.seconds) * 1'000'000'000U + now.nanoseconds;
  uint32_t sum = crc32c(meta_.seed(), &header, sizeof header);  // its checksum field is zero still
  sum = crc32c(sum, ops.data(), whole);
  if (last_used > 0) sum = crc32c(sum, last.data(), last.size());
  header.checksum = sum;

  ring_store(lsn, reinterpret_cast<const std::byte*>(&header), sizeof header);
  if (whole > 0) ring_store(lsn + sizeof header, ops.data(), whole);
  if (last_used > 0 && !UDAX_KNOB("journal.skip_last_line")) {
    ring_store(lsn + sizeof header + whole, last.data(), last.size());
  }
}

void Journal::mark_written(const Reservation& record) {
  LockGuard guard(lock_);
  if (failed_.load(std::memory_order_relaxed)) return;
  entry(record.number).written = true;
  uint64_t committed = committed_.load(std::memory_order_relaxed);
  while (written_ < next_ && entry(written_).written) {
    committed = entry(written_).lsn + entry(written_).length;
    ++written_;
  }
  committed_.store(committed, std::memory_order_release);
}

Status Journal::wait_committed(uint64_t end) {
  if (UDAX_KNOB("journal.skip_prefix_wait")) return {};
  Backoff backoff;
  bool waited = false;
  while (committed_.load(std::memory_order_acquire) < end) {
    if (failed_.load(std::memory_order_acquire)) {
      // committed_ stood still before failed_ was set, so this look at it is the last word.
      if (committed_.load(std::memory_order_acquire) >= end) break;
      return Error::kIo;
    }
    if (!waited) waits_.fetch_add(1, std::memory_order_relaxed);
    waited = true;
    backoff.pause();
  }
  return {};
}

void Journal::applied(Lsn lsn) {
  LockGuard guard(lock_);
  uint64_t low = first_;
  uint64_t high = next_;
  while (low < high) {  // lsns ascend with the numbers
    const uint64_t middle = low + (high - low) / 2;
    if (entry(middle).lsn < lsn.value) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  UDAX_ASSERT(low < next_ && entry(low).lsn == lsn.value && !entry(low).applied);
  entry(low).applied = true;
  uint64_t applied = applied_.load(std::memory_order_relaxed);
  while (first_ < written_ && entry(first_).applied) {
    applied = entry(first_).lsn + entry(first_).length;
    ++first_;
  }
  applied_.store(applied, std::memory_order_release);
}

void Journal::fail(const char* why) {
  bool first = false;
  {
    LockGuard guard(lock_);
    first = !failed_.load(std::memory_order_relaxed);
    failed_.store(true, std::memory_order_release);
  }
  if (first) log::error("journal: {}; no more changes are taken", why);
}

/// Keeps the ring from filling, so that appends seldom wait: moves the tail when more than half is in use, an
/// eighth can be won, and nobody else is at it.
void Journal::tend_tail() {
  if (UDAX_KNOB("journal.lazy_tail")) return;
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  if (head_.load(std::memory_order_relaxed) - tail <= ring_bytes_ / 2) return;
  if (applied_.load(std::memory_order_relaxed) - tail < ring_bytes_ / 8) return;
  if (!tail_mutex_.try_lock()) return;
  const Status moved = move_tail_locked();
  tail_mutex_.unlock();
  static_cast<void>(moved);  // a failure shows in reserve()
}

Status Journal::advance_tail() {
  LockGuard guard(tail_mutex_);
  return move_tail_locked();
}

Status Journal::move_tail_locked() {
  if (!live_.load(std::memory_order_acquire)) return {};
  if (failed_.load(std::memory_order_acquire)) return Error::kReadOnly;
  // Every record below was drained in place by its own thread before applied().
  const uint64_t applied =
      (UDAX_KNOB("journal.tail_to_committed") ? committed_ : applied_).load(std::memory_order_acquire);
  if (applied == tail_.load(std::memory_order_relaxed)) return {};
  UDAX_CHECK(write_slot_locked(format::kJournalLive, applied));
  // Only now may the room be used again: until the slot is durable, replay starts at the old tail.
  tail_.store(applied, std::memory_order_release);
  tail_updates_.fetch_add(1, std::memory_order_relaxed);
  return {};
}

Status Journal::advance_tail_to(Lsn upto) {
  const uint64_t goal = std::min(upto.value, head_.load(std::memory_order_acquire));
  Backoff backoff;
  while (tail_.load(std::memory_order_acquire) < goal) {
    if (!live_.load(std::memory_order_acquire) || failed()) return Error::kReadOnly;
    if (applied_.load(std::memory_order_acquire) >= goal) {
      UDAX_CHECK(advance_tail());
    } else {
      backoff.pause();
    }
  }
  return {};
}

Status Journal::write_slot_locked(uint32_t state, uint64_t tail) {
  const uint32_t other = UDAX_KNOB("journal.slot_in_place") ? slot_ : 1 - slot_;
  format::JournalSlot slot{};
  slot.state = state;
  slot.sequence = slot_sequence_ + 1;
  slot.tail = tail;
  slot.epoch = epoch_;
  slot.mount_count = mount_count_;
  slot.mounted_s = mounted_s_;
  slot.checksum =
      format::checksum_without(meta_.seed(), &slot, sizeof slot, offsetof(format::JournalSlot, checksum));
  const uint64_t place =
      offset_of(format::kJournalControlBlock) +
      (other == 0 ? offsetof(format::JournalControl, slot_a) : offsetof(format::JournalControl, slot_b));
  meta_.medium().store(place, &slot, sizeof slot);
  if (!UDAX_KNOB("journal.skip_slot_flush")) meta_.medium().flush(place, sizeof slot);
  if (!UDAX_KNOB("journal.skip_slot_drain") && !meta_.medium().drain()) {
    fail(meta_.medium().failed_by_loss() ? "its control block is lost to a media error"
                                         : "the control block could not be made durable");
    return Error::kIo;
  }
  slot_ = other;
  ++slot_sequence_;
  return {};
}

Status Journal::close() {
  if (!live_.load(std::memory_order_acquire)) return {};
  UDAX_CHECK(advance_tail_to(head()));
  LockGuard guard(tail_mutex_);
  if (failed()) return Error::kReadOnly;
  // Both slots, so that one that goes bad while the pool lies unmounted does not take the journal back in time.
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  UDAX_CHECK(write_slot_locked(format::kJournalClean, tail));
  UDAX_CHECK(write_slot_locked(format::kJournalClean, tail));
  live_.store(false, std::memory_order_release);
  return {};
}

JournalStats Journal::stats() const {
  JournalStats s;
  {
    LockGuard guard(lock_);
    s.commits = commits_;
    s.bytes = bytes_;
  }
  s.tail_updates = tail_updates_.load(std::memory_order_relaxed);
  s.waits = waits_.load(std::memory_order_relaxed);
  // Tail first: loaded the other way round, it might have passed the head seen.
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  s.used_bytes = head_.load(std::memory_order_acquire) - tail;
  s.ring_bytes = ring_bytes_;
  return s;
}

}  // namespace udax::journal
