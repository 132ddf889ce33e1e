// SPDX-License-Identifier: BSD-3-Clause
#include "media/uuid.h"

#include <gtest/gtest.h>

namespace udax::media {
namespace {

TEST(UuidTextTest, HasDashesWhereOthersHaveThem) {
  const uint8_t uuid[16] = {0x0f, 0x1e, 0x2d, 0x3c, 0x4b, 0x5a, 0x69, 0x78,
                            0x87, 0x96, 0xa5, 0xb4, 0xc3, 0xd2, 0xe1, 0xf0};
  EXPECT_EQ(uuid_text(uuid), "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0");
  EXPECT_EQ(uuid_text({}), "00000000-0000-0000-0000-000000000000");
}

}  // namespace
}  // namespace udax::media
