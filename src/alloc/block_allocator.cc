// SPDX-License-Identifier: BSD-3-Clause
#include "alloc/block_allocator.h"

#include <sched.h>

#include <algorithm>

#include "alloc/block_allocator_impl.h"
#include "base/sync_point.h"

namespace udax::alloc {
namespace {

constexpr uint64_t kPendingBlocksMax = 65536;  // 256 MiB
constexpr uint64_t kPendingRunsMax = 65536;    // bounds the queue's memory
constexpr uint64_t kPendingWorthwhile = 256;   // blocks for which moving the tail costs less than a broken region
/// Searches after which a block that the account promised is given up for: others kept taking it.
constexpr int kSearchesMax = 64;

// What lies below may be used again.
Lsn reusable_below(const journal::Journal& journal) {
  return UDAX_KNOB("alloc.ignore_tail") ? Lsn(~uint64_t{0}) : journal.tail();
}

}  // namespace

BlockAllocator::BlockAllocator(journal::Journal& journal)
    : journal_(journal), impl_(std::make_unique<Impl>(journal)) {}

BlockAllocator::~BlockAllocator() = default;

Status BlockAllocator::load() { return impl_->table.load(); }

Status BlockAllocator::reclaim() { return impl_->reclaim(); }

const media::Geometry& BlockAllocator::geometry() const { return impl_->geometry; }

SpaceStats BlockAllocator::stats() const {
  const media::Geometry& g = impl_->geometry;
  SpaceStats s;
  s.blocks_total = g.replica() - g.data_start;
  s.blocks_pending = impl_->pending.blocks();
  s.blocks_free = std::min(impl_->table.account().available() + s.blocks_pending, s.blocks_total);
  s.blocks_available = s.blocks_free > g.reserved_blocks ? s.blocks_free - g.reserved_blocks : 0;
  s.blocks_left_out = impl_->table.left_out();
  s.huge_free = impl_->table.whole_regions();
  s.groups_loaded = impl_->table.loaded();
  return s;
}

void BlockAllocator::hold_frees(bool hold) {
  const LockGuard guard(impl_->reap_mutex);
  impl_->holds = hold;
}

void BlockAllocator::Impl::reap_locked() {
  if (holds) return;
  const PendingFrees::Batches batches = pending.take_below(reusable_below(journal));
  for (const PendingFrees::Batch& batch : batches) {
    uint64_t blocks = 0;
    for (const DeviceRun& run : batch.runs) {
      table.release(run);
      blocks += run.count;
    }
    pending.done(batch.runs.size(), blocks);
  }
}

void BlockAllocator::Impl::reap(bool wait) {
  if (wait) {
    LockGuard guard(reap_mutex);
    reap_locked();
  } else if (pending.ready(reusable_below(journal)) && reap_mutex.try_lock()) {
    reap_locked();
    reap_mutex.unlock();
  }
}

Status BlockAllocator::Impl::reclaim() {
  if (pending.blocks() == 0) return {};
  // All that is pending was freed by records below the head.
  UDAX_CHECK(journal.advance_tail_to(journal.head()));
  reap(true);
  return {};
}

void BlockAllocator::Impl::tend_pending() {
  const uint64_t blocks = pending.blocks();
  if (blocks == 0) return;
  const uint64_t limit = std::min(kPendingBlocksMax, (table.account().available() + blocks) / 8);
  if (blocks <= limit && pending.runs() <= kPendingRunsMax && !table.crowded()) return;
  if (!reap_mutex.try_lock()) return;
  // A failure of the journal is told to whoever commits next; this commit is through.
  if (journal.advance_tail()) reap_locked();
  reap_mutex.unlock();
}

// Reserves a run for which count_min blocks have been taken from the account. Count 0: nowhere.
Result<DeviceRun> BlockAllocator::Impl::place(const Request& request, const GroupBudget& budget, uint64_t floor) {
  Placement placement(table, favourites, budget, request, floor);
  if (placement.try_cheap()) return placement.outcome();
  if (pending.blocks() >= kPendingWorthwhile && request.count < kRegionBlocks) {
    UDAX_CHECK(journal.advance_tail());
    reap(false);
    if (placement.try_cheap()) return placement.outcome();
  }
  placement.try_rest();
  return placement.outcome();
}

Result<DeviceRun> BlockAllocator::Impl::allocate(const Request& request, const GroupBudget& budget) {
  if (request.count_min == 0 || request.count < request.count_min) return Error::kInvalid;
  if (request.count_min > format::kGroupBlocks) return Error::kNoSpace;  // a run lies within one group
  const uint64_t floor = request.purpose == Purpose::kMustSucceed ? 0 : geometry.reserved_blocks;
  reap(false);
  bool reclaimed = false;
  bool promised = false;
  for (int yields = 0;;) {
    if (table.account().take(request.count_min, floor)) {
      const Result<DeviceRun> run = place(request, budget, floor);
      if (run && run->count > 0) return run;
      table.account().give(request.count_min);
      if (!run) return run.error();
      // What the account promised lies where this transaction may not go; another one finds it.
      if (budget.full()) return Error::kAgain;
      promised = true;
    }
    if (!reclaimed) {
      reclaimed = true;
      UDAX_CHECK(reclaim());
    } else if (request.count_min == 1 && promised && yields < kSearchesMax) {
      // There is a block: others took one from under our eyes, or are about to give one back. Or there was none: its
      // group turned out to be corrupted, and nothing comes back.
      ++yields;
      sched_yield();
    } else {
      return Error::kNoSpace;
    }
  }
}

}  // namespace udax::alloc
