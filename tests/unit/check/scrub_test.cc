// SPDX-License-Identifier: BSD-3-Clause
//
// A scrub reads everything, and tells by name what has been lost.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/random.h"
#include "check/check.h"
#include "media/pool_medium.h"
#include "mkfs/make_pool.h"
#include "tests/support/death_file.h"
#include "tests/support/lossy_medium.h"
#include "tests/support/pool.h"
#include "tests/unit/check/damage.h"

namespace udax::check {
namespace {

constexpr uint64_t kSize = 16 << 20;

class Scrub : public testing::Test {
 protected:
  Scrub() : medium_(std::make_shared<test::LossyMedium>(kSize)) {
    test::TestPool pool(medium_, true);
    const Ino dir = pool.mkdir(pool.mkdir(kRootIno, "a"), "b");
    const Ino file = pool.file(dir, "file", std::string(10 * kBlockSize, 'f'));
    static_cast<void>(pool.file(kRootIno, "other", std::string(10 * kBlockSize, 'o')));
    first_ = place(pool.fs(), file);
    journal_ = pool->geometry().journal_start;
  }
  /// The first block of a file.
  [[nodiscard]] static DeviceBlock place(fs::Filesystem& fs, Ino file) {
    return DeviceBlock(fs.extents(file, 0, 1)->front().device_offset / kBlockSize);
  }
  [[nodiscard]] Report run(bool scrub = true) {
    CheckOptions options;
    options.scrub = scrub;
    options.progress = [this](const char* phase, uint64_t done, uint64_t total) {
      phases_ += std::string(phase) + "\n";
      EXPECT_LE(done, total);
    };
    std::string why;
    auto report = check_pool(static_cast<const media::Medium&>(*medium_), options, &why);
    EXPECT_TRUE(report) << why;
    return report ? std::move(*report) : Report();
  }
  std::shared_ptr<test::LossyMedium> medium_;
  DeviceBlock first_;
  DeviceBlock journal_;
  std::string phases_;
};

TEST_F(Scrub, ReadsEverythingInUse) {
  const Report report = run();
  EXPECT_TRUE(report.clean());
  EXPECT_EQ(report.blocks_scrubbed, report.blocks_used);
  EXPECT_EQ(report.blocks_lost, 0U);
}

TEST_F(Scrub, NamesTheFileAndTheRange) {
  for (const uint64_t b : {2U, 3U, 7U}) medium_->lose(first_ + b);
  const Report report = run();
  ASSERT_EQ(report.problems.size(), 2U);
  EXPECT_EQ(report.problems[0].code, Code::kLostData);
  EXPECT_EQ(report.problems[0].what, "/a/b/file: 8192 bytes from 8192 on are lost to a media error");
  EXPECT_EQ(report.problems[1].what, "/a/b/file: 4096 bytes from 28672 on are lost to a media error");
  EXPECT_EQ(report.blocks_lost, 3U);
  EXPECT_FALSE(report.all_repaired());
}

/// The control: nothing else reads what is in files.
TEST_F(Scrub, WithoutItNothingIsFound) {
  medium_->lose(first_);
  EXPECT_TRUE(run(false).clean());
  EXPECT_FALSE(run().clean());
}

TEST_F(Scrub, ShowsHowFarItIs) {
  {
    test::TestPool pool(medium_, false);
    static_cast<void>(pool.file(kRootIno, "large", std::string(1100 * kBlockSize, 'l')));
  }
  EXPECT_TRUE(run().clean());
  EXPECT_NE(phases_.find("reading\n"), std::string::npos) << phases_;
}

TEST_F(Scrub, NamesFilesWhereverTheyAre) {
  const std::string odd = "\xC3\xA4 \n\x1B[2J\xFF";
  Ino gone{};
  std::vector<DeviceBlock> at;
  {
    test::TestPool pool(medium_, false);
    Ino dir = kRootIno;
    for (int i = 0; i < 60; ++i) dir = pool.mkdir(dir, "deep");
    const Ino file = pool.file(dir, odd);
    // Many extents: their map is a tree.
    for (uint64_t i = 0; i < 300; ++i) pool.write(file, i * 2 * kBlockSize, std::string(kBlockSize, 'x'));
    at.push_back(DeviceBlock(pool->extents(file, 299 * 2 * kBlockSize, 1)->front().device_offset / kBlockSize));
    // Among many names, and by any of its own.
    const Ino crowd = pool.mkdir(kRootIno, "crowd");
    for (int i = 0; i < 400; ++i) static_cast<void>(pool.file(crowd, "name " + std::to_string(i)));
    const Ino linked = pool.file(crowd, "linked", std::string(kBlockSize, 'x'));
    ASSERT_TRUE(pool->link(linked, kRootIno, "also linked"));
    at.push_back(place(pool.fs(), linked));
    // By none.
    gone = pool.file(kRootIno, "gone", std::string(kBlockSize, 'x'));
    at.push_back(place(pool.fs(), gone));
    const auto open = pool->open(gone, O_RDONLY, false);
    ASSERT_TRUE(pool->unlink(kRootIno, "gone"));
    const auto copy = std::make_shared<test::LossyMedium>(kSize);
    copy->store(0, medium_->at(0), kSize);  // as of now, with its orphan
    medium_ = copy;
  }
  for (const DeviceBlock b : at) medium_->lose(b);
  const Report report = run();
  ASSERT_EQ(report.problems.size(), 3U);
  std::string deep;
  for (int i = 0; i < 60; ++i) deep += "/deep";
  const auto has = [&](const std::string& start) {
    return std::any_of(report.problems.begin(), report.problems.end(),
                       [&](const Problem& p) { return p.what.starts_with(start + ": 4096 bytes from "); });
  };
  EXPECT_TRUE(has(deep + "/" + odd));
  EXPECT_TRUE(has("/crowd/linked") || has("/also linked"));
  EXPECT_TRUE(has("inode " + std::to_string(gone.value)));
}

TEST_F(Scrub, LossOfBlocksThatHoldNothingIsNoProblem) {
  DeviceBlock kept;
  {
    test::TestPool pool(medium_, false);
    const Ino file = pool.file(kRootIno, "kept");
    const auto open = pool->open(file, O_RDWR, false);
    ASSERT_TRUE(pool->fallocate(**open, FALLOC_FL_KEEP_SIZE, 0, 4 * kBlockSize));
    kept = place(pool.fs(), file);
  }
  medium_->lose(kept + 1);
  medium_->lose(kept + 2);
  medium_->lose(DeviceBlock(kSize / kBlockSize - 10));  // free
  const Report report = run();
  EXPECT_TRUE(report.clean()) << report.problems.front().what;
  EXPECT_EQ(report.blocks_lost, 0U);
  EXPECT_EQ(report.blocks_lost_idle, 3U);
}

TEST_F(Scrub, TellsOfLostMetadataOnceAndGoesOn) {
  DeviceBlock leaf;
  {
    test::TestPool pool(medium_, false);
    const Ino crowd = pool.mkdir(kRootIno, "crowd");
    std::vector<DeviceBlock> before;
    for (int i = 0; i < 400; ++i) static_cast<void>(pool.file(crowd, "name " + std::to_string(i)));
    const Ino file = pool.file(crowd, "file", std::string(kBlockSize, 'x'));
    static_cast<void>(file);
    pool.unmount();
    for (uint64_t b = 0; b < medium_->block_count(); ++b) {
      const auto* header = medium_->as<format::BlockHeader>(b * kBlockSize);
      if (header->magic == format::kBlockMagic && header->kind == format::kKindDirLeaf &&
          header->owner == crowd.value) {
        leaf = DeviceBlock(b);
      }
    }
    pool.mount();
  }
  ASSERT_NE(leaf.value, 0U);
  medium_->lose(leaf);
  medium_->lose(first_);
  const Report report = run();
  EXPECT_EQ(report.blocks_lost, 1U);  // whose the other is cannot be known: it is in use by nothing
  EXPECT_EQ(report.blocks_lost_idle, 1U);
  const auto count = [&](Code code) {
    return std::count_if(report.problems.begin(), report.problems.end(),
                         [code](const Problem& p) { return p.code == code; });
  };
  EXPECT_EQ(count(Code::kLostData), 1);
  EXPECT_EQ(count(Code::kDirectoryTree), 1);
}

TEST_F(Scrub, TellsOfTheJournalToo) {
  medium_->lose(journal_ + 5);
  const Report report = run();
  ASSERT_EQ(report.problems.size(), 1U);
  EXPECT_EQ(report.problems[0].code, Code::kLostData);
  EXPECT_EQ(report.problems[0].block, journal_.value);
}

TEST_F(Scrub, RepairsNothing) {
  CheckOptions options;
  options.scrub = true;
  options.mode = CheckOptions::kRepairAll;
  EXPECT_EQ(check_pool(static_cast<media::Medium&>(*medium_), options).error(), Error::kInvalid);
}

/// Blocks that hold bytes of files that have names.
std::vector<bool> blocks_of_files(const Sample& sample) {
  const auto copy = std::make_shared<media::MemoryMedium>(Sample::kSize);
  copy->copy_from(*sample.medium);
  test::TestPool pool(copy, false);
  std::vector<bool> blocks(copy->block_count());
  for (const auto& [path, content] : sample.contents) {
    const auto extents = pool->extents(Ino(sample.inos.at(path)), 0, 100'000);
    EXPECT_TRUE(extents);
    for (const fs::ExtentInfo& e : *extents) {
      for (uint64_t at = 0; at < e.length; at += kBlockSize) {
        if (!e.unwritten) blocks[(e.device_offset + at) / kBlockSize] = true;
      }
    }
  }
  return blocks;
}

/// Bytes of files that are told to be lost.
uint64_t bytes_told(const Report& report) {
  uint64_t bytes = 0;
  for (const Problem& p : report.problems) {
    const size_t at = p.what.rfind(": ");
    if (p.code == Code::kLostData && p.ino != 0) bytes += std::stoull(p.what.substr(at + 2));
  }
  return bytes;
}

/// Of a pool with everything in it, whatever is lost: a scrub ends and tells, and when the device is well again a repair
/// mends what is left.
TEST(ScrubOfLosses, NeverCrashesAndMissesNothing) {
  const Sample& sample = Sample::get();
  const std::vector<bool> holds_file = blocks_of_files(sample);
  uint64_t with_sound_metadata = 0;
  test::LossyMedium medium(Sample::kSize);
  CheckOptions options;
  options.scrub = true;
  CheckOptions repair;
  repair.mode = CheckOptions::kRepairAll;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    medium.heal();
    medium.store(0, sample.medium->at(0), Sample::kSize);
    Random random(seed);
    const uint64_t used = sample.report.blocks_used;  // most of them lie at the front
    const uint64_t lost = 1 + random.below(20);
    for (uint64_t i = 0; i < lost; ++i) {
      medium.lose(DeviceBlock(random.below(8) == 0 ? random.below(medium.block_count()) : random.below(used)));
    }
    const auto report = check_pool(static_cast<const media::Medium&>(medium), options);
    if (!report) {  // neither superblock
      EXPECT_TRUE(medium.is_lost(0, 1) && medium.is_lost(medium.size() - 1, 1));
      continue;
    }
    EXPECT_EQ(report->clean(), report->problem_count == 0);
    EXPECT_TRUE(report->blocks_lost == 0 || !report->clean());
    EXPECT_LE(report->blocks_lost, medium.lost_pages());
    uint64_t files_lost = 0;
    for (const media::LostRange& range : medium.lost_ranges()) {
      files_lost += holds_file[range.offset / kBlockSize] ? kBlockSize : 0;
    }
    const bool is_metadata_sound = std::all_of(report->problems.begin(), report->problems.end(),
                                               [](const Problem& p) { return p.code == Code::kLostData; });
    if (is_metadata_sound && files_lost > 0) {
      ++with_sound_metadata;
      EXPECT_GE(bytes_told(*report), files_lost);  // and those of orphans
    }
    medium.heal();
    const auto mended = check_pool(static_cast<media::Medium&>(medium), repair);
    ASSERT_TRUE(mended);
    EXPECT_TRUE(mended->all_repaired() || mended->clean());
    const auto again = check_pool(static_cast<const media::Medium&>(medium), options);
    ASSERT_TRUE(again);
    EXPECT_TRUE(again->clean()) << again->problems.front().what;
  }
  EXPECT_GT(with_sound_metadata, 20U);
}

// --- For real ------------------------------------------------------------------------------------------------------

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  ::_exit(1);
}
#define REQUIRE(condition) require(static_cast<bool>(condition), #condition)

/// A pool's file is cut short under the mapping: every page behind raises SIGBUS.
void run_real_loss(const std::string& path) {
  REQUIRE(media::PoolMedium::create_file(path, kSize, nullptr));
  uint64_t keep = 0;
  {
    std::shared_ptr<media::PoolMedium> medium = std::move(*media::PoolMedium::open(path, {}, nullptr));
    REQUIRE(mkfs::make_pool(*medium, {}, nullptr));
    test::TestPool pool(medium, false);
    static_cast<void>(pool.file(kRootIno, "sound", std::string(64 * kBlockSize, 's')));
    const Ino file = pool.file(kRootIno, "cut", std::string(64 * kBlockSize, 'c'));
    keep = pool->extents(file, 32 * kBlockSize, 1)->front().device_offset;
    if (keep == pool->extents(file, 0, 1)->front().device_offset) keep += 32 * kBlockSize;
  }
  const auto medium = media::PoolMedium::open(path, {media::OpenMode::kReadOnlyExclusive, {}}, nullptr);
  REQUIRE(medium);
  REQUIRE(::truncate(path.c_str(), static_cast<off_t>(keep)) == 0);
  CheckOptions options;
  options.scrub = true;
  const auto report = check_pool(static_cast<const media::Medium&>(**medium), options);
  REQUIRE(report);
  const auto says = [&](const std::string& text) {
    return std::any_of(report->problems.begin(), report->problems.end(),
                       [&](const Problem& p) { return p.what == text; });
  };
  REQUIRE(says("/cut: 131072 bytes from 131072 on are lost to a media error"));
  REQUIRE(std::none_of(report->problems.begin(), report->problems.end(),
                       [](const Problem& p) { return p.what.starts_with("/sound"); }));
  ::_exit(0);
}

TEST(ScrubDeathTest, AFileThatIsCutShortMeanwhile) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const test::DeathFile file("scrub");
  EXPECT_EXIT(run_real_loss(file.path()), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace udax::check
