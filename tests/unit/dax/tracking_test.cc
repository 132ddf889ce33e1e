// SPDX-License-Identifier: BSD-3-Clause
//
// A mapper that keeps account of stores itself: its views stay writable, no entry is marked, and writeback flushes what it tells.
#include <set>

#include "base/sync_point.h"
#include "tests/support/pool.h"
#include "tests/unit/dax/dax_pool.h"

namespace udax::dax {
namespace {

using test::DaxPool;
using test::kMiB;

constexpr uint64_t kLines = kBlockSize / kCacheLine;  // of a page

class Tracker final : public mapping::Mapper {
 public:
  Tracker(fs::Filesystem& fs, fs::OpenFile& file) : fs_(fs), file_(file) {
    auto space = file.inode().make_space();
    EXPECT_TRUE(space);
    (*space)->trackers.fetch_add(1);
    fs_.mappers().add(this);
  }
  ~Tracker() override {
    fs_.mappers().remove(this);
    file_.inode().space()->trackers.fetch_sub(1);
  }
  Tracker(const Tracker&) = delete;
  Tracker& operator=(const Tracker&) = delete;

  void invalidate(Ino, mapping::ByteRange range) override {
    std::erase_if(views_, [&](const auto& v) {
      return v.first * kBlockSize < range.end && range.start <= v.first * kBlockSize;
    });
  }
  void write_protect(Ino, mapping::ByteRange) override {}
  void collect(Ino, mapping::ByteRange range, mapping::Stored& stored) override {
    for (const uint64_t page : stored_) {
      if (page * kBlockSize >= range.end || (page + 1) * kBlockSize <= range.start) continue;
      stored.ranges.push_back({page * kBlockSize, (page + 1) * kBlockSize});
      stored.is_untimed = true;
    }
    std::erase_if(stored_,
                  [&](uint64_t p) { return p * kBlockSize < range.end && (p + 1) * kBlockSize > range.start; });
  }
  [[nodiscard]] bool has_view(uint64_t page) const { return views_.count(page) != 0; }
  /// A load first, as it were, then a store, without a fault if there is a view.
  void store(media::Medium& medium, uint64_t page, std::string_view text) {
    for (const Access access : {Access::kReadTracked, Access::kWriteTracked}) {
      if (views_.count(page) != 0) continue;
      const auto result =
          fs_.fault(file_.inode(), FileBlock(page), access, mapping::kPageOrder, [&](const View& v) {
            if (!v.is_zero() && v.is_writable) views_[page] = v.device;
            return Status();
          });
      ASSERT_TRUE(result && *result == FaultResult::kMapped);
    }
    ASSERT_TRUE(has_view(page));
    medium.store(offset_of(views_[page]), text.data(), text.size());
    stored_.insert(page);
  }

 private:
  fs::Filesystem& fs_;
  fs::OpenFile& file_;
  std::map<uint64_t, DeviceBlock> views_;
  std::set<uint64_t> stored_;
};

class Tracking : public DaxPool {
 protected:
  Tracking() : DaxPool(64 * kMiB, media::Granularity::kCacheLine) {}
};

TEST_F(Tracking, OnlyWhatWasStoredToIsFlushedAndViewsStay) {
  const Ino f = hole("f", 64 * kBlockSize);
  const auto file = open(f);
  Tracker tracker(pool_.fs(), *file);
  for (const uint64_t page : {3U, 4U, 40U}) tracker.store(pool_.medium(), page, "first");
  ASSERT_TRUE(pool_->fsync(*file, false));
  tracker.store(pool_.medium(), 4, "later");
  EXPECT_EQ(file->inode().space()->entries.dirty_blocks(), 0U);
  const media::Counters before = medium_->counters();
  ASSERT_TRUE(pool_->fsync(*file, false));
  EXPECT_TRUE(tracker.has_view(4));
  EXPECT_EQ(after_power_failure(f, 3 * kBlockSize, 5), "first");
  EXPECT_EQ(after_power_failure(f, 4 * kBlockSize, 5), "later");
  EXPECT_EQ(after_power_failure(f, 40 * kBlockSize, 5), "first");
  EXPECT_GE(medium_->counters().flushed_lines - before.flushed_lines, kLines);
}

TEST_F(Tracking, SyncOfTheWholeAsksToo) {
  const Ino f = hole("f", kBlockSize);
  const auto file = open(f);
  Tracker tracker(pool_.fs(), *file);
  tracker.store(pool_.medium(), 0, "synced");
  ASSERT_TRUE(pool_->sync());
  EXPECT_EQ(after_power_failure(f, 0, 6), "synced");
}

TEST_F(Tracking, AFlipTakesViewsBackAndLosesNothing) {
  const Ino f = hole("f", kBlockSize);
  const auto file = open(f);
  Tracker tracker(pool_.fs(), *file);
  tracker.store(pool_.medium(), 0, "before");
  const uint32_t flag = file->inode().snapshot().flags & format::kFlagDax;
  ASSERT_TRUE(pool_->set_flags(f, flag ^ format::kFlagDax, format::kFlagDax, std::nullopt, {}));
  EXPECT_FALSE(tracker.has_view(0));
  EXPECT_EQ(after_power_failure(f, 0, 6), "before");
}

#if defined(UDAX_SYNC_POINTS)
TEST_F(Tracking, ControlWhoIsNotAskedLosesStores) {
  const Ino f = hole("f", kBlockSize);
  const auto file = open(f);
  Tracker tracker(pool_.fs(), *file);
  tracker.store(pool_.medium(), 0, "synced");
  const sync_point::ScopedKnob knob("dax.writeback.skip_collect");
  ASSERT_TRUE(pool_->fsync(*file, false));
  EXPECT_NE(after_power_failure(f, 0, 6), "synced");
}
#endif

}  // namespace
}  // namespace udax::dax
