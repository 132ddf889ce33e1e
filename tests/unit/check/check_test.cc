// SPDX-License-Identifier: BSD-3-Clause
//
// Sound pools are found to be sound, and not changed.
#include "check/check.h"

#include "base/random.h"
#include "check/block_set.h"
#include "mkfs/make_pool.h"
#include "tests/support/lossy_medium.h"
#include "tests/support/pool.h"
#include "tests/unit/check/damage.h"

namespace udax::check {
namespace {

TEST(Check, PoolsJustMadeAreClean) {
  for (const uint64_t size : {uint64_t{8} << 20, uint64_t{127} << 20, uint64_t{128} << 20,
                              (uint64_t{128} << 20) + 4096, uint64_t{1} << 30, uint64_t{100} << 30}) {
    media::MemoryMedium medium(size);
    ASSERT_TRUE(mkfs::make_pool(medium, {}));
    std::string why;
    const auto report = check_pool(medium, {}, &why);
    ASSERT_TRUE(report) << why;
    EXPECT_TRUE(report->clean()) << size << ": " << report->problems.front().what;
    EXPECT_TRUE(report->was_clean);
    EXPECT_EQ(report->inodes, 1U);
    EXPECT_EQ(report->directories, 1U);
    EXPECT_EQ(report->blocks_total, size / kBlockSize);
    EXPECT_TRUE(is_unmounted_cleanly(medium));
  }
}

TEST(Check, CountsWhatIsThere) {
  const Sample& sample = Sample::get();
  const auto report = check_pool(*sample.medium, {});
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->clean()) << report->problems.front().what;
  EXPECT_TRUE(report->was_clean);
  EXPECT_EQ(report->directories, 6U);  // with the root
  EXPECT_EQ(report->files, 300U + 6U + 2U);
  EXPECT_EQ(report->symlinks, 2U);
  EXPECT_EQ(report->specials, 3U);
  EXPECT_EQ(report->orphans, 2U);
  EXPECT_EQ(report->inodes, report->directories + report->files + report->symlinks + report->specials);
  EXPECT_EQ(report->names, report->inodes - 1 - 2 + 1);  // but the root and the orphans; one has two
  EXPECT_GE(report->extents, 400U);
  EXPECT_GE(report->blocks_tree, 4U);
  EXPECT_EQ(report->blocks_xattr, 1U + 3U + 1U);
  EXPECT_GT(report->blocks_directory, 4U);
}

TEST(Check, ReplaysInMemoryOnly) {
  test::TestPool pool(16 << 20);
  for (int i = 0; i < 50; ++i) pool.file(kRootIno, std::to_string(i), "x");
  media::MemoryMedium live(16 << 20);
  live.copy_from(pool.medium());
  // Take root block, descriptors and bitmap back to what they were: only the journal knows of the files now.
  const auto super = media::load_superblock(live);
  ASSERT_TRUE(super);
  media::MemoryMedium fresh(16 << 20);
  mkfs::MakeOptions options;
  std::memcpy(options.uuid.data(), super->raw.uuid, 16);
  std::memcpy(options.hash_key.data(), super->raw.hash_key, 16);
  options.time = {static_cast<int64_t>(super->raw.created_s.get()), super->raw.created_ns};
  ASSERT_TRUE(mkfs::make_pool(fresh, options));
  for (const uint64_t b : {uint64_t{3}, uint64_t{4}, super->geometry.bitmap_start.value}) {
    std::memcpy(live.raw() + b * kBlockSize, fresh.raw() + b * kBlockSize, kBlockSize);
  }
  media::MemoryMedium before(16 << 20);
  before.copy_from(live);
  EXPECT_FALSE(is_unmounted_cleanly(live));
  const auto report = check_pool(live, {});
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->clean()) << report->problems.front().what;
  EXPECT_FALSE(report->was_clean);
  EXPECT_GT(report->replayed_records, 0U);
  EXPECT_EQ(report->files, 50U);
  EXPECT_EQ(std::memcmp(before.raw(), live.raw(), live.size()), 0);
}

/// Any number of records may have stood there. The control: all is well before the loss.
TEST(Check, ALostRecordIsNotTheEndOfALiveJournal) {
  const auto medium = std::make_shared<test::LossyMedium>(16 << 20);
  const auto live = std::make_shared<test::LossyMedium>(16 << 20);
  {
    test::TestPool pool(medium, true);
    for (int i = 0; i < 50; ++i) pool.file(kRootIno, std::to_string(i), "x");
    live->store(0, medium->at(0), medium->size());
  }
  const auto sound = check_pool(static_cast<const media::Medium&>(*live), {});
  ASSERT_TRUE(sound);
  EXPECT_TRUE(sound->clean());
  EXPECT_GT(sound->replayed_records, 0U);
  const auto super = media::load_superblock(*live);
  live->lose(super->geometry.journal_start);
  const auto report = check_pool(static_cast<const media::Medium&>(*live), {});
  ASSERT_TRUE(report);
  ASSERT_FALSE(report->clean());
  EXPECT_EQ(report->problems.front().code, Code::kJournalRecord);
  EXPECT_FALSE(is_unmounted_cleanly(*live));
  // Preen does not throw away what the records say; who asks for it gets a pool without them.
  CheckOptions options;
  options.mode = CheckOptions::kPreen;
  const auto preened = check_pool(static_cast<media::Medium&>(*live), options);
  ASSERT_TRUE(preened);
  EXPECT_FALSE(preened->all_repaired());
  live->heal();
  options.mode = CheckOptions::kRepairAll;
  ASSERT_TRUE(check_pool(static_cast<media::Medium&>(*live), options));
  EXPECT_TRUE(check_pool(static_cast<const media::Medium&>(*live), {})->clean());
}

/// What a clean pool's ring holds is of no use to anybody.
TEST(Check, ALostJournalOfAClosedPoolIsNoProblem) {
  const auto medium = std::make_shared<test::LossyMedium>(16 << 20);
  { test::TestPool pool(medium, true); }
  medium->lose(media::load_superblock(*medium)->geometry.journal_start);
  EXPECT_TRUE(check_pool(static_cast<const media::Medium&>(*medium), {})->clean());
}

TEST(Check, PreenReplaysAndCloses) {
  test::TestPool pool(16 << 20);
  for (int i = 0; i < 50; ++i) pool.file(kRootIno, std::to_string(i), "x");
  media::MemoryMedium live(16 << 20);
  live.copy_from(pool.medium());
  CheckOptions options;
  options.mode = CheckOptions::kPreen;
  const auto report = check_pool(live, options);
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->clean());
  EXPECT_FALSE(report->was_clean);
  EXPECT_TRUE(is_unmounted_cleanly(live));
}

TEST(Check, WhatIsNoPoolCannotBeChecked) {
  media::MemoryMedium medium(8 << 20);
  std::string why;
  const auto report = check_pool(medium, {}, &why);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error(), Error::kNotAPool);
  EXPECT_FALSE(why.empty());
  EXPECT_FALSE(is_unmounted_cleanly(medium));
}

TEST(Check, ConstantMediaAreNotRepaired) {
  CheckOptions options;
  options.mode = CheckOptions::kPreen;
  const media::Medium& medium = *Sample::get().medium;
  const auto report = check_pool(medium, options);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error(), Error::kInvalid);
}

TEST(Check, ListsNoMoreProblemsThanAskedFor) {
  Damage damage;
  for (int i = 0; i < 100; ++i) {
    damage.edit_inode(Damage::ino("big/a-name-of-some-length-" + std::to_string(i)),
                      [](format::Inode& inode) { inode.nlink = 7; });
  }
  CheckOptions options;
  options.problems_max = 10;
  const auto report = check_pool(*damage.medium(), options);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->problem_count, 100U);
  EXPECT_EQ(report->problems.size(), 10U);
  options.mode = CheckOptions::kPreen;
  const auto repaired = check_pool(*damage.medium(), options);
  ASSERT_TRUE(repaired);
  EXPECT_EQ(repaired->problem_count, 100U);
  EXPECT_TRUE(repaired->all_repaired());
}

TEST(Check, TellsOfProgress) {
  uint64_t calls = 0;
  CheckOptions options;
  options.progress = [&](const char*, uint64_t done, uint64_t total) {
    EXPECT_LE(done, total);
    ++calls;
  };
  test::TestPool pool(uint64_t{1} << 30);
  for (int i = 0; i < 5000; ++i) pool.file(kRootIno, std::to_string(i));
  ASSERT_TRUE(check_pool(pool.medium(), options));
  EXPECT_GT(calls, 0U);
}

TEST(BlockSet, AgreesWithPlainBits) {
  constexpr uint64_t kBlocks = 3 * format::kGroupBlocks + 100;
  BlockSet set(kBlocks);
  std::vector<bool> plain(kBlocks);
  Random random(42);
  uint64_t total = 0;
  for (int i = 0; i < 400; ++i) {
    const uint64_t start = random.below(kBlocks);
    const uint64_t count = 1 + random.below(std::min<uint64_t>(kBlocks - start, i % 20 == 0 ? 70'000 : 3000));
    bool any = false;
    for (uint64_t b = start; b < start + count; ++b) any = any || plain[b];
    EXPECT_EQ(set.has_any(start, count), any);
    if (i % 3 == 0) {
      set.remove(start);
      total -= plain[start] ? 1 : 0;
      plain[start] = false;
      continue;
    }
    set.add(start, count);
    for (uint64_t b = start; b < start + count; ++b) {
      total += plain[b] ? 0 : 1;
      plain[b] = true;
    }
    EXPECT_EQ(set.total(), total);
  }
  uint64_t sum = 0;
  for (uint64_t g = 0; g < 4; ++g) {
    BlockSet::Words words;
    set.copy_words(g, &words);
    sum += set.used_in(g);
    for (uint64_t b = g * format::kGroupBlocks; b < std::min((g + 1) * format::kGroupBlocks, kBlocks); ++b) {
      const uint64_t bit = b % format::kGroupBlocks;
      ASSERT_EQ((words[bit / 64] >> (bit % 64) & 1) != 0, plain[b]);
    }
  }
  EXPECT_EQ(sum, total);
}

}  // namespace
}  // namespace udax::check
