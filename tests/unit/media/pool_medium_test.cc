// SPDX-License-Identifier: BSD-3-Clause
#include "media/pool_medium.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/random.h"
#include "media/superblock.h"
#include "media/thread_counters.h"
#include "tests/unit/media/superblocks.h"

namespace udax::media {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

constexpr uint64_t kSize = 16 << 20;

/// A death test's child runs the test again from its start and ends without destructors: it works within the directory of
/// its parent, which removes that as a whole.
constexpr const char* kOuterDirectory = "UDAX_TEST_OUTER_DIRECTORY";

std::string make_directory(const char* parent) {
  const char* const outer = std::getenv(kOuterDirectory);
  std::string name = std::string(outer != nullptr ? outer : parent) + "/udax-media-XXXXXX";
  return ::mkdtemp(name.data()) == nullptr ? std::string() : name;
}

bool is_tmpfs(const std::string& path) {
  struct statfs fs {};
  return ::statfs(path.c_str(), &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

class PoolMediumTest : public testing::Test {
 protected:
  explicit PoolMediumTest(const char* parent = "/dev/shm") : directory_(make_directory(parent)) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    if (!directory_.empty()) ::setenv(kOuterDirectory, directory_.c_str(), 1);
  }
  ~PoolMediumTest() override {
    ::unsetenv(kOuterDirectory);
    if (directory_.empty()) return;
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  void SetUp() override {
    if (directory_.empty()) GTEST_SKIP() << "no place for a pool file";
    path_ = directory_ + "/pool";
    ASSERT_TRUE(PoolMedium::create_file(path_, kSize, &why_)) << why_;
  }
  std::unique_ptr<PoolMedium> open(OpenMode mode = OpenMode::kExclusive, milliseconds wait = milliseconds(0)) {
    auto opened = PoolMedium::open(path_, {mode, wait}, &why_);
    EXPECT_TRUE(opened) << why_;
    return opened ? std::move(opened).value() : nullptr;
  }
  Error open_error(const std::string& path, OpenMode mode = OpenMode::kExclusive,
                   milliseconds wait = milliseconds(0)) {
    auto opened = PoolMedium::open(path, {mode, wait}, &why_);
    EXPECT_FALSE(opened);
    return opened ? Error::kIo : opened.error();
  }

  std::string directory_;
  std::string path_;
  std::string why_;
};

// The same on memory, on whatever /var/tmp is on, and with libpmem2 made to believe that it has pmem.
struct Place {
  const char* name;
  const char* parent;
  const char* force_granularity;
};

class PoolMediumPlaceTest : public PoolMediumTest, public testing::WithParamInterface<Place> {
 protected:
  PoolMediumPlaceTest() : PoolMediumTest(GetParam().parent) {
    if (GetParam().force_granularity != nullptr) {
      ::setenv("PMEM2_FORCE_GRANULARITY", GetParam().force_granularity, 1);
    }
  }
  ~PoolMediumPlaceTest() override { ::unsetenv("PMEM2_FORCE_GRANULARITY"); }
};

INSTANTIATE_TEST_SUITE_P(Places, PoolMediumPlaceTest,
                         testing::Values(Place{"Tmpfs", "/dev/shm", nullptr}, Place{"Disk", "/var/tmp", nullptr},
                                         Place{"CacheLine", "/dev/shm", "CACHE_LINE"},
                                         Place{"Byte", "/dev/shm", "BYTE"}),
                         [](const auto& info) { return info.param.name; });

// With eADR nothing is flushed; else each line once.
TEST_P(PoolMediumPlaceTest, FlushedLinesAreCounted) {
  const auto medium = open();
  ASSERT_NE(medium, nullptr);
  const uint64_t before = medium->counters().flushed_lines;
  const std::vector<std::byte> bytes(4096, std::byte{7});
  medium->store_nt(8192, bytes.data(), bytes.size());
  medium->store(64, bytes.data(), 100);
  medium->flush(64, 100);
  medium->zero_nt(16384, 4096);
  ASSERT_TRUE(medium->drain());
  const uint64_t lines = medium->granularity() == Granularity::kByte ? 0 : 64 + 2 + 64;
  EXPECT_EQ(medium->counters().flushed_lines - before, lines);
  EXPECT_EQ(medium->counters().stored_bytes, 4096u + 100 + 4096);
}

TEST_P(PoolMediumPlaceTest, RoundTrip) {
  constexpr uint64_t kSeed = 99;
  std::vector<std::byte> model(kSize);
  {
    auto medium = open();
    ASSERT_NE(medium, nullptr);
    EXPECT_EQ(medium->size(), kSize);
    EXPECT_FALSE(medium->read_only());
    EXPECT_GE(medium->fd(), 0);
    if (GetParam().force_granularity == nullptr) {
      EXPECT_EQ(medium->kind(), is_tmpfs(directory_)                          ? "tmpfs"
                                : medium->granularity() == Granularity::kPage ? "file"
                                                                              : "fsdax");
    } else {
      EXPECT_NE(medium->granularity(), Granularity::kPage);
    }
    Random random(kSeed);
    std::vector<std::byte> bytes(20000);
    // Scattered, and more of them than a thread's list of pages holds.
    for (int i = 0; i < 600; ++i) {
      const uint64_t size = random.one_in(3) ? 8 : random.between(1, bytes.size());
      const uint64_t offset = random.below(kSize - size);
      random.fill(bytes.data(), size);
      switch (random.below(3)) {
        case 0: medium->store_flush(offset, bytes.data(), size); break;
        case 1: medium->store_nt(offset, bytes.data(), size); break;
        default: medium->zero_nt(offset, size); std::memset(bytes.data(), 0, size);
      }
      std::memcpy(model.data() + offset, bytes.data(), size);
      if (random.one_in(150)) {
        ASSERT_TRUE(medium->drain());
      }
    }
    ASSERT_TRUE(medium->drain());
    ASSERT_TRUE(medium->deep_flush(0, kSize));
    EXPECT_EQ(std::memcmp(medium->at(0), model.data(), kSize), 0);
    const Counters c = medium->counters();
    EXPECT_EQ(c.stores, 600U);
    EXPECT_GE(c.drains, 1U);
    EXPECT_EQ(c.faults, 0U);
  }
  auto medium = open(OpenMode::kReadOnly);
  ASSERT_NE(medium, nullptr);
  EXPECT_TRUE(medium->read_only());
  EXPECT_EQ(std::memcmp(medium->at(0), model.data(), kSize), 0);
}

TEST_P(PoolMediumPlaceTest, StoresOfAnotherPoolAreNotMixedUp) {
  std::vector<std::unique_ptr<PoolMedium>> mediums;  // more than a thread keeps lists of
  for (int i = 0; i < 12; ++i) {
    path_ = directory_ + "/pool" + std::to_string(i);
    ASSERT_TRUE(PoolMedium::create_file(path_, 8 << 20, &why_)) << why_;
    mediums.push_back(open());
    ASSERT_NE(mediums.back(), nullptr);
  }
  for (uint64_t round = 0; round < 5; ++round) {
    for (auto& medium : mediums) medium->store_nt(round * kBlockSize, &round, sizeof round);
  }
  for (auto& medium : mediums) EXPECT_TRUE(medium->drain());
  mediums.resize(4);
  for (auto& medium : mediums) EXPECT_TRUE(medium->drain());
}

TEST_F(PoolMediumTest, WhatCannotBeAPoolIsRefusedWithAdvice) {
  EXPECT_EQ(open_error(directory_ + "/none"), Error::kNotFound);
  EXPECT_THAT(why_, HasSubstr("mkfs.udaxfs -s"));
  EXPECT_EQ(open_error(directory_), Error::kInvalid);
  EXPECT_THAT(why_, HasSubstr("is a directory"));
  EXPECT_EQ(open_error("/dev/null"), Error::kInvalid);
  EXPECT_THAT(why_, HasSubstr("neither a file nor a devdax device"));
  const std::string fifo = directory_ + "/fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(open_error(fifo, OpenMode::kReadOnly), Error::kInvalid);
  ASSERT_EQ(::truncate(path_.c_str(), (8 << 20) - 1), 0);
  EXPECT_EQ(open_error(path_), Error::kInvalid);
  EXPECT_THAT(why_, HasSubstr("8388607 bytes"));
  EXPECT_THAT(why_, HasSubstr("at least 8 MiB"));
  ASSERT_EQ(::truncate(path_.c_str(), 0), 0);
  EXPECT_EQ(open_error(path_), Error::kInvalid);
}

TEST_F(PoolMediumTest, BlockDevicesAreRefusedWithTheTwoWaysThatWork) {
  std::string device;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/class/block", ignored)) {
    const std::string node = "/dev/" + entry.path().filename().string();
    if (std::filesystem::is_block_file(node, ignored)) device = node;
  }
  if (device.empty()) GTEST_SKIP() << "no block device here";
  EXPECT_EQ(open_error(device), Error::kInvalid);
  EXPECT_THAT(why_, HasSubstr("ndctl create-namespace"));
  EXPECT_THAT(why_, HasSubstr("-m devdax"));
  EXPECT_THAT(why_, HasSubstr("-o dax"));
}

TEST_F(PoolMediumTest, SizesAreRoundedDownToBlocks) {
  ASSERT_EQ(::truncate(path_.c_str(), kSize + 4095), 0);
  EXPECT_EQ(open()->size(), kSize);
}

TEST_F(PoolMediumTest, CreateFile) {
  const std::string path = directory_ + "/new";
  EXPECT_EQ(PoolMedium::create_file(path, 4 << 20, &why_).error(), Error::kInvalid);
  EXPECT_EQ(PoolMedium::create_file(path, uint64_t{1} << 60, &why_).error(), Error::kInvalid);
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(PoolMedium::create_file(directory_ + "/no/such", kSize, &why_).error(), Error::kNotFound);
  ASSERT_TRUE(PoolMedium::create_file(path, kSize + 5, &why_));
  struct stat st {};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(static_cast<uint64_t>(st.st_size), kSize);
  EXPECT_EQ(st.st_mode & 0777, 0600U);
  EXPECT_LT(st.st_blocks, 16);  // sparse
  ASSERT_TRUE(PoolMedium::create_file(path, 2 * kSize, &why_));
  EXPECT_EQ(std::filesystem::file_size(path), 2 * kSize);
  EXPECT_EQ(PoolMedium::create_file("/dev/null", kSize, &why_).error(), Error::kInvalid);

  const auto holder = open();
  EXPECT_EQ(PoolMedium::create_file(path_, 2 * kSize, &why_).error(), Error::kBusy);
  EXPECT_EQ(std::filesystem::file_size(path_), kSize);
}

TEST_F(PoolMediumTest, ThePoolIsOneUsersAtATime) {
  auto first = open();
  put_superblocks(*first);
  EXPECT_EQ(open_error(path_), Error::kBusy);
  EXPECT_THAT(why_, HasSubstr("in use by unit_media (pid " + std::to_string(::getpid()) + ")"));
  EXPECT_EQ(open_error(path_, OpenMode::kReadOnlyExclusive), Error::kBusy);
  EXPECT_NE(open(OpenMode::kReadOnly), nullptr);

  first->announce_holder("udaxfs", "/mnt/pool\x1b[1m");
  EXPECT_EQ(open_error(path_), Error::kBusy);
  EXPECT_EQ(why_,
            path_ + " is in use by udaxfs (pid " + std::to_string(::getpid()) + "), mounted on /mnt/pool?[1m");
  const Holder holder = PoolMedium::read_holder(*first);
  EXPECT_EQ(holder.pid, static_cast<uint32_t>(::getpid()));
  EXPECT_EQ(holder.program, "udaxfs");
  first->clear_holder();
  EXPECT_EQ(PoolMedium::read_holder(*first).pid, 0U);
  first.reset();
  EXPECT_NE(open(), nullptr);
}

TEST_F(PoolMediumTest, AStaleHolderIsNotNamed) {
  auto medium = open();
  put_superblocks(*medium);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    medium->announce_holder("departed", "/mnt");
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(PoolMedium::read_holder(*medium).program, "departed");
  EXPECT_EQ(open_error(path_), Error::kBusy);
  EXPECT_THAT(why_, Not(HasSubstr("departed")));
  EXPECT_THAT(why_, HasSubstr("in use by"));
}

TEST_F(PoolMediumTest, ADamagedHolderBlockTellsNothing) {
  auto medium = open();
  put_superblocks(*medium);
  medium->announce_holder(std::string(100, 'p'), std::string(5000, 'm'));
  EXPECT_EQ(PoolMedium::read_holder(*medium).program, std::string(31, 'p'));
  EXPECT_EQ(PoolMedium::read_holder(*medium).mountpoint, std::string(2047, 'm'));
  const uint8_t byte = 'x';
  medium->store(kBlockSize + 20, &byte, 1);
  EXPECT_EQ(PoolMedium::read_holder(*medium).pid, 0U);
  medium->clear_holder();
  const uint64_t zero = 0;
  medium->store(0, &zero, sizeof zero);
  medium->store(kSize - kBlockSize, &zero, sizeof zero);
  medium->announce_holder("nobody", "/nowhere");  // no pool: nothing happens
  EXPECT_EQ(PoolMedium::read_holder(*medium).pid, 0U);
}

TEST_F(PoolMediumTest, ReadersThatExcludeWritersShare) {
  const auto first = open(OpenMode::kReadOnlyExclusive);
  const auto second = open(OpenMode::kReadOnlyExclusive);
  EXPECT_EQ(open_error(path_), Error::kBusy);
}

TEST_F(PoolMediumTest, OpenWaitsForTheOtherToFinish) {
  auto first = open();
  EXPECT_EQ(open_error(path_, OpenMode::kExclusive, milliseconds(30)), Error::kBusy);
  std::thread closer([&first] {
    std::this_thread::sleep_for(milliseconds(50));
    first.reset();
  });
  EXPECT_NE(open(OpenMode::kExclusive, milliseconds(60000)), nullptr);
  closer.join();
}

TEST_F(PoolMediumTest, StoresToAReadOnlyPoolAreBugs) {
  auto medium = open(OpenMode::kReadOnly);
  const int value = 1;
  EXPECT_DEATH(medium->store(0, &value, sizeof value), "broken invariant");
  EXPECT_DEATH(medium->zero_nt(0, 1), "broken invariant");
}

// Media errors, by the means that every machine has: the file is cut off under its mapping. In processes of their
// own, for their handlers' sake.

using PoolMediumDeathTest = PoolMediumTest;

[[noreturn]] void check(bool ok, const char* what) {
  if (!ok) {
    std::fprintf(stderr, "failed: %s\n", what);
    ::_exit(1);
  }
  ::_exit(0);
}
#define REQUIRE(condition) \
  if (!(condition)) check(false, #condition)

TEST_F(PoolMediumDeathTest, LostPagesReadAsZeroesAndAreRemembered) {
  const auto body = [this] {
    auto medium = open();
    const std::vector<std::byte> ones(kSize, std::byte{1});
    medium->store_nt(0, ones.data(), kSize);
    REQUIRE(medium->drain());
    REQUIRE(!medium->is_lost(0, kSize));
    REQUIRE(::truncate(path_.c_str(), kSize / 2) == 0);
    REQUIRE(*medium->at(0) == std::byte{1});
    REQUIRE(medium->faults() == 0);
    const uint64_t lost = kSize - 100;
    REQUIRE(*medium->at(lost) == std::byte{0});
    REQUIRE(medium->faults() == 1);
    REQUIRE(*medium->at(lost + 8) == std::byte{0});
    REQUIRE(medium->faults() == 1);
    REQUIRE(medium->is_lost(lost, 1));
    REQUIRE(medium->is_lost(0, kSize));
    REQUIRE(!medium->is_lost(0, kSize - kBlockSize));
    REQUIRE(!medium->is_lost(lost, 0));
    // What goes elsewhere still gets there; what goes to the lost page is not claimed to.
    medium->store_nt(0, ones.data(), 100);
    REQUIRE(medium->drain());
    medium->store(lost, ones.data(), 50);
    REQUIRE(*medium->at(lost) == std::byte{1});
    const Status drained = medium->drain();
    REQUIRE(!drained && drained.error() == Error::kIo);
    REQUIRE(medium->drain());
    REQUIRE(!medium->deep_flush(lost, 1));
    // A store can be the first to find out, too.
    medium->store_nt(kSize / 2, ones.data(), 3 * kBlockSize);
    REQUIRE(!medium->drain());
    REQUIRE(medium->faults() == 4);
    REQUIRE(medium->counters().faults == 4);
    ::_exit(0);
  };
  EXPECT_EXIT(body(), testing::ExitedWithCode(0), "");
}

TEST_F(PoolMediumDeathTest, ThreadsThatFaultTogetherSurvive) {
  const auto body = [this] {
    auto medium = open(OpenMode::kReadOnly);
    REQUIRE(::truncate(path_.c_str(), 0) == 0);
    std::vector<std::thread> threads;
    std::atomic<uint64_t> sum{0};
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([&] {
        for (uint64_t offset = 0; offset < kSize; offset += kBlockSize / 2) {
          sum += static_cast<uint64_t>(*medium->at(offset));
        }
      });
    }
    for (auto& thread : threads) thread.join();
    REQUIRE(sum == 0);
    REQUIRE(medium->faults() == kSize / kBlockSize);
    ::_exit(0);
  };
  EXPECT_EXIT(body(), testing::ExitedWithCode(0), "");
}

// Every page replaced on its own costs one of the mappings that a process may have (65530 by default).
TEST_F(PoolMediumDeathTest, MoreScatteredLossesThanMappingsAllowed) {
  const auto body = [this](int extra) {
    constexpr uint64_t kLarge = 1 << 30;
    // The limit is met with one mapping to spare or with none, by what else is there: try both.
    for (int i = 0; i < extra; ++i) {
      REQUIRE(::mmap(nullptr, kBlockSize, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    }
    REQUIRE(PoolMedium::create_file(path_, kLarge, &why_));
    auto medium = open();
    REQUIRE(::truncate(path_.c_str(), kSize) == 0);
    for (uint64_t offset = kSize; offset < kLarge; offset += 2 * kBlockSize) {
      REQUIRE(*medium->at(offset) == std::byte{0});
      REQUIRE(medium->is_lost(offset, 1));
    }
    REQUIRE(medium->faults() > 1000);
    ::_exit(0);
  };
  EXPECT_EXIT(body(0), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(body(1), testing::ExitedWithCode(0), "");
}

TEST_F(PoolMediumDeathTest, OpeningACutOffPoolDoesNotKill) {
  const auto body = [this] {
    auto medium = open();
    put_superblocks(*medium);
    REQUIRE(::truncate(path_.c_str(), 0) == 0);
    REQUIRE(load_superblock(*medium).error() == Error::kIo);
    ::_exit(0);
  };
  EXPECT_EXIT(body(), testing::ExitedWithCode(0), "");
}

// A page of a file that has been cut off, mapped past all watching.
std::byte* unwatched_page(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  void* p = ::mmap(nullptr, kBlockSize, PROT_READ, MAP_SHARED, fd, 0);
  return ::ftruncate(fd, 0) == 0 ? static_cast<std::byte*>(p) : nullptr;
}

TEST_F(PoolMediumDeathTest, FaultsElsewhereStillKill) {
  const auto body = [this] {
    ::signal(SIGBUS, SIG_DFL);  // a sanitizer's would report it and exit
    const std::string other = directory_ + "/other";
    REQUIRE(PoolMedium::create_file(other, kSize, nullptr));
    auto medium = open();
    ::_exit(static_cast<int>(*unwatched_page(other)));
  };
  EXPECT_EXIT(body(), testing::KilledBySignal(SIGBUS), "");
}

TEST_F(PoolMediumDeathTest, ASignalSentByHandStillKills) {
  const auto body = [this] {
    ::signal(SIGBUS, SIG_DFL);
    auto medium = open();
    ::raise(SIGBUS);
    ::_exit(0);
  };
  EXPECT_EXIT(body(), testing::KilledBySignal(SIGBUS), "");
}

TEST_F(PoolMediumDeathTest, FaultsElsewhereGoToTheHandlerThatWasThere) {
  const auto body = [this] {
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = [](int, siginfo_t*, void*) { ::_exit(42); };
    ::sigaction(SIGBUS, &action, nullptr);
    const std::string other = directory_ + "/other";
    REQUIRE(PoolMedium::create_file(other, kSize, nullptr));
    { auto medium = open(); }
    auto medium = open();  // installs nothing again
    ::_exit(static_cast<int>(*unwatched_page(other)));
  };
  EXPECT_EXIT(body(), testing::ExitedWithCode(42), "");
}

TEST(ThreadCountersTest, NothingIsLostWithMoreThreadsThanSlots) {
  ThreadCounters counters;
  constexpr uint64_t kThreads = 150;
  for (int round = 0; round < 2; ++round) {
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&counters] {
        for (int i = 0; i < 1000; ++i) counters.add_store(10, 2);
        counters.add_flush(1);
        counters.add_drain();
      });
    }
    for (auto& thread : threads) thread.join();
  }
  const Counters c = counters.sum();
  EXPECT_EQ(c.stores, 2 * kThreads * 1000);
  EXPECT_EQ(c.stored_bytes, 2 * kThreads * 10000);
  EXPECT_EQ(c.flushed_lines, 2 * kThreads * 2001);
  EXPECT_EQ(c.drains, 2 * kThreads);
}

}  // namespace
}  // namespace udax::media
