// SPDX-License-Identifier: BSD-3-Clause
//
// A transaction: private copies ("shadows") of the units it changes, and the commit that turns the difference
// between the shadows and the medium into one journal record.
//
// Nothing of a transaction is visible to anyone before commit, and dropping it undoes everything: fallible work is
// done on shadows. Reads within the transaction go through read_block()/read_unit(), which give the shadow if
// there is one.
//
// Participants (block allocator, inode table) take part in the commit: prepare() takes the locks that make the
// final images right and edits the last shadows; finish() or abort() lets go. Order of prepare: by rank, then as
// added. See docs/locking.md.
//
// Persistence of commit(): fresh blocks are written and, with the data that the caller stored before
// (`data_pending`), drained; then the record is appended (durable when append returns); then every change is
// stored in place, flushed and drained; then the record counts as applied and the participants let go.
//
// Overlaps: shadows of one transaction never overlap, so no unit has two images. On sound media none are asked
// for; media on which one block is two things at once are kCorrupted. The exception: a unit within a block that
// this transaction made by create_raw_block() (an inode in a new chunk) is a part of that block's image, sealed at
// commit like any other.
//
// Locks: a Tx belongs to one thread. The caller holds the locks of every structure it edits from the first
// read on which an edit depends until commit() or abort() has returned.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/error.h"
#include "format/checksum.h"
#include "journal/journal.h"

namespace udax::journal {

class Tx;

class Participant {
 public:
  virtual ~Participant() = default;
  /// Takes locks, makes the final edits. On error, the commit is aborted (abort() follows on all).
  [[nodiscard]] virtual Status prepare(Tx& tx) = 0;
  /// The record at `lsn` is in place. Publishes and unlocks. Called in reverse order.
  virtual void finish(Lsn lsn) noexcept = 0;
  /// Unlocks if prepare() had locked, and takes back reservations. Called in reverse order.
  virtual void abort() noexcept = 0;
};

class Tx {
 public:
  explicit Tx(Journal& journal);
  ~Tx();  // aborts unless committed
  Tx(const Tx&) = delete;
  Tx& operator=(const Tx&) = delete;

  [[nodiscard]] Journal& journal() const { return journal_; }
  [[nodiscard]] MetaStore& meta() const { return journal_.meta(); }

  /// The tree/dir/xattr block at `b`: this transaction's shadow, else the checked block on the medium.
  [[nodiscard]] Result<const std::byte*> read_block(DeviceBlock b, format::BlockKind kind, uint64_t owner) const;
  /// The unit at `offset` (its own size, see format::unit_size): shadow if there is one, else the medium, which
  /// must be sealed. Zeroed inode slots (mode 0) count as sealed.
  [[nodiscard]] Result<const std::byte*> read_unit(uint64_t offset, format::Unit unit) const;

  /// A shadow of the existing block/unit to change. The same pointer for the same place, valid until the end of
  /// the transaction. Sealed at commit. kCorrupted as in the reads; kNoMemory.
  [[nodiscard]] Result<std::byte*> edit_block(DeviceBlock b, format::BlockKind kind, uint64_t owner);
  [[nodiscard]] Result<std::byte*> edit_unit(uint64_t offset, format::Unit unit);
  /// A shadow of the unit at `offset` that starts out as zeroes, whatever the medium holds there (a new inode in
  /// a slot, a bitmap block first used). Journaled in full.
  [[nodiscard]] Result<std::byte*> reset_unit(uint64_t offset, format::Unit unit);
  /// A shadow for a freshly allocated block, zeroed, its header filled in: written around the journal, before
  /// the record. kRaw blocks get no header.
  [[nodiscard]] Result<std::byte*> create_block(DeviceBlock b, format::BlockKind kind, uint64_t owner);
  [[nodiscard]] Result<std::byte*> create_raw_block(DeviceBlock b);
  /// Drops the shadow of a block that this transaction frees: no record is written for it, and the block
  /// counts as unchecked from commit on.
  void discard_block(DeviceBlock b);

  /// The caller has stored file data (non-temporally or flushed) that the record will point at.
  void data_pending() { data_pending_ = true; }

  /// Adds a participant, one of 16 at most; must outlive the transaction. Lower ranks prepare first.
  void add_participant(Participant& p, int rank);

  /// True when another step (one tree path, one group) might outgrow kTxBytesMax: commit and go on in a new one.
  [[nodiscard]] bool nearly_full() const;

  /// The position of the record. Nothing changed and no participants: commits to nothing, and gives the journal's
  /// present tail. On error all is as if abort() had been called. kReadOnly: the medium is, or the journal has
  /// failed; kIo: a drain failed, and the journal has with it; kTooBig; kNoMemory; what a participant gave.
  [[nodiscard]] Result<Lsn> commit();
  void abort() noexcept;

 private:
  struct Shadow {
    uint64_t offset = 0;         // bytes from the pool's start
    std::byte* image = nullptr;  // nullptr: a block this transaction never had a shadow of (dropped is set)
    uint32_t size = 0;           // bytes
    format::Unit unit = format::Unit::kRaw;
    bool fresh = false;  // written around the journal
    bool dropped = false;
    bool whole = false;   // journaled in full
    bool nested = false;  // lies in the image of a fresh raw block
  };
  struct Entry {
    Participant* participant = nullptr;
    int rank = 0;
  };
  struct Scratch;
  enum class State : uint8_t { kOpen, kCommitted, kAborted };

  /// How a place is related to the shadows. Only on hostile media do the last two come up where a shadow is
  /// wanted.
  enum class Match : uint8_t {
    kNone,
    kExact,     // `shadow` is of this very unit
    kInside,    // in the fresh raw block `shadow`
    kDropped,   // was dropped, and has no other shadow
    kConflict,  // overlaps a shadow of another unit
  };
  struct Found {
    Match match = Match::kNone;
    const Shadow* shadow = nullptr;
  };
  static constexpr uint32_t kParticipantsMax = 16;

  [[nodiscard]] static Scratch& scratch();
  [[nodiscard]] Found find(uint64_t offset, format::Unit unit, uint32_t size) const;
  [[nodiscard]] Result<const std::byte*> check_unit(uint64_t offset, format::Unit unit, uint32_t size) const;
  [[nodiscard]] Result<Found> find_unit(uint64_t offset, format::Unit unit, uint32_t size) const;
  [[nodiscard]] Result<std::byte*> add(uint64_t offset, format::Unit unit, uint32_t size);
  [[nodiscard]] Result<std::byte*> add_nested(const Shadow& block, uint64_t offset, format::Unit unit,
                                              uint32_t size);
  [[nodiscard]] Result<std::byte*> add_fresh(DeviceBlock b, format::Unit unit);
  [[nodiscard]] Status check_header(const std::byte* image, DeviceBlock b, format::BlockKind kind,
                                    uint64_t owner) const;

  [[nodiscard]] Result<Lsn> commit_prepared();
  [[nodiscard]] Result<Lsn> append(const std::vector<std::byte>& ops, uint32_t op_count) const;
  [[nodiscard]] Result<uint32_t> encode(std::vector<std::byte>& ops, std::optional<format::Unit> but = {}) const;
  [[nodiscard]] Status write_fresh();
  [[nodiscard]] Status apply(const std::vector<std::byte>& ops, uint32_t op_count);
  void settle() const;
  void release() noexcept;

  Journal& journal_;
  std::vector<Shadow> shadows_;
  std::array<Entry, kParticipantsMax> participants_;  // by rank
  uint32_t participant_count_ = 0;
  mutable uint32_t last_found_ = 0;  // index of a shadow: edits come in runs
  bool data_pending_ = false;
  bool out_of_memory_ = false;  // in a call that could not say so
  State state_ = State::kOpen;
};

}  // namespace udax::journal
