// SPDX-License-Identifier: BSD-3-Clause
//
// What path_resolution(7) says of every call that takes a path.
#include <fcntl.h>
#include <stdio.h>
#include <sys/statfs.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include <climits>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

struct PathCall {
  const char* name;
  int (*call)(const char* path);  // an errno
  bool makes;                     // a name: it must not be there before
  bool follows;                   // a symbolic link at the end of the path
};

int close_fd(int fd) {
  if (fd < 0) return errno;
  ::close(fd);
  return 0;
}

constexpr int kHere = AT_FDCWD;

// clang-format off: a table
constexpr PathCall kCalls[] = {
    {"open", [](const char* p) { return close_fd(::open(p, O_RDONLY | O_NONBLOCK)); }, false, true},
    {"open O_WRONLY", [](const char* p) { return close_fd(::open(p, O_WRONLY | O_NONBLOCK)); }, false, true},
    {"open O_PATH", [](const char* p) { return close_fd(::open(p, O_PATH)); }, false, true},
    {"open O_CREAT", [](const char* p) { return close_fd(::open(p, O_WRONLY | O_CREAT, 0644)); }, true, true},
    {"open O_EXCL", [](const char* p) { return close_fd(::open(p, O_WRONLY | O_CREAT | O_EXCL, 0644)); }, true,
     false},
    {"stat",
     [](const char* p) {
       struct stat s;
       return err(::stat(p, &s));
     },
     false, true},
    {"lstat",
     [](const char* p) {
       struct stat s;
       return err(::lstat(p, &s));
     },
     false, false},
    {"statx",
     [](const char* p) {
       struct statx s;
       return err(::statx(kHere, p, 0, STATX_ALL, &s));
     },
     false, true},
    {"statfs",
     [](const char* p) {
       struct statfs s;
       return err(::statfs(p, &s));
     },
     false, true},
    {"access", [](const char* p) { return err(::access(p, F_OK)); }, false, true},
    {"chmod", [](const char* p) { return err(::chmod(p, 0644)); }, false, true},
    {"chown", [](const char* p) { return err(::chown(p, ::getuid(), ::getgid())); }, false, true},
    {"lchown", [](const char* p) { return err(::lchown(p, ::getuid(), ::getgid())); }, false, false},
    {"utimensat", [](const char* p) { return err(::utimensat(kHere, p, nullptr, 0)); }, false, true},
    {"truncate", [](const char* p) { return err(::truncate(p, 0)); }, false, true},
    {"setxattr", [](const char* p) { return err(::setxattr(p, "user.x", "1", 1, 0)); }, false, true},
    {"listxattr", [](const char* p) { return err(::listxattr(p, nullptr, 0)); }, false, true},
    {"llistxattr", [](const char* p) { return err(::llistxattr(p, nullptr, 0)); }, false, false},
    {"link from", [](const char* p) { return err(::link(p, "linked")); }, false, false},
    {"link to", [](const char* p) { return err(::link("file", p)); }, true, false},
    {"symlink", [](const char* p) { return err(::symlink("x", p)); }, true, false},
    {"mkdir", [](const char* p) { return err(::mkdir(p, 0755)); }, true, false},
    {"mkfifo", [](const char* p) { return err(::mkfifo(p, 0644)); }, true, false},
    {"mknod", [](const char* p) { return err(::mknod(p, S_IFREG | 0644, 0)); }, true, false},
    {"rename from", [](const char* p) { return err(::rename(p, "renamed")); }, false, false},
    {"rename to", [](const char* p) { return err(::rename("file", p)); }, true, false},
    {"exchange", [](const char* p) { return err(::renameat2(kHere, p, kHere, "file", RENAME_EXCHANGE)); }, false,
     false},
    {"unlink", [](const char* p) { return err(::unlink(p)); }, false, false},
};
constexpr PathCall kOfFolders[] = {
    {"chdir", [](const char* p) { return err(::chdir(p)); }, false, true},
    {"rmdir", [](const char* p) { return err(::rmdir(p)); }, false, false},
    {"open O_DIRECTORY", [](const char* p) { return close_fd(::open(p, O_RDONLY | O_DIRECTORY)); }, false, true},
    {"open O_TMPFILE", [](const char* p) { return close_fd(::open(p, O_RDWR | O_TMPFILE, 0600)); }, false, true},
};
constexpr PathCall kReadlink = {"readlink",
                                [](const char* p) {
                                  char b[9];
                                  return err(::readlink(p, b, sizeof b));
                                },
                                false, false};
// clang-format on

/// Each call with a path, given for its kind, and the error that is expected of it.
void expect_all(const std::string& path, int error) {
  for (const PathCall& call : kCalls) EXPECT_EQ(call.call(path.c_str()), error) << call.name;
  for (const PathCall& call : kOfFolders) EXPECT_EQ(call.call(path.c_str()), error) << call.name;
  EXPECT_EQ(kReadlink.call(path.c_str()), error) << kReadlink.name;
  EXPECT_EQ(list("."), (std::vector<std::string>{"dangling", "file", "folder", "loop", "pool"}))
      << "something changed";
}

class Paths : public Posix {
 protected:
  void SetUp() override {
    Posix::SetUp();
    make_file("file");
    ASSERT_EQ(::mkdir("folder", 0755), 0);
    ASSERT_EQ(::symlink("none", "dangling"), 0);
    ASSERT_EQ(::symlink("pool", "loop"), 0);
    ASSERT_EQ(::symlink("loop", "pool"), 0);
  }
};

TEST_F(Paths, AComponentIsTooLong) {
  expect_all(std::string(256, 'n'), ENAMETOOLONG);
  expect_all("folder/" + std::string(256, 'n'), ENAMETOOLONG);
  expect_all(std::string(256, 'n') + "/x", ENAMETOOLONG);
}

TEST_F(Paths, APathIsTooLong) {
  std::string path;
  while (path.size() < PATH_MAX) path += "./";
  path.resize(PATH_MAX, '/');
  expect_all(path, ENAMETOOLONG);
  // One byte less is a path like any other; the byte that ends it counts.
  path.resize(PATH_MAX - 1 - 5);
  path += "/file";
  EXPECT_EQ(err(::access(path.c_str(), F_OK)), 0);
}

TEST_F(Paths, AComponentIsNoFolder) {
  expect_all("file/x", ENOTDIR);
  expect_all("file/../file", ENOTDIR);
}

TEST_F(Paths, AComponentIsNotThere) {
  expect_all("none/x", ENOENT);
  expect_all("folder/none/x", ENOENT);
  expect_all("dangling/x", ENOENT);
  expect_all("", ENOENT);
}

TEST_F(Paths, LinksGoInCircles) { expect_all("loop/x", ELOOP); }

TEST_F(Paths, FollowersSeeCirclesAtTheEnd) {
  for (const PathCall& call : kCalls) {
    if (call.follows) {
      EXPECT_EQ(call.call("loop"), ELOOP) << call.name;
    }
    if (call.makes && !call.follows && call.name != std::string("rename to")) {
      EXPECT_EQ(call.call("loop"), EEXIST) << call.name;
    }
  }
}

TEST_F(Paths, AddressesAreChecked) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers look at an address before the kernel does";
#endif
  for (const PathCall& call : kCalls) {
    const char* const nowhere = reinterpret_cast<const char*>(uintptr_t{8});
    EXPECT_EQ(call.call(nowhere), EFAULT) << call.name;
  }
}

TEST_F(Paths, AFolderThatMayNotBeSearched) {
  UDAX_NEEDS_ROOT();
  ASSERT_EQ(::mkdir("closed", 0755), 0);
  make_file("closed/file");
  ASSERT_EQ(::mkdir("closed/folder", 0755), 0);
  ASSERT_EQ(err(::chown("closed", kUser, kUser)), 0);
  ASSERT_EQ(err(::chmod("closed", 0600)), 0);
  for (const uint32_t user : {kUser, kOther}) {
    for (const PathCall& call : kCalls) {
      for (const char* path : {"closed/file", "closed/none", "closed/folder/x"}) {
        EXPECT_EQ(in_child(user, [&] { return call.call(path); }), EACCES) << call.name << " " << path;
      }
    }
    for (const PathCall& call : kOfFolders) {
      EXPECT_EQ(in_child(user, [&] { return call.call("closed/folder"); }), EACCES) << call.name;
    }
  }
  EXPECT_EQ(in_child(kUser, [] { return err(::access("closed", R_OK | W_OK)); }), 0);
  EXPECT_EQ(in_child(kUser, [] { return list("closed").size() == 2 ? 0 : 1; }), 0) << "it may be listed";
}

// A folder in which a user may search, and nothing else.
TEST_F(Paths, AFolderThatMayNotBeWritten) {
  UDAX_NEEDS_ROOT();
  ASSERT_EQ(::mkdir("shut", 0755), 0);
  make_file("shut/file", "x", 0666);
  ASSERT_EQ(::mkdir("shut/folder", 0755), 0);
  ASSERT_EQ(err(::chmod("shut/folder", 0777)), 0);
  make_file("mine", "x", 0666);
  const auto as_user = [](int (*call)()) { return in_child(kUser, call); };
  EXPECT_EQ(as_user([] { return close_fd(::open("shut/new", O_CREAT | O_WRONLY, 0644)); }), EACCES);
  EXPECT_EQ(as_user([] { return close_fd(::open("shut/file", O_CREAT | O_WRONLY, 0644)); }), 0);
  EXPECT_EQ(as_user([] { return close_fd(::open("shut", O_TMPFILE | O_WRONLY, 0644)); }), EACCES);
  EXPECT_EQ(as_user([] { return err(::mkdir("shut/new", 0755)); }), EACCES);
  EXPECT_EQ(as_user([] { return err(::mkdir("shut/folder", 0755)); }), EEXIST) << "EEXIST comes first";
  EXPECT_EQ(as_user([] { return err(::mkfifo("shut/new", 0644)); }), EACCES);
  EXPECT_EQ(as_user([] { return err(::symlink("x", "shut/new")); }), EACCES);
  EXPECT_EQ(as_user([] { return err(::link("mine", "shut/new")); }), EACCES);
  EXPECT_EQ(as_user([] { return err(::unlink("shut/file")); }), EACCES);
  EXPECT_EQ(as_user([] { return err(::unlink("shut/none")); }), ENOENT);
  EXPECT_EQ(as_user([] { return err(::rmdir("shut/folder")); }), EACCES);
  EXPECT_EQ(as_user([] { return err(::rename("shut/file", "shut/new")); }), EACCES);
  EXPECT_EQ(as_user([] { return err(::rename("shut/file", "shut/folder/new")); }), EACCES);
  EXPECT_EQ(as_user([] { return err(::truncate("shut/file", 0)); }), 0);
}

// A folder that moves to another parent gets another "..": that is a change of its own.
TEST_F(Paths, AFolderThatMovesMustBeWritable) {
  UDAX_NEEDS_ROOT();
  ASSERT_EQ(::mkdir("from", 0755), 0);
  ASSERT_EQ(::mkdir("to", 0755), 0);
  ASSERT_EQ(::mkdir("from/theirs", 0755), 0);
  for (const char* path : {"from", "to"}) ASSERT_EQ(err(::chmod(path, 0777)), 0);
  EXPECT_EQ(in_child(kUser, [] { return err(::rename("from/theirs", "to/theirs")); }), EACCES);
  EXPECT_EQ(in_child(kUser, [] { return err(::rename("from/theirs", "from/renamed")); }), 0);
}

TEST_F(Paths, SlashesAtTheEnd) {
  EXPECT_EQ(err(::mkdir("new/", 0755)), 0);
  EXPECT_EQ(err(::rename("new/", "newer/")), 0);
  EXPECT_EQ(err(::rmdir("newer/")), 0);
  EXPECT_EQ(close_fd(::open("new/", O_CREAT | O_WRONLY, 0644)), EISDIR);
  EXPECT_EQ(err(::mknod("new/", S_IFREG | 0644, 0)), ENOENT);
  EXPECT_EQ(err(::mkfifo("new/", 0644)), ENOENT);
  EXPECT_EQ(err(::symlink("x", "new/")), ENOENT);
  EXPECT_EQ(err(::link("file", "new/")), ENOENT);
  EXPECT_EQ(err(::rename("file", "new/")), ENOTDIR);
  EXPECT_EQ(err(::rename("file/", "new")), ENOTDIR);
  EXPECT_EQ(err(::unlink("file/")), ENOTDIR);
  EXPECT_EQ(err(::unlink("folder/")), EISDIR);
  EXPECT_EQ(err(::access("file/", F_OK)), ENOTDIR);
  EXPECT_EQ(err(::truncate("file/", 0)), ENOTDIR);
  EXPECT_EQ(err(::access("folder//./..//folder/", F_OK)), 0);
  ASSERT_EQ(::symlink("folder", "link"), 0);
  EXPECT_EQ(err(::rmdir("link")), ENOTDIR);
  EXPECT_EQ(err(::rmdir("link/")), ENOTDIR)
      << "path_resolution(7) would follow; Linux never removes through a link";
  struct stat info {};
  ASSERT_EQ(::lstat("link/", &info), 0);
  EXPECT_TRUE(S_ISDIR(info.st_mode));
}

TEST_F(Paths, SpecialNames) {
  EXPECT_EQ(err(::mkdir(".", 0755)), EEXIST);
  EXPECT_EQ(err(::mkdir("folder/..", 0755)), EEXIST);
  EXPECT_EQ(err(::unlink(".")), EISDIR);
  EXPECT_EQ(err(::unlink("folder/..")), EISDIR);
  EXPECT_EQ(err(::rename("folder/.", "x")), EBUSY);
  EXPECT_EQ(err(::rename("folder", "folder/..")), EBUSY);
  EXPECT_EQ(err(::rename(".", "x")), EBUSY);
  EXPECT_EQ(err(::rmdir(".")), EINVAL);
  EXPECT_EQ(err(::link("file", ".")), EEXIST);
  EXPECT_EQ(err(::symlink("x", "..")), EEXIST);
}

TEST_F(Paths, DescriptorsThatAreNone) {
  const Fd file(::open("file", O_RDWR));
  EXPECT_EQ(err(::openat(file, "x", O_RDONLY)), ENOTDIR);
  EXPECT_EQ(err(::openat(-1, "x", O_RDONLY)), EBADF);
  EXPECT_EQ(err(::mkdirat(file, "x", 0755)), ENOTDIR);
  EXPECT_EQ(err(::renameat(file, "x", AT_FDCWD, "y")), ENOTDIR);
  EXPECT_EQ(err(::unlinkat(AT_FDCWD, "file", AT_REMOVEDIR)), ENOTDIR);
  EXPECT_EQ(err(::unlinkat(AT_FDCWD, "folder", 0)), EISDIR);
  EXPECT_EQ(err(::unlinkat(AT_FDCWD, "file", 0x4000)), EINVAL);
  EXPECT_EQ(err(::linkat(AT_FDCWD, "file", AT_FDCWD, "y", 0x1)), EINVAL);
}

}  // namespace
}  // namespace udax::conformity
