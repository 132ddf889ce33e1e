// SPDX-License-Identifier: BSD-3-Clause
//
// Bytes: reading and writing at all offsets, mapping, holes, allocation, copying.
#include <linux/falloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <climits>
#include <cstdlib>
#include <cstring>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kPage = 4096;

int64_t size(int fd) {
  struct stat info {};
  EXPECT_EQ(::fstat(fd, &info), 0);
  return info.st_size;
}

char* map(int fd, int64_t length, int protection, int flags) {
  void* result = ::mmap(nullptr, static_cast<size_t>(length), protection, flags, fd, 0);
  return result == MAP_FAILED ? nullptr : static_cast<char*>(result);
}

// Kernels before 6.6 do not map DAX files shared.
#define UDAX_MAP_SHARED(variable, fd, length)                                             \
  char* variable = map(fd, length, PROT_READ | PROT_WRITE, MAP_SHARED);                   \
  if (variable == nullptr && errno == ENODEV) GTEST_SKIP() << "this kernel cannot do it"; \
  ASSERT_NE(variable, nullptr) << errno

TEST_F(Posix, SeekFindsHolesAndData) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  put(fd, kMiB, std::string(kPage, 'a'));
  put(fd, 3 * kMiB, std::string(100, 'b'));
  ASSERT_EQ(err(::ftruncate(fd, 5 * kMiB)), 0);
  EXPECT_EQ(::lseek(fd, 0, SEEK_DATA), kMiB);
  EXPECT_EQ(::lseek(fd, 0, SEEK_HOLE), 0);
  EXPECT_EQ(::lseek(fd, kMiB, SEEK_HOLE), kMiB + kPage);
  EXPECT_EQ(::lseek(fd, kMiB + 5, SEEK_DATA), kMiB + 5);
  EXPECT_EQ(::lseek(fd, kMiB + kPage, SEEK_DATA), 3 * kMiB);
  EXPECT_EQ(::lseek(fd, 3 * kMiB, SEEK_HOLE), 3 * kMiB + kPage);
  EXPECT_EQ(err(::lseek(fd, 4 * kMiB, SEEK_DATA)), ENXIO);
  EXPECT_EQ(err(::lseek(fd, 5 * kMiB, SEEK_HOLE)), ENXIO);
  EXPECT_EQ(err(::lseek(fd, 6 * kMiB, SEEK_DATA)), ENXIO);
  EXPECT_EQ(err(::lseek(fd, -1, SEEK_SET)), EINVAL);
  EXPECT_EQ(::lseek(fd, -10, SEEK_END), 5 * kMiB - 10);
  const Fd full(::open("full", O_RDWR | O_CREAT, 0644));
  put(full, 0, std::string(10'000, 'x'));
  EXPECT_EQ(::lseek(full, 5, SEEK_HOLE), 10'000);
}

TEST_F(Posix, FallocateReserves) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  ASSERT_EQ(err(::fallocate(fd, 0, 0, kMiB)), 0);
  EXPECT_EQ(size(fd), kMiB);
  EXPECT_GE(blocks(fd), kMiB / 512);
  EXPECT_EQ(at(fd, 1000, 50), std::string(50, '\0'));
  ASSERT_EQ(err(::fallocate(fd, FALLOC_FL_KEEP_SIZE, kMiB, kMiB)), 0);
  EXPECT_EQ(size(fd), kMiB);
  EXPECT_GE(blocks(fd), 2 * kMiB / 512);
  put(fd, kMiB, "behind");
  EXPECT_EQ(at(fd, kMiB - 3, 20), std::string(3, '\0') + "behind");
  EXPECT_EQ(err(::fallocate(fd, 0, -1, 10)), EINVAL);
  EXPECT_EQ(err(::fallocate(fd, 0, 0, 0)), EINVAL);
  EXPECT_EQ(err(::fallocate(fd, 0, INT64_MAX - 5, 10)), EFBIG);
  const Fd read_only(::open("file", O_RDONLY));
  EXPECT_EQ(err(::fallocate(read_only, 0, 0, 10)), EBADF);
}

TEST_F(Posix, FallocatePunches) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  put(fd, 0, std::string(kMiB, 'x'));
  const int64_t before = blocks(fd);
  ASSERT_EQ(err(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1000, 100'000)), 0);
  EXPECT_EQ(size(fd), kMiB);
  EXPECT_LE(blocks(fd), before - 23 * 8);
  EXPECT_EQ(at(fd, 0, 102'000), std::string(1000, 'x') + std::string(100'000, '\0') + std::string(1000, 'x'));
  EXPECT_EQ(::lseek(fd, 0, SEEK_HOLE), kPage);
  ASSERT_EQ(err(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, kMiB - 10, 100 * kMiB)), 0);
  EXPECT_EQ(size(fd), kMiB);
  EXPECT_EQ(at(fd, kMiB - 12, 20), "xx" + std::string(10, '\0'));
  EXPECT_EQ(err(::fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10)), EOPNOTSUPP);
}

TEST_F(Posix, FallocateZeroes) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  put(fd, 0, std::string(100'000, 'x'));
  ASSERT_EQ(err(::fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 5000, 200'000)), 0);
  EXPECT_EQ(size(fd), 100'000);
  ASSERT_EQ(err(::fallocate(fd, FALLOC_FL_ZERO_RANGE, 50'000, 100'000)), 0);
  EXPECT_EQ(size(fd), 150'000);
  EXPECT_EQ(at(fd, 0, 200'000), std::string(5000, 'x') + std::string(145'000, '\0'));
}

TEST_F(Posix, TruncateShowsZeroesNotOldBytes) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  put(fd, 0, std::string(20'000, 'x'));
  ASSERT_EQ(err(::ftruncate(fd, 10)), 0);
  ASSERT_EQ(err(::ftruncate(fd, 20'000)), 0);
  EXPECT_EQ(at(fd, 0, 30'000), std::string(10, 'x') + std::string(19'990, '\0'));
  ASSERT_EQ(err(::truncate("file", 5)), 0);
  put(fd, 100, "y");
  EXPECT_EQ(at(fd, 0, 200), std::string(5, 'x') + std::string(95, '\0') + "y");
  EXPECT_EQ(err(::ftruncate(fd, -1)), EINVAL);
  { const Fd again(::open("file", O_WRONLY | O_TRUNC)); }
  EXPECT_EQ(size(fd), 0);
  EXPECT_EQ(blocks(fd), 0);
}

TEST_F(Posix, FilesReachTo2To63) {
  UDAX_NEEDS_OURS();
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  ASSERT_EQ(err(::ftruncate(fd, INT64_MAX)), 0);
  EXPECT_EQ(size(fd), INT64_MAX);
  put(fd, INT64_MAX - 1, "z");
  EXPECT_EQ(at(fd, INT64_MAX - 2, 1), std::string(1, '\0'));
  EXPECT_EQ(at(fd, INT64_MAX - 1, 1), "z");
  EXPECT_EQ(err(::pwrite(fd, "z", 1, INT64_MAX)), EINVAL);  // the end would be no off_t
  EXPECT_EQ(err(::fallocate(fd, 0, INT64_MAX - 1, 2)), EFBIG);
  EXPECT_LE(blocks(fd), 64);
  put(fd, int64_t{1} << 45, "middle");
  EXPECT_EQ(at(fd, int64_t{1} << 45, 6), "middle");
  EXPECT_EQ(::lseek(fd, 0, SEEK_DATA), int64_t{1} << 45);
  ASSERT_EQ(err(::ftruncate(fd, 0)), 0);
  EXPECT_EQ(blocks(fd), 0);
}

TEST_F(Posix, ALimitOnFileSizeIsKept) {
  EXPECT_EQ(in_child(0,
                     [] {
                       const rlimit limit{10'000, 10'000};
                       if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
                       ::signal(SIGXFSZ, SIG_IGN);
                       const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
                       const std::string bytes(9000, 'x');
                       if (::write(fd, bytes.data(), 9000) != 9000) return 2;
                       if (::write(fd, bytes.data(), 9000) != 1000) return 3;
                       return err(::write(fd, bytes.data(), 1));
                     }),
            EFBIG);
}

TEST_F(Posix, ReadsAndWritesOfManyShapes) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  std::string model;
  for (uint64_t i = 0; i < 300; ++i) {
    const uint64_t offset = i * 7919 % 200'000;
    const std::string bytes(i * 131 % 9000 + 1, static_cast<char>('a' + i % 26));
    put(fd, static_cast<int64_t>(offset), bytes);
    if (model.size() < offset + bytes.size()) model.resize(offset + bytes.size());
    model.replace(offset, bytes.size(), bytes);
    const uint64_t from = i * 104'729 % 200'000;
    const size_t length = i * 977 % 70'000;
    ASSERT_EQ(at(fd, static_cast<int64_t>(from), length), from < model.size() ? model.substr(from, length) : "")
        << i;
  }
  EXPECT_EQ(read_file("file"), model);
  char one[10];
  char two[4000];
  const iovec pieces[] = {{one, sizeof(one)}, {two, sizeof(two)}};
  EXPECT_EQ(::preadv(fd, pieces, 2, 5000), 4010);
  EXPECT_EQ(std::string(one, 10) + std::string(two, 4000), model.substr(5000, 4010));
  EXPECT_EQ(::pwritev(fd, pieces, 2, 300'000), 4010);
  EXPECT_EQ(at(fd, 300'000, 5000), model.substr(5000, 4010));
  const Fd copy(::open("copy", O_RDWR | O_CREAT, 0644));
  off_t from = 100;
  EXPECT_EQ(::sendfile(copy, fd, &from, 100'000), 100'000);
  EXPECT_EQ(read_file("copy"), model.substr(100, 100'000));
}

TEST_F(Posix, DirectIo) {
  const Fd fd(::open("file", O_RDWR | O_CREAT | O_DIRECT, 0644));
  if (fd < 0 && errno == EINVAL) GTEST_SKIP() << "no O_DIRECT here";
  ASSERT_GE(fd, 0) << errno;
  void* buffer = std::aligned_alloc(4096, 65536);
  std::memset(buffer, 'd', 65536);
  EXPECT_EQ(::pwrite(fd, buffer, 65536, 8192), 65536) << errno;
  std::memset(buffer, 0, 65536);
  EXPECT_EQ(::pread(fd, buffer, 65536, 4096), 65536) << errno;
  EXPECT_EQ(std::string(static_cast<char*>(buffer), 65536), std::string(4096, '\0') + std::string(61440, 'd'));
  const Fd cached(::open("file", O_RDWR));
  EXPECT_EQ(at(cached, 8192, 100), std::string(100, 'd'));
  put(cached, 8192, std::string(4096, 'c'));
  EXPECT_EQ(::pread(fd, buffer, 4096, 8192), 4096);
  EXPECT_EQ(std::string(static_cast<char*>(buffer), 4096), std::string(4096, 'c'));
  std::free(buffer);
}

TEST_F(Posix, CopyFileRange) {
  const Fd from(::open("from", O_RDWR | O_CREAT, 0644));
  const Fd to(::open("to", O_RDWR | O_CREAT, 0644));
  std::string bytes(300'000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 % 251);
  put(from, 0, bytes);
  off_t in = 1000;
  off_t out = 77;
  ASSERT_EQ(::copy_file_range(from, &in, to, &out, 200'000, 0), 200'000) << errno;
  EXPECT_EQ(in, 201'000);
  EXPECT_EQ(out, 200'077);
  EXPECT_EQ(read_file("to"), std::string(77, '\0') + bytes.substr(1000, 200'000));
  in = 299'990;
  out = 0;
  EXPECT_EQ(::copy_file_range(from, &in, to, &out, 100, 0), 10);
  EXPECT_EQ(::copy_file_range(from, &in, to, &out, 100, 0), 0);
  in = 0;
  out = 100'000;
  EXPECT_EQ(::copy_file_range(from, &in, from, &out, 50'000, 0), 50'000) << errno;
  EXPECT_EQ(at(from, 100'000, 50'000), bytes.substr(0, 50'000));
  in = 0;
  out = 100;
  EXPECT_EQ(err(::copy_file_range(from, &in, from, &out, 1000, 0)), EINVAL);
}

TEST_F(Posix, SharedMappingsAndCallsSeeTheSameBytes) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  put(fd, 0, std::string(10 * kPage, 'a'));
  UDAX_MAP_SHARED(bytes, fd, 10 * kPage);
  EXPECT_EQ(bytes[5000], 'a');
  put(fd, 5000, "written");
  EXPECT_EQ(std::string(bytes + 5000, 7), "written");
  std::string_view("stored").copy(bytes + 2 * kPage, 6);
  EXPECT_EQ(at(fd, 2 * kPage, 6), "stored");
  EXPECT_EQ(in_child(0,
                     [] {
                       const Fd again(::open("file", O_RDWR));
                       return at(again, 2 * kPage, 6) == "stored" ? 0 : 1;
                     }),
            0);
  ASSERT_EQ(err(::msync(bytes, 10 * kPage, MS_SYNC)), 0);
  ASSERT_EQ(err(::ftruncate(fd, kPage)), 0);
  ASSERT_EQ(err(::ftruncate(fd, 10 * kPage)), 0);
  EXPECT_EQ(bytes[2 * kPage], '\0') << "the mapping keeps bytes that were cut off";
  ASSERT_EQ(err(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kPage)), 0);
  EXPECT_EQ(bytes[100], '\0') << "the mapping keeps bytes that were punched out";
  bytes[100] = 'p';
  EXPECT_EQ(at(fd, 100, 1), "p");
  ::munmap(bytes, 10 * kPage);
  EXPECT_EQ(read_file("file").size(), 10U * kPage);
}

TEST_F(Posix, AMappedHoleFillsFromBothSides) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  ASSERT_EQ(err(::ftruncate(fd, 4 * kMiB)), 0);
  UDAX_MAP_SHARED(bytes, fd, 4 * kMiB);
  EXPECT_EQ(bytes[kMiB], '\0');
  put(fd, kMiB, "by write");
  EXPECT_EQ(std::string(bytes + kMiB, 8), "by write");
  std::string_view("by store").copy(bytes + 3 * kMiB, 8);
  EXPECT_EQ(at(fd, 3 * kMiB, 8), "by store");
  ASSERT_EQ(err(::fsync(fd)), 0);
  ::munmap(bytes, 4 * kMiB);
  EXPECT_EQ(at(fd, kMiB, 8), "by write");
  EXPECT_EQ(at(fd, 3 * kMiB, 9), std::string("by store") + '\0');
}

TEST_F(Posix, PrivateMappingsKeepTheirStoresToThemselves) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  put(fd, 0, std::string(kPage, 'a'));
  char* bytes = map(fd, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  ASSERT_NE(bytes, nullptr) << errno;
  bytes[0] = 'b';
  EXPECT_EQ(at(fd, 0, 1), "a");
  put(fd, 0, "c");
  EXPECT_EQ(bytes[0], 'b');
  ::munmap(bytes, kPage);
}

TEST_F(Posix, BeyondTheEndOfAMappingIsSigbus) {
  make_file("file", std::string(100, 'x'));
  const auto touch = [](int64_t offset) {
    return in_child(0, [&] {
      const Fd fd(::open("file", O_RDWR));
      char* bytes = map(fd, 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
      if (bytes == nullptr) return 77;
      ::signal(SIGBUS, SIG_DFL);  // a sanitizer would report it
      bytes[offset] = 'y';
      return 0;
    });
  };
  const int within = touch(1000);  // in the last page: allowed, and lost
  if (within == 77) GTEST_SKIP() << "this kernel cannot map it";
  EXPECT_EQ(within, 0);
  EXPECT_EQ(touch(kPage), 128 + SIGBUS);
  EXPECT_EQ(read_file("file"), std::string(100, 'x'));
  ASSERT_EQ(err(::truncate("file", 2000)), 0);
  EXPECT_EQ(read_file("file"), std::string(100, 'x') + std::string(1900, '\0'))
      << "a store behind the end came back";
}

TEST_F(Posix, TwoProcessesAppend) {
  constexpr int kRecords = 400;
  constexpr size_t kBytes = 100;
  make_file("file");
  const auto append = [](char letter) {
    const Fd fd(::open("file", O_WRONLY | O_APPEND));
    const std::string record(kBytes, letter);
    for (int i = 0; i < kRecords; ++i) {
      if (::write(fd, record.data(), kBytes) != static_cast<ssize_t>(kBytes)) return 1;
    }
    return 0;
  };
  const auto fork_append = [&](char letter) {
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(append(letter));
    return pid;
  };
  const pid_t one = fork_append('1');
  const pid_t two = fork_append('2');
  int status = 0;
  ASSERT_EQ(::waitpid(one, &status, 0), one);
  EXPECT_EQ(status, 0);
  ASSERT_EQ(::waitpid(two, &status, 0), two);
  EXPECT_EQ(status, 0);
  const std::string found = read_file("file");
  ASSERT_EQ(found.size(), 2 * kRecords * kBytes);
  for (size_t i = 0; i < found.size(); i += kBytes) {
    ASSERT_EQ(found.substr(i, kBytes), std::string(kBytes, found[i])) << "record at " << i << " is torn";
  }
}

TEST_F(Posix, AppendIgnoresOffsets) {
  make_file("file", "start");
  const Fd fd(::open("file", O_RDWR | O_APPEND));
  EXPECT_EQ(::pwrite(fd, "+one", 4, 0), 4);
  ASSERT_EQ(::lseek(fd, 1, SEEK_SET), 1);
  EXPECT_EQ(::write(fd, "+two", 4), 4);
  EXPECT_EQ(read_file("file"), "start+one+two");
}

TEST_F(Posix, SynchronousFiles) {
  for (const int flag : {O_SYNC, O_DSYNC}) {
    const Fd fd(::open("file", O_RDWR | O_CREAT | O_TRUNC | flag, 0644));
    ASSERT_GE(fd, 0);
    put(fd, 0, std::string(10'000, 's'));
    put(fd, 5000, "t");
    EXPECT_EQ(at(fd, 4999, 3), "sts");
  }
  const Fd fd(::open("file", O_RDWR));
  EXPECT_EQ(err(::fdatasync(fd)), 0);
  EXPECT_EQ(err(::sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE)), 0);
  EXPECT_EQ(err(::syncfs(fd)), 0);
  const Fd folder(::open(".", O_RDONLY));
  EXPECT_EQ(err(::fsync(folder)), 0);
}

}  // namespace
}  // namespace udax::conformity
