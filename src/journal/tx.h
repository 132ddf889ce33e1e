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
// (`data_pending`), drained; then the record is appended (durable when append returns); then every change is stored
// in place, flushed and drained; then the record counts as applied and the participants let go.
//
// Locks: a Tx belongs to one thread. The caller holds the locks of every structure it edits from the first
// read on which an edit depends until commit() or abort() has returned.
#pragma once

#include <cstdint>
#include <memory>
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

  /// A shadow of the existing block/unit to change. The same pointer for the same place, valid until the end of the
  /// transaction. Sealed at commit. kCorrupted as in the reads; kNoMemory.
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

  /// Adds a participant; must outlive the transaction. Lower ranks prepare first.
  void add_participant(Participant& p, int rank);

  /// True when another step (one tree path, one group) might outgrow kTxBytesMax: commit and go on in a new one.
  [[nodiscard]] bool nearly_full() const;

  /// Nothing changed and no participants: commits to nothing, and gives the journal's present tail.
  [[nodiscard]] Result<Lsn> commit();
  void abort() noexcept;

 private:
  struct Shadow {
    uint64_t offset = 0;
    format::Unit unit = format::Unit::kRaw;
    bool fresh = false;     // written around the journal
    bool dropped = false;
    std::byte* image = nullptr;
  };
  struct Entry {
    Participant* participant;
    int rank;
  };
  enum class State : uint8_t { kOpen, kCommitted, kAborted };

  [[nodiscard]] Shadow* find(uint64_t offset);
  [[nodiscard]] const Shadow* find(uint64_t offset) const;

  Journal& journal_;
  std::vector<Shadow> shadows_;
  std::vector<Entry> participants_;
  bool data_pending_ = false;
  State state_ = State::kOpen;
};

}  // namespace udax::journal
