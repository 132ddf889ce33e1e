// SPDX-License-Identifier: BSD-3-Clause
#include <set>

#include "base/sync_point.h"
#include "tests/unit/dir/dir_fixture.h"

namespace udax::dir {
namespace {

// Up to `count` names from `after` on; moves `after` as a reader of directories would. False: at the end.
bool read_some(const Pool& pool, uint64_t& after, size_t count,
               std::vector<std::pair<std::string, uint64_t>>& out) {
  size_t taken = 0;
  bool stopped = false;
  EXPECT_TRUE(pool.reader().iterate(after, [&](const Listed& e) {
    if (taken == count) {
      stopped = true;
      return false;
    }
    EXPECT_GT(e.cookie, after);
    out.emplace_back(e.name, e.cookie);
    after = e.cookie;
    ++taken;
    return true;
  }));
  return stopped;
}

TEST(DirIterate, GivesHashesAsCookiesInTheirOrder) {
  Pool pool(16 * kMiB);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(pool.insert("f" + std::to_string(i), 5));
  uint64_t last = 0;
  size_t count = 0;
  ASSERT_TRUE(pool.reader().iterate(0, [&](const Listed& e) {
    EXPECT_EQ(e.cookie, name_hash(pool.geometry(), e.name));
    EXPECT_GT(e.cookie, last);
    last = e.cookie;
    ++count;
    return true;
  }));
  EXPECT_EQ(count, 1000U);
}

TEST(DirIterate, StartsAnywhere) {
  Pool pool(16 * kMiB);
  std::map<uint64_t, std::string> by_cookie;
  for (int i = 0; i < 1000; ++i) {
    const std::string name = "f" + std::to_string(i);
    ASSERT_TRUE(pool.insert(name, 5));
    by_cookie.emplace(name_hash(pool.geometry(), name), name);
  }
  Random random(9);
  std::vector<uint64_t> starts{0, 1, 2, 15, 16, kHashEnd - 2, kHashEnd - 1, kHashEnd, ~uint64_t{0}};
  for (int i = 0; i < 500; ++i) starts.push_back(random.next() >> 1);
  for (const auto& [cookie, name] : by_cookie) starts.insert(starts.end(), {cookie - 1, cookie});
  for (const uint64_t after : starts) {
    std::string first;
    ASSERT_TRUE(pool.reader().iterate(after, [&](const Listed& e) {
      first = e.name;
      return false;
    }));
    const auto expected = by_cookie.upper_bound(after);
    EXPECT_EQ(first, expected == by_cookie.end() ? "" : expected->second) << after;
  }
}

TEST(DirIterate, EveryNameThatStaysIsSeenOnceWhateverElseHappens) {
  const uint64_t seed = test_seed(4);
  UDAX_TRACE_SEED(seed);
  Pool pool(64 * kMiB);
  Random random(seed);
  std::set<std::string> stays;
  for (int i = 0; i < 1500; ++i) {
    const std::string name = "stay" + std::to_string(i);
    ASSERT_TRUE(pool.insert(name, 5));
    stays.insert(name);
  }
  std::vector<std::string> others;
  std::map<std::string, uint64_t> cookies;
  uint64_t made = 0;
  for (int round = 0; round < 12; ++round) {
    std::vector<std::pair<std::string, uint64_t>> seen;
    uint64_t after = 0;
    while (read_some(pool, after, random.between(1, 60), seen)) {
      // Rounds that grow and rounds that shrink in turn: leaves split and merge around the cookie.
      for (int i = 0; i < 40; ++i) {
        if (round % 2 == 0) {
          others.push_back("other" + std::to_string(made++));
          ASSERT_TRUE(pool.insert(others.back(), 6));
        } else if (!others.empty()) {
          std::swap(others[random.below(others.size())], others.back());
          ASSERT_TRUE(pool.remove(others.back()));
          others.pop_back();
        }
      }
    }
    std::set<std::string> once;
    for (const auto& [name, cookie] : seen) {
      EXPECT_TRUE(once.insert(name).second) << name << " twice";
      EXPECT_EQ(cookies.try_emplace(name, cookie).first->second, cookie);
    }
    for (const std::string& name : stays) EXPECT_TRUE(once.contains(name)) << name << " missed";
    pool.check_tree();
  }
}

// rm -r: list some, remove what was listed, go on.
TEST(DirIterate, RemovingWhatWasListedMissesNothing) {
  Pool pool(16 * kMiB);
  for (int i = 0; i < 3000; ++i) ASSERT_TRUE(pool.insert("f" + std::to_string(i), 5));
  uint64_t after = 0;
  size_t removed = 0;
  for (bool more = true; more;) {
    std::vector<std::pair<std::string, uint64_t>> seen;
    more = read_some(pool, after, 37, seen);
    for (const auto& [name, cookie] : seen) {
      ASSERT_TRUE(pool.remove(name));
      ++removed;
    }
  }
  EXPECT_EQ(removed, 3000U);
  EXPECT_EQ(pool.reader().entry_count(), 0U);
  EXPECT_EQ(pool.free_blocks(), pool.free_at_start());
}

class Collisions : public testing::Test {
 protected:
  void SetUp() override {
    if (!sync_point::kCompiledIn) GTEST_SKIP() << "sync points are not compiled in";
    knob_ = std::make_unique<sync_point::ScopedKnob>("dir.hash_first_byte");
    pool_ = std::make_unique<Pool>(16 * kMiB);
  }
  std::unique_ptr<sync_point::ScopedKnob> knob_;
  std::unique_ptr<Pool> pool_;
};

TEST_F(Collisions, StoppingAmongEqualHashesLosesNoName) {
  std::set<std::string> all;
  for (const char first : {'a', 'b', 'c', 'd'}) {
    for (int i = 0; i < 5; ++i) {
      all.insert(first + std::to_string(i));
      ASSERT_TRUE(pool_->insert(first + std::to_string(i), 5));
    }
  }
  for (size_t chunk = 5; chunk <= 20; ++chunk) {
    std::multiset<std::string> seen;
    uint64_t after = 0;
    for (bool more = true; more;) {
      size_t taken = 0;
      more = false;
      ASSERT_TRUE(pool_->reader().iterate(after, [&](const Listed& e) {
        if (taken++ == chunk) {
          more = true;
          return false;
        }
        seen.insert(std::string(e.name));
        after = e.cookie;
        return true;
      }));
      ASSERT_LE(seen.size(), 40U) << chunk;
    }
    for (const std::string& name : all) EXPECT_GE(seen.count(name), 1U) << name << " " << chunk;
    if (chunk % 5 == 0) {
      EXPECT_EQ(seen.size(), all.size()) << chunk;
    }
  }
}

TEST_F(Collisions, ALeafOfOneHashTakesNoMore) {
  Model model;
  const auto name_of = [](char first, int i) { return first + std::string(30, '-') + std::to_string(i); };
  Status status;
  for (int i = 0; i < 200 && status; ++i) {
    status = pool_->insert(name_of('m', i), 5);
    if (status) model.emplace(name_of('m', i), Dentry{Ino(5), 8});
  }
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error(), Error::kNoSpace);
  EXPECT_GE(model.size(), 60U);
  pool_->check_tree();
  // Names of hashes below and above still find a place.
  for (const char first : {'a', 'z', 'l', 'n'}) {
    ASSERT_TRUE(pool_->insert(name_of(first, 0), 6)) << first;
    model.emplace(name_of(first, 0), Dentry{Ino(6), 8});
    EXPECT_EQ(pool_->insert(name_of('m', 999), 5).error(), Error::kNoSpace);
  }
  pool_->check_tree();
  expect_same(*pool_, model);
  for (const auto& [name, dentry] : model) ASSERT_TRUE(pool_->remove(name));
  pool_->check_tree();
}

// The name to be added belongs between two small groups, to a big one that fits a leaf only alone.
TEST_F(Collisions, ABigGroupIsCutFreeOnBothSides) {
  Model model;
  const auto add = [&](const std::string& name) {
    const Status s = pool_->insert(name, 5);
    if (s) model.emplace(name, Dentry{Ino(5), 8});
    return s;
  };
  ASSERT_TRUE(add("a" + std::string(88, '1')));  // 120 bytes
  ASSERT_TRUE(add("z" + std::string(88, '1')));
  for (int i = 0; i < 13; ++i)
    ASSERT_TRUE(add("m" + std::string(251, '0') + std::to_string(100 + i)));  // 288 each
  EXPECT_EQ(pool_->blocks().size(), 1U);
  ASSERT_TRUE(add("m" + std::string(251, '0') + "999"));
  EXPECT_EQ(pool_->blocks().size(), 4U);
  pool_->check_tree();
  expect_same(*pool_, model);
}

}  // namespace
}  // namespace udax::dir
