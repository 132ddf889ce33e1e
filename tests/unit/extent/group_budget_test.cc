// SPDX-License-Identifier: BSD-3-Clause
#include "extent/group_budget.h"

#include <gtest/gtest.h>

namespace udax::extent {
namespace {

TEST(GroupBudget, KeepsRoomForOnePathAndTheCaller) {
  for (const uint32_t path : {0U, 1U, 4U, format::kTreeLevelsMax}) {
    GroupBudget budget;
    budget.set_path(path);
    EXPECT_TRUE(budget.is_fresh());
    uint32_t used = 0;
    for (uint64_t group = 100; budget.admits(group); ++group, ++used) budget.note(group);
    EXPECT_GT(used, 0U);
    // What remains takes the path, each node in a group of its own, and something of the caller's.
    EXPECT_LT(used + path, journal::kGroupsPerTx);
    EXPECT_FALSE(budget.has_room());
    EXPECT_TRUE(budget.admits(100));  // costs nothing more
  }
}

TEST(GroupBudget, GroupOfBlock) {
  EXPECT_EQ(GroupBudget::group_of(DeviceBlock(format::kGroupBlocks - 1)), 0U);
  EXPECT_EQ(GroupBudget::group_of(DeviceBlock(format::kGroupBlocks)), 1U);
}

}  // namespace
}  // namespace udax::extent
