// SPDX-License-Identifier: BSD-3-Clause
//
// Locks between processes.
#include <sys/file.h>
#include <sys/wait.h>

#include <chrono>
#include <thread>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

int set_lock(int fd, int command, int type, int64_t start, int64_t length) {
  struct flock lock {};
  lock.l_type = static_cast<short>(type);  // NOLINT(google-runtime-int): the field's type
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return err(::fcntl(fd, command, &lock));
}

/// What another process gets when it tries, at once.
int other_gets(int command, int type, int64_t start, int64_t length) {
  return in_child(0, [&] {
    const Fd fd(::open("f", O_RDWR));
    return set_lock(fd, command, type, start, length);
  });
}

TEST_F(Posix, RecordLocks) {
  make_file("f", std::string(100, 'x'));
  const Fd fd(::open("f", O_RDWR));
  ASSERT_EQ(set_lock(fd, F_SETLK, F_WRLCK, 10, 20), 0);
  EXPECT_EQ(other_gets(F_SETLK, F_RDLCK, 15, 1), EAGAIN);
  EXPECT_EQ(other_gets(F_SETLK, F_WRLCK, 0, 10), 0);
  EXPECT_EQ(other_gets(F_OFD_SETLK, F_RDLCK, 15, 1), EAGAIN);
  ASSERT_EQ(set_lock(fd, F_SETLK, F_RDLCK, 10, 20), 0);
  EXPECT_EQ(other_gets(F_SETLK, F_RDLCK, 15, 1), 0);
  EXPECT_EQ(other_gets(F_SETLK, F_WRLCK, 15, 1), EAGAIN);
  ASSERT_EQ(set_lock(fd, F_SETLK, F_UNLCK, 15, 1), 0);  // splits it
  EXPECT_EQ(other_gets(F_SETLK, F_WRLCK, 15, 1), 0);
  EXPECT_EQ(other_gets(F_SETLK, F_WRLCK, 16, 1), EAGAIN);
  const pid_t me = ::getpid();
  EXPECT_EQ(in_child(0,
                     [&] {
                       const Fd mine(::open("f", O_RDWR));
                       struct flock lock {};
                       lock.l_type = F_WRLCK;
                       lock.l_whence = SEEK_SET;
                       if (::fcntl(mine, F_GETLK, &lock) != 0) return errno;
                       return lock.l_type == F_RDLCK && lock.l_pid == me && lock.l_start == 10 && lock.l_len == 5
                                  ? 0
                                  : 1;
                     }),
            0);
  { const Fd another(::open("f", O_RDONLY)); }  // closing any descriptor of the file lets go
  EXPECT_EQ(other_gets(F_SETLK, F_WRLCK, 0, 0), 0);
}

TEST_F(Posix, WaitersForALockAreWoken) {
  make_file("f");
  const Fd fd(::open("f", O_RDWR));
  ASSERT_EQ(set_lock(fd, F_SETLK, F_WRLCK, 0, 0), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    const Fd mine(::open("f", O_RDWR));
    ::_exit(set_lock(mine, F_SETLKW, F_WRLCK, 0, 0));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, WNOHANG), 0) << "it did not wait";
  ASSERT_EQ(set_lock(fd, F_SETLK, F_UNLCK, 0, 0), 0);
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST_F(Posix, Flock) {
  make_file("f");
  const Fd fd(::open("f", O_RDWR));
  ASSERT_EQ(err(::flock(fd, LOCK_EX)), 0);
  const auto other = [](int operation) {
    return in_child(0, [&] {
      const Fd mine(::open("f", O_RDWR));
      return err(::flock(mine, operation | LOCK_NB));
    });
  };
  EXPECT_EQ(other(LOCK_SH), EWOULDBLOCK);
  EXPECT_EQ(other_gets(F_SETLK, F_WRLCK, 0, 0), 0) << "flock and record locks are separate";
  ASSERT_EQ(err(::flock(fd, LOCK_SH)), 0);
  EXPECT_EQ(other(LOCK_SH), 0);
  EXPECT_EQ(other(LOCK_EX), EWOULDBLOCK);
  ASSERT_EQ(err(::flock(fd, LOCK_UN)), 0);
  EXPECT_EQ(other(LOCK_EX), 0);
}

}  // namespace
}  // namespace udax::conformity
