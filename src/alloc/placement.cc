// SPDX-License-Identifier: BSD-3-Clause
#include "alloc/placement.h"

#include <sched.h>

#include <algorithm>
#include <limits>

namespace udax::alloc {
namespace {

using format::kGroupBlocks;

constexpr uint64_t kNoWish = ~uint64_t{0};
constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kGroupsNear = 8;      // groups looked at for something better than what is sure to be there
constexpr uint64_t kGroupsAligned = 64;  // and for whole regions behind a fitting end of another
constexpr uint64_t kGrowing = 32;        // blocks: a file whose first write is of 128 KiB may well grow past 2 MiB

}  // namespace

Favourites::Favourites(uint64_t group_count) {
  for (size_t i = 0; i < kSlots; ++i) {
    // The first few, and any number of them, lie far apart: multiples of the golden ratio.
    const uint64_t fraction = (i * 0x9E3779B97F4A7C15ULL) >> 32;
    slots_[i].group.store(fraction * group_count >> 32, std::memory_order_relaxed);
    slots_[i].owner = static_cast<uint8_t>(i + 1);
  }
}

Favourites::Slot& Favourites::mine() {
  const int cpu = sched_getcpu();
  return slots_[cpu < 0 ? 0 : static_cast<size_t>(cpu) % kSlots];
}

Placement::Placement(GroupTable& table, Favourites& favourites, const GroupBudget& budget, const Request& request,
                     uint64_t floor)
    : table_(table),
      budget_(budget),
      slot_(favourites.mine()),
      favourite_(slot_.group.load(std::memory_order_relaxed)),
      floor_(floor),
      goal_(request.goal.value / kGroupBlocks < table.group_count() ? request.goal : kNoBlock),
      count_min_(request.count_min),
      metadata_(request.purpose != Purpose::kData),
      count_(std::min<uint64_t>(request.count, kGroupBlocks)) {
  const bool wish = request.file_block != kNoWish;
  const uint64_t in_region = wish ? request.file_block % kRegionBlocks : 0;
  lead_ = (kRegionBlocks - in_region) % kRegionBlocks;
  large_ = count_ >= lead_ + kRegionBlocks;
  growing_ = wish && !metadata_ && !large_ && in_region == 0 && count_ >= kGrowing;
  sure_to_grow_ = growing_ && request.file_block > 0;
  goal_group_ = goal_.value / kGroupBlocks;
  goal_is_congruent_ = goal_ != kNoBlock && goal_.value % kRegionBlocks == in_region;
  from_border_ = wish && !metadata_;
}

bool Placement::attempt(uint64_t group, Fit fit, uint64_t accept) {
  if (budget_.full() && !budget_.has(group)) return false;
  Query query;
  query.fit = fit;
  query.metadata = metadata_;
  query.from_border = from_border_;
  query.start = goal_ != kNoBlock && group == goal_group_ ? static_cast<uint32_t>(goal_.value % kGroupBlocks) : 0;
  query.count = static_cast<uint32_t>(count_);
  query.count_min = static_cast<uint32_t>(count_min_);
  query.accept = static_cast<uint32_t>(std::max(accept, count_min_));
  query.lead = static_cast<uint32_t>(lead_);
  query.floor = floor_;
  const Result<Taken> taken = table_.take(group, query);
  if (!taken) {
    failed_ = true;
    error_ = taken.error();
    return true;
  }
  if (taken->run.count > 0) {
    found_ = taken->run;
    if (!large_ && (goal_ == kNoBlock || group != goal_group_)) {
      slot_.group.store(group, std::memory_order_relaxed);
      table_.adopt(favourite_, group, slot_.owner);
    }
    return true;
  }
  if (taken->offered > best_offer_) {
    best_offer_ = taken->offered;
    best_group_ = group;
  }
  return false;
}

// The group of which an attempt since the last call saw the most, if that is enough.
bool Placement::attempt_best(Fit fit, uint64_t accept) {
  const uint32_t offer = best_offer_;
  best_offer_ = 0;
  return offer >= std::max(accept, count_min_) && attempt(best_group_, fit, accept);
}

// The groups of `set`, going round from the goal's or the favourite group.
bool Placement::sweep(const GroupSet& set, Fit fit, uint64_t accept, uint64_t groups_max) {
  const uint64_t origin = goal_ != kNoBlock ? goal_group_ : favourite_;
  bool wrapped = false;
  uint64_t group = set.next(origin + 1);
  for (uint64_t looks = 0; looks < groups_max; ++looks) {
    if (group >= set.size()) {
      if (wrapped) return false;
      wrapped = true;
      group = set.next(0);
    }
    if (wrapped && group > origin) return false;
    if (!(unshared_ && table_.is_anothers(group, slot_.owner)) && attempt(group, fit, accept)) return true;
    group = set.next(group + 1);
  }
  return false;
}

bool Placement::search(const GroupSet& set, Fit fit, uint64_t accept, uint64_t groups_max) {
  best_offer_ = 0;
  if (goal_ != kNoBlock && set.contains(goal_group_) && attempt(goal_group_, fit, accept)) return true;
  if (set.contains(favourite_) && attempt(favourite_, fit, accept)) return true;
  return sweep(set, fit, accept, groups_max);
}

bool Placement::search_unshared(const GroupSet& set, Fit fit, uint64_t accept) {
  unshared_ = true;
  const bool over = search(set, fit, accept, kGroupsNear);
  unshared_ = false;
  return over;
}

bool Placement::search_budget() {
  for (const Fit fit : {Fit::kBroken, Fit::kAny}) {
    for (const GroupBudget::Entry& entry : budget_.groups()) {
      if (attempt(entry.group, fit, count_min_)) return true;
    }
  }
  return false;
}

bool Placement::try_cheap() {
  const bool start_whole = growing_ && !budget_.full() && (sure_to_grow_ || wholes_abound());
  // On from a goal that is not congruent, nothing of the file could ever be mapped by 2 MiB again.
  if (start_whole && !goal_is_congruent_ && search_unshared(table_.with_whole(), Fit::kWhole, count_min_))
    return true;
  if (goal_ != kNoBlock && !large_ && attempt(goal_group_, Fit::kExtend, count_min_)) return true;
  if (large_ || budget_.full()) return false;
  if (start_whole && goal_is_congruent_ && search_unshared(table_.with_whole(), Fit::kWhole, count_min_))
    return true;
  return search_unshared(table_.with_broken(), Fit::kBroken, (count_ + 7) / 8);
}

void Placement::try_rest() {
  if (budget_.full()) {
    search_budget();
  } else if (large_) {
    search_large();
  } else {
    search_small();
  }
}

bool Placement::wholes_abound() const {
  // A quarter: those of groups not looked at yet are not counted.
  return table_.whole_regions() * kRegionBlocks > table_.account().available() / 4;
}

bool Placement::search_small() {
  return (wholes_abound() && search_unshared(table_.with_whole(), Fit::kWhole, count_min_)) ||
         search(table_.with_broken(), Fit::kBroken, (count_ + 7) / 8, kGroupsNear) ||
         search(table_.with_whole(), Fit::kWhole, count_min_, kUnlimited) ||
         search(table_.with_free(), Fit::kAny, (count_ + 7) / 8, kGroupsNear) ||
         attempt_best(Fit::kAny, count_min_) || search(table_.with_free(), Fit::kAny, count_min_, kUnlimited);
}

bool Placement::search_large() {
  if (goal_is_congruent_ && attempt(goal_group_, Fit::kExtendAligned, count_min_)) return true;
  const uint64_t least = lead_ + kRegionBlocks;
  if (search(table_.with_whole(), Fit::kAligned, count_, kGroupsNear) || attempt_best(Fit::kAligned, least) ||
      search(table_.with_whole(), Fit::kAligned, least, kGroupsAligned)) {
    return true;
  }
  if (lead_ >= count_min_) {  // up to the border first; the next request will need no lead
    count_ = lead_;
    large_ = false;
    return try_cheap() || search_small();
  }
  if (lead_ > 0 && search(table_.with_whole(), Fit::kAlignedBreak, least, kUnlimited)) return true;
  return search(table_.with_free(), Fit::kAny, count_ / 8, kGroupsNear) || attempt_best(Fit::kAny, count_min_) ||
         search(table_.with_free(), Fit::kAny, count_min_, kUnlimited);
}

Result<DeviceRun> Placement::outcome() const {
  if (failed_) return error_;
  return found_;
}

}  // namespace udax::alloc
