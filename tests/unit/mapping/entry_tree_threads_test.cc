// SPDX-License-Identifier: BSD-3-Clause
//
// Many threads on few entries: mutual exclusion, waking, and that nothing seen before a wait is trusted after it.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/random.h"
#include "base/sync_point.h"
#include "mapping/entry_tree.h"

namespace udax::mapping {
namespace {

using Kind = Entry::Kind;

Entry data(uint64_t device) { return {Kind::kData, DeviceBlock(device)}; }

void on_threads(unsigned n, const std::function<void(unsigned)>& work) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < n; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
}

// Who holds which block, as the holders themselves note it. A plain counter a block shows races to TSan, too.
class Owners {
 public:
  static constexpr uint64_t kBlocks = 2048;

  void enter(const EntryTree::Locked& locked) {
    for (uint64_t b = locked.start().value; b < locked.end().value; ++b) {
      if (is_held_[b].exchange(true, std::memory_order_relaxed)) overlaps_.fetch_add(1);
      ++visits_[b];
    }
  }
  void leave(uint64_t from, uint64_t to) {
    for (uint64_t b = from; b < to; ++b) is_held_[b].store(false, std::memory_order_relaxed);
  }
  [[nodiscard]] uint64_t overlaps() const { return overlaps_; }

 private:
  std::array<std::atomic<bool>, kBlocks> is_held_{};
  std::array<uint64_t, kBlocks> visits_{};
  std::atomic<uint64_t> overlaps_{0};
};

// One thread's mix of everything, on blocks [0, 2048).
class Worker {
 public:
  Worker(EntryTree& tree, Owners& owners, uint64_t seed) : tree_(tree), owners_(owners), random_(seed) {}

  void run(int steps) {
    for (int i = 0; i < steps; ++i) step();
  }

 private:
  uint64_t block() { return random_.below(8) * 200 + random_.below(3); }

  void work_on(EntryTree::Locked locked) {
    owners_.enter(locked);
    const uint64_t start = locked.start().value;
    const uint64_t end = locked.end().value;
    EXPECT_LE(start, 2047U);
    if (locked.entry().kind != Kind::kEmpty) {
      EXPECT_TRUE(locked.entry() == data(start + 4096) || locked.entry().kind == Kind::kZero);
    }
    if (random_.one_in(8)) std::this_thread::yield();  // so that others come while it is locked
    switch (random_.below(6)) {
      case 0: locked.set({Kind::kZero, DeviceBlock(0)}); break;
      case 1:
      case 2:
        locked.set(data(start + 4096));
        locked.set_mark(Mark::kDirty);
        break;
      case 3:
        locked.clear_mark(Mark::kToWrite);
        locked.clear_mark(Mark::kDirty);
        break;
      case 4: owners_.leave(start, end); return locked.erase();
      default:
        if (locked.order() != kHugeOrder) break;
        const FileBlock keep = locked.start() + random_.below(512);
        owners_.leave(start, keep.value);
        owners_.leave(keep.value + 1, end);
        ASSERT_TRUE(locked.split(keep));
        EXPECT_EQ(locked.start(), keep);
        owners_.leave(keep.value, keep.value + 1);
        return locked.unlock();
    }
    owners_.leave(start, end);
  }

  void step() {
    const FileBlock at(block());
    switch (random_.below(10)) {
      case 0:
      case 1:
      case 2: return work_on(tree_.grab(at, random_.one_in(2) ? kHugeOrder : kPageOrder).value());
      case 3:
        if (auto e = tree_.grab_existing(at)) work_on(std::move(*e));
        return;
      case 4:
        if (auto e = tree_.grab_next(at, at + 600)) work_on(std::move(*e));
        return;
      case 5: return write_back(at);
      case 6:
        (void)tree_.any(at, at + 100, Mark::kDirty);
        EXPECT_LE(tree_.dirty_blocks(), Owners::kBlocks);
        return;
      case 7: ASSERT_TRUE(tree_.mark_dirty_run(at, DeviceBlock(at.value + 4096), random_.below(5))); return;
      case 8:
        if (random_.one_in(4)) {
          ASSERT_TRUE(tree_.erase_range(at, at + random_.below(700)));
        }
        return;
      default: (void)tree_.tag(at, at + 1000, Mark::kDirty, Mark::kToWrite); return;
    }
  }

  void write_back(FileBlock from) {
    (void)tree_.tag(from, from + 600, Mark::kDirty, Mark::kToWrite);
    const FileBlock to = from + 600;
    while (auto e = tree_.grab_next_marked(from, to, Mark::kToWrite)) {
      EXPECT_TRUE(e->marked(Mark::kToWrite));
      EXPECT_EQ(e->entry().kind, Kind::kData);
      from = e->end();
      work_on(std::move(*e));
    }
  }

  EntryTree& tree_;
  Owners& owners_;
  Random random_;
};

TEST(EntryTreeThreads, EverythingAtOnce) {
  const auto owners = std::make_unique<Owners>();
  EntryTree tree;
  on_threads(8, [&](unsigned i) { Worker(tree, *owners, i + 1).run(20000); });
  EXPECT_EQ(owners->overlaps(), 0U);
  EXPECT_EQ(tree.audit(), "");
}

TEST(EntryTreeThreads, OneEntryIsHeldByOne) {
  EntryTree tree;
  uint64_t counter = 0;  // guarded by the entry
  on_threads(8, [&](unsigned) {
    for (int i = 0; i < 3000; ++i) {
      auto locked = tree.grab(FileBlock(0), kPageOrder);
      ASSERT_TRUE(locked);
      ++counter;
      if (i % 16 == 0) std::this_thread::yield();
      if (i % 7 == 0) locked->set(data(counter));
      if (i % 11 == 0) locked->erase();
    }
  });
  EXPECT_EQ(counter, 8U * 3000U);
}

TEST(EntryTreeThreads, DisjointBlocksGrowAndShrinkTheTreeTogether) {
  EntryTree tree;
  on_threads(8, [&](unsigned i) {
    for (int round = 0; round < 1000; ++round) {
      const FileBlock base(uint64_t{1} << (6 * i));
      for (uint64_t j = 0; j < 20; ++j) {
        auto locked = tree.grab(base + j * 8, kPageOrder);
        ASSERT_TRUE(locked);
        locked->set(data(j + 1));
        locked->set_mark(Mark::kDirty);
      }
      for (uint64_t j = 0; j < 20; ++j) {
        auto locked = tree.grab_existing(base + j * 8);
        if (locked && locked->start() == base + j * 8) locked->erase();
      }
    }
  });
  EXPECT_EQ(tree.audit(), "");
}

// One thread holds an entry, another comes to want it; then the first does `release`.
class EntryTreeWaiting : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!sync_point::kCompiledIn) GTEST_SKIP() << "built without sync points";
  }

  // Runs `want` on a thread of its own until it is about to sleep, then `release` here; returns what `want` returned.
  template <typename Want>
  auto after_wait(Want want, const std::function<void()>& release) {
    sync_point::Gate gate("entry.wait");
    auto future = std::async(std::launch::async, want);
    EXPECT_TRUE(gate.wait_reached());
    EXPECT_NE(future.wait_for(std::chrono::milliseconds(20)), std::future_status::ready);
    release();  // before it sleeps: the wake-up must not be lost
    gate.open();
    return future.get();
  }

  EntryTree::Locked make(uint64_t at, uint32_t order = kPageOrder) {
    auto locked = tree_.grab(FileBlock(at), order);
    EXPECT_TRUE(locked);
    locked->set(data(at + 4096));
    return std::move(*locked);
  }

  EntryTree tree_;
};

TEST_F(EntryTreeWaiting, SeesTheNewValue) {
  auto held = make(5);
  const Entry seen = after_wait([&] { return tree_.grab(FileBlock(5), kPageOrder)->entry(); },
                                [&] {
                                  held.set({Kind::kZero, DeviceBlock(0)});
                                  held.unlock();
                                });
  EXPECT_EQ(seen.kind, Kind::kZero);
}

TEST_F(EntryTreeWaiting, EntryVanished) {
  auto held = make(5);
  EXPECT_FALSE(after_wait([&] { return tree_.grab_existing(FileBlock(5)).has_value(); }, [&] { held.erase(); }));
  auto again = make(5);
  EXPECT_EQ(after_wait([&] { return tree_.grab(FileBlock(5), kPageOrder)->entry().kind; }, [&] { again.erase(); }),
            Kind::kEmpty);
}

TEST_F(EntryTreeWaiting, PlaceholderVanishedAndItsRangeIsFree) {
  auto held = tree_.grab(FileBlock(600), kPageOrder);
  ASSERT_TRUE(held);
  EXPECT_EQ(after_wait([&] { return tree_.grab(FileBlock(600), kHugeOrder)->order(); }, [&] { held->unlock(); }),
            kHugeOrder);
}

TEST_F(EntryTreeWaiting, HugeEntryWasSplit) {
  auto held = make(512, kHugeOrder);
  const FileBlock start = after_wait([&] { return tree_.grab_existing(FileBlock(700))->start(); },
                                     [&] { ASSERT_TRUE(held.split(FileBlock(513))); });
  EXPECT_EQ(start, FileBlock(700));  // while 513 is still locked
  EXPECT_EQ(after_wait([&] { return tree_.grab_existing(FileBlock(513))->entry(); }, [&] { held.unlock(); }),
            data(512 + 4096 + 1));
}

TEST_F(EntryTreeWaiting, NextMarkedGoesOnWhenTheMarkIsGone) {
  auto held = make(5);
  held.set_mark(Mark::kToWrite);
  {
    auto later = make(900);
    later.set_mark(Mark::kToWrite);
  }
  const auto find = [&] {
    return tree_.grab_next_marked(FileBlock(0), FileBlock(1000), Mark::kToWrite)->start().value;
  };
  EXPECT_EQ(after_wait(find,
                       [&] {
                         held.clear_mark(Mark::kToWrite);
                         held.unlock();
                       }),
            900U);
  auto gone = tree_.grab_existing(FileBlock(5));
  ASSERT_TRUE(gone);
  gone->set_mark(Mark::kToWrite);
  EXPECT_EQ(after_wait(find, [&] { gone->erase(); }), 900U);
}

TEST_F(EntryTreeWaiting, NextGoesOnWhenTheEntryIsGone) {
  auto held = make(5);
  make(6).unlock();
  EXPECT_EQ(after_wait([&] { return tree_.grab_next(FileBlock(0), FileBlock(10))->start().value; },
                       [&] { held.erase(); }),
            6U);
}

TEST_F(EntryTreeWaiting, EraseRangeWaits) {
  auto held = make(5);
  EXPECT_TRUE(after_wait([&] { return tree_.erase_range(FileBlock(0), FileBlock(10)).has_value(); },
                         [&] {
                           EXPECT_EQ(tree_.entries(), 1U);
                           held.unlock();
                         }));
  EXPECT_TRUE(tree_.empty());
}

TEST_F(EntryTreeWaiting, DirtyRunWaits) {
  auto held = make(5);
  EXPECT_TRUE(after_wait([&] { return tree_.mark_dirty_run(FileBlock(0), DeviceBlock(100), 10).has_value(); },
                         [&] {
                           EXPECT_EQ(tree_.dirty_blocks(), 5U);
                           EXPECT_FALSE(held.marked(Mark::kDirty));
                           held.unlock();
                         }));
  EXPECT_EQ(tree_.dirty_blocks(), 10U);
  EXPECT_EQ(tree_.grab_existing(FileBlock(5))->entry(), data(105));
}

// The negative control: with the lock bit ignored, the same scene has two holders.
TEST_F(EntryTreeWaiting, WithoutTheLockBitTwoHoldOneEntry) {
  auto held = make(5);
  const sync_point::ScopedKnob knob("entry.ignore_lock");
  auto second = std::async(std::launch::async, [&] { return tree_.grab(FileBlock(5), kPageOrder)->held(); });
  EXPECT_TRUE(second.get());
  EXPECT_TRUE(held.held());
}

}  // namespace
}  // namespace udax::mapping
