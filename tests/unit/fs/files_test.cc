// SPDX-License-Identifier: BSD-3-Clause
#include <fcntl.h>
#include <gtest/gtest.h>

#include "tests/support/pool.h"

namespace udax {
namespace {

using test::kRoot;
using test::TestPool;

constexpr uint64_t kMiB = 1024 * 1024;

fs::SetAttr size_of(uint64_t size) {
  fs::SetAttr s;
  s.size = size;
  return s;
}

TEST(Files, HolesReadAsZeroesAndStayHoles) {
  TestPool pool(64 * kMiB);
  const Ino ino = pool.file(kRootIno, "f");
  pool.write(ino, 1 << 20, "tail");
  EXPECT_EQ(pool->getattr(ino)->size, (1U << 20) + 4);
  EXPECT_EQ(pool.read(ino, 0, 1 << 20), std::string(1 << 20, '\0'));
  EXPECT_EQ(pool->getattr(ino)->blocks, 1U);
  auto file = pool->open(ino, O_RDONLY, false);
  EXPECT_EQ(*pool->seek(**file, 0, true), 1U << 20);
  EXPECT_EQ(*pool->seek(**file, 0, false), 0U);
  EXPECT_EQ(*pool->seek(**file, 1 << 20, false), (1U << 20) + 4);
  EXPECT_EQ(pool->seek(**file, (1 << 20) + 4, true).error(), Error::kNoDevice);
}

TEST(Files, OldBytesStayGoneWhenAFileShrinksAndGrows) {
  TestPool pool(64 * kMiB);
  const Ino ino = pool.file(kRootIno, "f", std::string(10000, 'x'));
  ASSERT_TRUE(pool->setattr(ino, size_of(100), kRoot));
  ASSERT_TRUE(pool->setattr(ino, size_of(9000), kRoot));
  EXPECT_EQ(pool.content(ino), std::string(100, 'x') + std::string(8900, '\0'));
  ASSERT_TRUE(pool->setattr(ino, size_of(50), kRoot));
  pool.write(ino, 4000, "y");
  EXPECT_EQ(pool.content(ino), std::string(50, 'x') + std::string(3950, '\0') + "y");
}

TEST(Files, PunchZeroAndPreallocate) {
  TestPool pool(64 * kMiB);
  const uint64_t before = pool.free_blocks();
  const Ino ino = pool.file(kRootIno, "f", std::string(40960, 'x'));
  std::string model(40960, 'x');
  {
    auto file = pool->open(ino, O_RDWR, false);
    ASSERT_TRUE(pool->fallocate(**file, fs::kFallocPunchHole | fs::kFallocKeepSize, 5000, 20000));
    std::fill_n(model.begin() + 5000, 20000, '\0');
    EXPECT_EQ(pool.content(ino), model);
    EXPECT_EQ(pool->getattr(ino)->blocks, 6U);  // blocks 2..5 of 10 are gone
    ASSERT_TRUE(pool->fallocate(**file, fs::kFallocZeroRange, 30000, 20000));
    model.resize(50000);
    std::fill_n(model.begin() + 30000, 20000, '\0');
    EXPECT_EQ(pool.content(ino), model);
    ASSERT_TRUE(pool->fallocate(**file, fs::kFallocKeepSize, 0, 1 << 20));
    EXPECT_EQ(pool->getattr(ino)->blocks, 256U);
    EXPECT_EQ(pool->getattr(ino)->size, 50000U);
    EXPECT_EQ(pool.content(ino), model);
    pool.write(ino, 8000, "into unwritten");
    model.replace(8000, 14, "into unwritten");
    EXPECT_EQ(pool.content(ino), model);
    EXPECT_EQ(pool->fallocate(**file, fs::kFallocPunchHole, 0, 4096).error(), Error::kNotSupported);
    EXPECT_EQ(pool->fallocate(**file, 0, 0, uint64_t{1} << 40).error(), Error::kNoSpace);
  }
  pool.remount();
  EXPECT_EQ(pool.content(ino), model);
  ASSERT_TRUE(pool->unlink(kRootIno, "f"));
  EXPECT_EQ(pool.free_blocks(), before);
}

TEST(Files, CopyRangeKeepsHoles) {
  TestPool pool(64 * kMiB);
  const Ino from = pool.file(kRootIno, "from", "head");
  pool.write(from, 1 << 20, "tail");
  const Ino to = pool.file(kRootIno, "to");
  auto a = pool->open(from, O_RDONLY, false);
  auto b = pool->open(to, O_RDWR, false);
  uint64_t done = 0;
  while (done < (1 << 20) + 4) {
    const auto n = pool->copy_range(**a, done, **b, done, (2 << 20) - done);
    ASSERT_TRUE(n && *n > 0);
    done += *n;
  }
  EXPECT_EQ(pool.content(to), pool.content(from));
  EXPECT_EQ(pool->getattr(to)->blocks, 2U);
  EXPECT_EQ(pool->copy_range(**b, 0, **b, 1, 100).error(), Error::kInvalid);
}

TEST(Files, AFullPoolSaysSoAndGivesAllBack) {
  TestPool pool(16 * kMiB);
  const uint64_t before = pool.free_blocks();
  const Ino keep = pool.file(kRootIno, "keep", "precious");
  const Ino big = pool.file(kRootIno, "big");
  {
    auto file = pool->open(big, O_RDWR, false);
    const std::string chunk(1 << 20, 'b');
    uint64_t at = 0;
    for (;;) {
      const auto n = pool->write(**file, at, test::bytes(chunk), false, false);
      if (!n) {
        EXPECT_EQ(n.error(), Error::kNoSpace);
        break;
      }
      at += *n;
    }
    EXPECT_EQ(pool->getattr(big)->size, at);
    EXPECT_LT(pool->statfs().blocks_available, 3U);
  }
  // Everything that needs room says so; what gives room back works.
  int made = 0;
  for (;; ++made) {
    const auto r = pool->make(kRootIno, "n" + std::to_string(made), 0100644, 0, 0, kRoot);
    if (!r) {
      EXPECT_EQ(r.error(), Error::kNoSpace);
      break;
    }
    ASSERT_LT(made, 100000);
  }
  EXPECT_EQ(pool.content(keep), "precious");
  EXPECT_TRUE(pool->setattr(big, size_of(4096), kRoot));
  EXPECT_TRUE(pool->unlink(kRootIno, "big"));
  for (int i = 0; i < made; ++i) EXPECT_TRUE(pool->unlink(kRootIno, "n" + std::to_string(i)));
  EXPECT_TRUE(pool->unlink(kRootIno, "keep"));
  EXPECT_EQ(pool.free_blocks(), before);
}

TEST(Files, ALargeFileWrittenInPiecesCanBeMappedHugely) {
  TestPool pool(256 * kMiB);
  for (int i = 0; i < 100; ++i) pool.file(kRootIno, "small" + std::to_string(i), std::string(5000, 's'));
  const Ino ino = pool.file(kRootIno, "large");
  for (uint64_t at = 0; at < 64 * kMiB; at += kMiB) {
    pool.write(ino, at, std::string(kMiB, 'l'));
    pool.file(kRootIno, "beside" + std::to_string(at / kMiB), "b");
  }
  uint64_t huge = 0;
  const auto extents = pool->extents(ino, 0, 1000);
  for (const fs::ExtentInfo& e : *extents) {
    if (e.file_offset % kHugeSize != e.device_offset % kHugeSize) continue;
    const uint64_t first = align_up(e.file_offset, kHugeSize);
    const uint64_t end = align_down(e.file_offset + e.length, kHugeSize);
    if (end > first) huge += (end - first) / kHugeSize;
  }
  std::string where;
  for (const fs::ExtentInfo& e : *extents) {
    where += std::to_string(e.file_offset / kBlockSize) + " at " + std::to_string(e.device_offset / kBlockSize) +
             " for " + std::to_string(e.length / kBlockSize) + "\n";
  }
  EXPECT_GE(huge, 24U) << "of 32; blocks:\n" << where;
}

TEST(Files, ScatteredFileGoesStepByStep) {
  TestPool pool(256 * kMiB);
  const uint64_t before = pool.free_blocks();
  const Ino ino = pool.file(kRootIno, "f");
  {
    auto file = pool->open(ino, O_RDWR, false);
    for (uint64_t i = 0; i < 20000; ++i) {
      ASSERT_TRUE(pool->write(**file, i * 8192, test::bytes("x"), false, false));
    }
  }
  EXPECT_EQ(pool->extents(ino, 0, 100000)->size(), 20000U);
  ASSERT_TRUE(pool->setattr(ino, size_of(8192 * 10000), kRoot));
  EXPECT_EQ(pool->extents(ino, 0, 100000)->size(), 10000U);
  ASSERT_TRUE(pool->unlink(kRootIno, "f"));
  EXPECT_EQ(pool.free_blocks(), before);
}

}  // namespace
}  // namespace udax
