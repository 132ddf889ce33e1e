// SPDX-License-Identifier: BSD-3-Clause
//
// All groups in memory: a few bytes each, and the bitmaps of those in use.
//
// A group's bitmap is loaded on first use, checked against its descriptor, and dropped again when many are loaded
// and nothing depends on it. What depends on it is counted in Detail::held: blocks that a transaction has
// reserved, that one being committed frees, that are freed but pending, and that are lost; for all of these the bits in memory
// differ, or are about to differ, from those on the medium.
//
// A free block that is lost to a media error is not handed out: its bit is set in memory, and held.
//
// A group whose descriptor or bitmap fails a check is broken: it counts as full, nothing in it is handed out or
// taken back, and fsck mends it. The others go on.
//
// Invariants, with a group's lock held
// - Group::free is the number of clear bits in the bitmap, loaded or not. It may be read without the lock as a
//   hint.
// - The three sets tell the truth about a group that has been loaded; of one that has not, they may say yes too
//   often, never too seldom.
//
// Locks: edit mutexes (striped; many groups share one) guard the bitmap block and the descriptor on the medium:
// whoever commits changes of them, or reads them, holds it. Group::lock guards what is in memory, for some
// hundreds of instructions, never over an access to the medium, so that reserving waits for no one's commit.
// Order: edit mutexes, ascending by stripe -> cache_mutex_ -> Group::lock.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "alloc/group_bitmap.h"
#include "alloc/group_set.h"
#include "alloc/space_account.h"
#include "base/error.h"
#include "base/mutex.h"
#include "base/types.h"
#include "journal/meta_store.h"

namespace udax::alloc {

/// How a run is looked for within a group.
enum class Fit : uint8_t {
  kExtend,         // from `start` exactly, which goes on from a block in use or lies in a broken region
  kExtendAligned,  // from `start` exactly, if that reaches a whole region or the end of the lead
  kBroken,         // within one region that is broken already
  kWhole,          // from the start of a whole region
  kAligned,        // find_aligned()
  kAlignedBreak,   // find_aligned(), breaking a region for the lead
  kAny,            // the first run that is long enough, else the longest
};

struct Query {
  Fit fit = Fit::kAny;
  bool metadata = false;
  bool from_border = false;  // kExtend: the last block of the group before may be what `start` goes on from
  uint32_t start = 0;        // block within the group
  uint32_t count = 0;        // wanted
  uint32_t count_min = 0;    // the caller has taken so many from the account
  uint32_t accept = 0;       // fewer is no find; >= count_min
  uint32_t lead = 0;
  uint64_t floor = 0;  // blocks that must stay in the account
};

struct Taken {
  DeviceRun run;         // count 0: nothing
  uint32_t offered = 0;  // then: the longest that was there, for all it is worth
};

class GroupTable {
 public:
  explicit GroupTable(const journal::MetaStore& meta);
  ~GroupTable();
  GroupTable(const GroupTable&) = delete;
  GroupTable& operator=(const GroupTable&) = delete;

  /// Reads the descriptors. kNoMemory.
  [[nodiscard]] Status load();

  /// Reserves a run in `group`, and takes what goes beyond count_min from the account. Nothing found, or the group
  /// broken: count 0. kNoMemory.
  [[nodiscard]] Result<Taken> take(uint64_t group, const Query& query);
  /// A reserved run is in use from now on.
  void keep(DeviceRun run) noexcept;
  /// Makes a run usable that was reserved, or held and has become free on the medium.
  void release(DeviceRun run) noexcept;
  /// Keeps the bitmap of `group` loaded for `blocks` blocks that are about to be freed. kCorrupted: the group is
  /// broken; kNoMemory. The caller holds the edit mutex.
  [[nodiscard]] Status hold(uint64_t group, uint64_t blocks);
  /// Undoes hold().
  void unhold(uint64_t group, uint64_t blocks) noexcept;
  /// Takes a group out of use whose structures have turned out not to be what they must be.
  void give_up(uint64_t group, const char* what) noexcept;

  /// Notes that `owner` (not 0) has left a group for another; whether a group is the one of another owner. Hints.
  void adopt(uint64_t left, uint64_t group, uint8_t owner) noexcept;
  [[nodiscard]] bool is_anothers(uint64_t group, uint8_t owner) const {
    const uint8_t seen = groups_[group].owner.load(std::memory_order_relaxed);
    return seen != 0 && seen != owner;
  }

  [[nodiscard]] size_t edit_stripe(uint64_t group) const { return group % kStripes; }
  [[nodiscard]] Mutex& edit_mutex(size_t stripe) { return stripes_[stripe].mutex; }

  [[nodiscard]] SpaceAccount& account() { return account_; }
  [[nodiscard]] const SpaceAccount& account() const { return account_; }
  [[nodiscard]] uint64_t group_count() const { return group_count_; }
  /// Groups with: any free block; a whole region; a free block in a broken region.
  [[nodiscard]] const GroupSet& with_free() const { return with_free_; }
  [[nodiscard]] const GroupSet& with_whole() const { return with_whole_; }
  [[nodiscard]] const GroupSet& with_broken() const { return with_broken_; }
  [[nodiscard]] uint64_t whole_regions() const { return whole_regions_.load(std::memory_order_relaxed); }
  /// Free blocks that are not handed out, since they are lost to media errors: as many as have been come across.
  [[nodiscard]] uint64_t left_out() const { return left_out_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t loaded() const { return loaded_count_.load(std::memory_order_relaxed); }
  /// True when more bitmaps are loaded than there should be, for pending frees hold them.
  [[nodiscard]] bool crowded() const { return loaded() > 2 * kLoadedMax; }

  /// Bitmaps kept loaded, if nothing holds more: 17 MiB.
  static constexpr uint64_t kLoadedMax = 4096;

 private:
  struct Detail {
    GroupBitmap bitmap;
    uint32_t held = 0;
    bool recent = true;  // used since the evictor looked last
  };
  /// One group, of which a pool of 128 TiB has 2^20.
  struct Group {
    SpinLock lock;
    bool broken UDAX_GUARDED_BY(lock) = false;
    uint8_t whole UDAX_GUARDED_BY(lock) = kWholeUnknown;            // whole regions
    uint16_t broken_longest UDAX_GUARDED_BY(lock) = kRegionBlocks;  // no run in a broken region is longer
    std::atomic<uint32_t> free{0};
    std::atomic<uint8_t> owner{0};                        // see adopt()
    uint64_t metadata_regions UDAX_GUARDED_BY(lock) = 0;  // mask; a hint that grows with use
    std::unique_ptr<Detail> detail UDAX_GUARDED_BY(lock);
  };
  static_assert(sizeof(Group) <= 32);
  struct alignas(kCacheLine) Stripe {
    Mutex mutex;
  };
  static constexpr uint8_t kWholeUnknown = 0xFF;
  static constexpr size_t kStripes = 1024;

  [[nodiscard]] bool read_descriptor(uint64_t index, uint32_t& free) const;
  [[nodiscard]] bool read_bitmap(uint64_t index, GroupBitmap& out) const;
  [[nodiscard]] Status load_detail(uint64_t index);
  void evict_locked() UDAX_REQUIRES(cache_mutex_);
  [[nodiscard]] bool lock_loaded(uint64_t index, Group& group, bool edit_held, Error& why)
      UDAX_TRY_ACQUIRE(true, group.lock);
  [[nodiscard]] Span search(Group& group, const Query& query) UDAX_REQUIRES(group.lock);
  [[nodiscard]] Span search_broken(Group& group, const Query& query) UDAX_REQUIRES(group.lock);
  void refresh(uint64_t index, Group& group) UDAX_REQUIRES(group.lock);
  void leave_out(uint64_t index, Group& group, Span span) UDAX_REQUIRES(group.lock);
  void set_whole(Group& group, uint32_t whole) UDAX_REQUIRES(group.lock);
  [[nodiscard]] Span span_of(DeviceRun run) const;

  const journal::MetaStore& meta_;
  const media::Geometry& geometry_;
  const uint64_t group_count_;
  std::vector<Group> groups_;
  std::array<Stripe, kStripes> stripes_;
  SpaceAccount account_;
  GroupSet with_free_;
  GroupSet with_whole_;
  GroupSet with_broken_;
  std::atomic<uint64_t> whole_regions_{0};  // in groups of which it is known
  std::atomic<uint64_t> loaded_count_{0};
  std::atomic<uint64_t> left_out_{0};
  Mutex cache_mutex_;
  std::vector<uint64_t> loaded_ UDAX_GUARDED_BY(cache_mutex_);  // groups
  size_t clock_hand_ UDAX_GUARDED_BY(cache_mutex_) = 0;
};

}  // namespace udax::alloc
