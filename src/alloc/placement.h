// SPDX-License-Identifier: BSD-3-Clause
//
// Where a request is to be served from: the order in which groups and kinds of places are tried.
//
// Small requests, in this order: on from the goal; a broken region of the goal's group, of the processor's
// favourite group, of a few others; the start of a whole region; anything that is long enough. Another processor's
// favourite is left to that one while whole regions abound: a commit holds its groups to the end, so that
// processors which share one wait for each other, and a region broken for each of them is a small price. A broken
// region counts only if it has an eighth of what is wanted in one piece: a file in crumbs costs more than
// the 2 MiB run that it spares.
//
// A small one of 128 KiB or more at a 2 MiB border of its file starts a whole region, unless its goal is congruent: a
// large file is written piece by piece, and what follows continues it, congruent. The first does so while whole
// regions abound, later ones while there are any: what has 2 MiB already is sure to be a large file. A file that was
// once pushed aside, by another that took the block behind it, is congruent again from its next border on.
//
// Large ones (a whole aligned 2 MiB of the file or more): on from the goal if that is congruent; whole regions,
// congruent, as many in a row as a few groups have to offer; the piece up to the file's next 2 MiB border as a
// small request of its own; then what there is.
//
// A request whose transaction has used up its groups is served from these, or not at all.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "alloc/block_allocator.h"
#include "alloc/group_budget.h"
#include "alloc/group_table.h"

namespace udax::alloc {

/// The group a processor goes to when nothing says where.
class Favourites {
 public:
  struct alignas(kCacheLine) Slot {
    std::atomic<uint64_t> group{0};
    uint8_t owner = 0;  // the slot's number, from 1: what GroupTable knows it by
  };

  explicit Favourites(uint64_t group_count);
  [[nodiscard]] Slot& mine();

 private:
  static constexpr size_t kSlots = 64;
  std::array<Slot, kSlots> slots_;
};

/// One request. Lives for one call of find().
class Placement {
 public:
  /// The caller has taken request.count_min blocks from the account, above `floor`.
  Placement(GroupTable& table, Favourites& favourites, const GroupBudget& budget, const Request& request,
            uint64_t floor);

  /// Tries what breaks no whole region for a small request. True: the search is over.
  bool try_cheap();
  /// Tries the rest. Between the two, the caller may have made freed blocks usable and tried again.
  void try_rest();
  /// What was reserved; count 0: nothing fits. kNoMemory.
  [[nodiscard]] Result<DeviceRun> outcome() const;

 private:
  // Each is true when the search is over: found, or an error.
  bool attempt(uint64_t group, Fit fit, uint64_t accept);
  bool attempt_best(Fit fit, uint64_t accept);
  bool sweep(const GroupSet& set, Fit fit, uint64_t accept, uint64_t groups_max);
  bool search_unshared(const GroupSet& set, Fit fit, uint64_t accept);
  bool search(const GroupSet& set, Fit fit, uint64_t accept, uint64_t groups_max);
  bool search_budget();
  bool search_small();
  [[nodiscard]] bool wholes_abound() const;
  bool search_large();

  GroupTable& table_;
  const GroupBudget& budget_;
  Favourites::Slot& slot_;
  const uint64_t favourite_;
  uint64_t goal_group_ = 0;
  const uint64_t floor_;
  const DeviceBlock goal_;  // kNoBlock: none
  const uint64_t count_min_;
  const bool metadata_;
  bool goal_is_congruent_ = false;
  bool from_border_ = false;
  bool large_ = false;
  bool growing_ = false;       // at a 2 MiB border of a file that is likely to go on
  bool sure_to_grow_ = false;  // ... that has 2 MiB already
  bool unshared_ = false;      // sweeps pass over other processors' favourites
  uint64_t count_ = 0;
  uint64_t lead_ = 0;
  // The best that a sweep saw and did not take.
  uint64_t best_group_ = 0;
  uint32_t best_offer_ = 0;
  DeviceRun found_;
  Error error_{};
  bool failed_ = false;
};

}  // namespace udax::alloc
