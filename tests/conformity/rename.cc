// SPDX-License-Identifier: BSD-3-Clause
//
// rename(2), renameat2(2): each kind of file onto each other, names of one file, trees into themselves, who may.
#include <stdio.h>
#include <sys/stat.h>

#include <array>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

int rename2(const std::string& from, const std::string& to, unsigned flags) {
  return err(::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags));
}

enum class Kind : uint8_t { kFile, kSymlink, kFifo, kEmptyFolder, kFullFolder, kNone };
constexpr std::array kKinds{Kind::kFile,        Kind::kSymlink,    Kind::kFifo,
                            Kind::kEmptyFolder, Kind::kFullFolder, Kind::kNone};
constexpr const char* kNames[] = {"file", "symlink", "fifo", "empty folder", "full folder", "none"};

bool is_folder(Kind kind) { return kind == Kind::kEmptyFolder || kind == Kind::kFullFolder; }

void make(Kind kind, const std::string& path) {
  switch (kind) {
    case Kind::kFile: make_file(path, "content"); break;
    case Kind::kSymlink: ASSERT_EQ(::symlink("nowhere", path.c_str()), 0); break;
    case Kind::kFifo: ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0); break;
    case Kind::kEmptyFolder: ASSERT_EQ(::mkdir(path.c_str(), 0755), 0); break;
    case Kind::kFullFolder:
      ASSERT_EQ(::mkdir(path.c_str(), 0755), 0);
      ASSERT_EQ(::mkdir((path + "/inner").c_str(), 0755), 0);
      break;
    case Kind::kNone: break;
  }
}

void remove(const std::string& path) {
  ::rmdir((path + "/inner").c_str());
  if (::unlink(path.c_str()) != 0) ::rmdir(path.c_str());
}

/// What the manual page says of renaming one kind onto another.
int expected(Kind from, Kind to) {
  if (from == Kind::kNone) return ENOENT;
  if (to == Kind::kNone) return 0;
  if (is_folder(from) && !is_folder(to)) return ENOTDIR;
  if (!is_folder(from) && is_folder(to)) return EISDIR;
  return to == Kind::kFullFolder ? ENOTEMPTY : 0;
}

TEST_F(Posix, RenameOfEachKindOntoEachOther) {
  ASSERT_EQ(::mkdir("there", 0755), 0);
  for (const std::string target : {"b", "there/b"}) {
    for (const Kind from : kKinds) {
      for (const Kind to : kKinds) {
        SCOPED_TRACE(std::string(kNames[static_cast<int>(from)]) + " onto " + kNames[static_cast<int>(to)]);
        make(from, "a");
        make(to, target);
        const ino_t was = from == Kind::kNone ? 0 : stat_of("a").st_ino;
        const nlink_t links_here = stat_of(".").st_nlink;
        EXPECT_EQ(rename2("a", target, 0), expected(from, to));
        EXPECT_EQ(exists("a"), expected(from, to) != 0 && from != Kind::kNone);
        if (expected(from, to) == 0) {
          EXPECT_EQ(stat_of(target).st_ino, was);
          const bool one_less = is_folder(from) && (target != "b" || is_folder(to));
          if (links_here > 1) {
            EXPECT_EQ(stat_of(".").st_nlink, links_here - (one_less ? 1 : 0));
          }
          if (is_folder(from)) {
            const std::string parent = target == "b" ? "." : "there";
            EXPECT_EQ(stat_of(target + "/..").st_ino, stat_of(parent).st_ino);
          }
        }
        remove("a");
        remove(target);
      }
    }
  }
}

TEST_F(Posix, ExchangeOfEachKindWithEachOther) {
  ASSERT_EQ(::mkdir("there", 0755), 0);
  for (const std::string target : {"b", "there/b"}) {
    for (const Kind from : kKinds) {
      for (const Kind to : kKinds) {
        SCOPED_TRACE(std::string(kNames[static_cast<int>(from)]) + " with " + kNames[static_cast<int>(to)]);
        make(from, "a");
        make(to, target);
        const bool possible = from != Kind::kNone && to != Kind::kNone;
        const ino_t a = from == Kind::kNone ? 0 : stat_of("a").st_ino;
        const ino_t b = to == Kind::kNone ? 0 : stat_of(target).st_ino;
        const nlink_t links_there = stat_of("there").st_nlink;
        EXPECT_EQ(rename2("a", target, RENAME_EXCHANGE), possible ? 0 : ENOENT);
        EXPECT_EQ(rename2("a", target, RENAME_NOREPLACE),
                  from == Kind::kNone ? ENOENT : (to == Kind::kNone ? 0 : EEXIST));
        if (possible) {
          EXPECT_EQ(stat_of("a").st_ino, b);
          EXPECT_EQ(stat_of(target).st_ino, a);
          if (target != "b") {
            const nlink_t wanted = links_there + (is_folder(from) ? 1 : 0) - (is_folder(to) ? 1 : 0);
            EXPECT_EQ(stat_of("there").st_nlink, wanted);
          }
          if (is_folder(to)) {
            EXPECT_EQ(stat_of("a/..").st_ino, stat_of(".").st_ino);
          }
        }
        remove("a");
        remove(target);
      }
    }
  }
}

TEST_F(Posix, RenameOntoItself) {
  make_file("file", "x");
  ASSERT_EQ(::mkdir("folder", 0755), 0);
  ASSERT_EQ(::link("file", "folder/link"), 0);
  for (const char* name : {"file", "folder"}) {
    EXPECT_EQ(rename2(name, name, 0), 0) << name;
    EXPECT_EQ(rename2(name, name, RENAME_EXCHANGE), 0) << name;
    EXPECT_EQ(rename2(name, name, RENAME_NOREPLACE), EEXIST) << name;
  }
  const struct stat before = stat_of("file");
  EXPECT_EQ(rename2("file", "folder/link", 0), 0) << "two names of one file: nothing happens";
  EXPECT_EQ(rename2("file", "folder/link", RENAME_EXCHANGE), 0);
  EXPECT_EQ(rename2("file", "folder/link", RENAME_NOREPLACE), EEXIST);
  EXPECT_TRUE(exists("file") && exists("folder/link"));
  EXPECT_EQ(stat_of("file").st_nlink, before.st_nlink);
}

TEST_F(Posix, RenameOfATreeIntoItself) {
  ASSERT_EQ(::mkdir("a", 0755), 0);
  ASSERT_EQ(::mkdir("a/b", 0755), 0);
  ASSERT_EQ(::mkdir("a/b/c", 0755), 0);
  make_file("a/b/file");
  for (const unsigned flags : {0U, unsigned{RENAME_NOREPLACE}}) {
    EXPECT_EQ(rename2("a", "a/x", flags), EINVAL);
    EXPECT_EQ(rename2("a", "a/b/c/x", flags), EINVAL);
    EXPECT_EQ(rename2("a/b", "a/b/x", flags), EINVAL);
  }
  EXPECT_EQ(rename2("a", "a/b/c", 0), EINVAL);
  EXPECT_EQ(rename2("a/b/c", "a", 0), ENOTEMPTY) << "onto what it is in";
  EXPECT_EQ(rename2("a/b/file", "a/b", 0), ENOTEMPTY) << "lock_rename() finds out before types are looked at";
  EXPECT_EQ(rename2("a/b/c", "a", RENAME_EXCHANGE), EINVAL);
  EXPECT_EQ(rename2("a", "a/b/c", RENAME_EXCHANGE), EINVAL);
  EXPECT_EQ(rename2("a/b/c", "a/c", 0), 0) << "upwards";
  EXPECT_EQ(stat_of("a").st_nlink, 4U);
}

TEST_F(Posix, RenameFlagsThatDoNotGoTogether) {
  make_file("a");
  make_file("b");
  EXPECT_EQ(rename2("a", "b", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
  EXPECT_EQ(rename2("a", "b", RENAME_EXCHANGE | RENAME_WHITEOUT), EINVAL);
  EXPECT_EQ(rename2("a", "b", 1U << 7), EINVAL);
  // There is no order that the manual page gives; Linux looks at the names first here.
  EXPECT_EQ(rename2("none", "b", RENAME_NOREPLACE), ENOENT);
}

TEST_F(Posix, RenameReplacesAtOnce) {
  make_file("target", "old");
  const Fd open(::open("target", O_RDONLY));
  const pid_t pid = ::fork();
  if (pid == 0) {
    for (int i = 0; i < 300; ++i) {
      make_file("new", "new");
      if (::rename("new", "target") != 0) ::_exit(1);
    }
    ::_exit(0);
  }
  for (int i = 0; i < 3000; ++i) {
    int opened = ::open("target", O_RDONLY);
    // FUSE's kernel asks us to open what it has just looked up, and tries again once: see docs/testing.md.
    for (int tries = 0; opened < 0 && errno == ESTALE && !is_peer() && tries < 20; ++tries) {
      opened = ::open("target", O_RDONLY);
    }
    const Fd fd(opened);
    ASSERT_GE(fd, 0) << "there is a moment without the name: " << errno;
    char bytes[4] = {};
    ASSERT_EQ(::read(fd, bytes, 3), 3);
  }
  EXPECT_EQ(wait_for(pid), 0);
  char bytes[4] = {};
  EXPECT_EQ(::pread(open, bytes, 3, 0), 3);
  EXPECT_STREQ(bytes, "old");
  struct stat info {};
  ASSERT_EQ(::fstat(open, &info), 0);
  EXPECT_EQ(info.st_nlink, 0U);
}

TEST_F(Posix, RenameOverALinkedFileTakesOneLink) {
  make_file("a", "A");
  make_file("b", "B");
  ASSERT_EQ(::link("b", "other"), 0);
  const Fd b(::open("b", O_RDONLY));
  EXPECT_EQ(rename2("a", "b", 0), 0);
  EXPECT_EQ(stat_of("other").st_nlink, 1U);
  EXPECT_EQ(read_file("other"), "B");
  ASSERT_EQ(::mkdir("gone", 0755), 0);
  ASSERT_EQ(::mkdir("comes", 0755), 0);
  const Fd gone(::open("gone", O_RDONLY));
  EXPECT_EQ(rename2("comes", "gone", 0), 0);
  struct stat info {};
  ASSERT_EQ(::fstat(gone, &info), 0);
  EXPECT_EQ(info.st_nlink, 0U);
  EXPECT_EQ(err(::openat(gone, "x", O_CREAT | O_WRONLY, 0644)), ENOENT);
}

// unlink(2), rename(2), rmdir(2) where the sticky bit is set: the owner of the file, the owner of the folder, or root.
TEST_F(Posix, StickyFoldersEntryByEntry) {
  UDAX_NEEDS_ROOT();
  for (const uint32_t folder_owner : {uint32_t{0}, kUser, kOther}) {
    for (const uint32_t file_owner : {uint32_t{0}, kUser, kOther}) {
      SCOPED_TRACE("folder of " + std::to_string(folder_owner) + ", file of " + std::to_string(file_owner));
      ASSERT_EQ(::mkdir("sticky", 0755), 0);
      ASSERT_EQ(err(::chown("sticky", folder_owner, folder_owner)), 0);
      ASSERT_EQ(err(::chmod("sticky", 01777)), 0);
      ASSERT_EQ(::mkdir("open", 0755), 0);
      ASSERT_EQ(err(::chmod("open", 0777)), 0);
      make_file("sticky/file", "", 0666);
      ASSERT_EQ(err(::chown("sticky/file", file_owner, file_owner)), 0);
      ASSERT_EQ(::mkdir("sticky/folder", 0755), 0);
      ASSERT_EQ(err(::chown("sticky/folder", file_owner, file_owner)), 0);
      const int wanted = folder_owner == kUser || file_owner == kUser ? 0 : EPERM;
      const auto as_user = [](const std::function<int()>& call) { return in_child(kUser, call); };
      EXPECT_EQ(
          as_user([] { return rename2("sticky/file", "sticky/x", 0) ?: rename2("sticky/x", "sticky/file", 0); }),
          wanted);
      EXPECT_EQ(as_user([] { return rename2("sticky/file", "open/x", 0) ?: rename2("open/x", "sticky/file", 0); }),
                wanted);
      make_file("open/mine", "", 0666);
      ASSERT_EQ(err(::chown("open/mine", kUser, kUser)), 0);
      EXPECT_EQ(as_user([] { return rename2("open/mine", "sticky/file", RENAME_EXCHANGE); }), wanted);
      EXPECT_EQ(as_user([] { return err(::rmdir("sticky/folder")); }), wanted);
      EXPECT_EQ(as_user([] { return rename2("open/mine", "sticky/file", 0); }), 0 == wanted ? 0 : EPERM);
      EXPECT_EQ(as_user([] { return err(::unlink("sticky/file")); }), wanted);
      for (const char* name : {"sticky/file", "sticky/folder", "open/mine", "sticky", "open"}) remove(name);
      ASSERT_FALSE(exists("sticky") || exists("open"));
    }
  }
}

}  // namespace
}  // namespace udax::conformity
