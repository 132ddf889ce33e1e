// SPDX-License-Identifier: BSD-3-Clause
#include "alloc/group_bitmap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bitset>
#include <random>
#include <vector>

namespace udax::alloc {
namespace {

constexpr uint32_t kBits = format::kGroupBlocks;

TEST(GroupBitmap, StartsAllFree) {
  const GroupBitmap b;
  EXPECT_EQ(b.free_count(), kBits);
  EXPECT_EQ(b.whole(), ~uint64_t{0});
  EXPECT_EQ(b.broken(), 0U);
  EXPECT_EQ(b.free_from(0, kBits), kBits);
  EXPECT_EQ(b.free_from(kBits, 5), 0U);
}

TEST(GroupBitmap, AgreesWithAModel) {
  std::mt19937 random(7);
  GroupBitmap b;
  auto model = std::make_unique<std::bitset<kBits>>();
  for (int step = 0; step < 3000; ++step) {
    const auto start = static_cast<uint32_t>(random() % kBits);
    const auto most = std::min<uint32_t>(kBits - start, random() % 3 == 0 ? 3000 : 70);
    const Span span{start, 1 + static_cast<uint32_t>(random() % most)};
    const bool used = random() % 2 == 0;
    if (used) {
      b.set(span);
    } else {
      b.clear(span);
    }
    for (uint32_t i = 0; i < span.count; ++i) model->set(start + i, used);
    ASSERT_EQ(b.free_count(), kBits - model->count());
    const auto at = static_cast<uint32_t>(random() % kBits);
    uint32_t run = 0;
    while (at + run < kBits && run < 600 && !model->test(at + run)) ++run;
    ASSERT_EQ(b.free_from(at, 600), run);
    ASSERT_EQ(b.is_free(at), !model->test(at));
  }
  for (uint32_t r = 0; r < kRegions; ++r) {
    uint32_t free = 0;
    for (uint32_t i = 0; i < kRegionBlocks; ++i) free += model->test(r * kRegionBlocks + i) ? 0 : 1;
    EXPECT_EQ(b.region_free(r), free);
    EXPECT_EQ((b.whole() >> r & 1) != 0, free == kRegionBlocks);
    EXPECT_EQ((b.broken() >> r & 1) != 0, free > 0 && free < kRegionBlocks);
  }
}

TEST(GroupBitmap, FindInTakesTheFirstThatFitsFromTheStartOn) {
  GroupBitmap b;
  b.set({0, kBits});
  b.clear({10, 4});
  b.clear({100, 8});
  b.clear({600, 20});
  const uint64_t all = ~uint64_t{0};
  EXPECT_EQ(b.find_in(all, 0, 3).start, 10U);
  EXPECT_EQ(b.find_in(all, 11, 4).start, 100U);
  EXPECT_EQ(b.find_in(all, 0, 8).start, 100U);
  EXPECT_EQ(b.find_in(all, 105, 8).start, 600U);
  EXPECT_EQ(b.find_in(0b1, 105, 8).start, 100U);  // round to the region's beginning
  const Span longest = b.find_in(0b1, 0, 30);
  EXPECT_EQ(longest.start, 100U);
  EXPECT_EQ(longest.count, 8U);
  EXPECT_EQ(b.find_in(0b100, 0, 1).count, 0U);
}

TEST(GroupBitmap, FindWholeGoesRound) {
  GroupBitmap b;
  b.set({0, 1});
  b.set({600, 1});
  EXPECT_EQ(b.find_whole(0, 7).start, 2 * kRegionBlocks);
  EXPECT_EQ(b.find_whole(63 * kRegionBlocks, 7).start, 63 * kRegionBlocks);
  b.set({63 * kRegionBlocks, 1});
  EXPECT_EQ(b.find_whole(63 * kRegionBlocks, 7).start, 2 * kRegionBlocks);
  b.set({0, kBits});
  EXPECT_EQ(b.find_whole(0, 7).count, 0U);
}

TEST(GroupBitmap, FindAlignedPrefersTheTightestPlace) {
  GroupBitmap b;
  b.set({4 * kRegionBlocks + 17, 1});  // whole: 0-3, 5-6, 8-63
  b.set({7 * kRegionBlocks, 1});
  const Span two = b.find_aligned(2 * kRegionBlocks, 0, false);
  EXPECT_EQ(two.start, 5 * kRegionBlocks);
  EXPECT_EQ(two.count, 2 * kRegionBlocks);
  const Span many = b.find_aligned(10 * kRegionBlocks + 9, 0, false);
  EXPECT_EQ(many.start, 8 * kRegionBlocks);
  EXPECT_EQ(many.count, 10 * kRegionBlocks + 9);
  EXPECT_EQ(b.find_aligned(kBits, 0, false).count, 56 * kRegionBlocks);
}

TEST(GroupBitmap, FindAlignedPutsTheLeadBeforeABorder) {
  GroupBitmap b;
  b.set({0, kBits});
  b.clear({3 * kRegionBlocks, 2 * kRegionBlocks});
  EXPECT_EQ(b.find_aligned(kRegionBlocks + 100, 100, false).count, 0U);
  const Span broken = b.find_aligned(kRegionBlocks + 100, 100, true);
  EXPECT_EQ(broken.start, 4 * kRegionBlocks - 100);
  EXPECT_EQ(broken.count, kRegionBlocks + 100);
  b.clear({3 * kRegionBlocks - 120, 120});
  const Span joined = b.find_aligned(2 * kRegionBlocks + 100, 100, false);
  EXPECT_EQ(joined.start, 3 * kRegionBlocks - 100);
  EXPECT_EQ(joined.count, 2 * kRegionBlocks + 100);
}

TEST(GroupBitmap, FindAny) {
  GroupBitmap b;
  b.set({0, kBits});
  EXPECT_EQ(b.find_any(1).count, 0U);
  b.clear({kBits - 3, 3});
  b.clear({500, 24});  // over a region's border
  EXPECT_EQ(b.find_any(1).start, 500U);
  EXPECT_EQ(b.find_any(100).count, 24U);
  b.set({500, 24});
  EXPECT_EQ(b.find_any(100).start, kBits - 3);
}

TEST(GroupBitmap, FlipImageRefusesWhatIsSoAlready) {
  std::vector<std::byte> image(kBlockSize);
  EXPECT_TRUE(flip_image(image.data(), {60, 10}, true));
  EXPECT_EQ(image[7], std::byte{0xF0});
  EXPECT_EQ(image[8], std::byte{0x3F});
  const std::vector<std::byte> before = image;
  EXPECT_FALSE(flip_image(image.data(), {69, 200}, true));
  EXPECT_FALSE(flip_image(image.data(), {59, 3}, false));
  EXPECT_EQ(image, before);
  GroupBitmap b;
  b.assign(image.data());
  EXPECT_EQ(b.free_count(), kBits - 10);
  EXPECT_TRUE(flip_image(image.data(), {60, 10}, false));
  EXPECT_EQ(image, std::vector<std::byte>(kBlockSize));
}

}  // namespace
}  // namespace udax::alloc
