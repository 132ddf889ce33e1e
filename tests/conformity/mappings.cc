// SPDX-License-Identifier: BSD-3-Clause
//
// mmap(2), mprotect(2), msync(2), mlock(2), madvise(2) on files; mappings that outlive what they were made from; and the
// corners of locks, fcntl_locking(2) and flock(2).
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cstring>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

constexpr size_t kPage = 4096;

void* map(int fd, size_t length, int protection = PROT_READ | PROT_WRITE, int flags = MAP_SHARED, off_t at = 0) {
  return ::mmap(nullptr, length, protection, flags, fd, at);
}

/// Kernels before 6.6 do not map DAX files shared.
#define UDAX_MAP_OR_SKIP(variable, fd, length)                                                               \
  void* const variable##_map = map(fd, length);                                                              \
  if (variable##_map == MAP_FAILED && errno == ENODEV) GTEST_SKIP() << "this kernel does not map DAX files"; \
  ASSERT_NE(variable##_map, MAP_FAILED) << errno;                                                            \
  char* const variable = static_cast<char*>(variable##_map)

int map_error(int fd, size_t length, int protection, int flags, off_t at = 0) {
  void* const result = map(fd, length, protection, flags, at);
  if (result == MAP_FAILED) return errno;
  ::munmap(result, length);
  return 0;
}

TEST_F(Posix, MapsThatAreRefused) {
  make_file("file", std::string(2 * kPage, 'x'));
  ASSERT_EQ(::mkdir("folder", 0755), 0);
  const Fd both(::open("file", O_RDWR));
  UDAX_MAP_OR_SKIP(probe, both, kPage);
  ::munmap(probe, kPage);
  const Fd reads(::open("file", O_RDONLY));
  const Fd writes(::open("file", O_WRONLY));
  const Fd folder(::open("folder", O_RDONLY));
  EXPECT_EQ(map_error(reads, kPage, PROT_READ | PROT_WRITE, MAP_SHARED), EACCES);
  EXPECT_EQ(map_error(reads, kPage, PROT_READ, MAP_SHARED), 0);
  EXPECT_EQ(map_error(reads, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE), 0);
  EXPECT_EQ(map_error(writes, kPage, PROT_WRITE, MAP_SHARED), EACCES) << "writing takes reading";
  EXPECT_EQ(map_error(writes, kPage, PROT_READ, MAP_PRIVATE), EACCES);
  EXPECT_EQ(map_error(both, 0, PROT_READ, MAP_SHARED), EINVAL);
  EXPECT_EQ(map_error(both, kPage, PROT_READ, MAP_SHARED, 100), EINVAL);
  EXPECT_EQ(map_error(both, kPage, PROT_READ, 0), EINVAL);
  EXPECT_EQ(map_error(folder, kPage, PROT_READ, MAP_SHARED), ENODEV);
  EXPECT_EQ(map_error(-1, kPage, PROT_READ, MAP_SHARED), EBADF);
  const Fd appends(::open("file", O_RDWR | O_APPEND));
  EXPECT_EQ(map_error(appends, kPage, PROT_READ | PROT_WRITE, MAP_SHARED), 0);
  // mprotect(2) asks the same.
  void* const shared = map(reads, kPage, PROT_READ);
  ASSERT_NE(shared, MAP_FAILED);
  EXPECT_EQ(err(::mprotect(shared, kPage, PROT_READ | PROT_WRITE)), EACCES);
  EXPECT_EQ(err(::msync(static_cast<char*>(shared) + 1, kPage, MS_SYNC)), EINVAL);
  EXPECT_EQ(err(::msync(shared, kPage, MS_SYNC | MS_ASYNC)), EINVAL);
  EXPECT_EQ(err(::msync(shared, kPage, MS_ASYNC)), 0);
  ::munmap(shared, kPage);
  EXPECT_EQ(err(::msync(shared, kPage, MS_SYNC)), ENOMEM);
}

TEST_F(Posix, AMappingOutlivesItsDescriptorAndItsName) {
  const int fd = ::open("file", O_RDWR | O_CREAT, 0644);
  ASSERT_EQ(::ftruncate(fd, 4 * kPage), 0);
  UDAX_MAP_OR_SKIP(bytes, fd, 4 * kPage);
  bytes[0] = 'a';
  ASSERT_EQ(::close(fd), 0);
  bytes[kPage] = 'b';
  EXPECT_EQ(read_file("file").substr(kPage, 1), "b");
  ASSERT_EQ(::unlink("file"), 0);
  bytes[2 * kPage] = 'c';
  ASSERT_EQ(err(::msync(bytes, 4 * kPage, MS_SYNC)), 0);
  EXPECT_EQ(bytes[0], 'a');
  EXPECT_EQ(bytes[2 * kPage], 'c');
  EXPECT_EQ(bytes[3 * kPage], '\0');
  // A child shares it.
  EXPECT_EQ(in_child(0,
                     [&] {
                       bytes[3 * kPage] = 'd';
                       return bytes[2 * kPage] == 'c' ? 0 : 1;
                     }),
            0);
  EXPECT_EQ(bytes[3 * kPage], 'd');
  ::munmap(bytes, 4 * kPage);
}

TEST_F(Posix, MappingsGrowWithTheirFile) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  ASSERT_EQ(::write(fd, "x", 1), 1);
  UDAX_MAP_OR_SKIP(bytes, fd, 16 * kPage);
  const auto touch = [&](size_t at) {
    return in_child(0, [&] {
      ::signal(SIGBUS, SIG_DFL);
      static_cast<void>(*static_cast<volatile char*>(bytes + at));
      return 0;
    });
  };
  EXPECT_EQ(touch(kPage - 1), 0) << "the rest of the last page";
  EXPECT_EQ(bytes[1], '\0');
  EXPECT_EQ(touch(kPage), 128 + SIGBUS);
  ASSERT_EQ(::pwrite(fd, "y", 1, 3 * kPage), 1);
  EXPECT_EQ(touch(2 * kPage), 0);
  EXPECT_EQ(bytes[3 * kPage], 'y');
  EXPECT_EQ(touch(4 * kPage), 128 + SIGBUS);
  ASSERT_EQ(::ftruncate(fd, 16 * kPage), 0);
  EXPECT_EQ(touch(16 * kPage - 1), 0);
  ASSERT_EQ(::ftruncate(fd, kPage), 0);
  EXPECT_EQ(touch(kPage), 128 + SIGBUS);
  EXPECT_EQ(touch(15 * kPage), 128 + SIGBUS);
  // A call that is given such an address fails; it does not signal.
  EXPECT_EQ(err(::pwrite(fd, bytes + 2 * kPage, 10, 0)), EFAULT);
  EXPECT_EQ(err(::pread(fd, bytes + 2 * kPage, 10, 0)), EFAULT);
  ::munmap(bytes, 16 * kPage);
}

TEST_F(Posix, LockedAndAdvisedMappings) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  ASSERT_EQ(::ftruncate(fd, 8 * kPage), 0);
  UDAX_MAP_OR_SKIP(bytes, fd, 8 * kPage);
  // All of it: FUSE's kernel does not join the parts of a mapping again, and mremap(2) takes one part.
  EXPECT_EQ(err(::mlock(bytes, 8 * kPage)), 0);
  bytes[0] = 'l';
  EXPECT_EQ(err(::munlock(bytes, 8 * kPage)), 0);
  for (const int advice : {MADV_WILLNEED, MADV_SEQUENTIAL, MADV_RANDOM, MADV_DONTNEED, MADV_NORMAL}) {
    EXPECT_EQ(err(::madvise(bytes, 8 * kPage, advice)), 0) << advice;
  }
  EXPECT_EQ(bytes[0], 'l');
  void* const moved = ::mremap(bytes, 8 * kPage, 16 * kPage, MREMAP_MAYMOVE);
  ASSERT_NE(moved, MAP_FAILED);
  ASSERT_EQ(::ftruncate(fd, 16 * kPage), 0);
  static_cast<char*>(moved)[10 * kPage] = 'm';
  char byte = 0;
  EXPECT_EQ(::pread(fd, &byte, 1, 10 * kPage), 1);
  EXPECT_EQ(byte, 'm');
  // madvise(MADV_REMOVE) is a punch.
  EXPECT_EQ(err(::madvise(static_cast<char*>(moved) + 10 * kPage, kPage, MADV_REMOVE)), 0);
  EXPECT_EQ(::pread(fd, &byte, 1, 10 * kPage), 1);
  EXPECT_EQ(byte, '\0');
  ::munmap(moved, 16 * kPage);
}

// --- Locks -----------------------------------------------------------------------------------------------------------

int lock(int fd, int command, int type, int64_t start, int64_t length, int whence = SEEK_SET) {
  struct flock lock {};
  lock.l_type = static_cast<short>(type);      // NOLINT(google-runtime-int): the field's type
  lock.l_whence = static_cast<short>(whence);  // NOLINT(google-runtime-int)
  lock.l_start = start;
  lock.l_len = length;
  return err(::fcntl(fd, command, &lock));
}

TEST_F(Posix, LocksThatAreRefused) {
  make_file("file", "0123456789");
  const Fd both(::open("file", O_RDWR));
  const Fd reads(::open("file", O_RDONLY));
  const Fd writes(::open("file", O_WRONLY));
  EXPECT_EQ(lock(reads, F_SETLK, F_WRLCK, 0, 1), EBADF);
  EXPECT_EQ(lock(writes, F_SETLK, F_RDLCK, 0, 1), EBADF);
  EXPECT_EQ(lock(both, F_SETLK, F_WRLCK, -1, 1), EINVAL);
  EXPECT_EQ(lock(both, F_SETLK, F_WRLCK, 5, -10), EINVAL);
  EXPECT_EQ(lock(both, F_SETLK, 77, 0, 1), EINVAL);
  EXPECT_EQ(lock(both, F_SETLK, F_WRLCK, 0, 1, 77), EINVAL);
  EXPECT_EQ(lock(both, F_SETLK, F_WRLCK, INT64_MAX, 2), EOVERFLOW);
  EXPECT_EQ(lock(both, F_SETLK, F_WRLCK, 10, -5), 0) << "backwards: bytes 5 to 9";
  EXPECT_EQ(in_child(0, [&] { return lock(both, F_SETLK, F_WRLCK, 5, 1); }), EAGAIN)
      << "locks are a process's own";
  EXPECT_EQ(in_child(0, [&] { return lock(both, F_SETLK, F_WRLCK, 4, 1); }), 0);
  EXPECT_EQ(lock(both, F_SETLK, F_UNLCK, -5, 5, SEEK_END), 0);
  EXPECT_EQ(in_child(0, [&] { return lock(both, F_SETLK, F_WRLCK, 5, 1); }), 0);
  EXPECT_EQ(err(::flock(both, 64)), EINVAL);
  EXPECT_EQ(err(::flock(-1, LOCK_SH)), EBADF);
}

TEST_F(Posix, LocksOfDescriptions) {
  make_file("file", "0123456789");
  const Fd one(::open("file", O_RDWR));
  const Fd two(::open("file", O_RDWR));
  ASSERT_EQ(lock(one, F_OFD_SETLK, F_WRLCK, 0, 5), 0);
  EXPECT_EQ(lock(two, F_OFD_SETLK, F_RDLCK, 0, 1), EAGAIN) << "of one process, but another open(2)";
  EXPECT_EQ(lock(two, F_SETLK, F_RDLCK, 0, 1), EAGAIN);
  const Fd copy(::dup(one));
  EXPECT_EQ(lock(copy, F_OFD_SETLK, F_WRLCK, 0, 5), 0);
  { const Fd another(::open("file", O_RDWR)); }
  EXPECT_EQ(lock(two, F_OFD_SETLK, F_RDLCK, 0, 1), EAGAIN) << "closing another description lets nothing go";
  EXPECT_EQ(in_child(0, [&] { return lock(one, F_OFD_SETLK, F_WRLCK, 0, 5); }), 0) << "inherited by fork(2)";
  EXPECT_EQ(lock(one, F_OFD_SETLK, F_UNLCK, 0, 0), 0);
  EXPECT_EQ(lock(two, F_OFD_SETLK, F_WRLCK, 0, 0), 0);
  // flock(2) is of the description, too, and goes with the last copy of it.
  {
    const Fd three(::open("file", O_RDONLY));
    EXPECT_EQ(err(::flock(three, LOCK_EX)), 0) << "for reading is enough";
    EXPECT_EQ(err(::flock(two, LOCK_SH | LOCK_NB)), EWOULDBLOCK);
    const Fd dup(::dup(three));
    EXPECT_EQ(err(::flock(dup, LOCK_SH | LOCK_NB)), 0);
    EXPECT_EQ(err(::flock(two, LOCK_SH | LOCK_NB)), 0);
    EXPECT_EQ(err(::flock(two, LOCK_UN)), 0);
  }
  EXPECT_EQ(err(::flock(two, LOCK_EX | LOCK_NB)), 0);
}

TEST_F(Posix, LocksThatWaitForEachOther) {
  make_file("file", "0123456789");
  const Fd fd(::open("file", O_RDWR));
  ASSERT_EQ(lock(fd, F_SETLK, F_WRLCK, 0, 1), 0);
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::alarm(60);
    const Fd mine(::open("file", O_RDWR));
    if (lock(mine, F_SETLK, F_WRLCK, 1, 1) != 0 || ::write(ready[1], "", 1) != 1) ::_exit(1);
    const int result = lock(mine, F_SETLKW, F_WRLCK, 0, 1);
    ::_exit(result == 0 || result == EDEADLK ? 0 : 2);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  for (const int end : ready) ::close(end);
  // One of the two is told; whoever it is, the other gets its lock then.
  const int result = lock(fd, F_SETLKW, F_WRLCK, 1, 1);
  EXPECT_TRUE(result == 0 || result == EDEADLK) << result;
  ASSERT_EQ(lock(fd, F_SETLK, F_UNLCK, 0, 0), 0);
  EXPECT_EQ(wait_for(pid), 0);
}

}  // namespace
}  // namespace udax::conformity
