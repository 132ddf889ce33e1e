// SPDX-License-Identifier: BSD-3-Clause
//
// Recovery: finds the tail, checks the records from there to the first that is not whole, replays them, and starts
// a new epoch.
//
// Invariants
// - Nothing is stored before every record that is to be replayed has been checked: a record that is sealed but
//   nonsense leaves the medium as it was.
// - The first record that is not whole ends the replay. Whole records may stand behind it (their threads were
//   faster); they were never committed. The new epoch keeps them from coming back when a new record takes the
//   broken one's place and happens to be of the same length.
//
// Persistence: changes in place, drain -> slot of the new epoch, drain -> the other slot, drain. A crash before
// the first slot is durable repeats the same replay; one after it finds nothing to replay.
#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/sync_point.h"
#include "journal/journal.h"
#include "journal/record.h"

namespace udax::journal {
namespace {

// Positions, epochs and sequences count up from small numbers and never get near this. What is beyond is nonsense
// that would overflow.
constexpr uint64_t kCounterMax = uint64_t{1} << 62;

// Bytes of records after which replay drains: with page granularity the medium has to note what was flushed.
constexpr uint64_t kDrainEvery_bytes = 4 * 1024 * 1024;

bool is_valid(const format::JournalSlot& slot, uint32_t seed) {
  if (format::checksum_without(seed, &slot, sizeof slot, offsetof(format::JournalSlot, checksum)) !=
          slot.checksum &&
      !UDAX_KNOB("journal.skip_slot_checksum")) {
    return false;
  }
  if (slot.state != format::kJournalClean && slot.state != format::kJournalLive) return false;
  return slot.tail % record::kAlignment == 0 && slot.tail < kCounterMax && slot.epoch < kCounterMax &&
         slot.sequence < kCounterMax && slot.mount_count < kCounterMax;
}

}  // namespace

struct Journal::ControlState {
  format::JournalSlot slot;
  uint32_t index = 0;       // 0: slot_a
  uint64_t epoch_last = 0;  // of the valid slots: the ring may hold records of any up to this one
};

struct Journal::Scan {
  uint64_t tail = 0;  // where it starts
  uint64_t epoch = 0;
  uint64_t end = 0;  // behind the last whole record
  uint64_t records = 0;
  bool expects_records = false;   // the pool was not closed
  bool is_lost_in_place = false;  // something was replayed to a lost page
  std::vector<std::byte> bytes;   // the record at hand
};

Result<Journal::ControlState> Journal::read_control() const {
  format::JournalControl control;
  if (meta_.medium().probe(offset_of(format::kJournalControlBlock), kBlockSize)) {
    return meta_.lost("the journal's control block", format::kJournalControlBlock.value);
  }
  std::memcpy(&control, meta_.medium().block(format::kJournalControlBlock), sizeof control);
  const bool a = is_valid(control.slot_a, meta_.seed());
  const bool b = is_valid(control.slot_b, meta_.seed());
  if (!a && !b) return meta_.corrupted("no valid slot in the journal's control block", 0);
  const bool b_is_newer =
      (control.slot_b.sequence > control.slot_a.sequence) != UDAX_KNOB("journal.take_older_slot");
  const bool take_b = b && (!a || b_is_newer);
  uint64_t epoch_last = 0;
  if (a) epoch_last = control.slot_a.epoch;
  if (b) epoch_last = std::max<uint64_t>(epoch_last, control.slot_b.epoch);
  return take_b ? ControlState{control.slot_b, 1, epoch_last} : ControlState{control.slot_a, 0, epoch_last};
}

/// Reads the record at `position` into scan.bytes. Its length; 0: there is no whole record. kCorrupted: there is
/// one, sealed, that no writer would have written.
Result<uint64_t> Journal::load_record(Scan& scan, uint64_t position) const {
  const uint64_t room = scan.tail + ring_bytes_ - position;  // behind it are the scan's first records
  if (room < sizeof(format::RecordHeader)) return uint64_t{0};
  const uint64_t at = position % ring_bytes_;
  format::RecordHeader header;
  const auto is_lost = [&](uint64_t from, uint64_t size) {
    return meta_.medium().probe(ring_offset_ + from, size);
  };
  if (is_lost(at, sizeof header)) {
    // No end of the records: any number of them may have stood there and behind it.
    if (scan.expects_records) return meta_.lost("a part of the journal", position);
    return uint64_t{0};
  }
  std::memcpy(&header, meta_.medium().at(ring_offset_ + at), sizeof header);
  const uint64_t length = header.length;
  if (header.magic != format::kRecordMagic) return uint64_t{0};
  if (header.lsn != position && !UDAX_KNOB("journal.skip_lsn_check")) return uint64_t{0};
  if (header.epoch != scan.epoch && !UDAX_KNOB("journal.skip_epoch_check")) return uint64_t{0};
  if (length < sizeof header || length % record::kAlignment != 0 || length > record::kLengthMax || length > room) {
    return uint64_t{0};
  }
  const uint64_t before_wrap = std::min(length, ring_bytes_ - at);
  if (is_lost(at, before_wrap) || (before_wrap < length && is_lost(0, length - before_wrap))) {
    return meta_.lost("a part of the journal", position);
  }
  std::memcpy(scan.bytes.data(), meta_.medium().at(ring_offset_ + at), before_wrap);
  if (before_wrap < length) {
    std::memcpy(scan.bytes.data() + before_wrap, meta_.medium().at(ring_offset_), length - before_wrap);
  }
  // The copy is what counts from here on. Its header is the one seen above: nobody else writes to the pool.
  const uint32_t sum = format::checksum_without(meta_.seed(), scan.bytes.data(), static_cast<uint32_t>(length),
                                                offsetof(format::RecordHeader, checksum));
  if (sum != header.checksum && !UDAX_KNOB("journal.skip_checksum")) return uint64_t{0};
  const std::span<const std::byte> ops(scan.bytes.data() + sizeof header, length - sizeof header);
  if (!record::check_ops(meta_.geometry(), ops, header.op_count)) {
    return meta_.corrupted("a journal record with an operation out of bounds", position);
  }
  return length;
}

void Journal::apply_record(const Scan& scan, uint64_t length) {
  format::RecordHeader header;
  std::memcpy(&header, scan.bytes.data(), sizeof header);
  const std::span<const std::byte> ops(scan.bytes.data() + sizeof header, length - sizeof header);
  record::for_each_op(ops, header.op_count, [this](uint64_t offset, const std::byte* bytes, uint32_t size) {
    meta_.medium().store(offset, bytes, size);
    if (!UDAX_KNOB("journal.replay_skip_flush")) meta_.medium().flush(offset, size);
  });
}

/// A loss does not keep the other changes from being replayed: it is told at the end.
Status Journal::drain_replayed(Scan& scan) {
  if (meta_.medium().drain()) return {};
  if (!meta_.medium().failed_by_loss()) return Error::kIo;
  scan.is_lost_in_place = true;
  return {};
}

/// Goes over the records from the tail: checks them all, or (a second time) applies them.
Status Journal::walk(Scan& scan, bool apply) {
  uint64_t position = scan.tail;
  uint64_t undrained = 0;
  scan.records = 0;
  for (;;) {
    UDAX_TRY(const uint64_t length, load_record(scan, position));
    if (length == 0) break;
    if (apply && !UDAX_KNOB("journal.replay_nothing")) {
      apply_record(scan, length);
      undrained += length;
      if (undrained >= kDrainEvery_bytes) {
        UDAX_CHECK(drain_replayed(scan));
        undrained = 0;
      }
      UDAX_SYNC_POINT("journal.recover.record_applied");
    }
    position += length;
    ++scan.records;
    if (UDAX_KNOB("journal.replay_one")) break;
  }
  scan.end = position;
  if (apply && !UDAX_KNOB("journal.replay_skip_drain")) UDAX_CHECK(drain_replayed(scan));
  return {};
}

// Later than both slots': the newer one of a damaged pool may name the earlier epoch. And by steps that a slot's history
// decides, not by one: a slot that is whole and yet wrong must not lead back to an epoch whose records are in the ring still.
uint64_t Journal::epoch_after(const ControlState& control) const {
  const uint64_t history[] = {control.slot.sequence, control.slot.tail, control.slot.epoch,
                              control.slot.mount_count};
  constexpr uint32_t kStepMask = (uint32_t{1} << 30) - 1;
  return control.epoch_last + 1 + (crc32c(meta_.seed(), history, sizeof history) & kStepMask);
}

void Journal::start_locked(const ControlState& control, uint64_t end) {
  slot_ = control.index;
  slot_sequence_ = control.slot.sequence;
  epoch_ = UDAX_KNOB("journal.keep_epoch") ? control.slot.epoch.get() : epoch_after(control);
  mount_count_ = control.slot.mount_count + 1;
  mounted_s_ = static_cast<uint64_t>(realtime_coarse().seconds);
  LockGuard guard(lock_);
  first_ = written_ = next_ = 0;
  head_.store(end, std::memory_order_relaxed);
  committed_.store(end, std::memory_order_relaxed);
  applied_.store(end, std::memory_order_relaxed);
  tail_.store(end, std::memory_order_relaxed);
  failed_.store(false, std::memory_order_relaxed);
}

Result<ReplayResult> Journal::recover(bool read_only) {
  if (ring_bytes_ < kRingBytesMin) return meta_.corrupted("a journal that is too small", ring_bytes_);
  UDAX_TRY(const ControlState control, read_control());
  Scan scan;
  scan.tail = control.slot.tail;
  scan.epoch = control.slot.epoch;
  scan.expects_records = control.slot.state == format::kJournalLive;
  try {
    scan.bytes.resize(record::kLengthMax);
  } catch (const std::bad_alloc&) {
    return Error::kNoMemory;
  }
  UDAX_CHECK(walk(scan, false));

  ReplayResult result;
  result.records = scan.records;
  result.bytes = scan.end - scan.tail;
  result.was_clean = control.slot.state == format::kJournalClean && scan.records == 0;

  LockGuard guard(tail_mutex_);
  live_.store(false, std::memory_order_relaxed);
  if (read_only || meta_.medium().read_only()) {
    if (result.records > 0) return Error::kReadOnly;
    start_locked(control, scan.end);
    return result;
  }
  if (result.records > 0) {
    log::info("journal: replaying {} records ({} bytes)", result.records, result.bytes);
    if (UDAX_KNOB("journal.slot_before_replay")) {
      start_locked(control, scan.end);
      UDAX_CHECK(write_slot_locked(format::kJournalLive, scan.end));
    }
    UDAX_CHECK(walk(scan, true));
    if (scan.end - scan.tail != result.bytes) return Error::kIo;  // the medium does not read the same twice
    // The records stay: they may be all that is left of what they change.
    if (scan.is_lost_in_place) return meta_.lost("metadata that waits for replay", 0);
  }
  start_locked(control, scan.end);
  UDAX_SYNC_POINT("journal.recover.replayed");
  // Both slots: were the second one left as it is and the first one went bad, the next mount would take the old
  // tail and the old epoch for the present ones.
  UDAX_CHECK(write_slot_locked(format::kJournalLive, scan.end));
  if (!UDAX_KNOB("journal.one_slot")) UDAX_CHECK(write_slot_locked(format::kJournalLive, scan.end));
  if (result.records > 0 && UDAX_KNOB("journal.recovered_dead")) return result;
  live_.store(true, std::memory_order_release);
  return result;
}

}  // namespace udax::journal
