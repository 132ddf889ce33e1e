// SPDX-License-Identifier: BSD-3-Clause
//
// Each kind of damage is found, without a byte being changed; is repaired; and what it did not touch stays as it was.
#include <algorithm>

#include "tests/support/pool.h"
#include "tests/unit/check/damage_cases.h"

namespace udax::check {
namespace {

std::string list_of(const Report& report) {
  std::string list;
  for (const Problem& p : report.problems) {
    list += "\n  [" + std::string(to_string(p.code)) + "] " + p.what + (p.repaired ? " (repaired)" : "");
  }
  return list;
}

bool is_victim(const Case& c, const std::string& path) {
  for (const std::string& victim : c.victims) {
    if (victim == "/" || path == victim) return true;
    if (victim.ends_with('/') && path.starts_with(victim)) return true;
  }
  return false;
}

Result<uint64_t> find(fs::Filesystem& fs, const std::string& path) {
  Ino at = kRootIno;
  for (size_t from = 0; from <= path.size();) {
    const size_t end = std::min(path.find('/', from), path.size());
    UDAX_TRY(const fs::Attr attr, fs.lookup(at, path.substr(from, end - from)));
    at = attr.ino;
    from = end + 1;
  }
  return at.value;
}

/// Mounts what has been repaired and looks at what the damage had not touched.
void expect_others_intact(Damage& damage, const Case& c) {
  test::TestPool pool(damage.medium(), false);
  for (const auto& [path, ino] : Sample::get().inos) {
    if (is_victim(c, path)) continue;
    const auto found = find(pool.fs(), path);
    ASSERT_TRUE(found) << path;
    EXPECT_EQ(*found, ino) << path;
    const auto content = Sample::get().contents.find(path);
    if (content != Sample::get().contents.end()) {
      EXPECT_TRUE(pool.content(Ino(*found)) == content->second) << path;
    }
  }
  pool.file(kRootIno, "new after repair", "new");
}

class DamageTest : public testing::TestWithParam<Case> {};

TEST_P(DamageTest, IsFoundAndNothingChanged) {
  Damage damage;
  GetParam().damage(damage);
  media::MemoryMedium before(Sample::kSize);
  before.copy_from(*damage.medium());
  std::string why;
  const auto report = check_pool(*damage.medium(), {}, &why);
  ASSERT_TRUE(report) << why;
  const bool found = std::any_of(report->problems.begin(), report->problems.end(),
                                 [](const Problem& p) { return p.code == GetParam().code; });
  EXPECT_TRUE(found) << list_of(*report);
  EXPECT_FALSE(report->all_repaired());
  EXPECT_EQ(std::memcmp(before.raw(), damage.medium()->raw(), Sample::kSize), 0);
}

TEST_P(DamageTest, IsRepaired) {
  Damage damage;
  GetParam().damage(damage);
  CheckOptions options;
  options.mode = CheckOptions::kRepairAll;
  std::string why;
  const auto report = check_pool(*damage.medium(), options, &why);
  ASSERT_TRUE(report) << why;
  EXPECT_FALSE(report->clean());
  EXPECT_TRUE(report->all_repaired()) << list_of(*report);
  const auto again = check_pool(*damage.medium(), {}, &why);
  ASSERT_TRUE(again) << why;
  EXPECT_TRUE(again->clean()) << list_of(*again);
  EXPECT_TRUE(again->was_clean);
  expect_others_intact(damage, GetParam());
}

TEST_P(DamageTest, PreenDoesWhatLosesNothing) {
  Damage damage;
  GetParam().damage(damage);
  CheckOptions options;
  options.mode = CheckOptions::kPreen;
  std::string why;
  const auto report = check_pool(*damage.medium(), options, &why);
  ASSERT_TRUE(report) << why;
  EXPECT_FALSE(report->clean());
  EXPECT_EQ(report->all_repaired(), GetParam().preen) << list_of(*report);
  EXPECT_EQ(is_unmounted_cleanly(*damage.medium()), GetParam().preen);
  if (GetParam().preen) expect_others_intact(damage, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Kinds, DamageTest, testing::ValuesIn(all_cases()),
                         [](const auto& info) { return info.param.name; });

TEST(Damage, EveryCodeHasACase) {
  std::vector<bool> seen(kCodes);
  for (const Case& c : all_cases()) seen[static_cast<size_t>(c.code)] = true;
  for (uint32_t code = 0; code < kCodes; ++code) {
    // Of bytes that are damaged, not lost.
    EXPECT_TRUE(seen[code] || static_cast<Code>(code) == Code::kLostData) << to_string(static_cast<Code>(code));
    EXPECT_NE(to_string(static_cast<Code>(code)), "unknown");
  }
}

TEST(Damage, WhatLosesItsNameIsInLostAndFound) {
  Damage damage;
  damage.retarget(kRootIno.value, "other", Damage::ino("plain"), DT_REG);
  damage.retarget(kRootIno.value, "one", Damage::ino("none"), DT_REG);
  CheckOptions options;
  options.mode = CheckOptions::kRepairAll;
  const auto report = check_pool(*damage.medium(), options);
  ASSERT_TRUE(report && report->all_repaired());
  test::TestPool pool(damage.medium(), false);
  const std::string other = "#" + std::to_string(Damage::ino("other"));
  const std::string one = "#" + std::to_string(Damage::ino("one"));
  const auto file = find(pool.fs(), "lost+found/" + other);
  ASSERT_TRUE(file);
  EXPECT_EQ(pool.content(Ino(*file)), Sample::get().contents.at("other"));
  const auto deep = find(pool.fs(), "lost+found/" + one + "/two/three/deep");
  ASSERT_TRUE(deep);
  EXPECT_EQ(pool.content(Ino(*deep)), "deep");
}

TEST(Damage, WhatCanBeReadOfABrokenLeafKeepsItsName) {
  Damage damage;
  const uint64_t b = damage.find_block(format::kKindDirLeaf, Damage::ino("big"));
  const auto* slots = reinterpret_cast<const format::DirSlot*>(damage.raw_block(b) + format::kDirLeafFixed);
  damage.flip(b * kBlockSize + slots[0].offset + format::kDirNameFixed);  // one name, and with it the checksum
  CheckOptions options;
  options.mode = CheckOptions::kRepairAll;
  const auto report = check_pool(*damage.medium(), options);
  ASSERT_TRUE(report && report->all_repaired());
  test::TestPool pool(damage.medium(), false);
  EXPECT_EQ(pool.list(Ino(Damage::ino("big"))).size(), 300U);  // of 301
  const auto home = find(pool.fs(), "lost+found");
  if (home) {
    EXPECT_LE(pool.list(Ino(*home)).size(), 1U);
  }
}

}  // namespace
}  // namespace udax::check
