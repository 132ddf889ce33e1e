// SPDX-License-Identifier: BSD-3-Clause
//
// A pool in memory with journal and allocator, for the tests of this layer; can be unmounted and mounted again,
// cleanly or as after a crash. Every mount is opened by a check of all groups on the medium, and so is the end.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "alloc/block_allocator.h"
#include "format/checksum.h"
#include "journal/journal.h"
#include "media/memory_medium.h"
#include "media/superblock.h"
#include "mkfs/make_pool.h"

namespace udax::alloc {

class Pool {
 public:
  static constexpr uint64_t kMiB = uint64_t{1} << 20;

  explicit Pool(uint64_t size) : medium_(size) {
    mkfs::MakeOptions options;
    options.uuid[0] = 1;
    std::string why;
    const Status made = mkfs::make_pool(medium_, options, &why);
    EXPECT_TRUE(made) << why;
    mount();
  }
  ~Pool() { check_groups(); }

  void mount() {
    auto loaded = media::load_superblock(medium_);
    ASSERT_TRUE(loaded);
    geometry_ = loaded->geometry;
    meta_ = std::make_unique<journal::MetaStore>(medium_, geometry_);
    journal_ = std::make_unique<journal::Journal>(*meta_);
    ASSERT_TRUE(journal_->recover());
    allocator_ = std::make_unique<BlockAllocator>(*journal_);
    ASSERT_TRUE(allocator_->load());
  }
  void unmount(bool clean) {
    allocator_.reset();
    if (clean) {
      EXPECT_TRUE(journal_->close());
    }
    journal_.reset();
    meta_.reset();
  }
  void remount(bool clean) {
    unmount(clean);
    check_groups();
    mount();
  }

  [[nodiscard]] BlockAllocator& allocator() { return *allocator_; }
  [[nodiscard]] journal::Journal& journal() { return *journal_; }
  [[nodiscard]] journal::MetaStore& meta() { return *meta_; }
  [[nodiscard]] media::MemoryMedium& medium() { return medium_; }
  [[nodiscard]] const media::Geometry& geometry() const { return geometry_; }

  [[nodiscard]] format::GroupDesc desc(uint64_t group) const {
    format::GroupDesc d;
    std::memcpy(&d, medium_.at(geometry_.desc_offset(group)), sizeof d);
    return d;
  }
  [[nodiscard]] bool used_on_medium(DeviceBlock b) const {
    const uint64_t group = b.value / format::kGroupBlocks;
    if ((desc(group).flags & format::kGroupUninit) != 0) return false;
    const auto* bits = reinterpret_cast<const uint8_t*>(medium_.block(geometry_.bitmap_block(group)));
    const uint64_t bit = b.value % format::kGroupBlocks;
    return (bits[bit / 8] >> (bit % 8) & 1) != 0;
  }
  [[nodiscard]] bool all_on_medium(DeviceRun run, bool used) const {
    for (uint64_t i = 0; i < run.count; ++i) {
      if (used_on_medium(run.start + i) != used) return false;
    }
    return true;
  }
  /// Sets the pool up for groups that a test has broken on purpose.
  void expect_broken(uint64_t group) { broken_.push_back(group); }

  /// Each descriptor is sealed and agrees with its bitmap.
  void check_groups() const {
    for (uint64_t g = 0; g < geometry_.group_count; ++g) {
      if (std::find(broken_.begin(), broken_.end(), g) != broken_.end()) continue;
      const format::GroupDesc d = desc(g);
      ASSERT_TRUE(format::is_sealed(geometry_.checksum_seed, format::Unit::kGroupDesc, &d)) << "group " << g;
      ASSERT_EQ(d.group, g);
      if ((d.flags & format::kGroupUninit) != 0) {
        ASSERT_EQ(d.free_blocks, format::kGroupBlocks);
        continue;
      }
      const std::byte* image = medium_.block(geometry_.bitmap_block(g));
      ASSERT_EQ(d.bitmap_checksum, format::bitmap_checksum(geometry_.checksum_seed, image)) << "group " << g;
      uint32_t used = 0;
      for (uint32_t i = 0; i < kBlockSize; ++i)
        used += static_cast<uint32_t>(std::popcount(static_cast<uint8_t>(image[i])));
      ASSERT_EQ(d.free_blocks, format::kGroupBlocks - used) << "group " << g;
    }
  }

 private:
  media::MemoryMedium medium_;
  media::Geometry geometry_;
  std::vector<uint64_t> broken_;
  std::unique_ptr<journal::MetaStore> meta_;
  std::unique_ptr<journal::Journal> journal_;
  std::unique_ptr<BlockAllocator> allocator_;
};

/// Keeps this thread on one processor, so that its favourite group stays what it is.
class PinToCpu {
 public:
  explicit PinToCpu(int cpu = sched_getcpu()) {
    was_known_ = sched_getaffinity(0, sizeof was_, &was_) == 0;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(cpu), &one);
    pinned_ = sched_setaffinity(0, sizeof one, &one) == 0;
  }
  ~PinToCpu() {
    if (was_known_) sched_setaffinity(0, sizeof was_, &was_);
  }
  PinToCpu(const PinToCpu&) = delete;
  PinToCpu& operator=(const PinToCpu&) = delete;
  [[nodiscard]] bool pinned() const { return pinned_; }

 private:
  cpu_set_t was_{};
  bool was_known_ = false;
  bool pinned_ = false;
};

/// For tests of one thread that foresee where blocks come from.
class PinnedPool : private PinToCpu, public Pool {
 public:
  using Pool::Pool;
};

inline Request data_request(uint64_t count, uint64_t count_min = 1, DeviceBlock goal = kNoBlock,
                            uint64_t file_block = ~uint64_t{0}) {
  Request r;
  r.count = count;
  r.count_min = count_min;
  r.goal = goal;
  r.file_block = file_block;
  return r;
}

inline Request must_succeed(uint64_t count) {
  Request r = data_request(count);
  r.purpose = Purpose::kMustSucceed;
  return r;
}

/// A transaction of one allocation; count 0 if it failed.
inline DeviceRun take(Pool& pool, const Request& request) {
  BlockTx tx(pool.allocator());
  const Result<DeviceRun> run = tx.allocate(request);
  if (!run) return {};
  EXPECT_TRUE(tx.commit());
  return *run;
}

/// A whole region in `group`: what a small request goes to another group for as long as that has a broken one.
inline DeviceRun take_region(Pool& pool, uint64_t group) {
  const DeviceRun run = take(pool, data_request(512, 512, DeviceBlock(group * format::kGroupBlocks), 0));
  EXPECT_EQ(run.start.value / format::kGroupBlocks, group);
  return run;
}

/// A transaction of one free.
inline Lsn give(Pool& pool, DeviceRun run) {
  BlockTx tx(pool.allocator());
  EXPECT_TRUE(tx.free(run));
  const Result<Lsn> lsn = tx.commit();
  EXPECT_TRUE(lsn);
  return lsn ? *lsn : Lsn{};
}

}  // namespace udax::alloc
