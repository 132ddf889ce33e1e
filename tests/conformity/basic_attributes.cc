// SPDX-License-Identifier: BSD-3-Clause
//
// Attributes: owners, modes, ACLs, times, xattrs, flags.
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

struct AclEntry {
  uint16_t tag, permissions;
  uint32_t id;
};
constexpr uint16_t kUserObj = 1, kAclUser = 2, kGroupObj = 4, kMask = 16, kOtherObj = 32;

int set_acl(const char* path, const char* kind, const std::vector<AclEntry>& entries) {
  std::string value("\2\0\0\0", 4);
  for (const AclEntry& entry : entries) value.append(reinterpret_cast<const char*>(&entry), sizeof(entry));
  return err(::setxattr(path, kind, value.data(), value.size(), 0));
}
constexpr char kAccess[] = "system.posix_acl_access";
constexpr char kDefault[] = "system.posix_acl_default";

TEST_F(Posix, PermissionsAreChecked) {
  UDAX_NEEDS_ROOT();
  make_file("secret", "x", 0600);
  ASSERT_EQ(::mkdir("closed", 0700), 0);
  make_file("closed/file", "x", 0644);
  make_file("theirs", "x", 0644);
  EXPECT_EQ(in_child(kUser, [] { return err(::open("secret", O_RDONLY)); }), EACCES);
  EXPECT_EQ(in_child(kUser, [] { return err(::open("closed/file", O_RDONLY)); }), EACCES);
  EXPECT_EQ(in_child(kUser, [] { return err(::open("theirs", O_WRONLY)); }), EACCES);
  EXPECT_EQ(in_child(kUser, [] { return err(::truncate("theirs", 0)); }), EACCES);
  EXPECT_EQ(in_child(kUser, [] { return err(::mkdir("closed/x", 0755)); }), EACCES);
  EXPECT_EQ(in_child(kUser, [] { return err(::chmod("theirs", 0777)); }), EPERM);
  EXPECT_EQ(in_child(kUser, [] { return err(::chown("theirs", kUser, kUser)); }), EPERM);
  EXPECT_EQ(in_child(kUser, [] { return err(::utimensat(AT_FDCWD, "theirs", nullptr, 0)); }), EACCES);
  EXPECT_EQ(in_child(kUser, [] { return err(::setxattr("theirs", "user.x", "1", 1, 0)); }), EACCES);
  EXPECT_EQ(in_child(kUser, [] { return err(::access("theirs", R_OK)); }), 0);
  EXPECT_EQ(
      set_acl(
          "secret", kAccess,
          {{kUserObj, 6, ~0U}, {kAclUser, 4, kUser}, {kGroupObj, 0, ~0U}, {kMask, 4, ~0U}, {kOtherObj, 0, ~0U}}),
      0);
  EXPECT_EQ(mode_of("secret"), 0640U);
  EXPECT_EQ(in_child(kUser, [] { return err(::open("secret", O_RDONLY)); }), 0);
  EXPECT_EQ(in_child(kUser, [] { return err(::open("secret", O_RDWR)); }), EACCES);
  EXPECT_EQ(in_child(kOther, [] { return err(::open("secret", O_RDONLY)); }), EACCES);
  ASSERT_EQ(::chmod("secret", 0600), 0);  // takes the mask away
  EXPECT_EQ(in_child(kUser, [] { return err(::open("secret", O_RDONLY)); }), EACCES);
}

TEST_F(Posix, ADefaultAclReplacesTheUmask) {
  ASSERT_EQ(::mkdir("plain", 0755), 0);
  ASSERT_EQ(::mkdir("folder", 0755), 0);
  ASSERT_EQ(
      set_acl(
          "folder", kDefault,
          {{kUserObj, 7, ~0U}, {kAclUser, 7, kUser}, {kGroupObj, 5, ~0U}, {kMask, 7, ~0U}, {kOtherObj, 5, ~0U}}),
      0);
  ::umask(077);
  for (const std::string folder : {"plain", "folder"}) {
    const Fd fd(::open((folder + "/file").c_str(), O_CREAT | O_WRONLY, 0666));
    ASSERT_EQ(::mkdir((folder + "/sub").c_str(), 0777), 0);
    ASSERT_EQ(::mknod((folder + "/fifo").c_str(), S_IFIFO | 0666, 0), 0);
    ASSERT_EQ(::symlink("x", (folder + "/link").c_str()), 0);
  }
  ::umask(022);
  EXPECT_EQ(mode_of("plain/file"), 0600U);
  EXPECT_EQ(mode_of("plain/sub"), 0700U);
  EXPECT_EQ(mode_of("plain/fifo"), 0600U);
  EXPECT_EQ(mode_of("folder/file"), 0664U);
  EXPECT_EQ(mode_of("folder/sub"), 0775U);
  EXPECT_EQ(mode_of("folder/fifo"), 0664U);
  EXPECT_EQ(mode_of("folder/link"), 0777U);
  EXPECT_GT(::getxattr("folder/file", kAccess, nullptr, 0), 0);
  EXPECT_EQ(err(::getxattr("folder/file", kDefault, nullptr, 0)), ENODATA);
  EXPECT_GT(::getxattr("folder/sub", kDefault, nullptr, 0), 0);
  EXPECT_EQ(err(::getxattr("plain/file", kAccess, nullptr, 0)), ENODATA);
  EXPECT_EQ(set_acl("folder/file", kDefault, {{kUserObj, 7, ~0U}, {kGroupObj, 5, ~0U}, {kOtherObj, 5, ~0U}}),
            EACCES);
  EXPECT_EQ(set_acl("folder/file", kAccess, {{kUserObj, 7, ~0U}}), EINVAL);
}

// Changes `path` in a child of an ordinary user, and gives the mode that remains.
uint32_t mode_after(const char* path, uint32_t mode, const std::function<int(const char*)>& change) {
  make_file(path, "0123456789");
  EXPECT_EQ(err(::chown(path, kUser, kUser)), 0);
  EXPECT_EQ(err(::chmod(path, mode)), 0);
  EXPECT_EQ(in_child(kUser, [&] { return change(path); }), 0) << path;
  return mode_of(path);
}

TEST_F(Posix, SetuidGoesWhenAnOrdinaryUserChangesTheFile) {
  UDAX_NEEDS_ROOT();
  const auto with_fd = [](const std::function<int64_t(int)>& body) {
    return [body](const char* path) {
      const Fd fd(::open(path, O_RDWR));
      return fd < 0 ? errno : err(body(fd));
    };
  };
  EXPECT_EQ(mode_after("write", 06777, with_fd([](int fd) { return ::write(fd, "x", 1); })), 0777U);
  EXPECT_EQ(mode_after("append", 06777, with_fd([](int fd) { return ::pwrite(fd, "x", 1, 9000); })), 0777U);
  EXPECT_EQ(mode_after("ftruncate", 06777, with_fd([](int fd) { return ::ftruncate(fd, 2); })), 0777U);
  EXPECT_EQ(mode_after("fallocate", 06777, with_fd([](int fd) { return ::fallocate(fd, 0, 0, 90'000); })), 0777U);
  EXPECT_EQ(mode_after("truncate", 06777, [](const char* path) { return err(::truncate(path, 1)); }), 0777U);
  EXPECT_EQ(mode_after("chown", 06777, [](const char* path) { return err(::chown(path, kUser, kUser)); }), 0777U);
  EXPECT_EQ(mode_after("O_TRUNC", 06777,
                       [](const char* path) {
                         const Fd fd(::open(path, O_WRONLY | O_TRUNC));
                         return fd < 0 ? errno : 0;
                       }),
            0777U);
  // Without group execution setgid once meant mandatory locking: it stays for one who is in the group.
  EXPECT_EQ(mode_after("setgid", 02767, with_fd([](int fd) { return ::write(fd, "x", 1); })), 02767U);
  EXPECT_EQ(mode_after("read", 06777, with_fd([](int fd) {
                         char byte = 0;
                         return ::read(fd, &byte, 1);
                       })),
            06777U);
  make_file("by-root", "x");
  ASSERT_EQ(::chmod("by-root", 06777), 0);
  const Fd fd(::open("by-root", O_WRONLY));
  ASSERT_EQ(::write(fd, "y", 1), 1);
  EXPECT_EQ(mode_of("by-root"), 06777U);
}

TEST_F(Posix, SetgidFoldersPassTheirGroupOn) {
  UDAX_NEEDS_ROOT();
  ASSERT_EQ(::mkdir("shared", 0755), 0);
  ASSERT_EQ(::chown("shared", 0, 1234), 0);
  ASSERT_EQ(::chmod("shared", 02777), 0);
  EXPECT_EQ(in_child(kUser,
                     [] {
                       ::umask(0);
                       const Fd fd(::open("shared/file", O_CREAT | O_WRONLY, 0644));
                       const Fd setgid(::open("shared/setgid", O_CREAT | O_WRONLY, 02775));
                       return fd < 0 || setgid < 0 ? errno : err(::mkdir("shared/sub", 0755));
                     }),
            0);
  EXPECT_EQ(stat_of("shared/file").st_gid, 1234U);
  EXPECT_EQ(stat_of("shared/sub").st_gid, 1234U);
  EXPECT_EQ(mode_of("shared/sub"), 02755U);
  EXPECT_EQ(mode_of("shared/setgid"), 0775U) << "setgid of a group that the user is not in";
  EXPECT_EQ(in_child(kUser, [] { return err(::chmod("shared/file", 02755)); }), 0);
  EXPECT_EQ(mode_of("shared/file"), 0755U) << "setgid of a group that the user is not in";
}

enum Time : unsigned { kA = 1, kM = 2, kC = 4 };

/// Which times of `path` the body changes.
unsigned changed(const std::string& path, const std::function<void()>& body) {
  const struct stat before = stat_of(path);
  std::this_thread::sleep_for(std::chrono::milliseconds(12));  // more than a tick of the kernel's clock
  body();
  const struct stat after = stat_of(path);
  return (ns(before.st_atim) != ns(after.st_atim) ? kA : 0U) |
         (ns(before.st_mtim) != ns(after.st_mtim) ? kM : 0U) | (ns(before.st_ctim) != ns(after.st_ctim) ? kC : 0U);
}

TEST_F(Posix, TimesThatCallsChange) {
  make_file("f", "bytes");
  ASSERT_EQ(::mkdir("d", 0755), 0);
  ASSERT_EQ(::mkdir("e", 0755), 0);
  const Fd fd(::open("f", O_RDWR));
  const auto ok = [](int64_t result) { EXPECT_GE(result, 0) << errno; };
  EXPECT_EQ(changed("f", [&] { ok(::pwrite(fd, "x", 1, 0)); }), kM | kC) << "write";
  EXPECT_EQ(changed("f", [&] { ok(::pwrite(fd, "x", 1, 90'000)); }), kM | kC) << "extending write";
  EXPECT_EQ(changed("f", [&] { ok(::ftruncate(fd, 7)); }), kM | kC) << "ftruncate";
  EXPECT_EQ(changed("f", [&] { ok(::fallocate(fd, 0, 0, 9000)); }), kM | kC) << "fallocate";
  EXPECT_EQ(changed("f", [&] { ok(::chmod("f", 0600)); }), kC) << "chmod";
  EXPECT_EQ(changed("f", [&] { ok(::chown("f", ::getuid(), ::getgid())); }), kC) << "chown";
  EXPECT_EQ(changed("f", [&] { ok(::setxattr("f", "user.a", "1", 1, 0)); }), kC) << "setxattr";
  EXPECT_EQ(changed("f", [&] { ok(::removexattr("f", "user.a")); }), kC) << "removexattr";
  EXPECT_EQ(changed("f", [&] { ok(::link("f", "d/l")); }), kC) << "link";
  EXPECT_EQ(changed("f", [&] { ok(::unlink("d/l")); }), kC) << "unlink of another name";
  EXPECT_EQ(changed("f", [&] { ok(::rename("f", "f2")), ok(::rename("f2", "f")); }), kC) << "rename";
  EXPECT_EQ(changed("f", [&] { (void)stat_of("f"); }), 0U) << "stat";
  EXPECT_EQ(changed("d", [&] { make_file("d/new"); }), kM | kC) << "create";
  EXPECT_EQ(changed("d", [&] { make_file("d/new"); }), 0U) << "open of what is there";
  EXPECT_EQ(changed("d", [&] { ok(::mkdir("d/sub", 0755)); }), kM | kC) << "mkdir";
  EXPECT_EQ(changed("d", [&] { make_file("d/sub/x"); }), 0U) << "create in a folder below";
  EXPECT_EQ(changed("d", [&] { ok(::symlink("x", "d/symlink")); }), kM | kC) << "symlink";
  EXPECT_EQ(changed("d", [&] { ok(::link("f", "d/link")); }), kM | kC) << "link";
  EXPECT_EQ(changed("d", [&] { ok(::rename("d/new", "e/new")); }), kM | kC) << "rename out";
  EXPECT_EQ(changed("e", [&] { ok(::rename("e/new", "e/newer")); }), kM | kC) << "rename within";
  EXPECT_EQ(changed("d", [&] { ok(::rename("e/newer", "d/new")); }), kM | kC) << "rename in";
  EXPECT_EQ(changed("d", [&] { ok(::unlink("d/new")); }), kM | kC) << "unlink";
  ok(::unlink("d/sub/x"));
  EXPECT_EQ(changed("d", [&] { ok(::rmdir("d/sub")); }), kM | kC) << "rmdir";
  EXPECT_EQ(changed("f", [&] { ok(::open("f", O_WRONLY | O_TRUNC)); }), kM | kC) << "O_TRUNC";
}

TEST_F(Posix, ReadingChangesAtimeWhenItIsOld) {
  make_file("f", std::string(5000, 'x'));
  const timespec old[2] = {{1000, 0}, {2000, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, "f", old, 0), 0);
  (void)read_file("f");
  EXPECT_GT(stat_of("f").st_atim.tv_sec, 1'000'000) << "relatime: atime was before mtime";
  const Fd quiet(::open("f", O_RDONLY | O_NOATIME));
  ASSERT_GE(quiet, 0);
  ASSERT_EQ(::utimensat(AT_FDCWD, "f", old, 0), 0);
  char byte = 0;
  EXPECT_EQ(::read(quiet, &byte, 1), 1);
}

TEST_F(Posix, TimesOfAllAges) {
  UDAX_NEEDS_OURS();
  make_file("f");
  for (const int64_t seconds :
       {-5'000'000'000, -1L, 0L, 1L, 2'147'483'647L, 2'147'483'648L, 4'294'967'296L, 16'000'000'000L}) {
    const timespec times[2] = {{seconds, 123'456'789}, {seconds, 999'999'999}};
    ASSERT_EQ(::utimensat(AT_FDCWD, "f", times, 0), 0);
    const struct stat info = stat_of("f");
    EXPECT_EQ(info.st_atim.tv_sec, seconds);
    EXPECT_EQ(info.st_atim.tv_nsec, 123'456'789);
    EXPECT_EQ(info.st_mtim.tv_sec, seconds);
    EXPECT_EQ(info.st_mtim.tv_nsec, 999'999'999);
  }
  const timespec omit[2] = {{0, UTIME_OMIT}, {77, 5}};
  ASSERT_EQ(::utimensat(AT_FDCWD, "f", omit, 0), 0);
  EXPECT_EQ(stat_of("f").st_atim.tv_sec, 16'000'000'000L);
  EXPECT_EQ(stat_of("f").st_mtim.tv_sec, 77);
  const timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
  ASSERT_EQ(::utimensat(AT_FDCWD, "f", now, 0), 0);
  EXPECT_LT(std::abs(stat_of("f").st_atim.tv_sec - ::time(nullptr)), 10);
  EXPECT_EQ(stat_of("f").st_mtim.tv_sec, 77);
}

TEST_F(Posix, BirthTimesStay) {
  const time_t start = ::time(nullptr);
  make_file("f");
  struct statx first {};
  ASSERT_EQ(err(::statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &first)), 0);
  if ((first.stx_mask & STATX_BTIME) == 0) GTEST_SKIP() << "this kernel's FUSE has no birth times";
  EXPECT_GE(first.stx_btime.tv_sec, start - 1);
  EXPECT_LE(first.stx_btime.tv_sec, start + 60);
  const timespec old[2] = {{1000, 0}, {2000, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, "f", old, 0), 0);
  ASSERT_EQ(::rename("f", "g"), 0);
  struct statx second {};
  ASSERT_EQ(err(::statx(AT_FDCWD, "g", 0, STATX_BTIME, &second)), 0);
  EXPECT_EQ(second.stx_btime.tv_sec, first.stx_btime.tv_sec);
  EXPECT_EQ(second.stx_btime.tv_nsec, first.stx_btime.tv_nsec);
}

TEST_F(Posix, Xattrs) {
  make_file("f");
  EXPECT_EQ(err(::setxattr("f", "user.a", "one", 3, XATTR_REPLACE)), ENODATA);
  EXPECT_EQ(err(::setxattr("f", "user.a", "one", 3, XATTR_CREATE)), 0);
  EXPECT_EQ(err(::setxattr("f", "user.a", "two", 3, XATTR_CREATE)), EEXIST);
  EXPECT_EQ(err(::setxattr("f", "user.a", "three", 5, XATTR_REPLACE)), 0);
  char value[10] = {};
  EXPECT_EQ(::getxattr("f", "user.a", nullptr, 0), 5);
  EXPECT_EQ(err(::getxattr("f", "user.a", value, 4)), ERANGE);
  EXPECT_EQ(::getxattr("f", "user.a", value, sizeof(value)), 5);
  EXPECT_STREQ(value, "three");
  EXPECT_EQ(err(::getxattr("f", "user.b", value, 10)), ENODATA);
  EXPECT_EQ(err(::removexattr("f", "user.b")), ENODATA);
  EXPECT_EQ(err(::setxattr("f", "nothing.a", "1", 1, 0)), EOPNOTSUPP);
  const std::string longest = "user." + std::string(250, 'n');
  EXPECT_EQ(err(::setxattr("f", longest.c_str(), "1", 1, 0)), 0);
  EXPECT_EQ(err(::setxattr("f", (longest + "n").c_str(), "1", 1, 0)), ERANGE);
  std::string names(1000, '\0');
  const ssize_t length = ::listxattr("f", names.data(), names.size());
  ASSERT_GT(length, 0);
  names.resize(static_cast<size_t>(length));
  EXPECT_NE(names.find(std::string("user.a") + '\0'), std::string::npos);
  EXPECT_NE(names.find(longest + '\0'), std::string::npos);
  EXPECT_EQ(err(::listxattr("f", names.data(), 3)), ERANGE);
  ASSERT_EQ(::symlink("f", "symlink"), 0);
  EXPECT_EQ(err(::lsetxattr("symlink", "user.a", "1", 1, 0)), EPERM);
  ASSERT_EQ(::mkfifo("fifo", 0600), 0);
  EXPECT_EQ(err(::setxattr("fifo", "user.a", "1", 1, 0)), EPERM);
  EXPECT_EQ(err(::removexattr("f", "user.a")), 0);
  EXPECT_EQ(err(::getxattr("f", "user.a", value, 10)), ENODATA);
}

TEST_F(Posix, XattrsOf64KiB) {
  UDAX_NEEDS_OURS();
  make_file("f");
  const std::string large(65536, 'L');
  ASSERT_EQ(err(::setxattr("f", "user.large", large.data(), large.size(), 0)), 0);
  EXPECT_EQ(err(::setxattr("f", "user.larger", (large + "L").data(), large.size() + 1, 0)), E2BIG);
  std::string found(65536, '\0');
  EXPECT_EQ(::getxattr("f", "user.large", found.data(), found.size()), 65536);
  EXPECT_EQ(found, large);
  ASSERT_EQ(err(::setxattr("f", "user.large", "small", 5, 0)), 0);
  EXPECT_EQ(::getxattr("f", "user.large", found.data(), found.size()), 5);
}

TEST_F(Posix, TrustedXattrsAreRootsOwn) {
  UDAX_NEEDS_ROOT();
  make_file("f", "", 0666);
  ASSERT_EQ(err(::setxattr("f", "trusted.a", "1", 1, 0)), 0);
  ASSERT_EQ(err(::setxattr("f", "user.a", "1", 1, 0)), 0);
  EXPECT_EQ(in_child(kUser, [] { return err(::setxattr("f", "trusted.b", "1", 1, 0)); }), EPERM);
  EXPECT_EQ(in_child(kUser, [] { return err(::getxattr("f", "trusted.a", nullptr, 0)); }), ENODATA);
  EXPECT_EQ(in_child(kUser,
                     [] {
                       char names[200] = {};
                       const ssize_t length = ::listxattr("f", names, sizeof(names));
                       return std::string(names, length < 0 ? 0 : static_cast<size_t>(length)) ==
                                      std::string("user.a") + '\0'
                                  ? 0
                                  : 1;
                     }),
            0)
      << "an ordinary user is shown trusted.*";
}

TEST_F(Posix, FlagsAppendAndImmutable) {
  UDAX_NEEDS_ROOT();
  make_file("f", "first", 0666);
  const auto set_flags = [](int flags) {
    const Fd fd(::open("f", O_RDONLY));
    return err(::ioctl(fd, FS_IOC_SETFLAGS, &flags));
  };
  const int none = set_flags(0);
  if (none == ENOTTY || none == EOPNOTSUPP) GTEST_SKIP() << "no inode flags here";
  ASSERT_EQ(set_flags(FS_APPEND_FL), 0);
  EXPECT_EQ(err(::open("f", O_WRONLY)), EPERM);
  EXPECT_EQ(err(::truncate("f", 0)), EPERM);
  EXPECT_EQ(err(::unlink("f")), EPERM);
  EXPECT_EQ(err(::rename("f", "g")), EPERM);
  {
    const Fd fd(::open("f", O_WRONLY | O_APPEND));
    EXPECT_EQ(::write(fd, "+", 1), 1);
  }
  ASSERT_EQ(set_flags(FS_IMMUTABLE_FL), 0);
  EXPECT_EQ(err(::open("f", O_WRONLY | O_APPEND)), EPERM);
  EXPECT_EQ(err(::chmod("f", 0600)), EPERM);
  EXPECT_EQ(err(::link("f", "g")), EPERM);
  EXPECT_EQ(err(::setxattr("f", "user.a", "1", 1, 0)), EPERM);
  ASSERT_EQ(set_flags(0), 0);
  EXPECT_EQ(read_file("f"), "first+");
  EXPECT_EQ(in_child(kUser,
                     [] {
                       const Fd fd(::open("f", O_RDONLY));
                       int flags = FS_NOATIME_FL;
                       return err(::ioctl(fd, FS_IOC_SETFLAGS, &flags));
                     }),
            EPERM);
}

TEST_F(Posix, StatvfsCounts) {
  struct statvfs before {};
  ASSERT_EQ(::statvfs(".", &before), 0);
  EXPECT_EQ(before.f_namemax, 255U);
  EXPECT_EQ(before.f_frsize, 4096U);
  EXPECT_LE(before.f_bfree, before.f_blocks);
  EXPECT_LE(before.f_bavail, before.f_bfree);
  make_file("f", std::string(1 << 20, 'x'));
  struct statvfs after {};
  ASSERT_EQ(::statvfs(".", &after), 0);
  EXPECT_LE(after.f_bfree + 256, before.f_bfree);
}

}  // namespace
}  // namespace udax::conformity
