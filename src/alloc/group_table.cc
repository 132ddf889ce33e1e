// SPDX-License-Identifier: BSD-3-Clause
#include "alloc/group_table.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>

#include "base/sync_point.h"
#include "format/checksum.h"
#include "format/format.h"

namespace udax::alloc {
namespace {

using format::GroupDesc;
using format::kGroupBlocks;

uint64_t regions_of(Span span) {
  const uint32_t first = span.start / kRegionBlocks;
  const uint32_t last = (span.start + span.count - 1) / kRegionBlocks;
  const uint64_t low = ~uint64_t{0} << first;
  return last == kRegions - 1 ? low : low & ((uint64_t{1} << (last + 1)) - 1);
}

void enlist(GroupSet& set, uint64_t group, bool member) {
  if (set.contains(group) == member) return;
  if (member) {
    set.insert(group);
  } else {
    set.erase(group);
  }
}

}  // namespace

GroupTable::GroupTable(const journal::MetaStore& meta)
    : meta_(meta), geometry_(meta.geometry()), group_count_(meta.geometry().group_count) {}

GroupTable::~GroupTable() = default;

Span GroupTable::span_of(DeviceRun run) const {
  return {static_cast<uint32_t>(run.start.value % kGroupBlocks), static_cast<uint32_t>(run.count)};
}

// What the descriptor on the medium says. False: it is not one, or cannot be true.
bool GroupTable::read_descriptor(uint64_t index, uint32_t& free) const {
  GroupDesc desc;
  if (meta_.is_lost(geometry_.desc_offset(index), sizeof desc)) return false;
  std::memcpy(&desc, meta_.medium().at(geometry_.desc_offset(index)), sizeof desc);
  const bool is_sealed = format::is_sealed(meta_.seed(), format::Unit::kGroupDesc, &desc);
  if ((!is_sealed && !UDAX_KNOB("alloc.skip_descriptor_checksum")) || desc.group.get() != index) return false;
  free = desc.free_blocks.get();
  const uint64_t base = index * kGroupBlocks;
  if ((desc.flags.get() & format::kGroupUninit) != 0) {
    // Says that all is free, which a group with blocks that are not for files cannot be.
    return free == kGroupBlocks && geometry_.is_data(DeviceBlock(base), kGroupBlocks);
  }
  const uint64_t first = std::max(base, geometry_.data_start.value);
  const uint64_t end = std::min(base + kGroupBlocks, geometry_.replica().value);
  return free <= (first < end ? end - first : 0);
}

Status GroupTable::load() try {
  groups_ = std::vector<Group>(group_count_);
  with_free_.reset(group_count_);
  with_whole_.reset(group_count_);
  with_broken_.reset(group_count_);
  for (uint64_t i = 0; i < group_count_; ++i) {
    Group& group = groups_[i];
    uint32_t free = 0;
    const bool good = read_descriptor(i, free);
    if (!good) free = 0;
    {
      LockGuard guard(group.lock);
      group.broken = !good;
      group.free.store(free, std::memory_order_relaxed);
      if (free == 0 || free == kGroupBlocks) set_whole(group, free / kRegionBlocks);
      refresh(i, group);
    }
    account_.give(free);
    if (!good) meta_.corrupted("group descriptor", i);
  }
  return {};
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

// The bitmap of `index` as it may be used: what is no block for files counts as used. REQUIRES: its edit mutex.
bool GroupTable::read_bitmap(uint64_t index, GroupBitmap& out) const {
  uint32_t free = 0;
  if (!read_descriptor(index, free)) return false;
  const auto* desc = meta_.medium().as<GroupDesc>(geometry_.desc_offset(index));
  if ((desc->flags.get() & format::kGroupUninit) != 0) return true;
  if (meta_.is_lost(offset_of(geometry_.bitmap_block(index)), kBlockSize)) return false;
  const std::byte* image = meta_.medium().block(geometry_.bitmap_block(index));
  const bool is_sound = format::bitmap_checksum(meta_.seed(), image) == desc->bitmap_checksum.get();
  if (!is_sound && !UDAX_KNOB("alloc.skip_bitmap_checksum")) return false;
  out.assign(image);
  const uint64_t base = index * kGroupBlocks;
  const auto inside = [base](DeviceBlock b) {
    return static_cast<uint32_t>(std::clamp(b.value, base, base + kGroupBlocks) - base);
  };
  const uint32_t first = inside(geometry_.data_start);
  const uint32_t end = inside(geometry_.replica());
  out.set({0, first});
  out.set({end, kGroupBlocks - end});
  return out.free_count() == free;
}

// REQUIRES: the group's edit mutex, so that nobody is storing to what is read here.
Status GroupTable::load_detail(uint64_t index) {
  std::unique_ptr<Detail> detail(new (std::nothrow) Detail);
  if (detail == nullptr) return Error::kNoMemory;
  const bool good = read_bitmap(index, detail->bitmap);
  Group& group = groups_[index];
  {
    LockGuard cache(cache_mutex_);
    // Two for one, so that what could not be dropped in time is made up for.
    for (int i = 0; i < 2 && loaded_.size() >= kLoadedMax; ++i) evict_locked();
    try {
      if (loaded_.size() == loaded_.capacity()) loaded_.reserve(2 * loaded_.size() + 64);
    } catch (const std::bad_alloc&) {
      return Error::kNoMemory;
    }
    LockGuard guard(group.lock);
    if (group.broken) return Error::kCorrupted;
    if (group.detail != nullptr) return {};
    // Not loaded: nobody holds blocks of it, so the count in memory must be the medium's.
    if (good && detail->bitmap.free_count() == group.free.load(std::memory_order_relaxed)) {
      set_whole(group, static_cast<uint32_t>(std::popcount(detail->bitmap.whole())));
      group.broken_longest = kRegionBlocks;
      group.detail = std::move(detail);
      refresh(index, group);
      loaded_.push_back(index);
      loaded_count_.store(loaded_.size(), std::memory_order_relaxed);
      return {};
    }
  }
  give_up(index, "group bitmap");
  return Error::kCorrupted;
}

// Drops one bitmap that nothing holds and that has not been used lately, if there is one near the clock's hand.
void GroupTable::evict_locked() {
  constexpr size_t kLooksMax = 64;
  for (size_t look = 0; look < kLooksMax && !loaded_.empty(); ++look) {
    if (clock_hand_ >= loaded_.size()) clock_hand_ = 0;
    Group& group = groups_[loaded_[clock_hand_]];
    std::unique_ptr<Detail> gone;  // freed without the lock
    {
      LockGuard guard(group.lock);
      const bool recent = std::exchange(group.detail->recent, false);
      if (recent || group.detail->held != 0) {
        ++clock_hand_;
        continue;
      }
      gone = std::move(group.detail);
    }
    loaded_[clock_hand_] = loaded_.back();
    loaded_.pop_back();
    loaded_count_.store(loaded_.size(), std::memory_order_relaxed);
    return;
  }
}

// Locks the group with its bitmap loaded. False, and not locked: kCorrupted (broken), kNoMemory.
// The analysis cannot follow an edit mutex that is taken only if the caller has not got it.
bool GroupTable::lock_loaded(uint64_t index, Group& group, bool edit_held,
                             Error& why) UDAX_NO_THREAD_SAFETY_ANALYSIS {
  for (;;) {
    group.lock.lock();
    if (!group.broken && group.detail != nullptr) {
      group.detail->recent = true;
      return true;
    }
    const bool broken = group.broken;
    group.lock.unlock();
    if (broken) {
      why = Error::kCorrupted;
      return false;
    }
    Mutex& edit = edit_mutex(edit_stripe(index));
    if (!edit_held) edit.lock();
    const Status loaded = load_detail(index);
    if (!edit_held) edit.unlock();
    if (!loaded) {
      why = loaded.error();
      return false;
    }
  }
}

void GroupTable::set_whole(Group& group, uint32_t whole) {
  const uint64_t known = group.whole == kWholeUnknown ? 0 : group.whole;
  whole_regions_.fetch_add(whole - known, std::memory_order_relaxed);
  group.whole = static_cast<uint8_t>(whole);
}

void GroupTable::refresh(uint64_t index, Group& group) {
  const uint32_t free = group.free.load(std::memory_order_relaxed);
  const bool known = group.whole != kWholeUnknown;
  const uint32_t in_whole = known ? group.whole * kRegionBlocks : 0;
  enlist(with_free_, index, free > 0);
  enlist(with_whole_, index, known ? in_whole > 0 : free >= kRegionBlocks);
  enlist(with_broken_, index, free > in_whole);
}

Span GroupTable::search_broken(Group& group, const Query& query) {
  if (group.broken_longest < query.accept) return {};
  // Metadata keeps to itself, as long as it finds room: it is long-lived, and would pin regions of data.
  const GroupBitmap& bitmap = group.detail->bitmap;
  const uint64_t metadata = group.metadata_regions;
  const uint64_t likes = query.metadata ? metadata : ~metadata;
  const Span liked = bitmap.find_in(bitmap.broken() & likes, query.start, query.count);
  if (liked.count >= query.accept) return liked;
  const Span other = bitmap.find_in(bitmap.broken() & ~likes, query.start, query.count);
  const Span best = other.count > liked.count ? other : liked;
  if (best.count < query.accept) group.broken_longest = static_cast<uint16_t>(best.count);
  return best;
}

Span GroupTable::search(Group& group, const Query& query) {
  const GroupBitmap& bitmap = group.detail->bitmap;
  const uint32_t start = query.start;
  switch (query.fit) {
    case Fit::kExtend: {
      if (!bitmap.is_free(start)) return {};
      const uint32_t region = start / kRegionBlocks;
      const uint64_t bit = uint64_t{1} << region;
      // Metadata's goal is a place to be near to, not one to go on from.
      if (query.metadata && (group.metadata_regions & bit) == 0) return {};
      if ((bitmap.whole() & bit) != 0) {
        const bool at_border = start % kRegionBlocks == 0;
        const bool goes_on = at_border && (start == 0 ? query.from_border : !bitmap.is_free(start - 1));
        if (!goes_on) return {};
      }
      return {start, bitmap.free_from(start, query.count)};
    }
    case Fit::kExtendAligned: {
      const uint32_t run = bitmap.free_from(start, query.count);
      if (run == query.count || run >= query.lead + kRegionBlocks) return {start, run};
      if (run >= query.lead) return {start, query.lead};
      return {};
    }
    case Fit::kBroken: return search_broken(group, query);
    case Fit::kWhole: return bitmap.find_whole(start, query.count);
    case Fit::kAligned: return bitmap.find_aligned(query.count, query.lead, false);
    case Fit::kAlignedBreak: return bitmap.find_aligned(query.count, query.lead, true);
    case Fit::kAny: return bitmap.find_any(query.count);
  }
  return {};
}

Result<Taken> GroupTable::take(uint64_t index, const Query& query) {
  Group& group = groups_[index];
  const uint32_t free = group.free.load(std::memory_order_relaxed);
  if (free < query.count_min) return Taken{};
  Error why{};
  if (!lock_loaded(index, group, false, why)) {
    if (why == Error::kCorrupted) return Taken{};
    return why;
  }
  Span span = search(group, query);
  while (span.count > 0 &&
         meta_.is_lost(offset_of(DeviceBlock(index * kGroupBlocks + span.start)), span.count * kBlockSize)) {
    leave_out(index, group, span);
    span = search(group, query);
  }
  if (span.count < query.accept || span.count == 0) {
    group.lock.unlock();
    return Taken{{}, span.count};
  }
  const uint64_t more = account_.take_up_to(0, span.count - query.count_min, query.floor);
  span.count = query.count_min + static_cast<uint32_t>(more);

  Detail& detail = *group.detail;
  detail.bitmap.set(span);
  detail.held += span.count;
  if (query.metadata) group.metadata_regions |= regions_of(span);
  const auto whole = static_cast<uint32_t>(std::popcount(detail.bitmap.whole()));
  if (whole != group.whole) {
    set_whole(group, whole);
    group.broken_longest = kRegionBlocks;
  }
  group.free.fetch_sub(span.count, std::memory_order_relaxed);
  refresh(index, group);
  group.lock.unlock();
  return Taken{{DeviceBlock(index * kGroupBlocks + span.start), span.count}, span.count};
}

/// Takes the lost blocks of a free span out of use. On the medium they stay free: the medium knows better than we do for
/// how long they are bad.
void GroupTable::leave_out(uint64_t index, Group& group, Span span) {
  Detail& detail = *group.detail;
  uint32_t lost = 0;
  for (uint32_t bit = span.start; bit < span.start + span.count; ++bit) {
    if (!meta_.is_lost(offset_of(DeviceBlock(index * kGroupBlocks + bit)), kBlockSize)) continue;
    detail.bitmap.set({bit, 1});
    ++lost;
  }
  detail.held += lost;
  set_whole(group, static_cast<uint32_t>(std::popcount(detail.bitmap.whole())));
  group.broken_longest = kRegionBlocks;
  group.free.fetch_sub(lost, std::memory_order_relaxed);
  account_.write_off(lost);
  left_out_.fetch_add(lost, std::memory_order_relaxed);
  refresh(index, group);
}

void GroupTable::keep(DeviceRun run) noexcept { unhold(run.start.value / kGroupBlocks, run.count); }

void GroupTable::release(DeviceRun run) noexcept {
  const uint64_t index = run.start.value / kGroupBlocks;
  Group& group = groups_[index];
  LockGuard guard(group.lock);
  UDAX_ASSERT(group.detail != nullptr && group.detail->held >= run.count);
  Detail& detail = *group.detail;
  detail.held -= static_cast<uint32_t>(run.count);
  if (group.broken) return;
  detail.bitmap.clear(span_of(run));
  set_whole(group, static_cast<uint32_t>(std::popcount(detail.bitmap.whole())));
  group.broken_longest = kRegionBlocks;
  group.metadata_regions &= ~detail.bitmap.whole();
  group.free.fetch_add(static_cast<uint32_t>(run.count), std::memory_order_relaxed);
  refresh(index, group);
  // With the lock held: a give_up() that comes now must find in the account what it writes off.
  account_.give(run.count);
  if (meta_.is_lost(offset_of(run.start), run.count * kBlockSize)) [[unlikely]]
    leave_out(index, group, span_of(run));
}

Status GroupTable::hold(uint64_t index, uint64_t blocks) {
  Group& group = groups_[index];
  Error why{};
  if (!lock_loaded(index, group, true, why)) return why;
  group.detail->held += static_cast<uint32_t>(blocks);
  group.lock.unlock();
  return {};
}

void GroupTable::unhold(uint64_t index, uint64_t blocks) noexcept {
  Group& group = groups_[index];
  LockGuard guard(group.lock);
  UDAX_ASSERT(group.detail != nullptr && group.detail->held >= blocks);
  group.detail->held -= static_cast<uint32_t>(blocks);
}

void GroupTable::adopt(uint64_t left, uint64_t group, uint8_t owner) noexcept {
  std::atomic<uint8_t>& now = groups_[group].owner;
  if (now.load(std::memory_order_relaxed) == owner) return;
  now.store(owner, std::memory_order_relaxed);
  uint8_t mine = owner;
  if (left != group) groups_[left].owner.compare_exchange_strong(mine, 0, std::memory_order_relaxed);
}

void GroupTable::give_up(uint64_t index, const char* what) noexcept {
  Group& group = groups_[index];
  {
    LockGuard guard(group.lock);
    if (group.broken) return;
    group.broken = true;
    account_.write_off(group.free.exchange(0, std::memory_order_relaxed));
    set_whole(group, 0);
    refresh(index, group);
  }
  meta_.corrupted(what, index);
}

}  // namespace udax::alloc
