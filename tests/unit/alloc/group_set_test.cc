// SPDX-License-Identifier: BSD-3-Clause
#include "alloc/group_set.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <thread>
#include <vector>

namespace udax::alloc {
namespace {

TEST(GroupSet, NextAgreesWithAModel) {
  for (const uint64_t size : {1U, 64U, 65U, 4096U, 4097U, 1U << 20}) {
    GroupSet set;
    set.reset(size);
    std::set<uint64_t> model;
    std::mt19937_64 random(size);
    EXPECT_EQ(set.next(0), size);
    for (int step = 0; step < 4000; ++step) {
      const uint64_t member = random() % size;
      if (random() % 5 < 2 || model.size() > 40) {
        const uint64_t gone = model.empty() ? member : *model.begin();
        set.erase(gone);
        model.erase(gone);
      } else {
        set.insert(member);
        model.insert(member);
      }
      const uint64_t from = random() % (size + 2);
      const auto expected = model.lower_bound(from);
      ASSERT_EQ(set.next(from), expected == model.end() ? size : *expected);
      ASSERT_EQ(set.contains(member), model.count(member) == 1);
    }
  }
}

TEST(GroupSet, KeepsMembersWhileNeighboursComeAndGo) {
  constexpr uint64_t kSize = 64 * 64 * 4;
  GroupSet set;
  set.reset(kSize);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&set, t] {
      for (int i = 0; i < 30000; ++i) {
        set.insert(8 + t);
        // Nothing below is ever in the set, so the search must end here or earlier.
        ASSERT_LE(set.next(0), 8 + t);
        set.erase(8 + t);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(set.next(0), kSize);
}

}  // namespace
}  // namespace udax::alloc
