// SPDX-License-Identifier: BSD-3-Clause
//
// Links, files without names, the flags of open(2), kinds of files, handles: link(2), open(2), mknod(2), proc(5),
// open_by_handle_at(2).
#include <dirent.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include <cstdio>
#include <cstring>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

std::string self(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

int link_fd(int fd, const char* name) {
  return err(::linkat(AT_FDCWD, self(fd).c_str(), AT_FDCWD, name, AT_SYMLINK_FOLLOW));
}

/// open(2), and its error.
int open_error(const char* path, int flags, mode_t mode = 0644) {
  const Fd fd(::open(path, flags, mode));
  return fd < 0 ? errno : 0;
}

struct stat stat_fd(int fd) {
  struct stat info {};
  EXPECT_EQ(err(::fstat(fd, &info)), 0);
  return info;
}

TEST_F(Posix, AllThatADescriptorCanWithoutAName) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  ASSERT_EQ(::write(fd, "0123456789", 10), 10);
  ASSERT_EQ(err(::fsetxattr(fd, "user.a", "1", 1, 0)), 0);
  ASSERT_EQ(::unlink("file"), 0);
  EXPECT_EQ(stat_fd(fd).st_nlink, 0U);
  EXPECT_EQ(err(::ftruncate(fd, 5)), 0);
  EXPECT_EQ(stat_fd(fd).st_size, 5);
  EXPECT_EQ(err(::ftruncate(fd, 100'000)), 0);
  EXPECT_EQ(err(::fallocate(fd, 0, 0, 200'000)), 0);
  EXPECT_EQ(err(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)), 0);
  EXPECT_EQ(::pwrite(fd, "abc", 3, 150'000), 3);
  EXPECT_EQ(err(::fchmod(fd, 0600)), 0);
  EXPECT_EQ(err(::fchown(fd, ::getuid(), ::getgid())), 0);
  const timespec times[2] = {{7, 0}, {8, 0}};
  EXPECT_EQ(err(::futimens(fd, times)), 0);
  EXPECT_EQ(stat_fd(fd).st_mtim.tv_sec, 8);
  EXPECT_EQ(err(::fsetxattr(fd, "user.b", "2", 1, 0)), 0);
  char value = 0;
  EXPECT_EQ(::fgetxattr(fd, "user.a", &value, 1), 1);
  EXPECT_EQ(err(::fremovexattr(fd, "user.a")), 0);
  EXPECT_EQ(err(::fsync(fd)), 0);
  EXPECT_EQ(::lseek(fd, 0, SEEK_END), 200'000);
  const Fd again(::open(self(fd).c_str(), O_RDWR));
  ASSERT_GE(again, 0) << "a file without names can be opened by /proc";
  char bytes[3] = {};
  EXPECT_EQ(::pread(again, bytes, 3, 150'000), 3);
  EXPECT_EQ(std::string(bytes, 3), "abc");
  EXPECT_EQ(link_fd(fd, "back"), ENOENT) << "it had a name once";
  EXPECT_TRUE(list(".").empty());
}

TEST_F(Posix, AFileWithoutANameIsMapped) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  ASSERT_EQ(::ftruncate(fd, 8192), 0);
  void* const map = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED && errno == ENODEV) GTEST_SKIP() << "this kernel does not map DAX files shared";
  ASSERT_NE(map, MAP_FAILED);
  ASSERT_EQ(::unlink("file"), 0);
  std::memcpy(map, "stored", 6);
  char bytes[7] = {};
  EXPECT_EQ(::pread(fd, bytes, 6, 0), 6);
  EXPECT_STREQ(bytes, "stored");
  ASSERT_EQ(::pwrite(fd, "written", 7, 5000), 7);
  EXPECT_EQ(std::memcmp(static_cast<char*>(map) + 5000, "written", 7), 0);
  ::munmap(map, 8192);
}

TEST_F(Posix, TmpFilesBecomeNamed) {
  const Fd fd(::open(".", O_TMPFILE | O_RDWR, 0640));
  ASSERT_GE(fd, 0) << errno;
  EXPECT_EQ(stat_fd(fd).st_uid, ::getuid());
  ASSERT_EQ(::write(fd, "bytes", 5), 5);
  ASSERT_EQ(err(::fsetxattr(fd, "user.a", "1", 1, 0)), 0);
  ASSERT_EQ(err(::fchmod(fd, 0604)), 0);
  ASSERT_EQ(link_fd(fd, "one"), 0);
  ASSERT_EQ(link_fd(fd, "two"), 0) << "a second name";
  EXPECT_EQ(stat_of("one").st_nlink, 2U);
  EXPECT_EQ(stat_of("one").st_ino, stat_fd(fd).st_ino);
  EXPECT_EQ(mode_of("two"), 0604U);
  EXPECT_EQ(read_file("two"), "bytes");
  EXPECT_EQ(::getxattr("two", "user.a", nullptr, 0), 1);
  ASSERT_EQ(::unlink("one"), 0);
  ASSERT_EQ(::unlink("two"), 0);
  EXPECT_EQ(stat_fd(fd).st_nlink, 0U);
  EXPECT_EQ(link_fd(fd, "three"), ENOENT) << "it has lost its names";
  EXPECT_EQ(open_error("nothing", O_TMPFILE | O_RDWR), ENOENT);
  EXPECT_EQ(open_error(".", O_TMPFILE | O_RDWR | O_CREAT), EINVAL);
  make_file("file");
  EXPECT_EQ(open_error("file", O_TMPFILE | O_RDWR), ENOTDIR);
}

TEST_F(Posix, LinksToWhatIsNoFile) {
  ASSERT_EQ(::symlink("nowhere", "symlink"), 0);
  ASSERT_EQ(::link("symlink", "another"), 0) << "link(2) does not follow";
  EXPECT_EQ(stat_of("another").st_ino, stat_of("symlink").st_ino);
  EXPECT_EQ(stat_of("another").st_nlink, 2U);
  EXPECT_EQ(err(::linkat(AT_FDCWD, "symlink", AT_FDCWD, "x", AT_SYMLINK_FOLLOW)), ENOENT);
  ASSERT_EQ(::mkfifo("fifo", 0600), 0);
  ASSERT_EQ(::link("fifo", "fifo2"), 0);
  EXPECT_EQ(stat_of("fifo2").st_nlink, 2U);
  ASSERT_EQ(::mkdir("folder", 0755), 0);
  EXPECT_EQ(err(::link("folder", "x")), EPERM);
  EXPECT_EQ(err(::link(".", "x")), EPERM);
  EXPECT_EQ(err(::link("symlink", "symlink")), EEXIST);
  EXPECT_EQ(err(::unlink("folder")), EISDIR);
}

TEST_F(Posix, FlagsOfOpen) {
  make_file("file", "bytes");
  ASSERT_EQ(::mkdir("folder", 0755), 0);
  ASSERT_EQ(::symlink("file", "link"), 0);
  ASSERT_EQ(::symlink("folder", "link-to-folder"), 0);
  ASSERT_EQ(::symlink("none", "dangling"), 0);
  EXPECT_EQ(open_error("folder", O_RDWR), EISDIR);
  EXPECT_EQ(open_error("folder", O_RDONLY | O_CREAT), EISDIR);
  EXPECT_EQ(open_error("folder", O_RDONLY | O_TRUNC), EISDIR);
  EXPECT_EQ(open_error("folder", O_RDONLY | O_CREAT | O_EXCL), EEXIST);
  EXPECT_EQ(open_error("link-to-folder", O_RDONLY | O_DIRECTORY), 0);
  EXPECT_EQ(open_error("link-to-folder", O_RDONLY | O_DIRECTORY | O_NOFOLLOW), ENOTDIR);
  EXPECT_EQ(open_error("link", O_RDONLY | O_NOFOLLOW), ELOOP);
  EXPECT_EQ(open_error("link", O_PATH | O_NOFOLLOW), 0);
  EXPECT_EQ(open_error("link", O_CREAT | O_EXCL | O_WRONLY), EEXIST);
  EXPECT_EQ(open_error("dangling", O_CREAT | O_EXCL | O_WRONLY), EEXIST) << "a link counts, whatever it points to";
  EXPECT_EQ(open_error("dangling", O_CREAT | O_NOFOLLOW | O_WRONLY), ELOOP);
  EXPECT_EQ(open_error("dangling", O_WRONLY), ENOENT);
  EXPECT_EQ(open_error("dangling", O_CREAT | O_WRONLY), 0) << "makes what it points to";
  EXPECT_TRUE(exists("none"));
  EXPECT_EQ(open_error("file", O_RDONLY | O_CREAT | O_DIRECTORY), EINVAL) << "since Linux 6.4";
  const Fd path(::open("file", O_PATH));
  char byte = 0;
  EXPECT_EQ(err(::read(path, &byte, 1)), EBADF);
  EXPECT_EQ(err(::fchmod(path, 0600)), EBADF);
  EXPECT_EQ(err(::fgetxattr(path, "user.x", nullptr, 0)), EBADF);
  EXPECT_EQ(stat_fd(path).st_size, 5);
  const Fd folder(::open("folder", O_RDONLY));
  EXPECT_EQ(err(::read(folder, &byte, 1)), EISDIR);
  EXPECT_EQ(err(::write(folder, "x", 1)), EBADF);
  EXPECT_EQ(err(::ftruncate(folder, 0)), EINVAL);
  EXPECT_EQ(err(::truncate("folder", 0)), EISDIR);
  EXPECT_EQ(err(::fallocate(folder, 0, 0, 10)), EBADF);
  EXPECT_EQ(err(::lseek(folder, 0, SEEK_SET)), 0);
  EXPECT_EQ(err(::readlink("file", &byte, 1)), EINVAL);
  EXPECT_EQ(err(::readlink("link", &byte, 0)), EINVAL);
  EXPECT_EQ(::readlink("link", &byte, 1), 1) << "cut short without an error";
}

TEST_F(Posix, OpenTruncatesEvenForReading) {
  make_file("file", "bytes");
  EXPECT_EQ(open_error("file", O_RDONLY | O_TRUNC), 0);
  EXPECT_EQ(stat_of("file").st_size, 0);
  make_file("read-only", "bytes", 0444);
  if (::geteuid() != 0) {
    EXPECT_EQ(open_error("read-only", O_RDONLY | O_TRUNC), EACCES);
    EXPECT_EQ(stat_of("read-only").st_size, 5);
  }
}

TEST_F(Posix, FifosWithoutTheOtherSide) {
  ASSERT_EQ(::mkfifo("fifo", 0600), 0);
  EXPECT_EQ(open_error("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
  const Fd reader(::open("fifo", O_RDONLY | O_NONBLOCK));
  ASSERT_GE(reader, 0);
  EXPECT_EQ(open_error("fifo", O_WRONLY | O_NONBLOCK), 0);
  EXPECT_EQ(err(::lseek(reader, 0, SEEK_SET)), ESPIPE);
  EXPECT_EQ(err(::ftruncate(reader, 0)), EINVAL);
  EXPECT_EQ(err(::truncate("fifo", 0)), EINVAL);
  char byte = 0;
  EXPECT_EQ(err(::pread(reader, &byte, 1, 0)), ESPIPE);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof(address.sun_path), "socket");
  const Fd server(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(err(::bind(server, reinterpret_cast<sockaddr*>(&address), sizeof(address))), 0);
  EXPECT_EQ(open_error("socket", O_RDWR), ENXIO);
  const Fd another(::socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(err(::bind(another, reinterpret_cast<sockaddr*>(&address), sizeof(address))), EADDRINUSE);
}

TEST_F(Posix, KindsOfMknod) {
  EXPECT_EQ(err(::mknod("file", S_IFREG | 0640, 0)), 0);
  EXPECT_EQ(err(::mknod("plain", 0640, 0)), 0) << "no kind is a file";
  EXPECT_TRUE(S_ISREG(stat_of("plain").st_mode));
  EXPECT_EQ(err(::mknod("fifo", S_IFIFO | 0640, 0)), 0);
  EXPECT_EQ(err(::mknod("socket", S_IFSOCK | 0640, 0)), 0);
  EXPECT_TRUE(S_ISSOCK(stat_of("socket").st_mode));
  EXPECT_EQ(err(::mknod("folder", S_IFDIR | 0755, 0)), EPERM);
  EXPECT_EQ(err(::mknod("link", S_IFLNK | 0777, 0)), EINVAL);
  EXPECT_EQ(err(::mknod("odd", 0150000 | 0640, 0)), EINVAL);
  if (::geteuid() != 0) {
    EXPECT_EQ(err(::mknod("device", S_IFCHR | 0600, makedev(1, 3))), EPERM);
    EXPECT_EQ(err(::mknod("device", S_IFBLK | 0600, makedev(7, 0))), EPERM);
    return;
  }
  EXPECT_EQ(err(::mknod("device", S_IFCHR | 0600, makedev(1, 3))), 0);
  EXPECT_EQ(err(::mknod("none", S_IFCHR | 0600, makedev(4095, 1048575))), 0);
  EXPECT_EQ(open_error("none", O_RDWR), ENXIO) << "no such driver";
  EXPECT_EQ(stat_of("none").st_rdev, makedev(4095, 1048575));
  EXPECT_EQ(stat_of("device").st_size, 0);
}

TEST_F(Posix, HandlesOfWhatIsGone) {
  UDAX_NEEDS_ROOT();
  alignas(file_handle) char space[sizeof(file_handle) + MAX_HANDLE_SZ];
  auto* const handle = reinterpret_cast<file_handle*>(space);
  int mount_id = 0;
  make_file("file", "x");
  ASSERT_EQ(::mkdir("folder", 0755), 0);
  ASSERT_EQ(::symlink("x", "link"), 0);
  const Fd mount(::open(".", O_RDONLY | O_DIRECTORY));
  handle->handle_bytes = 0;
  EXPECT_EQ(err(::name_to_handle_at(AT_FDCWD, "file", handle, &mount_id, 0)), EOVERFLOW);
  EXPECT_GT(handle->handle_bytes, 0U) << "the size that it takes";
  for (const char* name : {"file", "folder", "link"}) {
    handle->handle_bytes = MAX_HANDLE_SZ;
    ASSERT_EQ(err(::name_to_handle_at(AT_FDCWD, name, handle, &mount_id, 0)), 0) << name;
    {
      const Fd fd(::open_by_handle_at(mount, handle, O_PATH));
      ASSERT_GE(fd, 0) << name << ": " << errno;
      EXPECT_EQ(stat_fd(fd).st_ino, stat_of(name).st_ino);
    }
    EXPECT_EQ(in_child(kUser, [&] { return err(::open_by_handle_at(mount, handle, O_PATH)); }), EPERM);
    ASSERT_EQ(::remove(name), 0);
    EXPECT_EQ(err(::open_by_handle_at(mount, handle, O_PATH)), ESTALE) << name;
  }
  // While it is open, a file without a name is there.
  const Fd kept(::open("kept", O_CREAT | O_RDWR, 0644));
  handle->handle_bytes = MAX_HANDLE_SZ;
  ASSERT_EQ(err(::name_to_handle_at(AT_FDCWD, "kept", handle, &mount_id, 0)), 0);
  ASSERT_EQ(::unlink("kept"), 0);
  const Fd found(::open_by_handle_at(mount, handle, O_RDWR));
  EXPECT_TRUE(found >= 0 || errno == ESTALE) << errno;
  if (found >= 0) {
    EXPECT_EQ(stat_fd(found).st_ino, stat_fd(kept).st_ino);
  }
}

TEST_F(Posix, AHandleOfAMovedFileConnectsIt) {
  UDAX_NEEDS_ROOT();
  alignas(file_handle) char space[sizeof(file_handle) + MAX_HANDLE_SZ];
  auto* const handle = reinterpret_cast<file_handle*>(space);
  int mount_id = 0;
  ASSERT_EQ(::mkdir("a", 0755), 0);
  ASSERT_EQ(::mkdir("a/b", 0755), 0);
  ASSERT_EQ(::mkdir("c", 0755), 0);
  handle->handle_bytes = MAX_HANDLE_SZ;
  ASSERT_EQ(err(::name_to_handle_at(AT_FDCWD, "a/b", handle, &mount_id, 0)), 0);
  ASSERT_EQ(::rename("a/b", "c/moved"), 0);
  const Fd mount(::open(".", O_RDONLY | O_DIRECTORY));
  const Fd fd(::open_by_handle_at(mount, handle, O_RDONLY));
  ASSERT_GE(fd, 0) << errno;
  std::string path(4096, '\0');
  const ssize_t length = ::readlink(self(fd).c_str(), path.data(), path.size());
  ASSERT_GT(length, 0);
  path.resize(static_cast<size_t>(length));
  EXPECT_TRUE(path.ends_with("/c/moved")) << path;
  struct stat up {};
  ASSERT_EQ(::fstatat(fd, "..", &up, 0), 0);
  EXPECT_EQ(up.st_ino, stat_of("c").st_ino);
}

}  // namespace
}  // namespace udax::conformity
