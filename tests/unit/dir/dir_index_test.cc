// SPDX-License-Identifier: BSD-3-Clause
#include "dir/dir_index.h"

#include "tests/unit/dir/dir_fixture.h"

namespace udax::dir {
namespace {

TEST(DirIndex, AnEmptyDirectoryHasNothing) {
  Pool pool(16 * kMiB);
  EXPECT_EQ(pool.reader().lookup("a").error(), Error::kNotFound);
  EXPECT_EQ(pool.reader().entry_count(), 0U);
  EXPECT_TRUE(pool.list().empty());
  EXPECT_EQ(pool.remove("a").error(), Error::kNotFound);
  EXPECT_EQ(pool.change([](Editor& e) { return e.replace("a", {Ino(3), 8}); }).error(), Error::kNotFound);
  pool.check_tree();
}

TEST(DirIndex, KeepsWhatItIsGiven) {
  Pool pool(16 * kMiB);
  ASSERT_TRUE(pool.insert("file", 100, 8));
  ASSERT_TRUE(pool.insert("dir", 101, 4));
  const auto file = pool.reader().lookup("file");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->ino, Ino(100));
  EXPECT_EQ(file->type, 8);
  EXPECT_EQ(pool.reader().lookup("fil").error(), Error::kNotFound);
  EXPECT_EQ(pool.reader().lookup("").error(), Error::kNotFound);
  EXPECT_EQ(pool.reader().lookup(std::string(256, 'a')).error(), Error::kNotFound);
  ASSERT_TRUE(pool.change([](Editor& e) { return e.replace("file", {Ino(102), 10}); }));
  const auto replaced = pool.reader().lookup("file");
  ASSERT_TRUE(replaced);
  EXPECT_EQ(replaced->ino, Ino(102));
  EXPECT_EQ(replaced->type, 10);
  pool.check_tree();
  EXPECT_EQ(pool.inode().size, kBlockSize);
  pool.mount();
  EXPECT_TRUE(pool.reader().lookup("dir"));
  ASSERT_TRUE(pool.remove("file"));
  ASSERT_TRUE(pool.remove("dir"));
  EXPECT_EQ(load_root(pool.inode()).block, 0U);
  EXPECT_EQ(pool.inode().size, 0U);
  pool.check_tree();
}

TEST(DirIndex, RefusesNamesThatAreNone) {
  Pool pool(16 * kMiB);
  EXPECT_EQ(pool.insert("", 5).error(), Error::kInvalid);
  EXPECT_EQ(pool.insert(".", 5).error(), Error::kInvalid);
  EXPECT_EQ(pool.insert("..", 5).error(), Error::kInvalid);
  EXPECT_EQ(pool.insert("a/b", 5).error(), Error::kInvalid);
  EXPECT_EQ(pool.insert(std::string_view("a\0b", 3), 5).error(), Error::kInvalid);
  EXPECT_EQ(pool.insert("a", 0).error(), Error::kInvalid);
  EXPECT_EQ(pool.insert(std::string(256, 'a'), 5).error(), Error::kNameTooLong);
  EXPECT_TRUE(pool.insert(std::string(255, 'a'), 5));
  EXPECT_EQ(pool.insert(std::string(255, 'a'), 6).error(), Error::kExists);
  EXPECT_EQ(pool.change([](Editor& e) { return e.replace(std::string(255, 'a'), {}); }).error(), Error::kInvalid);
  pool.check_tree();
}

TEST(DirIndex, AnEditorSeesItsOwnChangesAndOthersDoNot) {
  Pool pool(16 * kMiB);
  ASSERT_TRUE(pool.insert("old", 5));
  ASSERT_TRUE(pool.change([&](Editor& e) -> Status {
    UDAX_CHECK(e.insert("new", {Ino(6), 8}));
    EXPECT_TRUE(e.lookup("new"));
    EXPECT_EQ(e.insert("new", {Ino(7), 8}).error(), Error::kExists);
    EXPECT_EQ(pool.reader().lookup("new").error(), Error::kNotFound);
    UDAX_CHECK(e.remove("old"));
    EXPECT_EQ(e.lookup("old").error(), Error::kNotFound);
    EXPECT_TRUE(pool.reader().lookup("old"));
    return {};
  }));
  EXPECT_TRUE(pool.reader().lookup("new"));
  EXPECT_EQ(pool.reader().lookup("old").error(), Error::kNotFound);
  pool.check_tree();
}

TEST(DirIndex, FillingAndEmptyingInOneTransactionComesToNothing) {
  Pool pool(16 * kMiB);
  ASSERT_TRUE(pool.change([&](Editor& e) -> Status {
    for (int i = 0; i < 600; ++i) UDAX_CHECK(e.insert("name" + std::to_string(i), {Ino(9), 8}));
    for (int i = 0; i < 600; ++i) UDAX_CHECK(e.remove("name" + std::to_string(i)));
    return {};
  }));
  pool.check_tree();
  EXPECT_EQ(pool.free_blocks(), pool.free_at_start());
}

// A split has to work out for every mix of lengths, the longest name into a leaf of the shortest included.
TEST(DirIndex, SplitsLeavesOfAnyMixOfLengths) {
  for (const size_t length : {size_t{1}, size_t{6}, size_t{7}, size_t{30}, size_t{127}, size_t{255}}) {
    Pool pool(16 * kMiB);
    Random random(length);
    Model model;
    for (int i = 0; i < 700; ++i) {
      const std::string name = random_name(random, random.one_in(4) ? 255 : length);
      if (!model.emplace(name, Dentry{Ino(10), 8}).second) continue;
      ASSERT_TRUE(pool.insert(name, 10)) << length;
    }
    pool.check_tree();
    expect_same(pool, model);
  }
}

TEST(DirIndex, RunsOutOfSpaceWithoutATrace) {
  Pool pool(8 * kMiB);
  Random random(5);
  Model model;
  Status status;
  for (;;) {
    const std::string name = random_name(random, 255);
    status = pool.insert(name, 10);
    if (!status) break;
    model.emplace(name, Dentry{Ino(10), 8});
    ASSERT_LT(model.size(), 100000U);
  }
  EXPECT_EQ(status.error(), Error::kNoSpace);
  EXPECT_GT(model.size(), 1000U);
  pool.check_tree();
  expect_same(pool, model);
  // Some leaves still have room, none splits; and names can be replaced and removed in a full pool.
  for (int i = 0; i < 200; ++i) {
    const std::string name = random_name(random, 200);
    if (pool.insert(name, 11)) model.emplace(name, Dentry{Ino(11), 8});
  }
  expect_same(pool, model);
  pool.mount();
  ASSERT_TRUE(pool.change([&](Editor& e) { return e.replace(model.begin()->first, {Ino(12), 8}); }));
  for (const auto& [name, dentry] : model) ASSERT_TRUE(pool.remove(name));
  pool.check_tree();
  EXPECT_EQ(pool.free_blocks(), pool.free_at_start());
}

// Whole subtrees go at one end of the tree, and the range of what is next to them grows.
TEST(DirIndex, EmptiesADeepTreeFromEitherEndAndInBetween) {
  enum class From { kStart, kEnd, kMiddle };
  for (const From from : {From::kStart, From::kEnd, From::kMiddle}) {
    Pool pool(64 * kMiB);
    Random random(8);
    std::map<uint64_t, std::string> names;
    while (names.size() < 10000) {
      const std::string name = random_name(random, 255);
      names.emplace(name_hash(pool.geometry(), name), name);
    }
    Random shuffled(9);
    std::vector<std::string> order;
    for (const auto& [hash, name] : names) order.push_back(name);
    for (size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[shuffled.below(i + 1)]);
    for (const std::string& name : order) ASSERT_TRUE(pool.insert(name, 5));
    ASSERT_EQ(load_root(pool.inode()).level, 2U);
    pool.check_tree();
    // In the middle: from the second of the subtrees on.
    const auto* root = pool.medium().as<format::TreeNode>(offset_of(DeviceBlock(load_root(pool.inode()).block)));
    const uint64_t middle = root->entries[1].key;
    while (!names.empty()) {
      auto victim = names.begin();
      if (from == From::kEnd) victim = std::prev(names.end());
      if (from == From::kMiddle && names.rbegin()->first >= middle) victim = names.lower_bound(middle);
      ASSERT_TRUE(pool.remove(victim->second));
      names.erase(victim);
      if (names.size() % 251 == 0) {
        pool.check_tree();
        for (const auto& [hash, name] : names) ASSERT_TRUE(pool.reader().lookup(name));
        // Into the range that has just grown.
        ASSERT_TRUE(pool.insert("again", 5));
        pool.check_tree();
        ASSERT_TRUE(pool.remove("again"));
      }
    }
    pool.check_tree();
    EXPECT_EQ(pool.free_blocks(), pool.free_at_start());
  }
}

TEST(DirIndex, TwoHundredThousandNames) {
  Pool pool(128 * kMiB);
  constexpr uint64_t kNames = 200000;
  constexpr uint64_t kBatch = 16;
  const auto name_of = [](uint64_t i) { return "entry-" + std::to_string(i * 7919); };
  for (uint64_t i = 0; i < kNames; i += kBatch) {
    ASSERT_TRUE(pool.change([&](Editor& e) -> Status {
      for (uint64_t k = i; k < i + kBatch; ++k) UDAX_CHECK(e.insert(name_of(k), {Ino(k + 2), 8}));
      return {};
    })) << i;
  }
  pool.check_tree();
  EXPECT_EQ(pool.reader().entry_count(), kNames);
  EXPECT_EQ(load_root(pool.inode()).level, 2U);  // 3 blocks on the way to a name
  // Leaves are at least 60 % full on average: 40... 48 bytes a name.
  EXPECT_LT(pool.inode().block_count, kNames * 48 / (kLeafSpace * 6 / 10));
  for (uint64_t i = 0; i < kNames; ++i) {
    const auto found = pool.reader().lookup(name_of(i));
    ASSERT_TRUE(found) << i;
    ASSERT_EQ(found->ino, Ino(i + 2));
  }
  for (uint64_t i = kNames; i < kNames + 20000; ++i) {
    ASSERT_EQ(pool.reader().lookup(name_of(i)).error(), Error::kNotFound);
  }
  std::vector<bool> seen(kNames);
  uint64_t last = 0;
  uint64_t count = 0;
  ASSERT_TRUE(pool.reader().iterate(0, [&](const Listed& e) {
    EXPECT_GT(e.cookie, last);
    last = e.cookie;
    const uint64_t i = e.ino.value - 2;
    EXPECT_FALSE(seen[i]);
    seen[i] = true;
    ++count;
    return true;
  }));
  EXPECT_EQ(count, kNames);

  // Down to a handful, in no order: the tree must shrink with it.
  Random random(1);
  std::vector<uint64_t> order(kNames);
  for (uint64_t i = 0; i < kNames; ++i) order[i] = i;
  for (uint64_t i = kNames - 1; i > 0; --i) std::swap(order[i], order[random.below(i + 1)]);
  constexpr uint64_t kKept = 64;
  for (uint64_t i = 0; i < kNames - kKept; i += kBatch) {
    ASSERT_TRUE(pool.change([&](Editor& e) -> Status {
      for (uint64_t k = i; k < std::min(i + kBatch, kNames - kKept); ++k) UDAX_CHECK(e.remove(name_of(order[k])));
      return {};
    })) << i;
    if (i % (kBatch * 2500) == 0) pool.check_tree();
  }
  pool.check_tree();
  EXPECT_EQ(pool.reader().entry_count(), kKept);
  EXPECT_LE(pool.inode().block_count, 8U);
  for (uint64_t i = kNames - kKept; i < kNames; ++i) ASSERT_TRUE(pool.remove(name_of(order[i])));
  pool.check_tree();
  EXPECT_EQ(pool.free_blocks(), pool.free_at_start());
}

}  // namespace
}  // namespace udax::dir
