// SPDX-License-Identifier: BSD-3-Clause
#include "dir/name.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "dir/dir_index.h"

namespace udax::dir {
namespace {

TEST(Name, TakesWhatPosixTakes) {
  EXPECT_TRUE(is_valid_name("a"));
  EXPECT_TRUE(is_valid_name("..."));
  EXPECT_TRUE(is_valid_name(".hidden"));
  EXPECT_TRUE(is_valid_name("\xFF\xFE\x01"));
  EXPECT_TRUE(is_valid_name(std::string(255, 'x')));
}

TEST(Name, RefusesTheRest) {
  EXPECT_FALSE(is_valid_name(""));
  EXPECT_FALSE(is_valid_name("."));
  EXPECT_FALSE(is_valid_name(".."));
  EXPECT_FALSE(is_valid_name("a/b"));
  EXPECT_FALSE(is_valid_name(std::string_view("a\0b", 3)));
  EXPECT_FALSE(is_valid_name(std::string(256, 'x')));
}

TEST(Name, RecordsArePaddedToWords) {
  EXPECT_EQ(record_bytes(1), 16U);
  EXPECT_EQ(record_bytes(6), 16U);
  EXPECT_EQ(record_bytes(7), 24U);
  EXPECT_EQ(record_bytes(255), 272U);
  EXPECT_EQ(entry_bytes(1), 32U);
}

TEST(Name, HashIsKeyedAndWithinItsBounds) {
  media::Geometry one;
  media::Geometry other;
  one.hash_key = {1, 2};
  other.hash_key = {1, 3};
  std::set<uint64_t> seen;
  for (int i = 0; i < 10000; ++i) {
    const std::string name = "file" + std::to_string(i);
    const uint64_t hash = name_hash(one, name);
    EXPECT_GE(hash, format::kDirHashMin);
    EXPECT_LT(hash, kHashEnd);
    EXPECT_EQ(hash, name_hash(one, name));
    EXPECT_NE(hash, name_hash(other, name));
    EXPECT_TRUE(seen.insert(hash).second);
  }
}

}  // namespace
}  // namespace udax::dir
