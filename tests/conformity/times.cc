// SPDX-License-Identifier: BSD-3-Clause
//
// Which of atime, mtime and ctime each call marks, of what it works on and of the folders around it: POSIX's
// "shall mark for update", and what Linux's manual pages add.
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <chrono>
#include <thread>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

enum Time : unsigned { kNone = 0, kA = 1, kM = 2, kC = 4 };

struct Row {
  const char* what;
  const char* watched;
  unsigned marks;
  std::function<int64_t()> call;  // must not fail
};

/// Which times of what lies there are not those of `before`.
unsigned changes(const struct stat& before, const struct stat& after) {
  return (ns(before.st_atim) != ns(after.st_atim) ? kA : 0U) |
         (ns(before.st_mtim) != ns(after.st_mtim) ? kM : 0U) | (ns(before.st_ctim) != ns(after.st_ctim) ? kC : 0U);
}

void check(const std::vector<Row>& rows, unsigned watched = kA | kM | kC) {
  for (const Row& row : rows) {
    const struct stat before = stat_of(row.watched);
    std::this_thread::sleep_for(std::chrono::milliseconds(12));  // more than a tick of the kernel's clock
    EXPECT_EQ(err(row.call()), 0) << row.what;
    const struct stat after = stat_of(row.watched);
    EXPECT_EQ(changes(before, after) & watched, row.marks) << row.what << ", of " << row.watched;
    EXPECT_GE(ns(after.st_ctim), ns(before.st_ctim)) << row.what;
  }
}

/// The call is to fail with `error`.
std::function<int64_t()> refused(int error, std::function<int64_t()> call) {
  return [error, call = std::move(call)]() -> int64_t {
    const int got = err(call());
    EXPECT_EQ(got, error);
    return got == error ? 0 : -1;
  };
}

// Long ago, read before it was written: reading marks atime even where a mount is relatime.
void age(const std::string& path) {
  const timespec old[2] = {{1000, 0}, {2000, 0}};
  ASSERT_EQ(err(::utimensat(AT_FDCWD, path.c_str(), old, AT_SYMLINK_NOFOLLOW)), 0) << path;
}

TEST_F(Posix, TimesOfAFileThatIsChanged) {
  make_file("f", "some bytes");
  make_file("empty");
  make_file("source", "0123456789");
  const Fd fd(::open("f", O_RDWR));
  const Fd empty(::open("empty", O_RDWR));
  const Fd source(::open("source", O_RDONLY));
  ASSERT_GE(fd, 0);
  check({
      {"write of nothing", "f", kNone, [&] { return ::write(fd, "", 0); }},
      {"pwrite of nothing behind the end", "f", kNone, [&] { return ::pwrite(fd, "", 0, 5000); }},
      {"append", "f", kM | kC,
       [&] {
         const Fd log(::open("f", O_WRONLY | O_APPEND));
         return ::write(log, "x", 1);
       }},
      {"truncate", "f", kM | kC, [] { return ::truncate("f", 5); }},
      {"truncate, longer", "f", kM | kC, [] { return ::truncate("f", 20'000); }},
      {"truncate to its size", "f", kM | kC, [] { return ::truncate("f", 20'000); }},
      {"ftruncate to its size", "f", kM | kC, [&] { return ::ftruncate(fd, 20'000); }},
      {"O_TRUNC of an empty file", "empty", kM | kC, [] { return ::close(::open("empty", O_WRONLY | O_TRUNC)); }},
      {"ftruncate of an empty file", "empty", kM | kC, [&] { return ::ftruncate(empty, 0); }},
      {"punch", "f", kM | kC,
       [&] { return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192); }},
      {"fallocate, longer", "f", kM | kC, [&] { return ::fallocate(fd, 0, 0, 30'000); }},
      {"copy_file_range", "f", kM | kC,
       [&] {
         loff_t from = 0;
         loff_t to = 0;
         return ::copy_file_range(source, &from, fd, &to, 10, 0);
       }},
      {"copy_file_range of nothing", "f", kNone,
       [&] {
         loff_t from = 500;
         return ::copy_file_range(source, &from, fd, nullptr, 10, 0);
       }},
      {"sendfile", "f", kM | kC,
       [&] {
         off_t from = 0;
         return ::sendfile(fd, source, &from, 10);
       }},
      {"open for writing", "f", kNone, [] { return ::close(::open("f", O_RDWR)); }},
      {"lseek", "f", kNone, [&] { return ::lseek(fd, 5, SEEK_SET); }},
      {"fsync", "f", kNone, [&] { return ::fsync(fd); }},
      {"write that is refused", "f", kNone,
       refused(EBADF,
               [] {
                 const Fd read_only(::open("f", O_RDONLY));
                 return ::write(read_only, "x", 1);
               })},
      {"truncate that is refused", "f", kNone, refused(EINVAL, [] { return ::truncate("f", -1); })},
  });
}

TEST_F(Posix, TimesOfAttributes) {
  make_file("f", "x");
  ASSERT_EQ(::symlink("f", "l"), 0);
  ASSERT_EQ(::mkdir("d", 0755), 0);
  const auto utimens = [](timespec a, timespec m) {
    const timespec times[2] = {a, m};
    return ::utimensat(AT_FDCWD, "f", times, 0);
  };
  check({
      {"chmod to what it is", "f", kC, [] { return ::chmod("f", 0644); }},
      {"chown to nobody else", "f", kC, [] { return ::chown("f", ~0U, ~0U); }},
      {"fchmod of a folder", "d", kC,
       [] {
         const Fd fd(::open("d", O_RDONLY));
         return ::fchmod(fd, 0700);
       }},
      {"lchown", "l", kC, [] { return ::lchown("l", ::getuid(), ::getgid()); }},
      {"lchown of the link", "f", kNone, [] { return ::lchown("l", ::getuid(), ::getgid()); }},
      {"utimensat", "f", kA | kM | kC,
       [&] {
         return utimens({50, 1}, {60, 2});
       }},
      {"utimensat of atime", "f", kA | kC,
       [&] {
         return utimens({51, 1}, {0, UTIME_OMIT});
       }},
      {"utimensat of mtime", "f", kM | kC,
       [&] {
         return utimens({0, UTIME_OMIT}, {61, 0});
       }},
      {"utimensat to what they are", "f", kC,
       [&] {
         return utimens({51, 1}, {61, 0});
       }},
      {"utimensat of none", "f", kNone,
       [&] {
         return utimens({0, UTIME_OMIT}, {0, UTIME_OMIT});
       }},
      {"utimensat to now", "f", kA | kM | kC, [] { return ::utimensat(AT_FDCWD, "f", nullptr, 0); }},
      {"setxattr", "f", kC, [] { return ::setxattr("f", "user.a", "1", 1, 0); }},
      {"setxattr of a folder", "d", kC, [] { return ::setxattr("d", "user.a", "1", 1, 0); }},
      {"setxattr that is refused", "f", kNone,
       refused(EEXIST, [] { return ::setxattr("f", "user.a", "1", 1, XATTR_CREATE); })},
      {"removexattr that is refused", "f", kNone, refused(ENODATA, [] { return ::removexattr("f", "user.b"); })},
      {"removexattr", "f", kC, [] { return ::removexattr("f", "user.a"); }},
      {"access", "f", kNone, [] { return ::access("f", R_OK); }},
      {"getxattr", "f", kNone, refused(ENODATA, [] { return ::getxattr("f", "user.a", nullptr, 0); })},
  });
}

TEST_F(Posix, TimesOfNames) {
  make_file("f", "x");
  ASSERT_EQ(::mkdir("d", 0755), 0);
  ASSERT_EQ(::mkdir("e", 0755), 0);
  make_file("d/a");
  make_file("e/b");
  ASSERT_EQ(::link("e/b", "e/b2"), 0);
  const auto exchange = [](const char* a, const char* b) {
    return [=] { return ::renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE); };
  };
  check({
      {"exchange", "d", kM | kC, exchange("d/a", "e/b")},
      {"exchange", "e", kM | kC, exchange("d/a", "e/b")},
      {"exchange", "d/a", kC, [&] { return exchange("d/a", "e/b")() + exchange("d/a", "e/b")(); }},
      {"mkfifo", "d", kM | kC, [] { return ::mkfifo("d/fifo", 0600); }},
      {"mknod", "d", kM | kC, [] { return ::mknod("d/node", S_IFREG | 0600, 0); }},
      {"O_TMPFILE", "d", kNone, [] { return ::close(::open("d", O_TMPFILE | O_RDWR, 0600)); }},
      {"rename onto one name of two", "e/b2", kC, [] { return ::rename("d/a", "e/b"); }},
      {"rename onto itself", "e", kNone, [] { return ::rename("e/b", "e/b"); }},
      {"rename onto itself", "e/b", kNone, [] { return ::rename("e/b", "e/b"); }},
      {"mkdir in it", "d", kM | kC, [] { return ::mkdir("d/sub", 0755); }},
      {"rename of a folder into it", "e", kM | kC, [] { return ::rename("d/sub", "e/sub"); }},
      {"rename of a folder out of it", "e", kM | kC, [] { return ::rename("e/sub", "d/sub"); }},
      {"rmdir that is refused", "d", kNone, refused(ENOTEMPTY, [] { return ::rmdir("d"); })},
      {"mkdir that is refused", "d", kNone, refused(EEXIST, [] { return ::mkdir("d/sub", 0755); })},
      {"unlink that is refused", "d", kNone, refused(ENOENT, [] { return ::unlink("d/none"); })},
      {"link that is refused", "f", kNone, refused(EEXIST, [] { return ::link("f", "e/b"); })},
      {"rename that is refused", "f", kNone, refused(EISDIR, [] { return ::rename("f", "d"); })},
      {"O_EXCL that is refused", "e", kNone,
       refused(EEXIST, [] { return ::open("e/b", O_CREAT | O_EXCL | O_WRONLY, 0644); })},
  });
  // What loses its last name, and is still open.
  const Fd last(::open("f", O_RDONLY));
  struct stat before {};
  struct stat after {};
  ASSERT_EQ(::fstat(last, &before), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(12));
  ASSERT_EQ(::unlink("f"), 0);
  ASSERT_EQ(::fstat(last, &after), 0);
  EXPECT_EQ(changes(before, after), kC) << "unlink of the last name";
  // A folder that is removed: its own content is as it was.
  ASSERT_EQ(::mkdir("gone", 0755), 0);
  const Fd gone(::open("gone", O_RDONLY));
  ASSERT_EQ(::fstat(gone, &before), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(12));
  ASSERT_EQ(::rmdir("gone"), 0);
  ASSERT_EQ(::fstat(gone, &after), 0);
  EXPECT_EQ(changes(before, after), kC) << "rmdir";
}

TEST_F(Posix, NewFilesHaveTheTimeOfTheirMaking) {
  const std::vector<std::pair<const char*, std::function<int64_t()>>> makers = {
      {"open", [] { return ::close(::open("open", O_CREAT | O_WRONLY, 0644)); }},
      {"mkdir", [] { return ::mkdir("mkdir", 0755); }},
      {"mkfifo", [] { return ::mkfifo("mkfifo", 0644); }},
      {"mknod", [] { return ::mknod("mknod", S_IFREG | 0644, 0); }},
      {"symlink", [] { return ::symlink("x", "symlink"); }},
  };
  for (const auto& [name, make] : makers) {
    const int64_t before = ns(stat_of(".").st_mtim);
    std::this_thread::sleep_for(std::chrono::milliseconds(12));
    ASSERT_EQ(err(make()), 0) << name;
    const struct stat made = stat_of(name);
    EXPECT_GT(ns(made.st_mtim), before) << name;
    EXPECT_EQ(ns(made.st_atim), ns(made.st_mtim)) << name;
    EXPECT_EQ(ns(made.st_ctim), ns(made.st_mtim)) << name;
    const int64_t folder = ns(stat_of(".").st_mtim);
    EXPECT_LE(std::abs(folder - ns(made.st_mtim)), 1'000'000'000) << name;
    EXPECT_EQ(folder, ns(stat_of(".").st_ctim)) << name;
  }
}

TEST_F(Posix, AtimeOfWhatIsRead) {
  make_file("f", std::string(9000, 'x'));
  ASSERT_EQ(::mkdir("d", 0755), 0);
  make_file("d/file");
  ASSERT_EQ(::symlink("f", "l"), 0);
  const auto is_marked = [](const std::string& path, const std::function<int64_t()>& call) {
    age(path);
    if (path == "f") {  // what is in the page cache, FUSE's kernel reads without asking
      const Fd fd(::open("f", O_RDONLY));
      EXPECT_EQ(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    }
    const struct stat before = stat_of(path);
    EXPECT_EQ(err(call()), 0) << path;
    return changes(before, stat_of(path)) == kA;
  };
  const auto read_with = [](const std::function<int64_t(int)>& call) {
    return [call] {
      const Fd fd(::open("f", O_RDONLY));
      return call(fd);
    };
  };
  char bytes[100];
  EXPECT_TRUE(is_marked("f", read_with([&](int fd) { return ::read(fd, bytes, 100); }))) << "read";
  EXPECT_TRUE(is_marked("f", read_with([&](int fd) { return ::pread(fd, bytes, 100, 5000); }))) << "pread";
  EXPECT_TRUE(is_marked("f", read_with([&](int fd) {
                          const Fd to(::open("to", O_CREAT | O_WRONLY, 0644));
                          return ::sendfile(to, fd, nullptr, 100);
                        })))
      << "sendfile";
  EXPECT_TRUE(is_marked("d", [] { return static_cast<int64_t>(list("d").size()); })) << "readdir";
  EXPECT_TRUE(is_marked("l", [&] { return ::readlink("l", bytes, 100); })) << "readlink";
  EXPECT_FALSE(is_marked("f", read_with([&](int fd) { return ::read(fd, bytes, 0); }))) << "read of nothing";
  EXPECT_FALSE(is_marked("f", [] { return ::close(::open("f", O_RDONLY)); })) << "open";
  EXPECT_FALSE(is_marked("d", [] { return ::access("d/file", F_OK); })) << "lookup";
  EXPECT_FALSE(is_marked("l", [] { return ::access("l", F_OK); }) && false) << "following a link may mark it";
  // relatime: atime that is younger than mtime and ctime stays.
  age("f");
  const timespec read_after[2] = {{::time(nullptr) + 1000, 0}, {2000, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, "f", read_after, 0), 0);
  (void)read_file("f");
  EXPECT_EQ(stat_of("f").st_atim.tv_sec, read_after[0].tv_sec);
}

TEST_F(Posix, NoAtimeWithONoatime) {
  make_file("f", "x");
  age("f");
  {
    const Fd fd(::open("f", O_RDONLY | O_NOATIME));
    ASSERT_GE(fd, 0);
    char byte = 0;
    ASSERT_EQ(::read(fd, &byte, 1), 1);
  }
  EXPECT_EQ(stat_of("f").st_atim.tv_sec, 1000);
}

// utimensat(2)'s table of who may.
TEST_F(Posix, WhoMaySetTimes) {
  UDAX_NEEDS_ROOT();
  make_file("mine", "", 0444);
  ASSERT_EQ(err(::chown("mine", kUser, kUser)), 0);
  make_file("writable", "", 0666);
  make_file("theirs", "", 0644);
  const auto set = [](const char* path, const timespec* times) {
    return in_child(kUser, [=] { return err(::utimensat(AT_FDCWD, path, times, 0)); });
  };
  const timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
  const timespec fixed[2] = {{5, 0}, {6, 0}};
  const timespec one_now[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
  const timespec none[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
  const timespec wrong[2] = {{5, 1'000'000'000}, {6, 0}};
  for (const timespec* times : {static_cast<const timespec*>(nullptr), now, fixed, one_now, none}) {
    EXPECT_EQ(set("mine", times), 0);
  }
  EXPECT_EQ(set("mine", wrong), EINVAL);
  EXPECT_EQ(set("writable", nullptr), 0);
  EXPECT_EQ(set("writable", now), 0);
  EXPECT_EQ(set("writable", fixed), EPERM);
  EXPECT_EQ(set("writable", one_now), EPERM);
  EXPECT_EQ(set("theirs", nullptr), EACCES);
  EXPECT_EQ(set("theirs", now), EACCES);
  EXPECT_EQ(set("theirs", fixed), EPERM);
  EXPECT_EQ(set("theirs", one_now), EPERM);
  EXPECT_EQ(set("theirs", none), 0) << "nothing is asked for";
}

// POSIX: marked between the store and the msync(), or the next one if there is none. atime may be marked at any time
// while the mapping is there.
TEST_F(Posix, StoresToMappingsMarkTimes) {
  make_file("f", std::string(8192, 'x'));
  const Fd fd(::open("f", O_RDWR));
  auto* const bytes = static_cast<char*>(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  if (bytes == MAP_FAILED && errno == ENODEV) GTEST_SKIP() << "this kernel does not map DAX files shared";
  ASSERT_NE(bytes, MAP_FAILED);
  int page = 0;
  const auto store = [&] {
    bytes[page * 4096] = 'y';
    page = 1 - page;
    return ::msync(bytes, 8192, MS_SYNC);
  };
  check(
      {
          {"a first store", "f", kM | kC, store},
          {"a store to another page", "f", kM | kC, store},
          {"a store to the first page again", "f", kM | kC, store},
          {"msync alone", "f", kNone, [&] { return ::msync(bytes, 8192, MS_SYNC); }},
          {"a load", "f", kNone,
           [&] { return static_cast<int64_t>(*static_cast<volatile char*>(bytes + 100)) > 0 ? 0 : -1; }},
      },
      kM | kC);
  ::munmap(bytes, 8192);
}

}  // namespace
}  // namespace udax::conformity
