// SPDX-License-Identifier: BSD-3-Clause
//
// setuid and setgid: what clears them, for whom; who may change modes and owners (chmod(2), chown(2), write(2),
// inode(7)); and what access(2) and open(2) give to whom.
#include <linux/falloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#include <array>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

struct Change {
  const char* name;
  std::function<int64_t(int)> call;  // on a descriptor for reading and writing
  bool fuse_tells = true;  // FUSE has a flag for callers without CAP_FSETID; otherwise all are treated as such
};

const std::vector<Change>& changes_of_bytes() {
  static const std::vector<Change> changes = {
      {"write", [](int fd) { return ::write(fd, "x", 1); }},
      {"write of nothing", [](int fd) { return ::write(fd, "", 0); }},
      {"pwrite behind the end", [](int fd) { return ::pwrite(fd, "x", 1, 100'000); }},
      {"ftruncate", [](int fd) { return ::ftruncate(fd, 3); }},
      {"ftruncate, longer", [](int fd) { return ::ftruncate(fd, 30'000); }},
      {"fallocate", [](int fd) { return ::fallocate(fd, 0, 0, 90'000); }, false},
      {"fallocate, size kept", [](int fd) { return ::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 90'000); }, false},
      {"punch", [](int fd) { return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 5); }, false},
      {"copy_file_range",  // of a whole page: others the kernel does by reading and writing
       [](int fd) {
         loff_t from = 0;
         loff_t to = 4096;
         return ::copy_file_range(fd, &from, fd, &to, 4096, 0);
       },
       false},
  };
  return changes;
}

uint32_t without_privileges(uint32_t mode) {
  mode &= ~uint32_t{S_ISUID};
  if ((mode & S_IXGRP) != 0) mode &= ~uint32_t{S_ISGID};
  return mode;
}

constexpr std::array<uint32_t, 6> kModes{04777, 02777, 06777, 04666, 02676, 01755};

TEST_F(Posix, SetuidAfterChangesOfBytes) {
  UDAX_NEEDS_ROOT();
  for (const uint32_t mode : kModes) {
    for (const Change& change : changes_of_bytes()) {
      for (const uint32_t who : {uint32_t{0}, kUser}) {
        SCOPED_TRACE(std::string(change.name) + ", by " + std::to_string(who) + ", mode " + std::to_string(mode));
        make_file("f", std::string(8192, 'x'));
        ASSERT_EQ(err(::chown("f", kUser, kUser)), 0);
        ASSERT_EQ(err(::chmod("f", mode)), 0);
        EXPECT_EQ(in_child(who,
                           [&] {
                             const Fd fd(::open("f", O_RDWR));
                             return fd < 0 ? errno : err(change.call(fd));
                           }),
                  0);
        const bool is_change = change.name != std::string("write of nothing");
        const bool by_root = who == 0 && (change.fuse_tells || is_peer());
        EXPECT_EQ(mode_of("f"), by_root || !is_change ? mode : without_privileges(mode));
        ASSERT_EQ(::unlink("f"), 0);
      }
    }
  }
}

// inode(7): setgid without group execution once meant mandatory locking. It goes if one outside the group writes; FUSE
// tells us that privileges are to go, but not this (docs/testing.md).
TEST_F(Posix, SetgidWithoutExecutionAfterWrites) {
  UDAX_NEEDS_ROOT();
  const auto after = [](uint32_t who) {
    make_file("f", "0123456789");
    EXPECT_EQ(err(::chown("f", 0, kUser)), 0);
    EXPECT_EQ(err(::chmod("f", 02666)), 0);
    EXPECT_EQ(in_child(who,
                       [] {
                         const Fd fd(::open("f", O_RDWR));
                         return fd < 0 ? errno : err(::pwrite(fd, "x", 1, 0));
                       }),
              0);
    return mode_of("f");
  };
  EXPECT_EQ(after(0), 02666U);
  EXPECT_EQ(after(kUser), 02666U) << "in the group";
  EXPECT_EQ(after(kOther), is_peer() ? 0666U : 02666U) << "outside the group";
}

// chown(2): "When the owner or group of an executable file is changed by an unprivileged user, the S_ISUID and S_ISGID
// mode bits are cleared. POSIX does not specify whether this also should happen when root does the chown(); the Linux
// behavior depends on the kernel version, and since Linux 2.2.13, root is treated like other users."
TEST_F(Posix, SetuidAfterChown) {
  UDAX_NEEDS_ROOT();
  for (const uint32_t mode : kModes) {
    for (const uint32_t who : {uint32_t{0}, kUser}) {
      SCOPED_TRACE("by " + std::to_string(who) + ", mode " + std::to_string(mode));
      const auto chown = [&](uint32_t uid, uint32_t gid) {
        make_file("f");
        EXPECT_EQ(err(::chown("f", kUser, kUser)), 0);
        EXPECT_EQ(err(::chmod("f", mode)), 0);
        EXPECT_EQ(in_child(who, [&] { return err(::chown("f", uid, gid)); }), 0);
        const uint32_t found = mode_of("f");
        EXPECT_EQ(::unlink("f"), 0);
        return found;
      };
      EXPECT_EQ(chown(kUser, kUser), without_privileges(mode));
      EXPECT_EQ(chown(~0U, kUser), without_privileges(mode));
      EXPECT_EQ(chown(kUser, ~0U), without_privileges(mode));
      EXPECT_EQ(chown(~0U, ~0U), without_privileges(mode)) << "of nothing";
    }
  }
  // Of folders they mean something else.
  ASSERT_EQ(::mkdir("d", 0755), 0);
  ASSERT_EQ(err(::chmod("d", 06777)), 0);
  ASSERT_EQ(err(::chown("d", kUser, kOther)), 0);
  EXPECT_EQ(mode_of("d"), 06777U);
}

TEST_F(Posix, WhoMayChown) {
  UDAX_NEEDS_ROOT();
  make_file("mine");
  ASSERT_EQ(err(::chown("mine", kUser, kUser)), 0);
  make_file("theirs", "", 0666);
  const auto chown = [](const char* path, uint32_t uid, uint32_t gid) {
    return in_child(kUser, [=] { return err(::chown(path, uid, gid)); });
  };
  EXPECT_EQ(chown("mine", kUser, kUser), 0);
  EXPECT_EQ(chown("mine", kOther, ~0U), EPERM) << "to give it away";
  EXPECT_EQ(chown("mine", ~0U, kOther), EPERM) << "a group that he is not in";
  EXPECT_EQ(chown("theirs", kUser, ~0U), EPERM);
  EXPECT_EQ(chown("theirs", ~0U, kUser), EPERM);
  EXPECT_EQ(chown("theirs", ~0U, ~0U), 0) << "nothing is asked for";
  EXPECT_EQ(err(::chown("mine", ~0U, 7)), 0);
  EXPECT_EQ(stat_of("mine").st_uid, kUser);
  EXPECT_EQ(stat_of("mine").st_gid, 7U);
  EXPECT_EQ(err(::chown("mine", 0xFFFFFFFE, 0xFFFFFFFE)), 0) << "the largest numbers";
  EXPECT_EQ(stat_of("mine").st_uid, 0xFFFFFFFEU);
}

TEST_F(Posix, WhoMayChmod) {
  UDAX_NEEDS_ROOT();
  make_file("theirs", "", 0777);
  EXPECT_EQ(in_child(kUser, [] { return err(::chmod("theirs", 0777)); }), EPERM);
  make_file("mine");
  ASSERT_EQ(err(::chown("mine", kUser, 4242)), 0);
  EXPECT_EQ(in_child(kUser, [] { return err(::chmod("mine", 06777)); }), 0);
  EXPECT_EQ(mode_of("mine"), 04777U) << "setgid of a group that he is not in";
  EXPECT_EQ(in_child(kUser, [] { return err(::chmod("mine", 01644)); }), 0) << "the sticky bit of a file";
  EXPECT_EQ(mode_of("mine"), 01644U);
  ASSERT_EQ(err(::chown("mine", kUser, kUser)), 0);
  EXPECT_EQ(in_child(kUser, [] { return err(::chmod("mine", 02755)); }), 0);
  EXPECT_EQ(mode_of("mine"), 02755U);
  EXPECT_EQ(err(::chmod("mine", 0107777 | S_IFDIR)), 0) << "other bits are none of its business";
  EXPECT_EQ(stat_of("mine").st_mode, S_IFREG | 07777U);
  ASSERT_EQ(::symlink("mine", "link"), 0);
  EXPECT_EQ(err(::fchmodat(AT_FDCWD, "link", 0600, AT_SYMLINK_NOFOLLOW)), EOPNOTSUPP);
  EXPECT_EQ(mode_of("mine"), 07777U);
}

// One class counts: the owner's bits are for the owner even if the group's give more.
TEST_F(Posix, OneClassOfBitsCounts) {
  UDAX_NEEDS_ROOT();
  for (uint32_t bits = 0; bits < 8; ++bits) {
    for (int klass = 0; klass < 3; ++klass) {
      const uint32_t shift = 6 - 3 * static_cast<uint32_t>(klass);
      const uint32_t mode = (0777U & ~(7U << shift)) | bits << shift;
      make_file("f", "x");
      ASSERT_EQ(err(::chown("f", klass == 0 ? kUser : kOther, klass == 1 ? kUser : kOther)), 0);
      ASSERT_EQ(err(::chmod("f", mode)), 0);
      for (int wanted = 0; wanted < 8; ++wanted) {
        const bool may = (static_cast<int>(bits) & wanted) == wanted;
        EXPECT_EQ(in_child(kUser, [&] { return err(::access("f", wanted)); }), may ? 0 : EACCES)
            << "mode " << std::oct << mode << ", asked for " << wanted;
      }
      for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR}) {
        const uint32_t needs = flags == O_RDONLY ? 4 : flags == O_WRONLY ? 2 : 6;
        EXPECT_EQ(in_child(kUser,
                           [&] {
                             const Fd fd(::open("f", flags));
                             return fd < 0 ? errno : 0;
                           }),
                  (bits & needs) == needs ? 0 : EACCES)
            << "mode " << std::oct << mode << ", flags " << flags;
      }
      ASSERT_EQ(::unlink("f"), 0);
    }
  }
  // Root may all, but execute what nobody may.
  make_file("f", "x", 0000);
  EXPECT_EQ(err(::access("f", R_OK | W_OK)), 0);
  EXPECT_EQ(err(::access("f", X_OK)), EACCES);
  ASSERT_EQ(err(::chmod("f", 0001)), 0);
  EXPECT_EQ(err(::access("f", X_OK)), 0);
}

// A descriptor keeps what it was opened with.
TEST_F(Posix, DescriptorsKeepTheirPermissions) {
  UDAX_NEEDS_ROOT();
  make_file("f", "bytes", 0666);
  EXPECT_EQ(in_child(kUser,
                     [] {
                       const Fd reads(::open("f", O_RDONLY));
                       const Fd writes(::open("f", O_WRONLY));
                       // As root before: the mode changes while the file is open.
                       if (in_child(0, [] { return 0; }) != 0) return 1;
                       char byte = 0;
                       if (::read(reads, &byte, 1) != 1 || ::write(writes, "x", 1) != 1) return 2;
                       if (err(::write(reads, "x", 1)) != EBADF || err(::read(writes, &byte, 1)) != EBADF)
                         return 3;
                       return err(::ftruncate(reads, 0)) == EINVAL ? 0 : 4;
                     }),
            0);
  const Fd fd(::open("f", O_RDWR));
  ASSERT_EQ(::chmod("f", 0), 0);
  EXPECT_EQ(::pwrite(fd, "y", 1, 0), 1);
  // A file that is made with a mode that forbids it may still be written by its maker.
  ASSERT_EQ(err(::chmod(".", 0777)), 0);
  EXPECT_EQ(in_child(kUser,
                     [] {
                       const Fd made(::open("made", O_CREAT | O_RDWR, 0));
                       return made >= 0 && ::write(made, "x", 1) == 1 && err(::open("made", O_RDWR)) == EACCES ? 0
                                                                                                               : 1;
                     }),
            0);
}

// What is executed is what the file is now, not the mode that a kernel has cached.
TEST_F(Posix, SetuidIsGoneForTheNextExec) {
  UDAX_NEEDS_ROOT();
  for (const bool truncates : {false, true}) {
    const std::string program = read_file("/usr/bin/id");
    make_file("id", program);
    ASSERT_EQ(err(::chmod("id", 04777)), 0);
    EXPECT_EQ(in_child(kUser,
                       [&] {
                         {
                           const Fd fd(::open("id", O_WRONLY | (truncates ? O_TRUNC : 0)));
                           const auto size = static_cast<ssize_t>(program.size());
                           if (::write(fd, program.data(), program.size()) != size) return 1;
                         }
                         int out[2];
                         if (::pipe(out) != 0) return 2;
                         const int result = in_child(0, [&] {
                           ::dup2(out[1], 1);
                           ::execl("./id", "id", "-u", nullptr);
                           return 3;
                         });
                         char text[20] = {};
                         if (result != 0 || ::read(out[0], text, sizeof text - 1) <= 0) return 4;
                         return std::strtol(text, nullptr, 10) == static_cast<int>(kUser) ? 0 : 5;
                       }),
              0)
        << "O_TRUNC: " << truncates << "; 5: it ran as root";
    ASSERT_EQ(::unlink("id"), 0);
  }
}

TEST_F(Posix, ProgramsRun) {
  ASSERT_EQ(err(::symlink("/bin/true", "link")), 0);
  const auto run = [](const char* path) {
    return in_child(0, [=] {
      ::execl(path, path, nullptr);
      return errno;
    });
  };
  EXPECT_EQ(run("./link"), 0);
  make_file("script", "#!/bin/sh\nexit 7\n", 0755);
  EXPECT_EQ(run("./script"), 7);
  ASSERT_EQ(::chmod("script", 0644), 0);
  EXPECT_EQ(run("./script"), EACCES);
  make_file("program", read_file("/bin/true"), 0755);
  EXPECT_EQ(run("./program"), 0);
  make_file("empty", "", 0755);
  EXPECT_EQ(run("./empty"), ENOEXEC);
  EXPECT_EQ(run("."), EACCES);
}

// ETXTBSY: the kernel counts writers and runners of an inode.
TEST_F(Posix, ProgramsThatRunAreNotWritten) {
  make_file("program", read_file("/bin/sleep"), 0755);
  {
    const Fd writer(::open("program", O_WRONLY));
    ASSERT_GE(writer, 0);
    EXPECT_EQ(in_child(0,
                       [] {
                         ::execl("./program", "program", "0", nullptr);
                         return errno;
                       }),
              ETXTBSY);
  }
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::execl("./program", "program", "60", nullptr);
    ::_exit(1);
  }
  ::close(ready[1]);
  char byte = 0;
  EXPECT_EQ(::read(ready[0], &byte, 1), 0);  // the pipe is closed by exec
  ::close(ready[0]);
  EXPECT_EQ(err(::open("program", O_WRONLY)), ETXTBSY);
  EXPECT_EQ(err(::truncate("program", 0)), ETXTBSY);
  EXPECT_EQ(err(::access("program", W_OK)), 0);
  EXPECT_EQ(err(::rename("program", "moved")), 0);
  EXPECT_EQ(err(::unlink("moved")), 0);
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  EXPECT_EQ(wait_for(pid), 128 + SIGKILL);
}

}  // namespace
}  // namespace udax::conformity
