// SPDX-License-Identifier: BSD-3-Clause
//
// Offsets and sizes, up to the largest; limits on them; what fallocate(2), lseek(2), copy_file_range(2) and O_APPEND
// refuse and do.
#include <linux/falloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include <array>
#include <climits>
#include <cstring>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr int64_t kMost = INT64_MAX;

/// An address that is not mapped; by way of a variable, since compilers warn of one that they know.
void* nowhere() {
  static volatile uintptr_t address = 8;
  return reinterpret_cast<void*>(address);
}

int64_t size_of(int fd) {
  struct stat info {};
  EXPECT_EQ(err(::fstat(fd, &info)), 0);
  return info.st_size;
}

TEST_F(Posix, OffsetsThatAreNone) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  char byte = 'x';
  EXPECT_EQ(err(::pread(fd, &byte, 1, -1)), EINVAL);
  EXPECT_EQ(err(::pwrite(fd, &byte, 1, -1)), EINVAL);
  EXPECT_EQ(err(::pwrite(fd, &byte, 1, INT64_MIN)), EINVAL);
  EXPECT_EQ(err(::lseek(fd, -1, SEEK_SET)), EINVAL);
  EXPECT_EQ(err(::lseek(fd, -1, SEEK_CUR)), EINVAL);
  EXPECT_EQ(err(::lseek(fd, -1, SEEK_END)), EINVAL);
  EXPECT_EQ(err(::lseek(fd, 0, 99)), EINVAL);
  EXPECT_EQ(err(::ftruncate(fd, -1)), EINVAL);
  EXPECT_EQ(err(::truncate("file", INT64_MIN)), EINVAL);
  EXPECT_EQ(::pread(fd, &byte, 1, int64_t{1} << 40), 0) << "far behind the end";
  EXPECT_EQ(::pwrite(fd, &byte, 0, int64_t{1} << 40), 0) << "nothing";
  EXPECT_EQ(size_of(fd), 0);
  EXPECT_EQ(err(::read(fd, nowhere(), 0)), 0);
  ASSERT_EQ(::write(fd, "some", 4), 4);
  EXPECT_EQ(err(::pread(fd, nowhere(), 4, 0)), EFAULT);
  EXPECT_EQ(err(::pwrite(fd, nowhere(), 4, 0)), EFAULT);
  EXPECT_EQ(size_of(fd), 4);
}

TEST_F(Posix, TheLastOffset) {
  UDAX_NEEDS_OURS();
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  char bytes[10] = "123456789";
  ASSERT_EQ(err(::ftruncate(fd, kMost)), 0);
  EXPECT_EQ(::lseek(fd, 0, SEEK_END), kMost);
  // EOVERFLOW by the manual page; Linux, on all filesystems, calls it negative.
  EXPECT_EQ(err(::lseek(fd, 1, SEEK_END)), EINVAL);
  EXPECT_EQ(err(::lseek(fd, 1, SEEK_CUR)), EINVAL);
  EXPECT_EQ(::lseek(fd, kMost, SEEK_SET), kMost);
  EXPECT_EQ(err(::lseek(fd, kMost, SEEK_DATA)), ENXIO);
  EXPECT_EQ(::pwrite(fd, bytes, 1, kMost - 1), 1);
  // Reads and writes whose end would be no offset are refused by the VFS (rw_verify_area).
  EXPECT_EQ(err(::pwrite(fd, bytes, 5, kMost - 3)), EINVAL);
  EXPECT_EQ(::pread(fd, bytes, 1, kMost - 1), 1);
  EXPECT_EQ(::pread(fd, bytes, 3, kMost - 3), 3);
  EXPECT_EQ(::lseek(fd, kMost - 100'000, SEEK_DATA) / 4096, (kMost - 1) / 4096);
  EXPECT_EQ(err(::fallocate(fd, 0, kMost, 1)), EFBIG);
  EXPECT_EQ(err(::fallocate(fd, kPunch, kMost - 4096, 4096)), 0);
  EXPECT_EQ(::pread(fd, bytes, 1, kMost - 1), 1);
  EXPECT_EQ(bytes[0], '\0');
  // An append begins where the file ends.
  const Fd appends(::open("file", O_WRONLY | O_APPEND));
  EXPECT_EQ(err(::write(appends, bytes, 1)), EFBIG);
  EXPECT_EQ(size_of(fd), kMost);
  ASSERT_EQ(err(::ftruncate(fd, 5)), 0);
}

TEST_F(Posix, LimitsOnFileSize) {
  make_file("long", std::string(20'000, 'x'));
  const auto limited = [](bool ignores, const std::function<int()>& body) {
    return in_child(0, [=] {
      const rlimit limit{10'000, 10'000};
      if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 250;
      ::signal(SIGXFSZ, ignores ? SIG_IGN : SIG_DFL);
      const rlimit no_core{0, 0};
      ::setrlimit(RLIMIT_CORE, &no_core);
      return body();
    });
  };
  const auto with_file = [](const std::function<int64_t(int)>& call) {
    return [call] {
      const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
      return err(call(fd));
    };
  };
  const std::vector<std::pair<const char*, std::function<int()>>> refused = {
      {"pwrite", with_file([](int fd) { return ::pwrite(fd, "x", 1, 10'000); })},
      {"ftruncate", with_file([](int fd) { return ::ftruncate(fd, 10'001); })},
      {"truncate", [] { return err(::truncate("long", 30'000)); }},
      {"fallocate", with_file([](int fd) { return ::fallocate(fd, 0, 0, 10'001); })},
      {"append",
       [] {
         const Fd fd(::open("long", O_WRONLY | O_APPEND));
         return err(::write(fd, "x", 1));
       }},
  };
  for (const auto& [name, call] : refused) {
    EXPECT_EQ(limited(true, call), EFBIG) << name;
    EXPECT_EQ(limited(false, call), 128 + SIGXFSZ) << name;
  }
  EXPECT_EQ(limited(true, with_file([](int fd) { return ::pwrite(fd, "x", 1, 9'999); })), 0);
  EXPECT_EQ(limited(true, with_file([](int fd) { return ::ftruncate(fd, 10'000); })), 0);
  EXPECT_EQ(limited(true, with_file([](int fd) { return ::pwrite(fd, "xyz", 3, 9'999) == 1 ? 0 : -1; })), 0)
      << "what fits is written";
  EXPECT_EQ(limited(true,
                    [] {
                      const Fd fd(::open("long", O_WRONLY));
                      return ::pwrite(fd, "y", 1, 5) == 1 ? err(::ftruncate(fd, 15'000)) : 1;
                    }),
            0)
      << "a file that is longer may be written below the limit, and be cut to more than it";
  EXPECT_EQ(stat_of("long").st_size, 15'000);
}

TEST_F(Posix, FallocateRefuses) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  ASSERT_EQ(::write(fd, "0123456789", 10), 10);
  constexpr std::array kModes{0, int{FALLOC_FL_KEEP_SIZE}, kPunch, int{FALLOC_FL_ZERO_RANGE},
                              FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
  const Fd reads(::open("file", O_RDONLY));
  int pipes[2];
  ASSERT_EQ(::pipe(pipes), 0);
  for (const int mode : kModes) {
    SCOPED_TRACE(mode);
    EXPECT_EQ(err(::fallocate(fd, mode, 0, 0)), EINVAL);
    EXPECT_EQ(err(::fallocate(fd, mode, 0, -1)), EINVAL);
    EXPECT_EQ(err(::fallocate(fd, mode, -1, 1)), EINVAL);
    EXPECT_EQ(err(::fallocate(fd, mode, kMost, kMost)), EFBIG);
    EXPECT_EQ(err(::fallocate(reads, mode, 0, 10)), EBADF);
    EXPECT_EQ(err(::fallocate(-1, mode, 0, 10)), EBADF);
    EXPECT_EQ(err(::fallocate(pipes[1], mode, 0, 10)), ESPIPE);
  }
  ::close(pipes[0]);
  ::close(pipes[1]);
  EXPECT_EQ(err(::fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10)), EOPNOTSUPP);
  EXPECT_EQ(err(::fallocate(fd, kPunch | FALLOC_FL_ZERO_RANGE, 0, 10)), EOPNOTSUPP);
  EXPECT_EQ(err(::fallocate(fd, FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096)), EOPNOTSUPP);
  EXPECT_EQ(err(::fallocate(fd, 1 << 20, 0, 10)), EOPNOTSUPP);
  EXPECT_EQ(size_of(fd), 10);
  EXPECT_EQ(read_file("file"), "0123456789");
  const Fd appends(::open("file", O_WRONLY | O_APPEND));
  EXPECT_EQ(err(::fallocate(appends, 0, 0, 100)), 0) << "O_APPEND does not matter";
  UDAX_NEEDS_OURS();
  EXPECT_EQ(err(::fallocate(fd, 0, 0, int64_t{1} << 40)), ENOSPC);
  EXPECT_EQ(size_of(fd), 100) << "more than there is: nothing changes";
}

TEST_F(Posix, SeekRefuses) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  EXPECT_EQ(err(::lseek(fd, 0, SEEK_DATA)), ENXIO);
  EXPECT_EQ(err(::lseek(fd, 0, SEEK_HOLE)), ENXIO);
  EXPECT_EQ(err(::lseek(fd, -1, SEEK_DATA)), ENXIO);
  EXPECT_EQ(err(::lseek(fd, -1, SEEK_HOLE)), ENXIO);
  ASSERT_EQ(::write(fd, "data", 4), 4);
  EXPECT_EQ(::lseek(fd, 0, SEEK_HOLE), 4) << "the end of a file is a hole";
  EXPECT_EQ(::lseek(fd, 3, SEEK_DATA), 3);
  EXPECT_EQ(::lseek(fd, 0, SEEK_CUR), 3) << "the position moves";
  EXPECT_EQ(err(::lseek(fd, 4, SEEK_DATA)), ENXIO);
  EXPECT_EQ(::lseek(fd, 0, SEEK_CUR), 3) << "not if it is refused";
}

TEST_F(Posix, CopyFileRangeRefuses) {
  make_file("from", std::string(10'000, 'f'));
  make_file("to", "to");
  ASSERT_EQ(::mkdir("folder", 0755), 0);
  ASSERT_EQ(::mkfifo("fifo", 0600), 0);
  const Fd from(::open("from", O_RDWR));
  const Fd to(::open("to", O_RDWR));
  const Fd folder(::open("folder", O_RDONLY));
  const Fd fifo(::open("fifo", O_RDWR));
  const Fd appends(::open("to", O_WRONLY | O_APPEND));
  const Fd writes(::open("from", O_WRONLY));
  const Fd reads(::open("to", O_RDONLY));
  const auto copy = [](int in, loff_t at, int out, loff_t target, size_t length, unsigned flags = 0) {
    return err(::copy_file_range(in, &at, out, &target, length, flags));
  };
  EXPECT_EQ(copy(from, 0, to, 0, 10, 1), EINVAL) << "no flags";
  EXPECT_EQ(copy(writes, 0, to, 0, 10), EBADF);
  EXPECT_EQ(copy(from, 0, reads, 0, 10), EBADF);
  EXPECT_EQ(copy(from, 0, appends, 0, 10), EBADF);
  EXPECT_EQ(copy(folder, 0, to, 0, 10), EISDIR);
  EXPECT_EQ(copy(fifo, 0, to, 0, 10), EINVAL);
  EXPECT_EQ(copy(from, 0, fifo, 0, 10), EINVAL);
  EXPECT_EQ(copy(from, -1, to, 0, 10), EOVERFLOW);
  EXPECT_EQ(copy(from, 0, from, 5, 10), EINVAL) << "they overlap";
  EXPECT_EQ(copy(from, 0, from, 0, 10), EINVAL);
  EXPECT_EQ(copy(from, kMost - 5, to, 0, 10), 0) << "behind the end there is nothing";
  EXPECT_EQ(copy(from, 0, to, kMost, 10), EFBIG);
  EXPECT_EQ(copy(from, 0, to, 0, 0), 0);
  EXPECT_EQ(read_file("to"), "to");
  // Offsets of the descriptors are used and moved where none are given.
  ASSERT_EQ(::lseek(from, 9'990, SEEK_SET), 9'990);
  ASSERT_EQ(::lseek(to, 2, SEEK_SET), 2);
  EXPECT_EQ(::copy_file_range(from, nullptr, to, nullptr, 100, 0), 10);
  EXPECT_EQ(::lseek(from, 0, SEEK_CUR), 10'000);
  EXPECT_EQ(::lseek(to, 0, SEEK_CUR), 12);
  EXPECT_EQ(read_file("to"), "toffffffffff");
}

TEST_F(Posix, VectorsThatAreTooMany) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  std::vector<iovec> pieces(IOV_MAX + 1);
  char byte = 'x';
  for (iovec& piece : pieces) piece = {&byte, 1};
  EXPECT_EQ(err(::writev(fd, pieces.data(), IOV_MAX + 1)), EINVAL);
  EXPECT_EQ(::writev(fd, pieces.data(), IOV_MAX), IOV_MAX);
  pieces[0].iov_len = SIZE_MAX;
  EXPECT_EQ(err(::writev(fd, pieces.data(), 2)), EINVAL);
  EXPECT_EQ(::writev(fd, pieces.data(), 0), 0);
  EXPECT_EQ(err(::pwritev2(fd, pieces.data() + 1, 1, 0, 0x40000000)), EOPNOTSUPP);
  EXPECT_EQ(::pwritev2(fd, pieces.data() + 1, 1, 0, RWF_APPEND), 1);
  EXPECT_EQ(size_of(fd), IOV_MAX + 1) << "RWF_APPEND";
  EXPECT_EQ(::pwritev2(fd, pieces.data() + 1, 1, 0, RWF_DSYNC), 1);
}

// O_APPEND: the offset is set to the end and the bytes are written as one step, whoever else writes.
TEST_F(Posix, FourProcessesAppendRecordsOfManySizes) {
  constexpr int kProcesses = 4;
  constexpr int kRecords = 150;
  make_file("file");
  std::array<pid_t, kProcesses> pids{};
  for (int p = 0; p < kProcesses; ++p) {
    pids[static_cast<size_t>(p)] = ::fork();
    if (pids[static_cast<size_t>(p)] != 0) continue;
    const Fd fd(::open("file", O_WRONLY | O_APPEND));
    for (int i = 0; i < kRecords; ++i) {
      const uint16_t length = static_cast<uint16_t>(2 + (i * 677 + p * 31) % 9000);
      std::string record(length, static_cast<char>('a' + p));
      std::memcpy(record.data(), &length, sizeof length);
      if (::write(fd, record.data(), length) != static_cast<ssize_t>(length)) ::_exit(1);
      if (::lseek(fd, 0, SEEK_CUR) < length) ::_exit(2);
    }
    ::_exit(0);
  }
  for (const pid_t pid : pids) EXPECT_EQ(wait_for(pid), 0);
  const std::string found = read_file("file");
  std::array<int, kProcesses> records{};
  for (size_t at = 0; at < found.size();) {
    uint16_t length = 0;
    ASSERT_LE(at + sizeof length, found.size());
    std::memcpy(&length, found.data() + at, sizeof length);
    ASSERT_GE(length, 2) << "at " << at;
    ASSERT_LE(at + length, found.size());
    const char letter = length > 2 ? found[at + 2] : 'a';
    ASSERT_EQ(found.substr(at + 2, length - 2U), std::string(length - 2U, letter)) << "a record is torn at " << at;
    if (length > 2) ++records.at(static_cast<size_t>(letter - 'a'));
    at += length;
  }
  for (const int count : records) EXPECT_GE(count, kRecords - 1);
}

}  // namespace
}  // namespace udax::conformity
