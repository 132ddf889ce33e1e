// SPDX-License-Identifier: BSD-3-Clause
//
// The journal: one ring of checksummed physical redo records.
//
// States of a record, in order; each prefix of the ring reaches a state before what follows does, except the first:
//   reserved   has its place (Lsn) and length; bytes being copied in (any order between threads)
//   written    its bytes are durable (its thread drained)
//   committed  it and every earlier record are written: this is the commit point
//   applied    its changes are in place and durable (its thread drained again)
//   reclaimed  the tail on the medium has moved past it
//
// Invariants
// - tail <= applied prefix <= committed prefix <= head, and head - tail <= ring size.
// - A record in [tail, head) implies that all later ones up to the first not-written are there too; replay stops
//   at the first record that is not whole, so nothing after it was ever applied (application waits for
//   commitment of the whole prefix).
// - A block that was freed is not used again before the tail has passed the freeing record: an old record
//   that writes to it can then no longer be replayed over its new content (see alloc).
// - A record of another epoch, or not at its own lsn, is not a record. Every mount after replay starts a new epoch.
//
// Persistence: [fresh blocks and data, drain if any] -> record, drain -> (prefix) -> in place, drain -> tail slot,
// drain. Checksum and lsn are the commit mark.
//
// Locks: `lock_` (a spinlock) covers a reservation and the state of the records in flight; a few instructions.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <span>

#include "base/error.h"
#include "base/mutex.h"
#include "journal/limits.h"
#include "journal/meta_store.h"

namespace udax::journal {

struct JournalStats {
  uint64_t commits = 0;
  uint64_t bytes = 0;         // appended
  uint64_t tail_updates = 0;
  uint64_t waits = 0;         // a commit had to wait for room or for an earlier record
  uint64_t used_bytes = 0;    // head - tail now
  uint64_t ring_bytes = 0;
};

struct ReplayResult {
  uint64_t records = 0;
  uint64_t bytes = 0;
  bool was_clean = false;     // state on the medium before this mount
};

class Journal {
 public:
  explicit Journal(MetaStore& meta);
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// Reads the control block, replays what is there, starts a new epoch and marks the journal live. Idempotent:
  /// a crash in it changes nothing of the outcome. On a read-only medium: kReadOnly if records wait for
  /// replay, else nothing is written. kCorrupted: no valid control slot.
  [[nodiscard]] Result<ReplayResult> recover();

  /// Marks the journal clean. REQUIRES: no transaction in flight.
  [[nodiscard]] Status close();

  /// Commits one record: reserves, writes, waits for the prefix. On return the change *will* be found by
  /// replay, and the caller applies it (Tx does). `ops`: the record's operations, already encoded.
  /// kReadOnly after a failed drain: the journal takes no more (the medium cannot be trusted).
  [[nodiscard]] Result<Lsn> append(std::span<const std::byte> ops, uint32_t op_count);
  /// The caller has applied and drained the record that append() gave; `lsn` as returned.
  void applied(Lsn lsn);

  /// Position up to which the tail on the medium has moved: what was freed by records before it can be reused.
  [[nodiscard]] Lsn tail() const { return Lsn(tail_.load(std::memory_order_acquire)); }
  /// Moves the tail on the medium as far as the applied prefix allows.
  [[nodiscard]] Status advance_tail();
  /// Waits until every record below `upto` is applied, and moves the tail there. Must not be called with a
  /// record of one's own in flight.
  [[nodiscard]] Status advance_tail_to(Lsn upto);
  /// The position the next record will get.
  [[nodiscard]] Lsn head() const;

  [[nodiscard]] JournalStats stats() const;
  [[nodiscard]] bool failed() const { return failed_.load(std::memory_order_relaxed); }
  [[nodiscard]] MetaStore& meta() const { return meta_; }

 private:
  struct InFlight {
    uint64_t lsn = 0;
    uint64_t length = 0;
    bool written = false;
    bool applied = false;
  };

  // To be laid out by the implementation.
  MetaStore& meta_;
  mutable SpinLock lock_;
  std::deque<InFlight> in_flight_ UDAX_GUARDED_BY(lock_);
  uint64_t head_ UDAX_GUARDED_BY(lock_) = 0;
  std::atomic<uint64_t> committed_{0};
  std::atomic<uint64_t> applied_{0};
  std::atomic<uint64_t> tail_{0};
  std::atomic<bool> failed_{false};
  Mutex tail_mutex_;  // one writer of the control block; taken before lock_
  uint64_t slot_sequence_ UDAX_GUARDED_BY(tail_mutex_) = 0;
  uint64_t epoch_ = 0;
  uint64_t mount_count_ = 0;
  uint64_t ring_offset_ = 0;
  uint64_t ring_bytes_ = 0;
};

}  // namespace udax::journal
