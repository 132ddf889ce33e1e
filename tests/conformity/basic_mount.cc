// SPDX-License-Identifier: BSD-3-Clause
//
// What the kernel leaves to the daemon: whose files are, when space comes back, which privileges a write takes away,
// the DAX flag of single files, files that are found by handle after the kernel forgot them, many threads.
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

constexpr int kFlagDax = 0x02000000;  // FS_DAX_FL, which older headers lack

int set_flags(const std::string& path, int flags) {
  const Fd fd(::open(path.c_str(), O_RDONLY));
  return err(::ioctl(fd, FS_IOC_SETFLAGS, &flags));
}

int flags_of(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY));
  int flags = 0;
  EXPECT_EQ(err(::ioctl(fd, FS_IOC_GETFLAGS, &flags)), 0) << path;
  return flags;
}

/// Makes `path` a DAX file or folder. False: this filesystem has no such flag.
bool make_dax(const std::string& path) {
  const int error = set_flags(path, kFlagDax);
  EXPECT_TRUE(error == 0 || error == ENOTTY || error == EOPNOTSUPP) << error;
  return error == 0;
}

uint64_t free_blocks() {
  struct statvfs info {};
  EXPECT_EQ(::statvfs(".", &info), 0);
  return info.f_bfree;
}

/// close(2) does not wait for FUSE's RELEASE: a file may be open for us a moment longer.
bool comes_back(uint64_t blocks) {
  constexpr int kPatience = 1000;
  for (int i = 0; i < kPatience && free_blocks() < blocks; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return free_blocks() >= blocks;
}

TEST_F(Posix, SpaceComesBackWithTheNameNotWithTheKernelsCache) {
  UDAX_NEEDS_OURS();
  make_file("large", std::string(16 << 20, 'x'));
  const Fd cached(::open("large", O_PATH));  // the kernel keeps its inode
  const uint64_t before = free_blocks();
  ASSERT_EQ(::unlink("large"), 0);
  EXPECT_TRUE(comes_back(before + 4096)) << "blocks are not free although nothing has the file open";
}

TEST_F(Posix, SpaceOfAnOpenFileComesBackWithItsClose) {
  UDAX_NEEDS_OURS();
  const Fd outer(::open(".", O_RDONLY));
  int fd = ::open("gone", O_CREAT | O_RDWR, 0600);
  ASSERT_EQ(::write(fd, "still here", 10), 10);
  const uint64_t before = free_blocks();
  ASSERT_EQ(::unlink("gone"), 0);
  char bytes[100] = {};
  EXPECT_EQ(::pread(fd, bytes, sizeof bytes, 0), 10);
  EXPECT_STREQ(bytes, "still here");
  EXPECT_FALSE(exists("gone"));
  ::close(fd);
  ASSERT_EQ(err(::syncfs(outer)), 0);
  EXPECT_TRUE(comes_back(before));
}

TEST_F(Posix, FilesThatAreMostlyHolesTakeNoSpace) {
  const Fd fd(::open("sparse", O_CREAT | O_RDWR, 0600));
  ASSERT_EQ(::pwrite(fd, "data", 4, 1 << 30), 4);
  EXPECT_EQ(::lseek(fd, 0, SEEK_DATA), 1 << 30);
  EXPECT_EQ(err(::lseek(fd, int64_t{2} << 30, SEEK_DATA)), ENXIO);
  EXPECT_LE(stat_of("sparse").st_blocks, 16);
  ASSERT_EQ(::posix_fallocate(fd, 0, 65536), 0);
  EXPECT_GE(stat_of("sparse").st_blocks, 128);
  ASSERT_EQ(err(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 65536)), 0);
  EXPECT_LE(stat_of("sparse").st_blocks, 16);
}

TEST_F(Posix, TheUmaskIsTheCallers) {
  ::umask(027);
  const Fd fd(::open("file", O_CREAT | O_WRONLY, 0666));
  EXPECT_EQ(::mkdir("folder", 0777), 0);
  EXPECT_EQ(::mkfifo("fifo", 0666), 0);
  ::umask(022);
  EXPECT_EQ(mode_of("file"), 0640U);
  EXPECT_EQ(mode_of("folder"), 0750U);
  EXPECT_EQ(mode_of("fifo"), 0640U);
}

TEST_F(Posix, DeviceNumbersAreWhole) {
  UDAX_NEEDS_ROOT();
  const dev_t number = makedev(0x123, 0x45678);
  ASSERT_EQ(err(::mknod("device", S_IFBLK | 0600, number)), 0);
  EXPECT_EQ(stat_of("device").st_rdev, number);
}

TEST_F(Posix, ARenamedFileTakesTheOthersPlace) {
  make_file("a", "A");
  make_file("b", "B");
  ASSERT_EQ(::rename("a", "b"), 0);
  EXPECT_EQ(read_file("b"), "A");
  make_file("a", "a");
  ASSERT_EQ(::renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE), 0);
  EXPECT_EQ(read_file("a"), "A");
  EXPECT_EQ(read_file("b"), "a");
}

TEST_F(Posix, AppendsOfTwoDescriptorsInTurn) {
  for (const bool dax : {false, true}) {
    make_file("log");
    if (dax && !make_dax("log")) break;
    {
      const Fd one(::open("log", O_WRONLY | O_APPEND));
      const Fd two(::open("log", O_WRONLY | O_APPEND));
      for (int i = 0; i < 50; ++i)
        ASSERT_EQ(::write(i % 2 == 0 ? one : two, std::to_string(i % 10).c_str(), 1), 1);
    }
    std::string expected;
    for (int i = 0; i < 50; ++i) expected += std::to_string(i % 10);
    EXPECT_EQ(read_file("log"), expected) << "dax: " << dax;
    ASSERT_EQ(::truncate("log", 6), 0);
    ASSERT_EQ(::truncate("log", 10), 0);
    EXPECT_EQ(read_file("log"), "012345" + std::string(4, '\0')) << "dax: " << dax;
  }
}

TEST_F(Posix, AHundredXattrs) {
  UDAX_NEEDS_OURS();
  make_file("f");
  const std::string large(65536, 'L');
  ASSERT_EQ(err(::setxattr("f", "user.large", large.data(), large.size(), 0)), 0);
  for (int i = 0; i < 100; ++i) {
    const std::string value = std::to_string(i);
    ASSERT_EQ(err(::setxattr("f", ("user." + value).c_str(), value.data(), value.size(), 0)), 0);
  }
  std::string names(10'000, '\0');
  const ssize_t length = ::listxattr("f", names.data(), names.size());
  ASSERT_GT(length, 0);
  EXPECT_GE(std::count(names.begin(), names.begin() + length, '\0'), 101);
  ASSERT_EQ(err(::removexattr("f", "user.large")), 0);
  EXPECT_EQ(err(::getxattr("f", "user.large", nullptr, 0)), ENODATA);
  char value[10] = {};
  EXPECT_EQ(::getxattr("f", "user.77", value, sizeof value), 2);
  EXPECT_STREQ(value, "77");
}

// --- Flags -----------------------------------------------------------------------------------------------------------

TEST_F(Posix, TheDaxFlagIsInherited) {
  UDAX_NEEDS_OURS();
  ASSERT_EQ(::mkdir("flagged", 0755), 0);
  if (!make_dax("flagged")) GTEST_SKIP() << "no DAX flag here";
  make_file("flagged/file", "x");
  ASSERT_EQ(::mkdir("flagged/sub", 0755), 0);
  EXPECT_TRUE(flags_of("flagged/file") & kFlagDax);
  EXPECT_TRUE(flags_of("flagged/sub") & kFlagDax);
  ASSERT_EQ(set_flags("flagged/file", 0), 0);
  EXPECT_FALSE(flags_of("flagged/file") & kFlagDax);
}

TEST_F(Posix, AnImmutableFileKeepsItsName) {
  UDAX_NEEDS_ROOT();
  make_file("pinned", "x");
  const int pinned = set_flags("pinned", FS_IMMUTABLE_FL);
  if (pinned == ENOTTY || pinned == EOPNOTSUPP) GTEST_SKIP() << "no inode flags here";
  ASSERT_EQ(pinned, 0);
  EXPECT_EQ(err(::unlink("pinned")), EPERM);
  EXPECT_EQ(err(::open("pinned", O_WRONLY)), EPERM);
  ASSERT_EQ(set_flags("pinned", 0), 0);
  EXPECT_EQ(err(::unlink("pinned")), 0);
}

TEST_F(Posix, MappingsAndDirectIoOfOneDescriptor) {
  constexpr size_t kSize = 16384;
  for (const bool dax : {false, true}) {
    const std::string name = dax ? "dax" : "cached";
    make_file(name, std::string(kSize, '\0'));
    if (dax && !make_dax(name)) break;
    {
      const Fd fd(::open(name.c_str(), O_RDWR));
      auto* const bytes = static_cast<char*>(::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
      if (bytes == MAP_FAILED && errno == ENODEV) GTEST_SKIP() << "this kernel does not map DAX files shared";
      ASSERT_NE(bytes, MAP_FAILED) << errno;
      std::string_view("store").copy(bytes + 5000, 5);
      ASSERT_EQ(err(::msync(bytes, kSize, MS_SYNC)), 0);
      char found[6] = {};
      EXPECT_EQ(::pread(fd, found, 5, 5000), 5);
      EXPECT_STREQ(found, "store");
      EXPECT_EQ(::pwrite(fd, "write", 5, 9000), 5);
      EXPECT_EQ(std::string(bytes + 9000, 5), "write");
      ::munmap(bytes, kSize);
    }
    const Fd direct(::open(name.c_str(), O_RDWR | O_DIRECT));
    if (direct < 0 && errno == EINVAL) GTEST_SKIP() << "no O_DIRECT here";
    auto* const buffer = static_cast<char*>(std::aligned_alloc(4096, 4096));
    std::memset(buffer, 'd', 4096);
    EXPECT_EQ(::pwrite(direct, buffer, 4096, 12288), 4096);
    EXPECT_EQ(::pread(direct, buffer, 4096, 4096), 4096);
    EXPECT_EQ(std::string(buffer + 904, 5), "store") << name;
    std::free(buffer);
    EXPECT_EQ(read_file(name).substr(12288), std::string(4096, 'd')) << name;
  }
}

// --- Owners and privileges -------------------------------------------------------------------------------------------

TEST_F(Posix, TheCallerOwnsWhatHeMakes) {
  UDAX_NEEDS_ROOT();
  ASSERT_EQ(::mkdir("public", 0755), 0);
  ASSERT_EQ(::chmod("public", 01777), 0);
  ASSERT_EQ(::mkdir("private", 0755), 0);
  EXPECT_EQ(in_child(kUser,
                     [] {
                       const Fd file(::open("public/f", O_CREAT | O_WRONLY, 0644));
                       const Fd nameless(::open("public", O_TMPFILE | O_WRONLY, 0600));
                       struct stat info {};
                       if (file < 0 || nameless < 0 || ::fstat(nameless, &info) != 0) return 1;
                       if (info.st_uid != kUser || info.st_gid != kUser) return 2;
                       if (::mkdir("public/d", 0755) != 0 || ::symlink("x", "public/l") != 0) return 3;
                       if (::mkfifo("public/p", 0600) != 0) return 4;
                       if (err(::mkdir("private/x", 0755)) != EACCES) return 5;
                       return err(::chown("public/f", kOther, static_cast<gid_t>(-1))) == EPERM ? 0 : 6;
                     }),
            0);
  for (const char* name : {"public/f", "public/d", "public/l", "public/p"}) {
    EXPECT_EQ(stat_of(name).st_uid, kUser) << name;
    EXPECT_EQ(stat_of(name).st_gid, kUser) << name;
  }
  EXPECT_EQ(in_child(kOther, [] { return err(::unlink("public/f")); }), EPERM);
}

/// A file of the user's with all privileges that a file can have.
void make_privileged(const std::string& path) {
  // A version 2 capability, CAP_NET_BIND_SERVICE, permitted and effective.
  constexpr uint32_t kCapability[5] = {0x02000001, 1U << 10, 0, 0, 0};
  make_file(path, std::string(100, 'x'));
  ASSERT_EQ(err(::chown(path.c_str(), kUser, kUser)), 0);
  ASSERT_EQ(err(::chmod(path.c_str(), 06775)), 0);
  ASSERT_EQ(err(::setxattr(path.c_str(), "security.capability", kCapability, sizeof kCapability, 0)), 0);
}

void expect_unprivileged(const std::string& path) {
  EXPECT_EQ(mode_of(path) & 06000U, 0U) << path;
  EXPECT_EQ(err(::getxattr(path.c_str(), "security.capability", nullptr, 0)), ENODATA) << path;
}

TEST_F(Posix, PrivilegesGoWithWhateverChangesTheBytes) {
  UDAX_NEEDS_ROOT();
  make_file("source", "0123456789", 0644);
  const auto with_fd = [](const std::function<int64_t(int)>& body) {
    return [body](const char* path) {
      const Fd fd(::open(path, O_WRONLY));
      return fd < 0 ? errno : err(body(fd));
    };
  };
  const auto write = with_fd([](int fd) { return ::write(fd, "y", 1); });
  const std::vector<std::pair<std::string, std::function<int(const char*)>>> changes = {
      {"write", write},
      {"dax-write", write},
      {"truncate", [](const char* path) { return err(::truncate(path, 5)); }},
      {"o_trunc",
       [](const char* path) {
         const Fd fd(::open(path, O_WRONLY | O_TRUNC));
         return fd < 0 ? errno : 0;
       }},
      {"fallocate", with_fd([](int fd) { return ::fallocate(fd, 0, 0, 8192); })},
      {"copy_file_range", with_fd([](int fd) {
         const Fd source(::open("source", O_RDONLY));
         return ::copy_file_range(source, nullptr, fd, nullptr, 10, 0);
       })},
  };
  for (const auto& entry : changes) {
    const std::string& name = entry.first;
    const auto& change = entry.second;
    make_privileged(name);
    if (name.starts_with("dax") && !make_dax(name)) continue;
    EXPECT_EQ(in_child(kUser, [&] { return change(name.c_str()); }), 0) << name;
    expect_unprivileged(name);
  }
  make_privileged("chown");
  ASSERT_EQ(::chown("chown", kOther, kOther), 0);
  expect_unprivileged("chown");
}

// --- Handles, threads ------------------------------------------------------------------------------------------------

TEST_F(Posix, HandlesOutliveTheKernelsCache) {
  UDAX_NEEDS_ROOT();
  ASSERT_EQ(::mkdir("h", 0755), 0);
  ASSERT_EQ(::mkdir("h/i", 0755), 0);
  make_file("h/i/file", "by handle");
  alignas(file_handle) char space[sizeof(file_handle) + MAX_HANDLE_SZ];
  auto* const handle = reinterpret_cast<file_handle*>(space);
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mount_id = 0;
  ASSERT_EQ(err(::name_to_handle_at(AT_FDCWD, "h/i/file", handle, &mount_id, 0)), 0);
  {
    const Fd caches(::open("/proc/sys/vm/drop_caches", O_WRONLY));
    if (caches < 0 || ::write(caches, "2", 1) != 1) GTEST_SKIP() << "the kernel's caches cannot be dropped here";
  }
  const Fd base(::open(".", O_RDONLY));
  {
    const Fd fd(::open_by_handle_at(base, handle, O_RDONLY));
    ASSERT_GE(fd, 0) << errno;
    char bytes[20] = {};
    EXPECT_EQ(::read(fd, bytes, sizeof bytes), 9);
    EXPECT_STREQ(bytes, "by handle");
  }
  ASSERT_EQ(::unlink("h/i/file"), 0);
  make_file("h/i/file", "another");
  EXPECT_EQ(err(::open_by_handle_at(base, handle, O_RDONLY)), ESTALE);
}

/// One thread's part: files made, filled, read back, renamed, removed in a folder of its own. Gives what went wrong.
std::string storm(int number) {
  const std::string base = "storm" + std::to_string(number) + "/";
  if (::mkdir(base.c_str(), 0755) != 0) return "mkdir";
  for (int i = 0; i < 150; ++i) {
    const std::string name = base + std::to_string(i % 10);
    const Fd fd(::open(name.c_str(), O_CREAT | O_RDWR, 0600));
    const std::string bytes(static_cast<size_t>(1 + i * 997 % 300'000), static_cast<char>('a' + number));
    if (fd < 0 || ::pwrite(fd, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
      return "write";
    if (i % 7 == 0 && ::fsync(fd) != 0) return "fsync";
    std::string found(bytes.size(), '\0');
    if (::pread(fd, found.data(), found.size(), 0) != static_cast<ssize_t>(found.size())) return "read";
    if (found != bytes) return "wrong bytes in step " + std::to_string(i);
    if (i % 3 == 0 && ::rename(name.c_str(), (name + "r").c_str()) != 0) return "rename";
    if (i % 5 == 0 && ::unlink((exists(name) ? name : name + "r").c_str()) != 0) return "unlink";
  }
  return {};
}

TEST_F(Posix, ManyThreads) {
  constexpr int kThreads = 6;
  std::vector<std::string> wrong(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([i, &wrong] { wrong[static_cast<size_t>(i)] = storm(i); });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kThreads; ++i) EXPECT_EQ(wrong[static_cast<size_t>(i)], "") << "thread " << i;
}

}  // namespace
}  // namespace udax::conformity
