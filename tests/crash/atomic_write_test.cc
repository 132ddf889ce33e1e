// SPDX-License-Identifier: BSD-3-Clause
//
// data=atomic: after a crash at any store, a write(2) has happened whole or not at all.
//
// Negative control: the same writes with data=inplace are seen torn.
#include <fcntl.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/crash/crash_images.h"
#include "tests/support/check.h"
#include "tests/support/pool.h"

namespace udax {
namespace {

constexpr uint64_t kPoolSize = 8 << 20;

struct Write {
  uint64_t offset = 0;
  uint64_t size = 0;
};

/// A file with data, a hole, unwritten blocks and an end within a block.
std::string prepare(fs::Filesystem& fs) {
  const Ino ino = fs.make(kRootIno, "f", 0100644, 0, 0, test::kRoot)->ino;
  const auto file = *fs.open(ino, O_RDWR, false);
  const auto write = [&](uint64_t offset, size_t size, char c) {
    EXPECT_TRUE(fs.write(*file, offset, test::bytes(std::string(size, c)), false, false));
  };
  write(0, 20000, 'a');
  write(40960, 9000, 'b');
  EXPECT_TRUE(fs.fallocate(*file, fs::kFallocKeepSize, 24576, 8192));
  EXPECT_TRUE(fs.fsync(*file, false));
  return *test::read_file(fs, *file, 0, 1 << 20);
}

std::string content(fs::Filesystem& fs) {
  const auto attr = fs.lookup(kRootIno, "f");
  if (!attr) return "not there";
  const auto file = fs.open(attr->ino, O_RDONLY, false);
  const auto bytes = file ? test::read_file(fs, **file, 0, 1 << 20) : Result<std::string>(Error::kIo);
  return bytes ? *bytes : "unreadable";
}

/// Makes the write, and looks at the crash images: `torn` show neither the file before it nor after it; `lost` come after
/// its return and do not show it.
struct Found {
  uint64_t images = 0;
  uint64_t torn = 0;
  uint64_t lost = 0;
};
Found explore(const Write& w, fs::DataMode mode, uint64_t seed) {
  fs::MountOptions options;
  options.data = mode;
  const auto medium = std::make_shared<media::RecordingMedium>(kPoolSize);
  std::string before;
  std::string after;
  {
    test::TestPool pool(medium, true, options);
    before = prepare(pool.fs());
    medium->start();
    {
      const auto file = *pool->open(pool->lookup(kRootIno, "f")->ino, O_RDWR, false);
      const auto done = pool->write(*file, w.offset, test::bytes(std::string(w.size, 'N')), false, false);
      EXPECT_TRUE(done && *done == w.size);
      EXPECT_TRUE(pool->fsync(*file, false));
    }
    medium->mark(1);
    medium->stop();
    after = content(pool.fs());
  }
  Found found;
  test::CrashImages images(*medium, seed);
  found.images = images.explore(8, 24, 12, [&](media::MemoryMedium& image, const test::CrashImages::Point& point) {
    auto fs =
        fs::Filesystem::mount(std::shared_ptr<media::Medium>(std::shared_ptr<void>(), &image), options, nullptr);
    if (!fs) {
      ++found.torn;
      return true;
    }
    const std::string now = content(**fs);
    if (now != before && now != after) ++found.torn;
    if (point.mark >= 1 && now != after) ++found.lost;
    EXPECT_TRUE((*fs)->unmount());
    return true;
  });
  return found;
}

constexpr Write kWrites[] = {
    {100, 50},       // within a block
    {0, 4096},       // a block
    {4000, 200},     // over a border
    {1000, 15000},   // several blocks, partly
    {19000, 3000},   // over the data's end, into a hole
    {22000, 12000},  // a hole and unwritten blocks
    {3000, 45000},   // data, hole, unwritten, data
    {48000, 10000},  // over the end of the file
    {90000, 5000},   // behind the end
};

TEST(AtomicWrite, IsWholeOrNotAtAll) {
  uint64_t images = 0;
  for (const Write& w : kWrites) {
    const Found found = explore(w, fs::DataMode::kAtomic, 7);
    images += found.images;
    EXPECT_EQ(found.torn, 0U) << w.offset << "+" << w.size;
    EXPECT_EQ(found.lost, 0U) << w.offset << "+" << w.size;
  }
  std::printf("%llu crash images\n", static_cast<unsigned long long>(images));
  EXPECT_GT(images, 500U);
}

TEST(AtomicWrite, ControlInPlaceWritesAreTorn) {
  EXPECT_GT(explore({1000, 15000}, fs::DataMode::kInPlace, 7).torn, 0U);
  EXPECT_GT(explore({100, 50}, fs::DataMode::kInPlace, 7).torn, 0U);
}

TEST(AtomicWrite, LargeWritesAreCutToWhatIsWhole) {
  fs::MountOptions options;
  options.data = fs::DataMode::kAtomic;
  test::TestPool pool(32 << 20, options);
  const Ino ino = pool.file(kRootIno, "f");
  const auto file = *pool->open(ino, O_RDWR, false);
  const std::string data(3 << 20, 'x');
  EXPECT_EQ(*pool->write(*file, 10, test::bytes(data), false, false), 1U << 20);
  EXPECT_EQ(pool->getattr(ino)->size, 10 + (1U << 20));
}

TEST(AtomicWrite, BlocksThatAreReplacedComeBack) {
  fs::MountOptions options;
  options.data = fs::DataMode::kAtomic;
  test::TestPool pool(32 << 20, options);
  const Ino ino = pool.file(kRootIno, "f", std::string(1 << 20, 'o'));
  const auto file = *pool->open(ino, O_RDWR, false);
  const uint64_t free = pool.free_blocks();
  // More than the pool holds, were they not freed.
  for (int i = 0; i < 300; ++i) {
    const std::string data(300000, static_cast<char>('a' + i % 26));
    ASSERT_EQ(*pool->write(*file, static_cast<uint64_t>(i % 7) * 1000, test::bytes(data), false, false),
              data.size());
  }
  EXPECT_NEAR(static_cast<double>(pool.free_blocks()), static_cast<double>(free), 8);
}

}  // namespace
}  // namespace udax
