// SPDX-License-Identifier: BSD-3-Clause
//
// What a call says of mounts: EROFS, EXDEV, EBUSY; noexec and nosuid; statfs(2). In mount namespaces of its own.
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

/// Runs `body` in a child with a mount namespace of its own. `where`, if given, is bound onto itself with `flags`.
int in_namespace(const char* where, uint64_t flags, const std::function<int()>& body) {
  return in_child(0, [&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      return 250;
    if (::mount(where, where, nullptr, MS_BIND, nullptr) != 0) return 251;
    if (flags != 0 && ::mount(nullptr, where, nullptr, MS_REMOUNT | MS_BIND | flags, nullptr) != 0) return 252;
    return body();
  });
}

int open_error(const char* path, int flags) {
  const Fd fd(::open(path, flags, 0644));
  return fd < 0 ? errno : 0;
}

TEST_F(Posix, AMountThatIsReadOnly) {
  UDAX_NEEDS_ROOT();
  ASSERT_EQ(::mkdir("m", 0755), 0);
  make_file("m/file", "bytes", 0666);
  ASSERT_EQ(::mkdir("m/folder", 0755), 0);
  const auto read_only = [](const std::function<int()>& call) { return in_namespace("m", MS_RDONLY, call); };
  const std::vector<std::pair<const char*, std::function<int()>>> refused = {
      {"open", [] { return open_error("m/file", O_WRONLY); }},
      {"O_TRUNC", [] { return open_error("m/file", O_RDONLY | O_TRUNC); }},
      {"O_CREAT", [] { return open_error("m/new", O_RDONLY | O_CREAT); }},
      {"O_TMPFILE", [] { return open_error("m", O_RDWR | O_TMPFILE); }},
      {"truncate", [] { return err(::truncate("m/file", 0)); }},
      {"chmod", [] { return err(::chmod("m/file", 0600)); }},
      {"chown", [] { return err(::chown("m/file", 5, 5)); }},
      {"utimensat", [] { return err(::utimensat(AT_FDCWD, "m/file", nullptr, 0)); }},
      {"setxattr", [] { return err(::setxattr("m/file", "user.a", "1", 1, 0)); }},
      {"removexattr", [] { return err(::removexattr("m/file", "user.a")); }},
      {"mkdir", [] { return err(::mkdir("m/new", 0755)); }},
      {"mkfifo", [] { return err(::mkfifo("m/new", 0644)); }},
      {"symlink", [] { return err(::symlink("x", "m/new")); }},
      {"link", [] { return err(::link("m/file", "m/new")); }},
      {"unlink", [] { return err(::unlink("m/file")); }},
      {"rmdir", [] { return err(::rmdir("m/folder")); }},
      {"rename", [] { return err(::rename("m/file", "m/new")); }},
      {"access", [] { return err(::access("m/file", W_OK)); }},
  };
  for (const auto& [name, call] : refused) EXPECT_EQ(read_only(call), EROFS) << name;
  EXPECT_EQ(read_only([] { return err(::mkdir("m/folder", 0755)); }), EEXIST) << "EEXIST comes first";
  EXPECT_EQ(read_only([] { return open_error("m/file", O_RDONLY | O_CREAT); }), 0) << "it is there";
  EXPECT_EQ(read_only([] { return err(::access("m/file", R_OK)); }), 0);
  EXPECT_EQ(read_file("m/file"), "bytes");
}

TEST_F(Posix, NamesDoNotCrossMounts) {
  UDAX_NEEDS_ROOT();
  ASSERT_EQ(::mkdir("m", 0755), 0);
  make_file("file");
  make_file("m/inner");
  EXPECT_EQ(in_namespace("m", 0, [] { return err(::link("file", "m/x")); }), EXDEV);
  EXPECT_EQ(in_namespace("m", 0, [] { return err(::rename("file", "m/x")); }), EXDEV);
  EXPECT_EQ(in_namespace("m", 0, [] { return err(::rename("m/inner", "x")); }), EXDEV);
  EXPECT_EQ(in_namespace("m", 0,
                         [] { return err(::renameat2(AT_FDCWD, "file", AT_FDCWD, "m/inner", RENAME_EXCHANGE)); }),
            EXDEV);
  EXPECT_EQ(err(::link("/proc/self/status", "x")), EXDEV);
  EXPECT_EQ(err(::rename("file", "/proc/x")), EXDEV);
}

TEST_F(Posix, MountPointsAreBusy) {
  UDAX_NEEDS_ROOT();
  ASSERT_EQ(::mkdir("m", 0755), 0);
  ASSERT_EQ(::mkdir("other", 0755), 0);
  EXPECT_EQ(in_namespace("m", 0, [] { return err(::rmdir("m")); }), EBUSY);
  EXPECT_EQ(in_namespace("m", 0, [] { return err(::rename("m", "x")); }), EBUSY);
  EXPECT_EQ(in_namespace("m", 0, [] { return err(::rename("other", "m")); }), EBUSY);
  make_file("bound");
  EXPECT_EQ(in_namespace("bound", 0, [] { return err(::unlink("bound")); }), EBUSY);
  EXPECT_EQ(err(::rmdir("m")), 0) << "it is in use elsewhere only";
}

TEST_F(Posix, NoexecAndNosuid) {
  UDAX_NEEDS_ROOT();
  ASSERT_EQ(::mkdir("m", 0755), 0);
  make_file("m/script", "#!/bin/sh\nexit 0\n", 0755);
  const auto run = [] {
    ::execl("m/script", "m/script", nullptr);
    return errno;
  };
  EXPECT_EQ(in_namespace("m", MS_NOEXEC, run), EACCES);
  EXPECT_EQ(in_namespace("m", MS_NOEXEC, [] { return err(::access("m/script", X_OK)); }), EACCES);
  EXPECT_EQ(in_namespace("m", MS_NOSUID, run), 0);
  ASSERT_EQ(::mknod("m/null", S_IFCHR | 0666, makedev(1, 3)), 0);
  EXPECT_EQ(in_namespace("m", MS_NODEV, [] { return open_error("m/null", O_RDONLY); }), EACCES);
}

TEST_F(Posix, SetuidProgramsRunAsTheirOwner) {
  UDAX_NEEDS_ROOT();
  struct statvfs info {};
  ASSERT_EQ(::statvfs(".", &info), 0);
  if ((info.f_flag & ST_NOSUID) != 0) GTEST_SKIP() << "mounted nosuid";
  make_file("id", read_file("/usr/bin/id"), 0755);
  ASSERT_EQ(err(::chown("id", kOther, kOther)), 0);
  ASSERT_EQ(err(::chmod("id", 06755)), 0);
  EXPECT_EQ(in_child(kUser,
                     [] {
                       int out[2];
                       if (::pipe(out) != 0) return 1;
                       const int result = in_child(0, [&] {
                         ::dup2(out[1], 1);
                         ::execl("./id", "id", "-u", nullptr);
                         return 1;
                       });
                       char text[20] = {};
                       if (result != 0 || ::read(out[0], text, sizeof text - 1) <= 0) return 2;
                       return std::strtol(text, nullptr, 10) == static_cast<int>(kOther) ? 0 : 3;
                     }),
            0);
}

TEST_F(Posix, Statfs) {
  struct statfs info {};
  ASSERT_EQ(::statfs(".", &info), 0);
  EXPECT_EQ(info.f_namelen, 255);
  EXPECT_GE(info.f_blocks, info.f_bfree);
  EXPECT_GE(info.f_bfree, info.f_bavail);
  EXPECT_GE(info.f_files, info.f_ffree);
  EXPECT_GT(info.f_ffree, 0U);
  struct statfs by_fd {};
  const Fd fd(::open("file", O_CREAT | O_RDWR, 0644));
  ASSERT_EQ(::fstatfs(fd, &by_fd), 0);
  EXPECT_EQ(by_fd.f_blocks, info.f_blocks);
  EXPECT_EQ(by_fd.f_type, info.f_type);
  struct stat here {};
  ASSERT_EQ(::stat(".", &here), 0);
  EXPECT_EQ(here.st_dev, stat_of("file").st_dev);
  EXPECT_EQ(here.st_blksize % 512, 0);
}

}  // namespace
}  // namespace udax::conformity
