// SPDX-License-Identifier: BSD-3-Clause
//
// Random operations against a map of entries. UDAX_SEED=<n> runs one seed.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "mapping/entry_tree.h"

namespace udax::mapping {
namespace {

using Kind = Entry::Kind;

struct Known {
  uint32_t order = kPageOrder;
  Entry entry;
  bool dirty = false;
  bool to_write = false;
  [[nodiscard]] uint64_t count() const { return uint64_t{1} << order; }
  [[nodiscard]] bool has(Mark mark) const { return mark == Mark::kDirty ? dirty : to_write; }
  bool& of(Mark mark) { return mark == Mark::kDirty ? dirty : to_write; }
};

class Model {
 public:
  // `window`: how many blocks around each of a few places are in use; small ones give many entries in few nodes.
  Model(uint64_t seed, uint64_t window) : random_(seed), window_(window) {}

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      step();
      if (i % 50 == 49) compare();
      if (::testing::Test::HasFatalFailure()) return;
    }
    ASSERT_TRUE(tree_.erase_range(FileBlock(0), FileBlock(kFileBlockEnd)));
    known_.clear();
    compare();
  }

 private:
  using Map = std::map<uint64_t, Known>;

  uint64_t any_block() {
    const std::array<uint64_t, 6> places{0,
                                         0,
                                         std::max<uint64_t>(4096, window_) - window_ / 2,
                                         uint64_t{1} << 18,
                                         (uint64_t{1} << 42) + 512,
                                         kFileBlockEnd - window_};
    return places[random_.below(places.size())] + random_.below(window_);
  }
  std::pair<uint64_t, uint64_t> any_range() {
    const uint64_t from = any_block();
    switch (random_.below(6)) {
      case 0: return {from, ~uint64_t{0}};
      case 1: return {align_down(from, 512), align_down(from, 512) + 512 * random_.between(1, 4)};
      case 2: return {from, any_block()};  // may be empty or the wrong way round
      default: return {from, from + random_.below(window_)};
    }
  }
  Mark any_mark() { return random_.one_in(2) ? Mark::kDirty : Mark::kToWrite; }
  Entry any_entry() {
    if (random_.one_in(4)) return {Kind::kZero, DeviceBlock(0)};
    return {Kind::kData, DeviceBlock(random_.between(1, uint64_t{1} << 40))};
  }

  Map::iterator covering(uint64_t at) {
    auto it = known_.upper_bound(at);
    if (it == known_.begin()) return known_.end();
    --it;
    return at - it->first < it->second.count() ? it : known_.end();
  }
  // The first that touches [from, to).
  Map::iterator first_in(uint64_t from, uint64_t to, std::optional<Mark> mark = {}) {
    auto it = covering(from);
    if (it == known_.end()) it = known_.lower_bound(from);
    while (it != known_.end() && mark && !it->second.has(*mark)) ++it;
    return it != known_.end() && from < to && it->first < to ? it : known_.end();
  }

  void split_known(Map::iterator it) {
    const auto [start, whole] = *it;
    known_.erase(it);
    for (uint64_t i = 0; i < 512; ++i) {
      Known part = whole;
      part.order = kPageOrder;
      if (part.entry.kind == Kind::kData) part.entry.device += i;
      known_[start + i] = part;
    }
  }

  void expect_same(const EntryTree::Locked& locked, Map::const_iterator it) {
    ASSERT_NE(it, known_.end());
    ASSERT_EQ(locked.start().value, it->first);
    ASSERT_EQ(locked.order(), it->second.order);
    ASSERT_EQ(locked.entry(), it->second.entry);
    ASSERT_EQ(locked.marked(Mark::kDirty), it->second.dirty);
    ASSERT_EQ(locked.marked(Mark::kToWrite), it->second.to_write);
  }

  // What a holder may do, some of it.
  void work_on(EntryTree::Locked& locked) {
    uint64_t start = locked.start().value;
    for (uint64_t n = random_.below(4); n > 0; --n) {
      Known& known = known_[start];
      const Mark mark = any_mark();
      switch (random_.below(5)) {
        case 0:
        case 1:
          known.entry = any_entry();
          if (known.entry.kind != Kind::kData) known.dirty = known.to_write = false;
          locked.set(known.entry);
          break;
        case 2:
          if (known.entry.kind != Kind::kData) break;
          locked.set_mark(mark);
          known.of(mark) = true;
          break;
        case 3:
          locked.clear_mark(mark);
          known.of(mark) = false;
          break;
        default: {
          if (known.order != kHugeOrder || !random_.one_in(3)) break;
          const uint64_t keep = start + random_.below(512);
          ASSERT_TRUE(locked.split(FileBlock(keep)));
          if (known.entry.kind == Kind::kEmpty) {
            known_.erase(start);
            known_[keep] = Known{};
          } else {
            split_known(known_.find(start));
          }
          start = keep;
          break;
        }
      }
      expect_same(locked, known_.find(start));
    }
    if (random_.one_in(6)) {
      locked.erase();
      known_.erase(start);
      return;
    }
    if (random_.one_in(2)) {
      ASSERT_EQ(tree_.audit(), "");  // locked entries are fine, too
    }
    locked.unlock();
    if (known_[start].entry.kind == Kind::kEmpty) known_.erase(start);
  }

  void grab() {
    const uint64_t at = any_block();
    const uint32_t order = random_.one_in(3) ? kHugeOrder : kPageOrder;
    auto locked = tree_.grab(FileBlock(at), order);
    ASSERT_TRUE(locked);
    auto it = covering(at);
    if (it == known_.end()) {
      const uint64_t first = align_down(at, 512);
      const bool huge = order == kHugeOrder && first_in(first, first + 512) == known_.end();
      it = known_.emplace(huge ? first : at, Known{huge ? kHugeOrder : kPageOrder, {}, false, false}).first;
    }
    expect_same(*locked, it);
    work_on(*locked);
  }

  void grab_existing() {
    const uint64_t at = any_block();
    auto locked = tree_.grab_existing(FileBlock(at));
    const auto it = covering(at);
    ASSERT_EQ(locked.has_value(), it != known_.end());
    if (!locked) return;
    expect_same(*locked, it);
    work_on(*locked);
  }

  void grab_next() {
    const auto [from, to] = any_range();
    const std::optional<Mark> mark = random_.one_in(2) ? std::optional(any_mark()) : std::nullopt;
    auto locked = mark ? tree_.grab_next_marked(FileBlock(from), FileBlock(to), *mark)
                       : tree_.grab_next(FileBlock(from), FileBlock(to));
    const auto it = first_in(from, to, mark);
    ASSERT_EQ(locked.has_value(), it != known_.end()) << from << ' ' << to;
    if (!locked) return;
    expect_same(*locked, it);
    work_on(*locked);
  }

  void tag() {
    const auto [from, to] = any_range();
    const Mark have = any_mark();
    const Mark set = any_mark();
    uint64_t tagged = 0;
    for (auto it = first_in(from, to); it != known_.end() && it->first < to; ++it) {
      if (!it->second.has(have)) continue;
      it->second.of(set) = true;
      ++tagged;
    }
    ASSERT_EQ(tree_.tag(FileBlock(from), FileBlock(to), have, set), tagged);
  }

  void any() {
    const auto [from, to] = any_range();
    const Mark mark = any_mark();
    ASSERT_EQ(tree_.any(FileBlock(from), FileBlock(to)), first_in(from, to) != known_.end());
    ASSERT_EQ(tree_.any(FileBlock(from), FileBlock(to), mark), first_in(from, to, mark) != known_.end());
  }

  void dirty_run() {
    const uint64_t at = any_block();
    const uint64_t count = std::min(random_.below(random_.one_in(4) ? 1200 : 40), kFileBlockEnd - at);
    DeviceBlock device(random_.between(1, uint64_t{1} << 40));
    const auto there = covering(at);
    if (there != known_.end() && there->second.entry.kind == Kind::kData && random_.one_in(2)) {
      device = there->second.entry.device + (at - there->first);  // the blocks that it has
    }
    ASSERT_TRUE(tree_.mark_dirty_run(FileBlock(at), device, count));
    for (uint64_t i = 0; i < count; ++i) {
      auto it = covering(at + i);
      if (it != known_.end() && it->second.order == kHugeOrder) {
        const Entry entry = it->second.entry;
        if (entry.kind == Kind::kData && entry.device + (at + i - it->first) == device + i) {
          it->second.dirty = true;
          continue;
        }
        split_known(it);
      }
      Known& known = known_[at + i];
      known.entry = {Kind::kData, device + i};
      known.dirty = true;
    }
  }

  void erase_range() {
    const auto [from, to] = any_range();
    if (random_.one_in(3) && to > from + 2 * window_) return;  // else little would remain
    ASSERT_TRUE(tree_.erase_range(FileBlock(from), FileBlock(to)));
    while (true) {
      const auto it = first_in(from, to);
      if (it == known_.end()) break;
      if (it->first < from || it->first + it->second.count() > to) {
        split_known(it);
      } else {
        known_.erase(it);
      }
    }
  }

  void step() {
    switch (random_.below(16)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4: return grab();
      case 5:
      case 6: return grab_existing();
      case 7:
      case 8:
      case 9: return grab_next();
      case 10: return tag();
      case 11:
      case 12: return any();
      case 13:
      case 14: return dirty_run();
      default: return random_.one_in(2) ? erase_range() : any();
    }
  }

  void compare() {
    ASSERT_EQ(tree_.audit(), "");
    uint64_t dirty = 0;
    for (const auto& [start, known] : known_) dirty += known.dirty ? known.count() : 0;
    ASSERT_EQ(tree_.dirty_blocks(), dirty);
    ASSERT_EQ(tree_.entries(), known_.size());
    FileBlock from(0);
    for (auto it = known_.begin(); it != known_.end(); ++it) {
      const auto locked = tree_.grab_next(from, FileBlock(~uint64_t{0}));
      ASSERT_TRUE(locked);
      expect_same(*locked, it);
      from = locked->end();
    }
    ASSERT_FALSE(tree_.grab_next(from, FileBlock(~uint64_t{0})));
  }

  Random random_;
  const uint64_t window_;
  EntryTree tree_;
  Map known_;
};

void run(uint64_t window, int steps) {
  std::vector<uint64_t> seeds{1, 2, 3, 4};
  if (const char* seed = std::getenv("UDAX_SEED")) seeds = {std::strtoull(seed, nullptr, 0)};
  for (const uint64_t seed : seeds) {
    SCOPED_TRACE("UDAX_SEED=" + std::to_string(seed));
    Model(seed, window).run(steps);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(EntryTreeModel, FewBlocks) { run(40, 4000); }
TEST(EntryTreeModel, SomeHugeEntries) { run(1600, 4000); }
TEST(EntryTreeModel, ManyHugeEntries) { run(40000, 4000); }

}  // namespace
}  // namespace udax::mapping
