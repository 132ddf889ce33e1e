// SPDX-License-Identifier: BSD-3-Clause
#include "direct/takings.h"

#include <gtest/gtest.h>

namespace udax::direct {
namespace {

constexpr Ino kOne{1};
constexpr Ino kTwo{2};

TEST(Takings, FindTheLastThatTakesSomeOfARange) {
  Takings takings;
  takings.note(kOne, {0, 100}, 3);
  takings.note(kOne, {50, 200}, 5);
  takings.note(kTwo, {0, 100}, 6);
  EXPECT_EQ(takings.last(kOne, {0, 50}, 0), 3U);
  EXPECT_EQ(takings.last(kOne, {60, 61}, 0), 5U);
  EXPECT_EQ(takings.last(kOne, {}, 0), 5U);
  EXPECT_EQ(takings.last(kOne, {200, 300}, 0), 0U);
  EXPECT_EQ(takings.last(kTwo, {}, 0), 6U);
}

TEST(Takings, ForgetWhatIsAcknowledged) {
  Takings takings;
  takings.note(kOne, {0, 100}, 3);
  takings.note(kOne, {100, 200}, 5);
  EXPECT_EQ(takings.last(kOne, {0, 100}, 3), 0U);
  EXPECT_EQ(takings.last(kOne, {}, 3), 5U);
  EXPECT_EQ(takings.last(kOne, {}, 5), 0U);
  takings.note(kTwo, {0, 1}, 8);
  EXPECT_EQ(takings.last(kTwo, {}, 5), 8U);
}

TEST(Takings, WithoutRoomTheOlderOnesCountForEveryFile) {
  Takings takings;
  constexpr uint64_t kMany = 1000;
  for (uint64_t i = 1; i <= kMany; ++i) takings.note(kOne, {i, i + 1}, i);
  EXPECT_EQ(takings.last(kOne, {kMany, kMany + 1}, 0), kMany);
  for (uint64_t i = 1; i <= kMany; ++i) EXPECT_GE(takings.last(kOne, {i, i + 1}, 0), i);
  EXPECT_NE(takings.last(kTwo, {}, 0), 0U);
  EXPECT_EQ(takings.last(kTwo, {}, kMany), 0U);
  EXPECT_EQ(takings.last(kOne, {}, kMany), 0U);
}

}  // namespace
}  // namespace udax::direct
