// SPDX-License-Identifier: BSD-3-Clause
#include "dir/leaf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace udax::dir {
namespace {

class Leaf : public testing::Test {
 protected:
  Leaf() { leaf_.clear(); }

  void add(uint64_t hash, const std::string& name) { leaf_.append(hash, name, {Ino(hash + 1), 8}); }
  format::BlockHeader& header() { return *reinterpret_cast<format::BlockHeader*>(image_); }
  format::DirLeafHeader& leaf_header() { return *reinterpret_cast<format::DirLeafHeader*>(image_ + 32); }
  format::DirSlot& slot(uint32_t i) { return reinterpret_cast<format::DirSlot*>(image_ + 64)[i]; }
  [[nodiscard]] size_t words_changed(const std::byte* before) const {
    size_t words = 0;
    for (size_t at = 0; at < kBlockSize; at += 8) words += std::memcmp(before + at, image_ + at, 8) != 0 ? 1 : 0;
    return words;
  }

  alignas(8) std::byte image_[kBlockSize]{};
  LeafEdit leaf_{image_};
};

TEST_F(Leaf, HoldsAsManyAsTheShortestNamesAllow) {
  for (uint32_t i = 0; i < kLeafSlotsMax; ++i) {
    ASSERT_GE(leaf_.gap(), entry_bytes(1));
    add(100 + i, "x");
  }
  EXPECT_EQ(leaf_.room(), 0U);
  EXPECT_EQ(leaf_.live_bytes(), kLeafSpace);
  EXPECT_TRUE(leaf_.holds({}));
  EXPECT_EQ(kLeafSlotsMax, 126U);
}

TEST_F(Leaf, FindsByHashAndName) {
  add(20, "one");
  add(21, "two");
  add(21, "three");
  EXPECT_EQ(leaf_.find(21, "three"), 2);
  EXPECT_EQ(leaf_.find(21, "one"), LeafView::kAbsent);
  EXPECT_EQ(leaf_.find(22, "two"), LeafView::kAbsent);
  format::DirSlot found;
  ASSERT_EQ(leaf_.find(20, "one", &found), 0);
  EXPECT_EQ(leaf_.dentry(found).ino, Ino(21));
}

TEST_F(Leaf, AddingAndRemovingChangeFewWords) {
  for (uint64_t i = 0; i < 50; ++i) add(100 + i, "some-name-" + std::to_string(i));
  std::byte before[kBlockSize];
  std::memcpy(before, image_, kBlockSize);
  add(500, "another-name-1");
  EXPECT_LE(words_changed(before), 8U);  // count, heap, slot (2), record (3) and its number
  std::memcpy(before, image_, kBlockSize);
  ASSERT_TRUE(leaf_.remove(10));
  EXPECT_LE(words_changed(before), 4U);  // count, heap, slot (2)
  EXPECT_TRUE(leaf_.holds({}));
}

TEST_F(Leaf, RemovingTheLowestNameGivesItsBytesBackAtOnce) {
  add(20, "one");
  add(21, "two");
  const uint32_t gap = leaf_.gap();
  ASSERT_TRUE(leaf_.remove(0));  // not the lowest
  EXPECT_EQ(leaf_.gap(), gap + sizeof(format::DirSlot));
  EXPECT_EQ(leaf_header().heap_free, 16U);
  ASSERT_TRUE(leaf_.remove(0));
  EXPECT_EQ(leaf_.room(), kLeafSpace);
  EXPECT_TRUE(leaf_.holds({}));
}

TEST_F(Leaf, CompactingKeepsNamesAndFreesTheDead) {
  for (uint64_t i = 0; i < 60; ++i) add(100 + i, "name" + std::to_string(i));
  for (uint32_t i = 0; i < 20; ++i) ASSERT_TRUE(leaf_.remove(i));
  const uint32_t room = leaf_.room();
  EXPECT_LT(leaf_.gap(), room);
  leaf_.compact();
  EXPECT_EQ(leaf_.gap(), room);
  EXPECT_EQ(leaf_.room(), room);
  EXPECT_EQ(leaf_.count(), 40U);
  EXPECT_TRUE(leaf_.holds({}));
}

TEST_F(Leaf, SortsByHashFromAPointOn) {
  for (const uint64_t hash : {50U, 20U, 40U, 30U, 40U}) add(hash, "n" + std::to_string(leaf_.count()));
  SortedSlots sorted;
  leaf_.sort_into(sorted, 30);
  ASSERT_EQ(sorted.count, 4U);
  EXPECT_EQ(sorted.items[0].hash, 30U);
  EXPECT_EQ(sorted.items[1].index, 2U);
  EXPECT_EQ(sorted.items[2].index, 4U);
  EXPECT_EQ(sorted.items[3].hash, 50U);
}

TEST_F(Leaf, SeesThroughBadHeaders) {
  add(20, "one");
  ASSERT_TRUE(leaf_.header_holds());
  const auto expect_bad = [&](auto change) {
    std::byte saved[kBlockSize];
    std::memcpy(saved, image_, kBlockSize);
    change();
    EXPECT_FALSE(leaf_.header_holds());
    EXPECT_FALSE(leaf_.holds({}));
    std::memcpy(image_, saved, kBlockSize);
  };
  expect_bad([&] { header().count = 127; });
  expect_bad([&] { header().count = 0xFFFF; });
  expect_bad([&] { leaf_header().heap_start = 4097; });
  expect_bad([&] { leaf_header().heap_start = 4084; });
  expect_bad([&] { leaf_header().heap_start = 72; });
  expect_bad([&] { leaf_header().heap_start = 0; });
  expect_bad([&] { leaf_header().heap_free = 24; });
  expect_bad([&] { leaf_header().heap_free = 0xFFF8; });
}

TEST_F(Leaf, SeesThroughBadSlots) {
  add(20, "one");
  add(21, "two-is-longer");
  ASSERT_TRUE(leaf_.holds({}));
  const auto expect_bad = [&](auto change) {
    std::byte saved[kBlockSize];
    std::memcpy(saved, image_, kBlockSize);
    change();
    EXPECT_FALSE(leaf_.holds({}));
    EXPECT_EQ(leaf_.find(21, "two-is-longer"), LeafView::kBroken);
    EXPECT_FALSE(leaf_.remove(1));
    EXPECT_FALSE(leaf_.replace(1, {Ino(5), 4}));
    std::memcpy(image_, saved, kBlockSize);
  };
  auto& record = *reinterpret_cast<format::DirName*>(image_ + slot(1).offset);
  expect_bad([&] { slot(1).offset = 4096; });
  expect_bad([&] { slot(1).offset = 0xFFF8; });
  expect_bad([&] { slot(1).offset = 64; });
  expect_bad([&] { slot(1).offset = static_cast<uint16_t>(slot(1).offset + 4); });
  expect_bad([&] { slot(1).length = 0; });
  expect_bad([&] { slot(1).length = 8; });
  expect_bad([&] { slot(1).length = 0xFFF8; });
  expect_bad([&] { slot(1).length = static_cast<uint16_t>(slot(1).length + 8); });
  expect_bad([&] { record.name_length = 0; });
  expect_bad([&] { record.name_length = 255; });
  expect_bad([&] { record.name[0] = '/'; });
  expect_bad([&] { record.name[1] = 0; });
  expect_bad([&] { record.ino = 0; });
  EXPECT_TRUE(leaf_.holds({}));
  EXPECT_FALSE(leaf_.holds({20, 21}));
  EXPECT_FALSE(leaf_.holds({21, kHashEnd}));
}

TEST_F(Leaf, RefusesToRemoveWhenTheHeapIsMiscounted) {
  add(20, "one");
  add(21, "two");
  leaf_header().heap_free = 24;  // 24 + 16 bytes do not fit a heap of 32
  EXPECT_TRUE(leaf_.header_holds());
  EXPECT_FALSE(leaf_.holds({}));
  EXPECT_FALSE(leaf_.remove(0));
  EXPECT_EQ(leaf_.count(), 2U);
}

}  // namespace
}  // namespace udax::dir
