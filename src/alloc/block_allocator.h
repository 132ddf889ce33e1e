// SPDX-License-Identifier: BSD-3-Clause
//
// Block allocation by groups of 128 MiB, alignment-aware.
//
// A block is, in memory, free, reserved or in use. reserve (by a BlockTx) takes it from free; commit makes it in
// use on the medium; abort gives it back. A block freed by a committed transaction stays unusable until the
// journal's tail has passed that transaction: an old record could otherwise be replayed over its new content.
// statfs counts it as free at once.
//
// Alignment: 2 MiB-aligned free runs are kept whole for requests that can use them (contiguous need of 2 MiB or
// more whose file offset is congruent). Small requests fill runs that are broken already, near their goal.
// Metadata goes to runs of metadata where there are such.
//
// Persistence: bitmaps and descriptors are edited as part of the transaction, with the group's lock held from
// the edit until the record is applied, so that images of one bitmap follow each other in the journal's order.
//
// Locks: reserving takes a group's spinlock, alone and shortly. A commit takes the edit mutexes of its groups, in
// ascending order, and holds them until the record is applied; then the journal. See group_table.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "alloc/group_budget.h"
#include "alloc/pending_frees.h"
#include "base/error.h"
#include "base/mutex.h"
#include "journal/tx.h"

namespace udax::alloc {

enum class Purpose : uint8_t {
  kData,
  kMetadata,
  kMustSucceed,  // metadata of operations that free space: may use the reserve
};

struct Request {
  uint64_t count = 1;      // blocks wanted
  uint64_t count_min = 1;  // fewer is kNoSpace
  DeviceBlock goal;        // near or at which; kNoBlock: anywhere (the thread's favourite group)
  /// Alignment wish for data: the file block that the first block will hold. When count >= 512, runs with
  /// device block = file block modulo 512 are preferred. ~0: no wish.
  uint64_t file_block = ~uint64_t{0};
  Purpose purpose = Purpose::kData;
};

struct SpaceStats {
  uint64_t blocks_total = 0;      // that files and metadata could ever use
  uint64_t blocks_free = 0;       // reserve and pending included
  uint64_t blocks_available = 0;  // to ordinary requests
  uint64_t blocks_pending = 0;    // freed, not yet reusable
  uint64_t blocks_left_out = 0;   // free, but lost to media errors; as many as have been come across
  uint64_t huge_free = 0;         // whole aligned 2 MiB runs in the groups looked at so far
  uint64_t groups_loaded = 0;
};

class BlockTx;

class BlockAllocator {
 public:
  explicit BlockAllocator(journal::Journal& journal);
  ~BlockAllocator();
  BlockAllocator(const BlockAllocator&) = delete;
  BlockAllocator& operator=(const BlockAllocator&) = delete;

  /// Reads the group descriptors (not the bitmaps). After Journal::recover(). A descriptor that fails its checksum
  /// counts as full, is logged, and its group is left alone (fsck mends it).
  [[nodiscard]] Status load();

  [[nodiscard]] SpaceStats stats() const;
  /// Makes freed blocks reusable: moves the journal's tail if need be. Called before kNoSpace is given, too.
  [[nodiscard]] Status reclaim();

  /// While `hold`: nothing that is freed becomes usable, since somebody out of reach may still store to it. kNoSpace comes earlier
  /// then.
  void hold_frees(bool hold);

  [[nodiscard]] journal::Journal& journal() const { return journal_; }
  [[nodiscard]] const media::Geometry& geometry() const;

 private:
  friend class BlockTx;
  struct Impl;
  journal::Journal& journal_;
  std::unique_ptr<Impl> impl_;
};

/// A transaction with blocks: what layers above allocate and free through. Owns the journal transaction.
class BlockTx {
 public:
  explicit BlockTx(BlockAllocator& allocator);
  ~BlockTx();
  BlockTx(const BlockTx&) = delete;
  BlockTx& operator=(const BlockTx&) = delete;

  [[nodiscard]] journal::Tx& tx() { return tx_; }
  [[nodiscard]] const journal::Tx& tx() const { return tx_; }
  [[nodiscard]] journal::MetaStore& meta() const { return tx_.meta(); }

  /// Reserves one run of count_min... count blocks, within one group. kNoSpace; kNoMemory; kInvalid: count_min is
  /// 0 or above count; kAgain: this transaction touches kGroupsPerTx groups already, and they have no room (commit
  /// and go on in a new one). What the journal says if room had to be made and it could not.
  [[nodiscard]] Result<DeviceRun> allocate(const Request& request);
  /// One metadata block.
  [[nodiscard]] Result<DeviceBlock> allocate_block(alloc::Purpose purpose, DeviceBlock goal);

  /// Frees a run when this commits. A run, or a part of it, reserved by this very transaction goes back at once.
  /// kCorrupted: outside the data area, or (found at commit) not in use. kAgain, and nothing done: too many
  /// groups; a run of up to (kGroupsPerTx - 1) * kGroupBlocks blocks always fits an empty transaction. kNoMemory.
  /// What lies in a group that is corrupted stays in use, for fsck to find.
  [[nodiscard]] Status free(DeviceRun run);
  /// free() of a metadata block: its shadow, if any, is dropped.
  [[nodiscard]] Status free_metadata(DeviceBlock b);

  /// True when another step may not fit: commit and go on in a new transaction.
  [[nodiscard]] bool nearly_full() const;

  /// See journal::Tx::commit.
  [[nodiscard]] Result<Lsn> commit();
  void abort() noexcept;

 private:
  // The allocator's part in the commit; rank kRank.
  class Part final : public journal::Participant {
   public:
    explicit Part(BlockAllocator& allocator) : allocator_(allocator) {}
    [[nodiscard]] Status prepare(journal::Tx& tx) override;
    void finish(Lsn lsn) noexcept override;
    void abort() noexcept override;

   private:
    friend class BlockTx;
    [[nodiscard]] BlockAllocator::Impl& impl() const { return *allocator_.impl_; }
    [[nodiscard]] Status edit_groups(journal::Tx& tx);
    [[nodiscard]] Status edit_group(journal::Tx& tx, uint64_t group, std::span<const DeviceRun> taken,
                                    std::span<const DeviceRun> freed);
    void lock_groups() noexcept;
    void unlock_groups() noexcept;
    [[nodiscard]] bool give_back(DeviceRun run);

    BlockAllocator& allocator_;
    // Each run lies within one group, and counts as one piece of it in the budget.
    std::vector<DeviceRun> taken_;
    std::vector<DeviceRun> freed_;
    GroupBudget budget_;
    PendingFrees::Batches batch_;                         // of prepare(): the freed runs whose groups are held
    std::array<size_t, journal::kGroupsPerTx> locked_{};  // edit stripes, ascending
    size_t locked_count_ = 0;
    bool joined_ = false;  // the transaction knows of this part
  };
  static constexpr int kRank = 100;

  void join();

  BlockAllocator& allocator_;
  Part part_;
  journal::Tx tx_;  // after part_: destroyed (aborted) first
};

}  // namespace udax::alloc
