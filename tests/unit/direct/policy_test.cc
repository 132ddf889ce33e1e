// SPDX-License-Identifier: BSD-3-Clause
#include "direct/policy.h"

#include <gtest/gtest.h>

#include <string>

namespace udax::direct {
namespace {

Policy policy(const char* text) {
  auto parsed = Policy::parse(text);
  EXPECT_TRUE(parsed) << text;
  return parsed ? *parsed : Policy();
}

TEST(Policy, NobodyByDefault) {
  EXPECT_TRUE(Policy().is_off());
  EXPECT_FALSE(Policy().allows(0, 0));
  EXPECT_FALSE(policy("off").allows(0, 0));
}

TEST(Policy, TheOwnerAndRoot) {
  const Policy owner = policy("owner");
  EXPECT_FALSE(owner.is_off());
  EXPECT_TRUE(owner.allows(1000, 1000));
  EXPECT_TRUE(owner.allows(0, 1000));
  EXPECT_FALSE(owner.allows(1001, 1000));
  EXPECT_FALSE(owner.allows(1000, 0));
}

TEST(Policy, UsersByNumberAndNobodyElse) {
  const Policy users = policy("uid:7:1000");
  EXPECT_TRUE(users.allows(7, 0));
  EXPECT_TRUE(users.allows(1000, 0));
  EXPECT_FALSE(users.allows(0, 0));
  EXPECT_FALSE(users.allows(70, 0));
}

TEST(Policy, WhatIsNotUnderstoodIsAnError) {
  for (const char* text : {"", "on", "Owner", "uid", "uid:", "uid:a", "uid:1:", "uid::1", "uid:-1",
                           "uid:4294967295", "uid:4294967296", "uid:1,2", "uid:1 ", "owner:1"}) {
    EXPECT_FALSE(Policy::parse(text)) << text;
  }
  std::string most = "uid:0";
  for (size_t i = 1; i < Policy::kUidsMax; ++i) most += ":" + std::to_string(i);
  EXPECT_TRUE(Policy::parse(most));
  EXPECT_FALSE(Policy::parse(most + ":99"));
}

}  // namespace
}  // namespace udax::direct
