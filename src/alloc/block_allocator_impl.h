// SPDX-License-Identifier: BSD-3-Clause
//
// What the allocator is made of; for block_allocator.cc and block_tx.cc alone.
#pragma once

#include "alloc/block_allocator.h"
#include "alloc/group_budget.h"
#include "alloc/group_table.h"
#include "alloc/pending_frees.h"
#include "alloc/placement.h"

namespace udax::alloc {

struct BlockAllocator::Impl {
  explicit Impl(journal::Journal& j)
      : journal(j), geometry(j.meta().geometry()), table(j.meta()), favourites(j.meta().geometry().group_count) {}

  /// Reserves one run; see BlockTx::allocate.
  [[nodiscard]] Result<DeviceRun> allocate(const Request& request, const GroupBudget& budget);
  /// Makes usable what the journal's tail has passed. Those who come while another is at it wait only if
  /// they need to know that it is done.
  void reap(bool wait);
  /// Moves the tail behind all that is pending.
  [[nodiscard]] Status reclaim();
  /// After a commit: moves the tail, as far as it goes without waiting, if much is pending.
  void tend_pending();

  [[nodiscard]] Result<DeviceRun> place(const Request& request, const GroupBudget& budget, uint64_t floor);
  void reap_locked() UDAX_REQUIRES(reap_mutex);

  journal::Journal& journal;
  const media::Geometry& geometry;
  GroupTable table;
  Favourites favourites;
  PendingFrees pending;
  Mutex reap_mutex;  // one reaper at a time; before the journal's tail_mutex_, the queue's and Group::lock
  bool holds UDAX_GUARDED_BY(reap_mutex) = false;  // nothing that is pending is made usable
};

}  // namespace udax::alloc
