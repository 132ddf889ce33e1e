// SPDX-License-Identifier: BSD-3-Clause
//
// Media errors: what is lost is an error, for that range only, until something else takes its place; what is lost is not
// handed out; metadata that is lost fails what needs it, and nothing is made worse.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check/check.h"
#include "media/pool_medium.h"
#include "mkfs/make_pool.h"
#include "tests/support/check.h"
#include "tests/support/death_file.h"
#include "tests/support/lossy_medium.h"
#include "tests/support/pool.h"

namespace udax::fs {
namespace {

using test::bytes;
using test::kRoot;
using test::LossyMedium;
using test::read_file;
using test::TestPool;

constexpr uint64_t kSize = 16 << 20;

std::string pattern(uint64_t blocks, char first = 'a') {
  std::string s;
  for (uint64_t i = 0; i < blocks; ++i) s.append(kBlockSize, static_cast<char>(first + i % 20));
  return s;
}

class MediaErrors : public testing::TestWithParam<media::Granularity> {
 protected:
  explicit MediaErrors(MountOptions options = {})
      : medium_(std::make_shared<LossyMedium>(kSize, GetParam())), pool_(medium_, true, options) {}

  [[nodiscard]] DeviceBlock block_of(Ino ino, uint64_t file_block) {
    const auto extents = pool_->extents(ino, file_block * kBlockSize, 1);
    EXPECT_TRUE(extents && !extents->empty());
    const ExtentInfo& e = extents->front();
    return DeviceBlock((e.device_offset + (file_block * kBlockSize - e.file_offset)) / kBlockSize);
  }
  [[nodiscard]] Result<std::string> read(Ino ino, uint64_t offset, uint64_t size) {
    auto file = pool_->open(ino, O_RDONLY, false);
    if (!file) return file.error();
    return read_file(pool_.fs(), **file, offset, size);
  }
  [[nodiscard]] Result<uint64_t> write(Ino ino, uint64_t offset, std::string_view content) {
    auto file = pool_->open(ino, O_RDWR, false);
    if (!file) return file.error();
    const auto done = pool_->write(**file, offset, bytes(content), false, false);
    if (!done) return done;
    const Status synced = pool_->fsync(**file, false);
    return synced ? done : Result<uint64_t>(synced.error());
  }

  std::shared_ptr<LossyMedium> medium_;
  TestPool pool_;
};

TEST_P(MediaErrors, ReadEndsBeforeThePageThatIsLostAndFailsInIt) {
  const Ino ino = pool_.file(kRootIno, "f", pattern(8));
  const Ino other = pool_.file(kRootIno, "other", pattern(8, 'A'));
  medium_->lose(block_of(ino, 3));
  const auto before = read(ino, 100, 8 * kBlockSize);
  ASSERT_TRUE(before);
  EXPECT_EQ(*before, pattern(8).substr(100, 3 * kBlockSize - 100));
  EXPECT_EQ(read(ino, 3 * kBlockSize + 7, 1).error(), Error::kIo);
  EXPECT_EQ(*read(ino, 4 * kBlockSize, 4 * kBlockSize), pattern(8).substr(4 * kBlockSize));
  EXPECT_EQ(pool_.content(other), pattern(8, 'A'));
}

TEST_P(MediaErrors, PagesOfACacheAreFilledWholeOrNotAtAll) {
  const Ino ino = pool_.file(kRootIno, "f", pattern(8));
  medium_->lose(block_of(ino, 3));
  auto file = pool_->open(ino, O_RDONLY, false);
  const auto sink = [](std::span<const iovec>, uint64_t) -> Status { return {}; };
  EXPECT_EQ(pool_->fill(**file, 0, 8 * kBlockSize, sink).error(), Error::kIo);
  EXPECT_TRUE(pool_->fill(**file, 0, 3 * kBlockSize, sink));
  EXPECT_TRUE(pool_->fill(**file, 4 * kBlockSize, 4 * kBlockSize, sink));
}

TEST_P(MediaErrors, WriteOfWholeBlocksPutsOthersInTheirPlace) {
  const Ino ino = pool_.file(kRootIno, "f", pattern(8));
  const DeviceBlock lost = block_of(ino, 3);
  medium_->lose(lost);
  std::string expected = pattern(8);
  expected.replace(2 * kBlockSize, 3 * kBlockSize, pattern(3, 'X'));
  ASSERT_EQ(*write(ino, 2 * kBlockSize, pattern(3, 'X')), 3 * kBlockSize);
  EXPECT_EQ(pool_.content(ino), expected);
  EXPECT_NE(block_of(ino, 3), lost);
  // And lasts.
  pool_.remount();
  EXPECT_EQ(pool_.content(ino), expected);
}

TEST_P(MediaErrors, WriteOfAPartOfALostBlockFails) {
  const Ino ino = pool_.file(kRootIno, "f", pattern(8).substr(0, 7 * kBlockSize + 100));
  medium_->lose(block_of(ino, 3));
  medium_->lose(block_of(ino, 7));
  EXPECT_EQ(write(ino, 3 * kBlockSize + 10, "part").error(), Error::kIo);
  EXPECT_EQ(read(ino, 3 * kBlockSize, 1).error(), Error::kIo);
  EXPECT_EQ(write(ino, 7 * kBlockSize + 50, "part").error(), Error::kIo);
  // All that can be seen of a block is the whole of it.
  ASSERT_EQ(*write(ino, 7 * kBlockSize, std::string(100, 'z')), 100U);
  EXPECT_EQ(*read(ino, 7 * kBlockSize, 200), std::string(100, 'z'));
  // A write that goes on into the lost block stops before it.
  EXPECT_EQ(*write(ino, 2 * kBlockSize, pattern(1, 'y') + "more"), kBlockSize);
}

TEST_P(MediaErrors, GrowingBehindALostTailFailsAndCuttingItOffWorks) {
  const Ino ino = pool_.file(kRootIno, "f", std::string(kBlockSize + 100, 'a'));
  medium_->lose(block_of(ino, 1));
  SetAttr grow;
  grow.size = 3 * kBlockSize;
  EXPECT_EQ(pool_->setattr(ino, grow, kRoot).error(), Error::kIo);
  SetAttr cut;
  cut.size = kBlockSize;
  ASSERT_TRUE(pool_->setattr(ino, cut, kRoot));
  ASSERT_TRUE(pool_->setattr(ino, grow, kRoot));
  EXPECT_EQ(pool_.content(ino), std::string(kBlockSize, 'a') + std::string(2 * kBlockSize, '\0'));
}

TEST_P(MediaErrors, PunchingOutWhatIsLostMendsTheFile) {
  const Ino ino = pool_.file(kRootIno, "f", pattern(4));
  medium_->lose(block_of(ino, 1));
  auto file = pool_->open(ino, O_RDWR, false);
  EXPECT_EQ(pool_->fallocate(**file, kFallocPunchHole | kFallocKeepSize, kBlockSize + 1, 100).error(), Error::kIo);
  ASSERT_TRUE(pool_->fallocate(**file, kFallocPunchHole | kFallocKeepSize, kBlockSize, kBlockSize));
  std::string expected = pattern(4);
  expected.replace(kBlockSize, kBlockSize, kBlockSize, '\0');
  EXPECT_EQ(pool_.content(ino), expected);
}

TEST_P(MediaErrors, UnwrittenBlocksThatAreLostReadAsZeroesAndTakeWrites) {
  const Ino ino = pool_.file(kRootIno, "f");
  auto file = pool_->open(ino, O_RDWR, false);
  ASSERT_TRUE(pool_->fallocate(**file, 0, 0, 8 * kBlockSize));
  medium_->lose(block_of(ino, 3));
  EXPECT_EQ(pool_.content(ino), std::string(8 * kBlockSize, '\0'));
  ASSERT_EQ(*write(ino, 3 * kBlockSize + 5, "bytes"), 5U);
  EXPECT_EQ(*read(ino, 3 * kBlockSize + 4, 7), std::string("\0bytes\0", 7));
}

TEST_P(MediaErrors, CopyEndsBeforeWhatIsLost) {
  const Ino from = pool_.file(kRootIno, "from", pattern(8));
  const Ino to = pool_.file(kRootIno, "to");
  medium_->lose(block_of(from, 3));
  auto source = pool_->open(from, O_RDONLY, false);
  auto target = pool_->open(to, O_RDWR, false);
  const auto done = pool_->copy_range(**source, 0, **target, 0, 8 * kBlockSize);
  ASSERT_TRUE(done);
  EXPECT_EQ(*done, 3 * kBlockSize);
  EXPECT_EQ(pool_.content(to), pattern(3));
  EXPECT_EQ(pool_->copy_range(**source, *done, **target, *done, kBlockSize).error(), Error::kIo);
  EXPECT_EQ(pool_.content(to), pattern(3));
}

TEST_P(MediaErrors, FreeBlocksThatAreLostAreNotHandedOut) {
  // Every other block of what a large file had.
  const Ino filler = pool_.file(kRootIno, "filler", pattern(3000));
  const auto was = pool_->extents(filler, 0, 10000);
  ASSERT_TRUE(was);
  ASSERT_TRUE(pool_->unlink(kRootIno, "filler"));
  pool_.remount();
  for (const ExtentInfo& e : *was) {
    for (uint64_t at = 0; at < e.length; at += 2 * kBlockSize) {
      medium_->lose(DeviceBlock((e.device_offset + at) / kBlockSize));
    }
  }
  const uint64_t free_before = pool_.free_blocks();
  const Ino ino = pool_.file(kRootIno, "f");
  const std::string content = pattern(1000);
  ASSERT_EQ(*write(ino, 0, content), content.size());
  EXPECT_EQ(pool_.content(ino), content);
  const auto extents = pool_->extents(ino, 0, 10000);
  ASSERT_TRUE(extents);
  for (const ExtentInfo& e : *extents) EXPECT_FALSE(medium_->is_lost(e.device_offset, e.length));
  EXPECT_GT(pool_->stats().space.blocks_left_out, 0U);
  EXPECT_LT(pool_.free_blocks(), free_before - 1000);
  // The rest of the pool fills up, and says so.
  std::string more(64 * kBlockSize, 'm');
  Error error{};
  for (uint64_t at = content.size();; at += more.size()) {
    const auto done = write(ino, at, more);
    if (done && *done == more.size()) continue;
    if (!done) error = done.error();
    break;
  }
  EXPECT_TRUE(error == Error{} || error == Error::kNoSpace) << to_string(error);
  pool_.remount();
  EXPECT_EQ(pool_.read(ino, 0, content.size()), content);
}

TEST_P(MediaErrors, BlocksFreedWhileLostStayOutOfUseUntilTheMediumIsWell) {
  const Ino ino = pool_.file(kRootIno, "f", pattern(100));
  pool_.remount();
  const uint64_t free_before = pool_.free_blocks();
  for (uint64_t i = 0; i < 100; i += 3) medium_->lose(block_of(ino, i));
  ASSERT_TRUE(pool_->unlink(kRootIno, "f"));
  const Ino big = pool_.file(kRootIno, "big");
  for (uint64_t at = 0;; at += 64 * kBlockSize) {
    const auto done = write(big, at, pattern(64));
    if (!done || *done < 64 * kBlockSize) break;
  }
  const auto extents = pool_->extents(big, 0, 10000);
  ASSERT_TRUE(extents);
  for (const ExtentInfo& e : *extents) EXPECT_FALSE(medium_->is_lost(e.device_offset, e.length));
  ASSERT_TRUE(pool_->unlink(kRootIno, "big"));
  pool_.unmount();
  pool_.check();
  medium_->heal();
  pool_.mount();
  EXPECT_GE(pool_.free_blocks(), free_before + 100);
}

// --- Metadata ------------------------------------------------------------------------------------------------------

TEST_P(MediaErrors, SuperblockIsLostAndItsReplicaServes) {
  const Ino ino = pool_.file(kRootIno, "f", "content");
  pool_.unmount();
  medium_->lose(format::kSuperblockBlock);
  pool_.mount();
  EXPECT_EQ(pool_.content(ino), "content");
  EXPECT_NE(pool_.file(kRootIno, "new", "new"), kNoIno);
  pool_.unmount();
  medium_->heal();
  check::CheckOptions repair;
  repair.mode = check::CheckOptions::kRepairAll;
  const auto report = check::check_pool(static_cast<media::Medium&>(*medium_), repair);
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->all_repaired());
  pool_.mount();
}

void expect_read_only(TestPool& pool, Ino file, const std::string& content) {
  EXPECT_TRUE(pool->read_only());
  EXPECT_EQ(pool.content(file), content);
  EXPECT_EQ(pool->make(kRootIno, "d", 0040755, 0, 0, kRoot).error(), Error::kReadOnly);
  EXPECT_EQ(pool->unlink(kRootIno, "f").error(), Error::kReadOnly);
}

TEST_P(MediaErrors, JournalControlIsLostAndTheMountIsReadOnly) {
  const Ino ino = pool_.file(kRootIno, "f", "content");
  pool_.unmount();
  medium_->lose(format::kJournalControlBlock);
  pool_.mount();
  expect_read_only(pool_, ino, "content");
  pool_.unmount();
  medium_->heal();
  check::CheckOptions repair;
  repair.mode = check::CheckOptions::kRepairAll;
  ASSERT_TRUE(check::check_pool(static_cast<media::Medium&>(*medium_), repair)->all_repaired());
  pool_.mount();
  EXPECT_FALSE(pool_->read_only());
}

TEST_P(MediaErrors, RecordsThatWaitAreLostAndTheMountIsReadOnly) {
  const Ino ino = pool_.file(kRootIno, "f", "content");
  const DeviceBlock ring = pool_->geometry().journal_start;
  // As after kill -9: the slot says live, and its tail is in the ring's first block.
  medium_->lose(ring);
  pool_.crash();
  expect_read_only(pool_, ino, "content");
  pool_.unmount();
  // fsck empties the journal: what stood there is gone.
  medium_->heal();
  pool_.mount();
  EXPECT_FALSE(pool_->read_only());
}

TEST_P(MediaErrors, RingIsLostUnderUseAndNoMoreChangesAreTaken) {
  const Ino ino = pool_.file(kRootIno, "f", "content");
  const auto& g = pool_->geometry();
  for (uint64_t b = 0; b < g.journal_blocks; ++b) medium_->lose(g.journal_start + b);
  EXPECT_FALSE(pool_->make(kRootIno, "d", 0040755, 0, 0, kRoot));
  EXPECT_EQ(pool_->make(kRootIno, "e", 0040755, 0, 0, kRoot).error(), Error::kReadOnly);
  EXPECT_EQ(pool_.content(ino), "content");
  EXPECT_FALSE(pool_->unmount());
  medium_->heal();
  pool_.crash();
  EXPECT_EQ(pool_.content(ino), "content");
}

TEST_P(MediaErrors, InodeChunkIsLostAndOnlyItsInodesFail) {
  std::vector<Ino> inos;
  for (int i = 0; i < 400; ++i) inos.push_back(pool_.file(kRootIno, "f" + std::to_string(i), std::to_string(i)));
  pool_.remount();
  // The chunk of one of them: any block of the data area that is one.
  uint64_t lost_chunk = 0;
  for (uint64_t b = pool_->geometry().data_start.value; b < kSize / kBlockSize; ++b) {
    const auto* header = medium_->as<format::ChunkHeader>(b * kBlockSize);
    if (header->magic != format::kChunkMagic || header->chunk != inos[200].value / format::kInodesPerChunk)
      continue;
    lost_chunk = header->chunk;
    medium_->lose(DeviceBlock(b));
    break;
  }
  ASSERT_NE(lost_chunk, 0U);
  int failed = 0;
  for (int i = 0; i < 400; ++i) {
    const bool is_lost = inos[static_cast<size_t>(i)].value / format::kInodesPerChunk == lost_chunk;
    const auto attr = pool_->lookup(kRootIno, "f" + std::to_string(i));
    EXPECT_EQ(!attr, is_lost);
    if (attr) {
      EXPECT_EQ(pool_.content(attr->ino), std::to_string(i));
    } else {
      EXPECT_EQ(attr.error(), Error::kIo);
      ++failed;
    }
  }
  EXPECT_GT(failed, 0);
  // What does not need it goes on.
  EXPECT_NE(pool_.mkdir(kRootIno, "d"), kNoIno);
  pool_.unmount();
}

TEST_P(MediaErrors, DirectoryBlockIsLostAndOtherDirectoriesGoOn) {
  const Ino dir = pool_.mkdir(kRootIno, "dir");
  for (int i = 0; i < 20; ++i) static_cast<void>(pool_.file(dir, std::to_string(i)));
  const Ino other = pool_.mkdir(kRootIno, "other");
  static_cast<void>(pool_.file(other, "x", "x"));
  pool_.remount();
  for (uint64_t b = pool_->geometry().data_start.value; b < kSize / kBlockSize; ++b) {
    const auto* header = medium_->as<format::BlockHeader>(b * kBlockSize);
    if (header->magic == format::kBlockMagic && header->kind == format::kKindDirLeaf &&
        header->owner == dir.value) {
      medium_->lose(DeviceBlock(b));
    }
  }
  EXPECT_EQ(pool_->lookup(dir, "3").error(), Error::kIo);
  EXPECT_EQ(pool_->make(dir, "new", 0100644, 0, 0, kRoot).error(), Error::kIo);
  EXPECT_EQ(pool_->rmdir(kRootIno, "dir").error(), Error::kNotEmpty);
  EXPECT_EQ(pool_.content(pool_->lookup(other, "x")->ino), "x");
  EXPECT_NE(pool_.file(other, "y", "y"), kNoIno);
  pool_.unmount();
}

TEST_P(MediaErrors, BitmapIsLostAndNothingMoreIsHandedOut) {
  const Ino ino = pool_.file(kRootIno, "f", pattern(4));
  medium_->lose(pool_->geometry().bitmap_block(0));
  // The pool has one group: there is no other to go to.
  const auto written = write(ino, 4 * kBlockSize, pattern(64));
  EXPECT_FALSE(written);
  EXPECT_EQ(pool_.content(ino), pattern(4));
  ASSERT_EQ(*write(ino, 0, pattern(4, 'A')), 4 * kBlockSize);
  EXPECT_EQ(pool_.content(ino), pattern(4, 'A'));
  pool_.unmount();
}

TEST_P(MediaErrors, OrphanBlockIsLostAndTheMountIsReadOnly) {
  const Ino ino = pool_.file(kRootIno, "f", "content");
  const Ino gone = pool_.file(kRootIno, "gone", pattern(4));
  {
    auto open = pool_->open(gone, O_RDWR, false);
    ASSERT_TRUE(pool_->unlink(kRootIno, "gone"));
    media::MemoryMedium copy(kSize);
    copy.copy_from(*medium_);
    open->reset();
    pool_.unmount();
    medium_->copy_from(copy);
  }
  for (uint64_t b = 0; b < kSize / kBlockSize; ++b) {
    const auto* header = medium_->as<format::BlockHeader>(b * kBlockSize);
    if (header->magic == format::kBlockMagic && header->kind == format::kKindOrphan) medium_->lose(DeviceBlock(b));
  }
  pool_.mount();
  expect_read_only(pool_, ino, "content");
  pool_.unmount();
}

INSTANTIATE_TEST_SUITE_P(Granularities, MediaErrors,
                         testing::Values(media::Granularity::kCacheLine, media::Granularity::kPage),
                         [](const auto& info) {
                           return info.param == media::Granularity::kPage ? "Page" : "CacheLine";
                         });

// --- For real ------------------------------------------------------------------------------------------------------

/// A file on a tmpfs that loses its end under the mapping: every page of it raises SIGBUS.
class RealLossDeathTest : public testing::Test {
 protected:
  void SetUp() override { testing::GTEST_FLAG(death_test_style) = "threadsafe"; }
  const test::DeathFile file_{"media-errors"};
};

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  ::_exit(1);
}
#define REQUIRE(condition) require(static_cast<bool>(condition), #condition)

/// Halves the file, gives it its length back: what was behind the middle is holes, and its old pages are gone. The
/// mapping's pages of it raise SIGBUS in between only, so the test touches all while it is short.
void run_real_loss(const std::string& path) {
  REQUIRE(media::PoolMedium::create_file(path, kSize, nullptr));
  auto opened = media::PoolMedium::open(path, {}, nullptr);
  REQUIRE(opened);
  std::shared_ptr<media::PoolMedium> medium = std::move(*opened);
  REQUIRE(mkfs::make_pool(*medium, {}, nullptr));
  auto mounted = Filesystem::mount(medium, {}, nullptr);
  REQUIRE(mounted);
  Filesystem& fs = **mounted;
  Attr attr;
  std::vector<OpenFilePtr> files;
  const std::string content = pattern(64);
  for (int i = 0; i < 50; ++i) {
    auto made = fs.create(kRootIno, "f" + std::to_string(i), 0644, O_RDWR, kRoot, &attr);
    REQUIRE(made);
    REQUIRE(fs.write(**made, 0, bytes(content), false, false));
    files.push_back(std::move(*made));
  }
  // Behind the 25th file's blocks all is lost: files, free blocks, the replica.
  const uint64_t keep = fs.extents(files[25]->ino(), 0, 1)->front().device_offset;
  REQUIRE(::truncate(path.c_str(), static_cast<off_t>(keep)) == 0);
  int lost = 0;
  for (const OpenFilePtr& file : files) {
    const uint64_t place = fs.extents(file->ino(), 0, 1)->front().device_offset;
    // Delivered as a front door would: the bytes are looked at by us, and so the daemon meets the SIGBUS itself.
    const auto got = fs.read(*file, 0, content.size(), [&](std::span<const iovec> pieces, uint64_t) -> Status {
      const uint64_t faults = medium->faults();
      std::string text;
      for (const iovec& p : pieces) text.append(static_cast<const char*>(p.iov_base), p.iov_len);
      if (medium->faults() != faults) return Error::kIo;
      REQUIRE(text == content);
      return {};
    });
    REQUIRE(got.has_value() == (place < keep));
    const auto again = fs.read(*file, 0, 1, [](std::span<const iovec>, uint64_t) -> Status { return {}; });
    REQUIRE(again.has_value() == (place < keep));
    lost += place < keep ? 0 : 1;
  }
  REQUIRE(lost > 10);
  REQUIRE(medium->lost_pages() >= 64U * static_cast<unsigned>(lost));
  REQUIRE(!medium->lost_ranges().empty());
  // It lives: what is sound is written, what is lost is replaced as far as there is room, or fails.
  REQUIRE(fs.write(*files[0], 0, bytes("alive"), false, false));
  REQUIRE(fs.fsync(*files[0], false));
  for (int i = 0; i < 50; ++i) static_cast<void>(fs.write(*files[49], 0, bytes(content), false, false));
  static_cast<void>(fs.make(kRootIno, "d", 0040755, 0, 0, kRoot));
  static_cast<void>(fs.unlink(kRootIno, "f49"));
  REQUIRE(fs.lookup(kRootIno, "f0"));
  files.clear();
  static_cast<void>(fs.unmount());
  mounted->reset();
  medium.reset();
  // The device has been given new blocks for the bad ones.
  REQUIRE(::truncate(path.c_str(), static_cast<off_t>(kSize)) == 0);
  medium = std::move(*media::PoolMedium::open(path, {}, nullptr));
  REQUIRE(medium->lost_pages() == 0);
  auto again = Filesystem::mount(medium, {}, nullptr);
  REQUIRE(again);
  auto file = (*again)->open((*again)->lookup(kRootIno, "f1")->ino, O_RDONLY, false);
  REQUIRE(*read_file(**again, **file, 0, content.size()) == content);
  file->reset();
  REQUIRE((*again)->unmount());
  ::_exit(0);
}

TEST_F(RealLossDeathTest, AFileThatIsCutShortUnderTheMount) {
  EXPECT_EXIT(run_real_loss(file_.path()), testing::ExitedWithCode(0), "");
}

TEST_F(RealLossDeathTest, EachStaticAreaIsLostUnderAMount) {
  // One page each: superblock, control, root, descriptors, bitmap, ring, replica. tmpfs gives SIGBUS only past its end, so
  // a hole is made by mapping nothing there.
  for (const uint64_t which : {0, 2, 3, 4, 5, 6, 7}) {
    const auto body = [&] {
      REQUIRE(media::PoolMedium::create_file(file_.path(), kSize, nullptr));
      std::shared_ptr<media::PoolMedium> medium = std::move(*media::PoolMedium::open(file_.path(), {}, nullptr));
      REQUIRE(mkfs::make_pool(*medium, {}, nullptr));
      auto mounted = Filesystem::mount(medium, {}, nullptr);
      REQUIRE(mounted);
      Filesystem& fs = **mounted;
      Attr attr;
      auto file = fs.create(kRootIno, "f", 0644, O_RDWR, kRoot, &attr);
      REQUIRE(file && fs.write(**file, 0, bytes("content"), false, false));
      const media::Geometry& g = fs.geometry();
      const uint64_t blocks[] = {
          0, 0, 2, 3, g.desc_start.value, g.bitmap_start.value, g.journal_start.value, g.replica().value};
      // An access beyond the end of a short file mapped over the page.
      const int empty = ::memfd_create("empty", 0);
      void* const page = const_cast<std::byte*>(medium->at(blocks[which] * kBlockSize));
      REQUIRE(::mmap(page, kBlockSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, empty, 0) == page);
      for (int i = 0; i < 20; ++i) {
        static_cast<void>(fs.make(kRootIno, "d" + std::to_string(i), 0040755, 0, 0, kRoot));
        static_cast<void>(fs.write(**file, 4096U * static_cast<unsigned>(i), bytes("content"), false, false));
        static_cast<void>(fs.unlink(kRootIno, "d" + std::to_string(i)));
      }
      REQUIRE(*read_file(fs, **file, 0, 7) == "content");
      file->reset();
      static_cast<void>(fs.unmount());
      mounted->reset();
      // Mounted with the page lost: a replica, a mount for reading, or a refusal; never a crash.
      std::string why;
      auto again = Filesystem::mount(medium, {}, &why);
      REQUIRE(again || !why.empty());
      if (again) {
        const auto found = (*again)->lookup(kRootIno, "f");
        REQUIRE(found);
        static_cast<void>((*again)->unmount());
      }
      static_cast<void>(check::check_pool(static_cast<const media::Medium&>(*medium), {}));
      ::_exit(0);
    };
    EXPECT_EXIT(body(), testing::ExitedWithCode(0), "") << which;
  }
}

}  // namespace
}  // namespace udax::fs
