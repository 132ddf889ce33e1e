// SPDX-License-Identifier: BSD-3-Clause
//
// Every allocation of the entry tree fails once: the operation says kNoMemory, and what its contract promises holds.
// And: all nodes are given back. This program's operator new counts, and fails on demand of the thread.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include "mapping/entry_tree.h"

namespace {

thread_local int64_t allocations_left = -1;  // of the kind that may fail; -1: no limit
thread_local int64_t nodes_made = 0;         // less those given back; the size tells
constexpr size_t kNodeSize = 552;

}  // namespace

void* operator new(size_t size) {
  void* const p = std::malloc(size);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
void* operator new(size_t size, const std::nothrow_t& /*unused*/) noexcept {
  if (allocations_left == 0) return nullptr;
  if (allocations_left > 0) --allocations_left;
  if (size == kNodeSize) ++nodes_made;
  return std::malloc(size);
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t size) noexcept {
  if (size == kNodeSize && p != nullptr) --nodes_made;
  std::free(p);
}
void operator delete(void* p, const std::nothrow_t& /*unused*/) noexcept { std::free(p); }

namespace udax::mapping {
namespace {

using Kind = Entry::Kind;

Entry data(uint64_t device) { return {Kind::kData, DeviceBlock(device)}; }

struct Seen {
  uint64_t start;
  uint32_t order;
  Entry entry;
  bool dirty;
  bool operator==(const Seen&) const = default;
};

std::vector<Seen> list(EntryTree& tree) {
  std::vector<Seen> found;
  FileBlock from(0);
  while (auto e = tree.grab_next(from, FileBlock(kFileBlockEnd))) {
    found.push_back({e->start().value, e->order(), e->entry(), e->marked(Mark::kDirty)});
    from = e->end();
  }
  return found;
}

// Calls `operation` with 0, 1, 2 ... allocations granted until it succeeds; `verify` after each failure.
template <typename Operation, typename Verify>
int fail_each(Operation operation, Verify verify) {
  for (int granted = 0; granted < 100; ++granted) {
    allocations_left = granted;
    const Status status = operation();
    allocations_left = -1;
    if (status) return granted;
    EXPECT_EQ(status.error(), Error::kNoMemory);
    verify();
  }
  ADD_FAILURE() << "never succeeds";
  return 0;
}

TEST(EntryTreeMemory, GrabChangesNothingWithoutMemory) {
  for (const uint64_t at : {uint64_t{70}, uint64_t{5000}, kFileBlockEnd - 1}) {
    for (const uint32_t order : {kPageOrder, kHugeOrder}) {
      for (const bool has_first : {false, true}) {
        EntryTree tree;
        if (has_first) {
          ASSERT_TRUE(tree.mark_dirty_run(FileBlock(0), DeviceBlock(3), 1));
        }
        const auto before = list(tree);
        const int nodes = fail_each(
            [&]() -> Status {
              auto locked = tree.grab(FileBlock(at), order);
              if (!locked) return locked.error();
              locked->set(data(8));
              return {};
            },
            [&] {
              EXPECT_EQ(list(tree), before);
              EXPECT_EQ(tree.audit(), "");
            });
        EXPECT_GT(nodes, 0);
        EXPECT_EQ(nodes_made, nodes);  // all that was made is in use
        EXPECT_EQ(tree.entries(), before.size() + 1);
        EXPECT_EQ(tree.audit(), "");
      }
    }
  }
  EXPECT_EQ(nodes_made, 0);
}

TEST(EntryTreeMemory, EntryOfBlock0TakesNone) {
  EntryTree tree;
  allocations_left = 0;
  auto locked = tree.grab(FileBlock(0), kPageOrder);
  allocations_left = -1;
  ASSERT_TRUE(locked);
  locked->set(data(1));
}

TEST(EntryTreeMemory, SplitLeavesTheEntryWholeAndLocked) {
  for (const bool is_empty : {true, false}) {
    EntryTree tree;
    auto locked = tree.grab(FileBlock(512), kHugeOrder);
    ASSERT_TRUE(locked);
    if (!is_empty) locked->set(data(512));
    const int nodes = fail_each([&] { return locked->split(FileBlock(1023)); },
                                [&] {
                                  EXPECT_TRUE(locked->held());
                                  EXPECT_EQ(locked->order(), kHugeOrder);
                                  EXPECT_EQ(tree.entries(), 1U);
                                  EXPECT_EQ(tree.audit(), "");
                                });
    EXPECT_EQ(nodes, is_empty ? 1 : 8);
    EXPECT_EQ(locked->start(), FileBlock(1023));
  }
}

TEST(EntryTreeMemory, DirtyRunIsDoneFromItsBeginning) {
  EntryTree tree;
  {
    auto locked = tree.grab(FileBlock(512), kHugeOrder);
    ASSERT_TRUE(locked);
    locked->set({Kind::kZero, DeviceBlock(0)});
  }
  fail_each([&] { return tree.mark_dirty_run(FileBlock(300), DeviceBlock(1000), 1000); },
            [&] {
              uint64_t at = 300;
              for (const Seen& seen : list(tree)) {
                if (!seen.dirty) continue;
                EXPECT_EQ(seen, (Seen{at, kPageOrder, data(700 + at), true}));
                ++at;
              }
              EXPECT_TRUE(tree.any(FileBlock(512), FileBlock(1024)));
              EXPECT_EQ(tree.audit(), "");
            });
  EXPECT_EQ(tree.dirty_blocks(), 1000U);
  EXPECT_EQ(tree.audit(), "");
}

TEST(EntryTreeMemory, EraseRangeRemovesNothingWithoutMemory) {
  EntryTree tree;
  for (const uint64_t at : {0U, 512U, 1024U}) {
    auto locked = tree.grab(FileBlock(at), kHugeOrder);
    ASSERT_TRUE(locked);
    locked->set(data(at + 512));
  }
  fail_each([&] { return tree.erase_range(FileBlock(10), FileBlock(1030)); },
            [&] {
              uint64_t covered = 0;
              for (const Seen& seen : list(tree)) {
                EXPECT_EQ(seen.start, covered);
                EXPECT_EQ(seen.entry, data(seen.start + 512));
                covered += uint64_t{1} << seen.order;
              }
              EXPECT_EQ(covered, 1536U);
              EXPECT_EQ(tree.audit(), "");
            });
  EXPECT_EQ(tree.entries(), 10U + 506U);
}

TEST(EntryTreeMemory, NodesComeBack) {
  EntryTree tree;
  ASSERT_TRUE(tree.mark_dirty_run(FileBlock(100000), DeviceBlock(5), 10000));
  EXPECT_LE(nodes_made, 10000 / 64 + 8);
  ASSERT_TRUE(tree.mark_dirty_run(FileBlock(kFileBlockEnd - 600), DeviceBlock(5), 600));
  ASSERT_TRUE(tree.erase_range(FileBlock(20), FileBlock(kFileBlockEnd - 1)));
  EXPECT_EQ(nodes_made, 9);  // one a level
  ASSERT_TRUE(tree.mark_dirty_run(FileBlock(1), DeviceBlock(5), 1));
  tree.grab_existing(FileBlock(kFileBlockEnd - 1))->erase();
  EXPECT_EQ(nodes_made, 1);  // the tree is low again
  tree.grab_existing(FileBlock(1))->erase();
  EXPECT_EQ(nodes_made, 0);
  ASSERT_TRUE(tree.mark_dirty_run(FileBlock(1), DeviceBlock(5), 100000));
  tree.clear();
  EXPECT_EQ(nodes_made, 0);
}

}  // namespace
}  // namespace udax::mapping
