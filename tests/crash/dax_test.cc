// SPDX-License-Identifier: BSD-3-Clause
//
// Power failures inside faults, mkwrite, writeback, and a change of the DAX flag.
//
// At every point a crash may leave any of the stores that are in flight. Whatever it leaves: no byte of another file, and
// none of freed space, shows in a file; and what was stored before an fsync is there when that has returned.
//
// The pool's free blocks hold 'S' before it begins, a deleted file held 'D', another file holds 'O'; what the tests store
// is upper-case letters from 'A' to 'C'. Stores through mappings are cached stores, which nothing makes durable but a flush.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>

#include "base/sync_point.h"
#include "tests/crash/crash_images.h"
#include "tests/support/check.h"
#include "tests/support/model_mapper.h"
#include "tests/support/pool.h"

namespace udax {
namespace {

using sync_point::ScopedKnob;
using test::CrashImages;
using test::Mapping;
using test::ModelMapper;

constexpr uint64_t kOtherSize = 3 * kBlockSize;

/// What a scenario has at hand. Its file is "f"; each durable() says what must be there from then on.
struct Scene {
  test::TestPool& pool;
  media::RecordingMedium& medium;
  ModelMapper& mapper;
  ModelMapper& huge_mapper;
  Ino f;
  std::vector<std::string> durable_contents;  // by mark, from 1 on; a '?' may be anything that is allowed

  void resize(uint64_t size) {
    fs::SetAttr s;
    s.size = size;
    EXPECT_TRUE(pool->setattr(f, s, test::kRoot));
  }
  void fsync() {
    const auto file = *pool->open(f, O_RDWR, false);
    EXPECT_TRUE(pool->fsync(*file, false));
  }
  void durable(std::string content) {
    durable_contents.push_back(std::move(content));
    medium.mark(durable_contents.size());
  }
};

struct Effort {
  size_t sparse = 6;
  size_t single_max = 16;
  size_t samples = 8;
  uint64_t pool_size = 8 << 20;
};

struct Found {
  uint64_t images = 0;
  uint64_t unmountable = 0;
  uint64_t stale = 0;  // shows what it must not
  uint64_t lost = 0;   // does not show what was durable
  std::string first;
};

std::string content(fs::Filesystem& fs, const char* name) {
  const auto attr = fs.lookup(kRootIno, name);
  if (!attr) return "not there";
  const auto file = fs.open(attr->ino, O_RDONLY, false);
  const auto bytes = file ? test::read_file(fs, **file, 0, 8 << 20) : Result<std::string>(Error::kIo);
  return bytes ? *bytes : "unreadable";
}

void judge(fs::Filesystem& fs, const CrashImages::Point& point, const std::vector<std::string>& durable,
           Found& found) {
  const std::string now = content(fs, "f");
  const auto note = [&](uint64_t& counter, const std::string& what) {
    ++counter;
    if (found.first.empty()) {
      found.first = what + ", crash before event " + std::to_string(point.event) + ", " + point.subset;
    }
  };
  const size_t bad = now.find_first_not_of(std::string("\0ABC", 4));
  if (bad != std::string::npos) note(found.stale, std::string("a '") + now[bad] + "' at " + std::to_string(bad));
  if (content(fs, "other") != std::string(kOtherSize, 'O')) note(found.stale, "the other file changed");
  if (point.mark == 0) return;
  // Until the next mark a byte is what it was at the last one, or is to be at the next.
  const std::string& wanted = durable[point.mark - 1];
  const std::string& next = durable[std::min<size_t>(point.mark, durable.size() - 1)];
  const auto at = [](const std::string& text, size_t i) { return i < text.size() ? int{text[i]} : -1; };
  for (size_t i = 0; i < wanted.size(); ++i) {
    const int is = at(now, i);
    const bool is_free = wanted[i] == '?' || at(next, i) == '?';
    if (is_free || is == wanted[i] || is == at(next, i)) continue;
    return note(found.lost, "lost at " + std::to_string(i));
  }
}

/// Plays the scenario on a recording medium, then looks at what crashes leave.
Found explore(const std::function<void(Scene&)>& prepare, const std::function<void(Scene&)>& act,
              const Effort& effort = {}) {
  const auto medium = std::make_shared<media::RecordingMedium>(effort.pool_size);
  std::memset(medium->raw(), 'S', effort.pool_size);
  std::vector<std::string> durable;
  auto pool = std::make_unique<test::TestPool>(medium, true);
  {
    static_cast<void>(pool->file(kRootIno, "deleted", std::string(40 * kBlockSize, 'D')));
    EXPECT_TRUE((*pool)->unlink(kRootIno, "deleted"));
    static_cast<void>(pool->file(kRootIno, "other", std::string(kOtherSize, 'O')));
    pool->remount();
    ModelMapper mapper(pool->fs());
    ModelMapper huge_mapper(pool->fs(), ModelMapper::Pages::kHuge);
    Scene scene{*pool, *medium, mapper, huge_mapper, pool->file(kRootIno, "f"), {}};
    prepare(scene);
    medium->start();
    act(scene);
    medium->stop();
    durable = scene.durable_contents;
  }
  pool.reset();
  Found found;
  CrashImages images(*medium, 3);
  found.images = images.explore(effort.sparse, effort.single_max, effort.samples,
                                [&](media::MemoryMedium& image, const CrashImages::Point& point) {
                                  const std::shared_ptr<media::Medium> alias(std::shared_ptr<void>(), &image);
                                  auto fs = fs::Filesystem::mount(alias, {}, nullptr);
                                  if (!fs) {
                                    ++found.unmountable;
                                    return true;
                                  }
                                  judge(**fs, point, durable, found);
                                  EXPECT_TRUE((*fs)->unmount());
                                  if (found.images++ % 16 == 0) test::expect_clean(image);
                                  return true;
                                });
  std::printf("%llu crash images\n", static_cast<unsigned long long>(found.images));
  return found;
}

void expect_sound(const Found& found) {
  EXPECT_GT(found.images, 20U);
  EXPECT_EQ(found.unmountable, 0U);
  EXPECT_EQ(found.stale, 0U) << found.first;
  EXPECT_EQ(found.lost, 0U) << found.first;
}

std::string zeroes(uint64_t n) { return std::string(n, '\0'); }

// --- faults --------------------------------------------------------------------------------------------------------

void hole_of_four_pages(Scene& s) { s.resize(4 * kBlockSize); }

/// Read fault, write fault to the hole, mkwrite, fsync; then once more.
void fill_a_hole(Scene& s) {
  Mapping mapping(s.mapper, s.f);
  EXPECT_EQ(mapping.get(kBlockSize, 4), zeroes(4));
  mapping.put(kBlockSize + 100, "AAAA");
  mapping.put(3 * kBlockSize, "B");
  s.fsync();
  s.durable(zeroes(kBlockSize + 100) + "AAAA" + zeroes(2 * kBlockSize - 104) + "B" + zeroes(kBlockSize - 1));
  mapping.put(kBlockSize + 102, "CC");
  s.fsync();
  s.durable(zeroes(kBlockSize + 100) + "AACC" + zeroes(2 * kBlockSize - 104) + "B" + zeroes(kBlockSize - 1));
}

TEST(DaxCrash, WriteFaultsOnAHole) { expect_sound(explore(hole_of_four_pages, fill_a_hole)); }

void unwritten_pages(Scene& s) {
  const auto file = *s.pool->open(s.f, O_RDWR, false);
  EXPECT_TRUE(s.pool->fallocate(*file, 0, 0, 4 * kBlockSize));
}

TEST(DaxCrash, WriteFaultsOnUnwrittenBlocks) { expect_sound(explore(unwritten_pages, fill_a_hole)); }

TEST(DaxCrash, ControlBlocksAreNotZeroed) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "knobs are not compiled in";
  const ScopedKnob knob("dax.fault.skip_zero");
  EXPECT_GT(explore(hole_of_four_pages, fill_a_hole).stale, 0U);
  EXPECT_GT(explore(unwritten_pages, fill_a_hole).stale, 0U);
}

TEST(DaxCrash, ControlZeroesAreNotWaitedFor) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "knobs are not compiled in";
  const ScopedKnob knob("journal.ignore_data_pending");
  EXPECT_GT(explore(hole_of_four_pages, fill_a_hole).stale, 0U);
}

TEST(DaxCrash, A2MiBWriteFault) {
  const Effort effort{.sparse = 0, .single_max = 4, .samples = 2, .pool_size = 16 << 20};
  const auto fill = [](Scene& s) {
    Mapping mapping(s.huge_mapper, s.f);
    mapping.put(300 * kBlockSize, "AB");
    EXPECT_TRUE(mapping.pte(FileBlock(0)).is_huge);
    s.fsync();
    s.durable(zeroes(300 * kBlockSize) + "AB" + zeroes(kHugeSize - 300 * kBlockSize - 2));
  };
  const Found found = explore([](Scene& s) { s.resize(kHugeSize); }, fill, effort);
  EXPECT_EQ(found.unmountable, 0U);
  EXPECT_EQ(found.stale, 0U) << found.first;
  EXPECT_EQ(found.lost, 0U) << found.first;
}

// --- mkwrite and writeback -------------------------------------------------------------------------------------------

void data_of_two_pages(Scene& s) {
  s.pool.write(s.f, 0, std::string(2 * kBlockSize, 'A'));
  s.fsync();
}

void overwrite(Scene& s) {
  Mapping mapping(s.mapper, s.f);
  s.durable(std::string(10, 'A') + "????" + std::string(2 * kBlockSize - 14, 'A'));
  mapping.put(10, "BBBB");
  s.fsync();
  s.durable(std::string(10, 'A') + "BBBB" + std::string(2 * kBlockSize - 14, 'A'));
  mapping.put(10, "CC");
  mapping.put(kBlockSize, "B");
  s.durable(std::string(10, 'A') + "??BB" + std::string(kBlockSize - 14, 'A') + "?" +
            std::string(kBlockSize - 1, 'A'));
  s.fsync();
  s.durable(std::string(10, 'A') + "CCBB" + std::string(kBlockSize - 14, 'A') + "B" +
            std::string(kBlockSize - 1, 'A'));
}

TEST(DaxCrash, MkwriteAndFsync) { expect_sound(explore(data_of_two_pages, overwrite)); }

TEST(DaxCrash, ControlNothingIsFlushedOrMarked) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "knobs are not compiled in";
  for (const char* const name : {"dax.writeback.skip_flush", "dax.fault.skip_dirty"}) {
    const ScopedKnob knob(name);
    EXPECT_GT(explore(data_of_two_pages, overwrite).lost, 0U) << name;
  }
}

TEST(DaxCrash, ControlViewsStayWritable) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "knobs are not compiled in";
  const ScopedKnob knob("dax.writeback.skip_write_protect");
  EXPECT_GT(explore(data_of_two_pages, overwrite).lost, 0U);
}

// --- write(2), truncation and punch beside mappings -------------------------------------------------------------------

TEST(DaxCrash, AWriteToAHoleThatIsMapped) {
  expect_sound(explore(hole_of_four_pages, [](Scene& s) {
    Mapping mapping(s.mapper, s.f);
    EXPECT_EQ(mapping.get(kBlockSize, 1), zeroes(1));
    s.pool.write(s.f, kBlockSize + 10, "AAAA");
    s.durable(zeroes(kBlockSize + 10) + "AAAA" + zeroes(3 * kBlockSize - 14));
    mapping.put(kBlockSize + 20, "BB");
    s.fsync();
    s.durable(zeroes(kBlockSize + 10) + "AAAA" + zeroes(6) + "BB" + zeroes(3 * kBlockSize - 22));
  }));
}

/// Blocks go and come back, to this file and to others.
void cut_and_fill(Scene& s) {
  Mapping mapping(s.mapper, s.f);
  mapping.put(kBlockSize, "BBBB");
  s.resize(kBlockSize + 2);
  s.durable(std::string(kBlockSize, 'A') + "??");
  mapping.put(kBlockSize + 50, "CCC");  // behind the end, in its page
  s.resize(2 * kBlockSize);
  s.durable(std::string(kBlockSize, 'A') + "??" + zeroes(kBlockSize - 2));
  const auto file = *s.pool->open(s.f, O_RDWR, false);
  EXPECT_TRUE(s.pool->fallocate(*file, fs::kFallocPunchHole | fs::kFallocKeepSize, 0, kBlockSize + 2));
  s.durable(zeroes(2 * kBlockSize));
  mapping.put(5, "A");
  s.fsync();
  s.durable(zeroes(5) + "A" + zeroes(2 * kBlockSize - 6));
  EXPECT_TRUE(s.pool->fallocate(*file, fs::kFallocZeroRange, 0, 2 * kBlockSize));
  s.durable(zeroes(2 * kBlockSize));
  mapping.put(kBlockSize - 1, "BB");
  s.fsync();
  s.durable(zeroes(kBlockSize - 1) + "BB");
}

TEST(DaxCrash, BlocksThatGoAndComeBack) { expect_sound(explore(data_of_two_pages, cut_and_fill)); }

// --- the flag --------------------------------------------------------------------------------------------------------

void flip(Scene& s) {
  Mapping mapping(s.mapper, s.f);
  mapping.put(0, "BBB");
  ASSERT_TRUE(s.pool->set_flags(s.f, format::kFlagDax, format::kFlagDax, {}, test::kRoot));
  s.durable("BBB" + std::string(2 * kBlockSize - 3, 'A'));
  mapping.put(1, "C");
  ASSERT_TRUE(s.pool->set_flags(s.f, 0, format::kFlagDax, {}, test::kRoot));
  s.durable("BCB" + std::string(2 * kBlockSize - 3, 'A'));
}

TEST(DaxCrash, AFlipMakesBytesDurable) { expect_sound(explore(data_of_two_pages, flip)); }

TEST(DaxCrash, ControlAFlipFlushesNothing) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "knobs are not compiled in";
  const ScopedKnob knob("dax.writeback.skip_flush");
  EXPECT_GT(explore(data_of_two_pages, flip).lost, 0U);
}

TEST(DaxCrash, TheFlagIsThereWhenTheCallReturnsAndNeverHalf) {
  const auto medium = std::make_shared<media::RecordingMedium>(8 << 20);
  {
    test::TestPool pool(medium, true);
    const Ino f = pool.file(kRootIno, "f", std::string(100, 'A'));
    medium->start();
    ASSERT_TRUE(pool->set_flags(f, format::kFlagDax, format::kFlagDax, {}, test::kRoot));
    medium->mark(1);
    medium->stop();
  }
  uint64_t before = 0;
  CrashImages images(*medium, 3);
  images.explore(1, 16, 16, [&](media::MemoryMedium& image, const CrashImages::Point& point) {
    const std::shared_ptr<media::Medium> alias(std::shared_ptr<void>(), &image);
    auto fs = fs::Filesystem::mount(alias, {}, nullptr);
    EXPECT_TRUE(fs);
    const auto attr = (*fs)->lookup(kRootIno, "f");
    EXPECT_TRUE(attr && (attr->flags == 0 || attr->flags == format::kFlagDax));
    if (attr && attr->flags == 0) {
      ++before;
      EXPECT_EQ(point.mark, 0U);
    }
    EXPECT_EQ(content(**fs, "f"), std::string(100, 'A'));
    EXPECT_TRUE((*fs)->unmount());
    return true;
  });
  EXPECT_GT(before, 0U);
}

}  // namespace
}  // namespace udax
