// SPDX-License-Identifier: BSD-3-Clause
//
// Mappings, on a mount of ours: of DAX files and of cached ones, and of files that are open in both ways. The environment's
// UDAX_TEST_DIR is the folder to work in; tests/integration/dax_mmap.sh sets it.
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kMiB = 1 << 20;

class Map {
 public:
  Map(int fd, int64_t size, int flags = MAP_SHARED, int protection = PROT_READ | PROT_WRITE)
      : size_(static_cast<size_t>(size)), map_(::mmap(nullptr, size_, protection, flags, fd, 0)) {
    EXPECT_NE(map_, MAP_FAILED) << errno;
  }
  ~Map() {
    if (map_ != MAP_FAILED) ::munmap(map_, size_);
  }
  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;
  [[nodiscard]] char* data() const { return static_cast<char*>(map_); }
  [[nodiscard]] std::string at(int64_t offset, size_t length) const { return {data() + offset, length}; }
  void put(int64_t offset, const std::string& bytes) const {
    std::memcpy(data() + offset, bytes.data(), bytes.size());
  }
  [[nodiscard]] int sync() const { return ::msync(map_, size_, MS_SYNC); }

 private:
  size_t size_;
  void* map_;
};

void set_dax(const char* path, bool on) {
  ASSERT_EQ(err(::setxattr(path, "user.udax.dax", on ? "1" : "0", 1, 0)), 0) << path;
}

/// How the file was opened by the two who use it.
enum class Ways : uint8_t { kCached, kDax, kCachedThenDax, kDaxThenCached };

std::string name_of(const ::testing::TestParamInfo<Ways>& info) {
  static constexpr std::array kNames{"Cached", "Dax", "CachedThenDax", "DaxThenCached"};
  return kNames.at(static_cast<size_t>(info.param));
}

class DaxMap : public Posix, public ::testing::WithParamInterface<Ways> {
 protected:
  void SetUp() override {
    Posix::SetUp();
    if (HasFatalFailure()) return;
    const bool first = GetParam() == Ways::kDax || GetParam() == Ways::kDaxThenCached;
    const bool second = GetParam() == Ways::kDax || GetParam() == Ways::kCachedThenDax;
    make_file("file");
    set_dax("file", first);
    a_ = ::open("file", O_RDWR);
    ASSERT_GE(a_, 0) << errno;
    set_dax("file", second);
    b_ = ::open("file", O_RDWR);
    ASSERT_GE(b_, 0) << errno;
    const void* const probe = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, b_, 0);
    if (probe == MAP_FAILED && errno == ENODEV) GTEST_SKIP() << "kernels before 6.6 do not map DAX files shared";
    ::munmap(const_cast<void*>(probe), kPage);
  }
  void TearDown() override {
    if (a_ >= 0) ::close(a_);
    if (b_ >= 0) ::close(b_);
    Posix::TearDown();
  }
  int a_ = -1;
  int b_ = -1;
};

INSTANTIATE_TEST_SUITE_P(Ways, DaxMap,
                         ::testing::Values(Ways::kCached, Ways::kDax, Ways::kCachedThenDax, Ways::kDaxThenCached),
                         name_of);

TEST_P(DaxMap, CallsAndMappingsSeeEachOther) {
  put(a_, 0, std::string(3 * kPage, '.'));
  const Map ma(a_, 3 * kPage);
  const Map mb(b_, 3 * kPage);
  const std::array<int, 2> fds{a_, b_};
  const std::array<const Map*, 2> maps{&ma, &mb};
  std::string model(3 * kPage, '.');
  uint32_t seed = 1;
  for (int round = 0; round < 400; ++round) {
    seed = seed * 1103515245 + 12345;
    const size_t offset = (seed >> 8) % (3 * kPage - 1);
    const size_t length = std::min<size_t>(1 + (seed >> 4) % 300, 3 * kPage - offset);
    const std::string bytes(length, static_cast<char>('a' + round % 26));
    model.replace(offset, length, bytes);
    const size_t by = round % 2 == 0 ? 0 : 1;
    if (round % 3 == 0) {
      maps.at(by)->put(static_cast<int64_t>(offset), bytes);
    } else {
      put(fds.at(by), static_cast<int64_t>(offset), bytes);
    }
    for (size_t i = 0; i < 2; ++i) {
      ASSERT_EQ(at(fds.at(i), 0, model.size()), model) << "read(2) " << i << " after change " << round;
      ASSERT_EQ(maps.at(i)->at(0, model.size()), model) << "mapping " << i << " after change " << round;
    }
    if (round % 50 == 0) {
      ASSERT_EQ(err(ma.sync()), 0);
      ASSERT_EQ(err(::fsync(b_)), 0);
    }
  }
}

TEST_P(DaxMap, AcrossProcesses) {
  ASSERT_EQ(::ftruncate(a_, 4 * kPage), 0);
  int there[2];
  int back[2];
  ASSERT_EQ(::pipe(there), 0);
  ASSERT_EQ(::pipe(back), 0);
  constexpr int kRounds = 300;
  const pid_t child = ::fork();
  if (child == 0) {
    const Map m(b_, 4 * kPage);
    for (int i = 0; i < kRounds; ++i) {
      char c = 0;
      if (::read(there[0], &c, 1) != 1) ::_exit(3);
      const int64_t offset = i * 53 % (4 * kPage - 8);
      if (m.data()[offset] != c) ::_exit(4);
      if (i % 2 == 0) {
        m.data()[offset + 1] = c;
      } else if (::pwrite(b_, &c, 1, offset + 1) != 1) {
        ::_exit(5);
      }
      if (::write(back[1], &c, 1) != 1) ::_exit(6);
    }
    ::_exit(0);
  }
  const Map m(a_, 4 * kPage);
  for (int i = 0; i < kRounds; ++i) {
    const int64_t offset = i * 53 % (4 * kPage - 8);
    char c = static_cast<char>('A' + i % 26);
    if (i % 3 == 0) {
      m.data()[offset] = c;
    } else {
      put(a_, offset, std::string(1, c));
    }
    ASSERT_EQ(::write(there[1], &c, 1), 1);
    char answer = 0;
    if (::read(back[0], &answer, 1) != 1) break;
    ASSERT_EQ(at(a_, offset, 2), std::string(2, c)) << i;
    ASSERT_EQ(m.at(offset, 2), std::string(2, c)) << i;
  }
  for (const int fd : {there[0], there[1], back[0], back[1]}) ::close(fd);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "the other process saw a wrong byte (4), or failed";
}

TEST_P(DaxMap, PrivateStoresStayPrivate) {
  put(a_, 0, std::string(2 * kPage, 'f'));
  const Map own(b_, 2 * kPage, MAP_PRIVATE);
  own.put(10, "mine");
  EXPECT_EQ(at(a_, 10, 4), "ffff");
  put(a_, 0, std::string(2 * kPage, 'g'));
  EXPECT_EQ(own.at(9, 6), "fminef");
  EXPECT_EQ(own.at(kPage, 3), "ggg") << "a page that was not stored to shows the file";
  put(b_, kPage, "h");
  EXPECT_EQ(own.at(kPage, 2), "hg");
  const Fd reader(::open("file", O_RDONLY));
  const Map of_reader(reader, kPage, MAP_PRIVATE);
  of_reader.put(0, "x");
  EXPECT_EQ(at(a_, 0, 1), "g");
  EXPECT_EQ(::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0), MAP_FAILED);
  EXPECT_EQ(errno, EACCES);
}

TEST_P(DaxMap, HolesReadAsZeroesAndStayHoles) {
  ASSERT_EQ(::ftruncate(a_, 8 * kMiB), 0);
  const Map m(b_, 8 * kMiB);
  EXPECT_EQ(m.at(0, 8 * kMiB), std::string(8 * kMiB, '\0'));
  ASSERT_EQ(err(m.sync()), 0);
  EXPECT_EQ(blocks(a_), 0);
  EXPECT_EQ(err(::lseek(a_, 0, SEEK_DATA)), ENXIO);
  m.put(5 * kMiB + 77, "data");
  ASSERT_EQ(err(m.sync()), 0);
  EXPECT_EQ(::lseek(a_, 0, SEEK_DATA), 5 * kMiB);
  EXPECT_EQ(::lseek(a_, 5 * kMiB, SEEK_HOLE), 5 * kMiB + kPage);
  EXPECT_EQ(::lseek(b_, 5 * kMiB + kPage, SEEK_DATA), -1);
  EXPECT_LE(blocks(a_), 2 * kPage / 512) << "one page was stored to";
  EXPECT_EQ(at(a_, 5 * kMiB + 76, 6), std::string("\0data\0", 6));
  // From the other side: a hole that is mapped as zeroes gets bytes by write(2).
  put(a_, 2 * kMiB + 3, "written");
  EXPECT_EQ(m.at(2 * kMiB, 11), std::string("\0\0\0written\0", 11));
}

TEST_P(DaxMap, UnwrittenRangesAreZeroes) {
  // Blocks with old bytes, to be had again.
  make_file("filler", std::string(2 * kMiB, 'S'));
  ASSERT_EQ(::unlink("filler"), 0);
  ASSERT_EQ(err(::fallocate(a_, 0, 0, 2 * kMiB)), 0);
  const int64_t allocated = blocks(a_);
  EXPECT_GE(allocated, 2 * kMiB / 512);
  const Map m(b_, 2 * kMiB);
  EXPECT_EQ(m.at(0, 2 * kMiB), std::string(2 * kMiB, '\0'));
  m.put(kPage + 100, "one");
  put(a_, 5 * kPage + 100, "two");
  m.put(9 * kPage - 2, "three");
  ASSERT_EQ(err(m.sync()), 0);
  std::string wanted(2 * kMiB, '\0');
  wanted.replace(kPage + 100, 3, "one");
  wanted.replace(5 * kPage + 100, 3, "two");
  wanted.replace(9 * kPage - 2, 5, "three");
  EXPECT_EQ(m.at(0, 2 * kMiB), wanted);
  EXPECT_EQ(at(a_, 0, 2 * kMiB), wanted);
  // The extents, now many, may have got a block of their own.
  EXPECT_LE(blocks(a_), allocated + kPage / 512) << "what was allocated already is used";
}

/// 0 if the byte can be touched, else 128 + SIGBUS.
int touch(int fd, int64_t offset, bool is_store) {
  return in_child(0, [&] {
    ::signal(SIGBUS, SIG_DFL);
    volatile char* const map = static_cast<char*>(
        ::mmap(nullptr, static_cast<size_t>(offset + 1), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    if (map == MAP_FAILED) return 1;
    if (is_store) {
      map[offset] = 'x';
    } else {
      static_cast<void>(map[offset]);
    }
    return 0;
  });
}

TEST_P(DaxMap, SigbusBehindTheEnd) {
  put(a_, 0, std::string(kPage + 100, 'x'));
  for (const bool is_store : {false, true}) {
    EXPECT_EQ(touch(b_, kPage + 99, is_store), 0);
    EXPECT_EQ(touch(b_, 2 * kPage - 1, is_store), 0) << "the rest of the last page";
    EXPECT_EQ(touch(b_, 2 * kPage, is_store), 128 + SIGBUS);
    EXPECT_EQ(touch(a_, 2 * kPage + kMiB, is_store), 128 + SIGBUS);
  }
  // What was stored behind the end, within the page, is no part of the file.
  ASSERT_EQ(::fsync(b_), 0);
  ASSERT_EQ(::ftruncate(a_, 2 * kPage), 0);
  EXPECT_EQ(at(a_, kPage + 100, kPage - 100), std::string(kPage - 100, '\0'));
  EXPECT_EQ(at(b_, kPage + 100, kPage - 100), std::string(kPage - 100, '\0'));
  // Of a file that shrinks, pages that are mapped go.
  EXPECT_EQ(in_child(0,
                     [&] {
                       ::signal(SIGBUS, SIG_DFL);
                       const Map m(b_, 2 * kPage);
                       m.data()[kPage] = 'y';
                       if (::ftruncate(a_, kPage) != 0) return 1;
                       m.data()[0] = 'y';
                       m.data()[kPage] = 'z';
                       return 0;
                     }),
            128 + SIGBUS);
  EXPECT_EQ(touch(a_, kPage, false), 128 + SIGBUS);
}

TEST_P(DaxMap, AMappedFileShrinksAndGrows) {
  put(a_, 0, std::string(4 * kPage, 'o'));
  const Map m(b_, 4 * kPage);
  m.put(kPage, std::string(3 * kPage, 'n'));
  ASSERT_EQ(::ftruncate(a_, kPage + 50), 0);
  ASSERT_EQ(::ftruncate(b_, 4 * kPage), 0);
  EXPECT_EQ(m.at(0, 4 * kPage),
            std::string(kPage, 'o') + std::string(50, 'n') + std::string(3 * kPage - 50, '\0'));
  EXPECT_EQ(at(a_, 0, 4 * kPage), m.at(0, 4 * kPage));
  // Appended bytes are seen in the page that was the last.
  ASSERT_EQ(::ftruncate(a_, 100), 0);
  const Fd appends(::open("file", O_WRONLY | O_APPEND));
  ASSERT_EQ(::write(appends, "tail", 4), 4);
  EXPECT_EQ(m.at(98, 6), "ootail");
  EXPECT_EQ(stat_of("file").st_size, 104);
}

TEST_P(DaxMap, RangesOfAMappedFileArePunchedAndZeroed) {
  put(a_, 0, std::string(8 * kPage, 'o'));
  const Map m(b_, 8 * kPage);
  m.put(0, std::string(8 * kPage, 'n'));
  ASSERT_EQ(err(::fallocate(a_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kPage + 10, 2 * kPage)), 0);
  ASSERT_EQ(err(::fallocate(b_, FALLOC_FL_ZERO_RANGE, 5 * kPage + 10, 2 * kPage)), 0);
  std::string wanted(8 * kPage, 'n');
  wanted.replace(kPage + 10, 2 * kPage, std::string(2 * kPage, '\0'));
  wanted.replace(5 * kPage + 10, 2 * kPage, std::string(2 * kPage, '\0'));
  EXPECT_EQ(m.at(0, 8 * kPage), wanted);
  EXPECT_EQ(at(a_, 0, 8 * kPage), wanted);
  EXPECT_EQ(at(b_, 0, 8 * kPage), wanted);
  m.put(2 * kPage + 5, "again");
  wanted.replace(2 * kPage + 5, 5, "again");
  ASSERT_EQ(err(m.sync()), 0);
  EXPECT_EQ(at(a_, 0, 8 * kPage), wanted);
}

TEST_P(DaxMap, CopiedRangesShow) {
  put(a_, 0, std::string(8 * kPage, 'o'));
  const Map m(b_, 8 * kPage);
  m.put(0, std::string(kPage, 'n'));
  loff_t in = 100;
  loff_t out = 4 * kPage + 30;
  ASSERT_EQ(::copy_file_range(a_, &in, b_, &out, 3000, 0), 3000);
  EXPECT_EQ(m.at(4 * kPage + 29, 3002), "o" + std::string(3000, 'n') + "o");
  EXPECT_EQ(at(a_, 4 * kPage + 29, 3002), m.at(4 * kPage + 29, 3002));
}

TEST_P(DaxMap, PagesThatWereGivenUpComeBack) {
  ASSERT_EQ(::ftruncate(a_, 64 * kPage), 0);
  const Map m(b_, 64 * kPage);
  for (int i = 0; i < 64; ++i) m.put(i * kPage + i, "stored");
  ASSERT_EQ(err(::madvise(m.data(), 64 * kPage, MADV_DONTNEED)), 0);
  for (int i = 0; i < 64; ++i) {
    ASSERT_EQ(m.at(i * kPage + i, 6), "stored") << i;
    put(a_, i * kPage + i + 3, "XY");
  }
  ASSERT_EQ(err(::madvise(m.data(), 64 * kPage, MADV_DONTNEED)), 0);
  for (int i = 0; i < 64; ++i) ASSERT_EQ(m.at(i * kPage + i, 6), "stoXYd") << i;
}

// The buffer's pages must be had while the file's are held: neither may wait for the other.
TEST_P(DaxMap, BuffersThatAreMappingsOfTheSameFile) {
  put(a_, 0, std::string(8 * kPage, 'o'));
  const Map m(b_, 8 * kPage);
  m.put(0, std::string(2 * kPage, 's'));
  // From one page to another.
  ASSERT_EQ(::pwrite(a_, m.data(), 2 * kPage, 4 * kPage), 2 * kPage);
  EXPECT_EQ(m.at(4 * kPage, 2 * kPage), std::string(2 * kPage, 's'));
  // Within a page: bytes move up.
  m.put(0, "0123456789");
  ASSERT_EQ(::pwrite(a_, m.data(), 10, 20), 10);
  EXPECT_EQ(at(b_, 0, 32), "0123456789ssssssssss0123456789ss");
  // And back: what is read is stored into the file.
  ASSERT_EQ(::pread(a_, m.data() + 6 * kPage, kPage, 4 * kPage), kPage);
  EXPECT_EQ(at(b_, 6 * kPage, kPage), std::string(kPage, 's'));
  const Fd direct(::open("file", O_RDWR | O_DIRECT));
  ASSERT_GE(direct, 0);
  m.put(kPage, std::string(kPage, 'd'));
  ASSERT_EQ(::pwrite(direct, m.data() + kPage, kPage, 7 * kPage), kPage);
  EXPECT_EQ(m.at(7 * kPage, kPage), std::string(kPage, 'd'));
  ASSERT_EQ(::pread(direct, m.data() + 3 * kPage, kPage, 7 * kPage), kPage);
  EXPECT_EQ(at(a_, 3 * kPage, kPage), std::string(kPage, 'd'));
}

TEST_P(DaxMap, AWriteFromThePageThatItWritesShows) {
  put(a_, 0, std::string(kPage, 'o'));
  const Map m(b_, kPage);
  m.put(0, "0123456789");
  ASSERT_EQ(::pwrite(a_, m.data(), 10, 20), 10);
  EXPECT_EQ(m.at(0, 32), "0123456789oooooooooo0123456789oo");
  put(b_, 40, "next");
  EXPECT_EQ(m.at(18, 28), "oo0123456789oooooooooonextoo");
}

/// Of rounds that take a second in all: a machine that is ten times slower need not make them all.
bool is_enough_since(std::chrono::steady_clock::time_point begun) {
  return std::chrono::steady_clock::now() - begun > std::chrono::seconds(5);
}

// A kernel that lets direct writes run in parallel waits for them in mmap(2), with the process's memory lock held, while a
// write waits for that lock if its buffer is not in memory yet.
TEST_F(Posix, AThreadMapsWhileOthersWrite) {
  make_file("file", std::string(64 * kPage, 'x'));
  set_dax("file", true);
  const int result = in_child(0, [] {
    constexpr uint32_t kPatienceSeconds = 60;  // for 100 rounds: a slow machine is not a stuck one
    constexpr size_t kBuffer = 16 * kPage;
    const auto begun = std::chrono::steady_clock::now();
    std::atomic<bool> is_over{false};
    std::atomic<bool> is_wrong{false};
    const auto write = [&] {
      const Fd fd(::open("file", O_RDWR));
      while (!is_over.load()) {
        void* const fresh = ::mmap(nullptr, kBuffer, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (::pwrite(fd, fresh, kBuffer, 0) != static_cast<ssize_t>(kBuffer)) is_wrong = true;
        ::munmap(fresh, kBuffer);
      }
    };
    std::thread one(write);
    std::thread another(write);
    for (int i = 0; i < 12000 && !is_enough_since(begun); ++i) {
      if (i % 100 == 0) ::alarm(kPatienceSeconds);
      const Fd fd(::open("file", O_RDWR));
      void* const map = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      if (map == MAP_FAILED && errno == ENODEV) break;
      if (map == MAP_FAILED || ::munmap(map, kPage) != 0) is_wrong = true;
    }
    is_over = true;
    one.join();
    another.join();
    return is_wrong ? 1 : 0;
  });
  EXPECT_EQ(result, 0) << "128 + SIGALRM: they wait for each other";
}

TEST_P(DaxMap, DirectAndCachedCallsAgree) {
  put(a_, 0, std::string(4 * kPage, 'o'));
  const Map m(a_, 4 * kPage);
  const Fd direct(::open("file", O_RDWR | O_DIRECT));
  ASSERT_GE(direct, 0);
  void* space = nullptr;
  ASSERT_EQ(::posix_memalign(&space, kPage, kPage), 0);
  char* const buffer = static_cast<char*>(space);
  for (int i = 0; i < 100; ++i) {
    const int64_t page = i % 4 * kPage;
    const char c = static_cast<char>('A' + i % 26);
    std::memset(buffer, c, kPage);
    ASSERT_EQ(::pwrite(direct, buffer, kPage, page), kPage);
    ASSERT_EQ(m.at(page, kPage), std::string(kPage, c)) << i;
    ASSERT_EQ(at(b_, page, kPage), std::string(kPage, c)) << i;
    m.put(page + 9, "m");
    ASSERT_EQ(::pread(direct, buffer, kPage, page), kPage);
    ASSERT_EQ(std::string(buffer, kPage), m.at(page, kPage)) << i;
    put(b_, page + 11, "w");
    ASSERT_EQ(::pread(direct, buffer, kPage, page), kPage);
    ASSERT_EQ(std::string(buffer + 8, 5), std::string{c} + "m" + c + "w" + c) << i;
  }
  std::free(space);
}

TEST_P(DaxMap, StoresWhileOthersSync) {
  ASSERT_EQ(::ftruncate(a_, 32 * kPage), 0);
  const Map m(b_, 32 * kPage);
  std::atomic<bool> is_over{false};
  std::thread syncs([&] {
    while (!is_over.load()) {
      EXPECT_EQ(::fsync(a_), 0);
      EXPECT_EQ(m.sync(), 0);
    }
  });
  const auto begun = std::chrono::steady_clock::now();
  for (int i = 0; i < 3000 && !is_enough_since(begun); ++i) {
    const int64_t offset = i * 211 % (32 * kPage - 8);
    const std::string bytes = std::to_string(10000 + i);
    if (i % 2 == 0) {
      m.put(offset, bytes);
    } else {
      put(a_, offset, bytes);
    }
    if (m.at(offset, 5) != bytes || at(a_, offset, 5) != bytes) {
      ADD_FAILURE() << "round " << i << ": " << m.at(offset, 5) << " " << at(a_, offset, 5) << " " << bytes;
      break;
    }
  }
  is_over.store(true);
  syncs.join();
}

}  // namespace
}  // namespace udax::conformity
