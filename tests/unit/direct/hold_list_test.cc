// SPDX-License-Identifier: BSD-3-Clause
#include "direct/hold_list.h"

#include <gtest/gtest.h>

namespace udax::direct {
namespace {

TEST(HoldList, CoversWhatIsHeldUntilAllHaveReleasedIt) {
  HoldList holds;
  const Ino ino{7};
  EXPECT_FALSE(holds.covers(ino, 0));
  holds.add(ino, {4096, 8192});
  holds.add(ino, {4096, 8192});
  EXPECT_FALSE(holds.covers(ino, 4095));
  EXPECT_TRUE(holds.covers(ino, 4096));
  EXPECT_TRUE(holds.covers(ino, 8191));
  EXPECT_FALSE(holds.covers(ino, 8192));
  EXPECT_FALSE(holds.covers(Ino{8}, 4096));
  holds.remove(ino, {4096, 8192});
  EXPECT_TRUE(holds.covers(ino, 4096));
  holds.remove(ino, {0, 4096});  // whose add() has failed
  EXPECT_TRUE(holds.covers(ino, 4096));
  holds.remove(ino, {4096, 8192});
  EXPECT_FALSE(holds.covers(ino, 4096));
}

}  // namespace
}  // namespace udax::direct
