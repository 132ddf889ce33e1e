// SPDX-License-Identifier: BSD-3-Clause
//
// The journal: one ring of checksummed physical redo records.
//
// States of a record, in order; each prefix of the ring reaches a state before what follows does, except the
// first:
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
// - A record of another epoch, or not at its own lsn, is not a record. Every mount after replay starts a new
//   epoch.
//
// Persistence: [fresh blocks and data, drain if any] -> record, drain -> (prefix) -> in place, drain -> tail slot,
// drain. Checksum and lsn are the commit mark.
//
// Locks: `lock_` (a spinlock) covers a reservation and the state of the records in flight; a few instructions.
//
// No deadlock: a thread waits for room, or for the tail, only while it holds no reservation. One that holds a
// reservation waits for nothing but earlier reservations, and takes no lock but `lock_` until applied(). So the
// oldest record in flight always goes on, and with it the applied prefix, the tail, and whoever waits for room.
// That the waiter holds locks of layers above does no harm: every record in flight has all of its own already.
//
// A drain that fails takes the whole journal down (fail()): with msync the error is told once, to one thread, and
// the pages it was about count as clean after it, so that no later drain of any thread proves anything.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "base/mutex.h"
#include "journal/limits.h"
#include "journal/meta_store.h"

namespace udax::journal {

struct JournalStats {
  uint64_t commits = 0;
  uint64_t bytes = 0;  // appended
  uint64_t tail_updates = 0;
  uint64_t waits = 0;       // a commit had to wait for room or for an earlier record
  uint64_t used_bytes = 0;  // head - tail now
  uint64_t ring_bytes = 0;
};

struct ReplayResult {
  uint64_t records = 0;
  uint64_t bytes = 0;
  bool was_clean = false;  // state on the medium before this mount
};

class Journal {
 public:
  explicit Journal(MetaStore& meta);
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// Reads the control block, replays what is there, starts a new epoch and marks the journal live. Idempotent:
  /// a crash in it changes nothing of the outcome. On a read-only medium, or with `read_only`: kReadOnly if records
  /// wait for replay, else nothing is written. kCorrupted: no valid control slot. kIo: the medium failed; if only pages
  /// that are lost are to blame, the rest may be read, but what waits in the ring may be in place only in part.
  [[nodiscard]] Result<ReplayResult> recover(bool read_only = false);

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
  friend class Tx;  // fail()

  /// A record from its reservation until it and all before it are applied. Numbered without gaps: number n is at
  /// in_flight_[n % kInFlightMax].
  struct InFlight {
    uint64_t lsn = 0;
    uint64_t length = 0;
    bool written = false;
    bool applied = false;
  };
  struct Reservation {
    uint64_t number = 0;
    uint64_t lsn = 0;
  };
  /// More than threads could ever be in a commit; one that finds no entry waits as it would for room.
  static constexpr uint64_t kInFlightMax = 1024;

  // Appending (journal.cc).
  [[nodiscard]] Result<Reservation> reserve(uint64_t length);
  [[nodiscard]] bool try_reserve(uint64_t length, Reservation& out) UDAX_REQUIRES(lock_);
  void write_record(uint64_t lsn, uint64_t length, std::span<const std::byte> ops, uint32_t op_count);
  void ring_store(uint64_t position, const std::byte* bytes, uint64_t size);
  void mark_written(const Reservation& record);
  [[nodiscard]] Status wait_committed(uint64_t end);
  [[nodiscard]] InFlight& entry(uint64_t number) UDAX_REQUIRES(lock_) { return in_flight_[number % kInFlightMax]; }
  void tend_tail();
  /// From here on nothing commits: neither what waits for its prefix, nor anything new.
  void fail(const char* why);

  // The control block (journal.cc).
  [[nodiscard]] Status move_tail_locked() UDAX_REQUIRES(tail_mutex_);
  [[nodiscard]] Status write_slot_locked(uint32_t state, uint64_t tail) UDAX_REQUIRES(tail_mutex_);

  // Recovery (recovery.cc).
  struct ControlState;
  struct Scan;
  [[nodiscard]] Result<ControlState> read_control() const;
  [[nodiscard]] Result<uint64_t> load_record(Scan& scan, uint64_t position) const;
  [[nodiscard]] Status walk(Scan& scan, bool apply);
  [[nodiscard]] Status drain_replayed(Scan& scan);
  void apply_record(const Scan& scan, uint64_t length);
  [[nodiscard]] uint64_t epoch_after(const ControlState& control) const;
  void start_locked(const ControlState& control, uint64_t end) UDAX_REQUIRES(tail_mutex_);

  MetaStore& meta_;
  Mutex tail_mutex_;  // one writer of the control block; taken before lock_
  mutable SpinLock lock_;

  std::array<InFlight, kInFlightMax> in_flight_ UDAX_GUARDED_BY(lock_){};
  uint64_t first_ UDAX_GUARDED_BY(lock_) = 0;    // number of the oldest in flight: not applied, or its prefix not
  uint64_t written_ UDAX_GUARDED_BY(lock_) = 0;  // number of the oldest that is not written
  uint64_t next_ UDAX_GUARDED_BY(lock_) = 0;     // number the next will get
  uint64_t commits_ UDAX_GUARDED_BY(lock_) = 0;
  uint64_t bytes_ UDAX_GUARDED_BY(lock_) = 0;

  // Positions in bytes. The first three are stored under lock_, the tail under tail_mutex_; loaded without.
  std::atomic<uint64_t> head_{0};
  std::atomic<uint64_t> committed_{0};
  std::atomic<uint64_t> applied_{0};
  std::atomic<uint64_t> tail_{0};
  std::atomic<bool> live_{false};    // recovered, writable, not closed
  std::atomic<bool> failed_{false};  // stored under lock_: committed_ stands still from then on
  std::atomic<uint64_t> tail_updates_{0};
  std::atomic<uint64_t> waits_{0};

  uint64_t slot_sequence_ UDAX_GUARDED_BY(tail_mutex_) = 0;
  uint32_t slot_ UDAX_GUARDED_BY(tail_mutex_) = 0;  // 0 or 1: the one that counts; the other is written next
  // Set by recover(), before others may call.
  uint64_t epoch_ = 0;
  uint64_t mount_count_ = 0;
  uint64_t mounted_s_ = 0;
  uint64_t ring_offset_ = 0;  // bytes from the pool's start
  uint64_t ring_bytes_ = 0;
};

}  // namespace udax::journal
