// SPDX-License-Identifier: BSD-3-Clause
//
// Names: making, linking, renaming, removing, listing.
#include <dirent.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include <map>
#include <set>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

int rename2(const char* from, const char* to, unsigned flags) {
  return err(::renameat2(AT_FDCWD, from, AT_FDCWD, to, flags));
}

int link_fd(int fd, const char* name) {
  const std::string self = "/proc/self/fd/" + std::to_string(fd);
  return err(::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name, AT_SYMLINK_FOLLOW));
}

TEST_F(Posix, ATmpFileHasNoNameUntilItIsLinked) {
  const Fd fd(::open(".", O_TMPFILE | O_RDWR, 0640));
  ASSERT_GE(fd, 0) << errno;
  struct stat info {};
  ASSERT_EQ(::fstat(fd, &info), 0);
  EXPECT_EQ(info.st_nlink, 0U);
  EXPECT_EQ(info.st_mode, S_IFREG | 0640U);
  ASSERT_EQ(::write(fd, "hello", 5), 5);
  EXPECT_TRUE(list(".").empty());
  ASSERT_EQ(link_fd(fd, "name"), 0);
  EXPECT_EQ(read_file("name"), "hello");
  EXPECT_EQ(stat_of("name").st_nlink, 1U);
  EXPECT_EQ(link_fd(fd, "name"), EEXIST);
  const Fd exclusive(::open(".", O_TMPFILE | O_EXCL | O_RDWR, 0600));
  ASSERT_GE(exclusive, 0);
  EXPECT_EQ(link_fd(exclusive, "never"), ENOENT);
  EXPECT_EQ(err(::open(".", O_TMPFILE | O_RDONLY, 0600)), EINVAL);
}

TEST_F(Posix, RenameNoReplaceReplacesNothing) {
  make_file("a", "A");
  make_file("b", "B");
  EXPECT_EQ(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
  EXPECT_EQ(read_file("b"), "B");
  EXPECT_EQ(rename2("a", "c", RENAME_NOREPLACE), 0);
  EXPECT_EQ(list("."), (std::vector<std::string>{"b", "c"}));
}

TEST_F(Posix, RenameExchangeSwapsFilesAndFolders) {
  make_file("file", "F");
  ASSERT_EQ(::mkdir("folder", 0755), 0);
  ASSERT_EQ(::mkdir("folder/inner", 0755), 0);
  ASSERT_EQ(::mkdir("other", 0755), 0);
  make_file("other/x", "X");
  EXPECT_EQ(rename2("file", "other", RENAME_EXCHANGE), 0);
  EXPECT_EQ(read_file("other"), "F");
  EXPECT_EQ(read_file("file/x"), "X");
  EXPECT_EQ(rename2("file", "folder/inner", RENAME_EXCHANGE), 0);  // both are folders now
  EXPECT_EQ(read_file("folder/inner/x"), "X");
  EXPECT_EQ(stat_of("folder/inner/..").st_ino, stat_of("folder").st_ino);
  EXPECT_EQ(rename2("folder", "folder/inner", RENAME_EXCHANGE), EINVAL);
  EXPECT_EQ(rename2("folder/inner", "folder", RENAME_EXCHANGE), EINVAL);
  EXPECT_EQ(rename2("other", "nowhere", RENAME_EXCHANGE), ENOENT);
  EXPECT_EQ(rename2("other", "folder", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
  UDAX_NEEDS_OURS();
  EXPECT_EQ(rename2("other", "whited", RENAME_WHITEOUT), EINVAL);
}

TEST_F(Posix, RenameKeepsLinkCountsOfFolders) {
  ASSERT_EQ(::mkdir("a", 0755), 0);
  ASSERT_EQ(::mkdir("b", 0755), 0);
  ASSERT_EQ(::mkdir("a/child", 0755), 0);
  EXPECT_EQ(stat_of("a").st_nlink, 3U);
  ASSERT_EQ(::rename("a/child", "b/child"), 0);
  EXPECT_EQ(stat_of("a").st_nlink, 2U);
  EXPECT_EQ(stat_of("b").st_nlink, 3U);
  EXPECT_EQ(stat_of("b/child/..").st_ino, stat_of("b").st_ino);
  ASSERT_EQ(::mkdir("a/child", 0755), 0);
  ASSERT_EQ(::rename("b/child", "a/child"), 0);  // replaces an empty folder
  EXPECT_EQ(stat_of("a").st_nlink, 3U);
  EXPECT_EQ(stat_of("b").st_nlink, 2U);
}

TEST_F(Posix, RenameOfTwoNamesOfOneFileDoesNothing) {
  make_file("a", "A");
  ASSERT_EQ(::link("a", "b"), 0);
  EXPECT_EQ(err(::rename("a", "b")), 0);
  EXPECT_EQ(list("."), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(stat_of("a").st_nlink, 2U);
}

TEST_F(Posix, ErrorsOfNames) {
  make_file("file");
  ASSERT_EQ(::mkdir("folder", 0755), 0);
  ASSERT_EQ(::mkdir("folder/sub", 0755), 0);
  ASSERT_EQ(::mkdir("empty", 0755), 0);
  EXPECT_EQ(err(::mkdir("file", 0755)), EEXIST);
  EXPECT_EQ(err(::mkdir("file/x", 0755)), ENOTDIR);
  EXPECT_EQ(err(::mkdir("none/x", 0755)), ENOENT);
  EXPECT_EQ(err(::rmdir("folder")), ENOTEMPTY);
  EXPECT_EQ(err(::rmdir("file")), ENOTDIR);
  EXPECT_EQ(err(::rmdir("folder/.")), EINVAL);
  EXPECT_EQ(err(::rmdir("folder/..")), ENOTEMPTY);
  EXPECT_EQ(err(::unlink("folder")), EISDIR);
  EXPECT_EQ(err(::unlink("none")), ENOENT);
  EXPECT_EQ(err(::link("folder", "another")), EPERM);
  EXPECT_EQ(err(::link("file", "empty")), EEXIST);
  EXPECT_EQ(err(::link("none", "x")), ENOENT);
  EXPECT_EQ(err(::symlink("x", "file")), EEXIST);
  EXPECT_EQ(err(::symlink("", "x")), ENOENT);
  EXPECT_EQ(err(::rename("file", "folder")), EISDIR);
  EXPECT_EQ(err(::rename("empty", "file")), ENOTDIR);
  EXPECT_EQ(err(::rename("empty", "folder")), ENOTEMPTY);
  EXPECT_EQ(err(::rename("folder", "folder/sub/x")), EINVAL);
  EXPECT_EQ(err(::rename("none", "x")), ENOENT);
  EXPECT_EQ(err(::rename("file", "none/x")), ENOENT);
  EXPECT_EQ(err(::open("folder", O_WRONLY)), EISDIR);
  EXPECT_EQ(err(::open("file", O_CREAT | O_EXCL | O_WRONLY, 0644)), EEXIST);
  EXPECT_EQ(err(::open("file/", O_RDONLY)), ENOTDIR);
  EXPECT_EQ(err(::open("file", O_DIRECTORY)), ENOTDIR);
  EXPECT_EQ(err(::open("none", O_RDONLY)), ENOENT);
  EXPECT_EQ(err(::mknod("file", S_IFIFO | 0600, 0)), EEXIST);
  EXPECT_EQ(list("."), (std::vector<std::string>{"empty", "file", "folder"}));
}

TEST_F(Posix, NamesHave255Bytes) {
  const std::string name(255, 'n');
  make_file(name, "x");
  EXPECT_EQ(read_file(name), "x");
  EXPECT_EQ(err(::rename(name.c_str(), (name + "n").c_str())), ENAMETOOLONG);
  EXPECT_EQ(err(::open((name + "n").c_str(), O_CREAT | O_WRONLY, 0644)), ENAMETOOLONG);
  EXPECT_EQ(err(::mkdir((name + "n").c_str(), 0755)), ENAMETOOLONG);
  EXPECT_EQ(list("."), std::vector<std::string>{name});
  const std::string odd = "\xff\n\t\x01 \x80";
  make_file(odd);
  EXPECT_TRUE(exists(odd));
  EXPECT_EQ(list(".").size(), 2U);
}

TEST_F(Posix, Symlinks) {
  for (const size_t length : {1U, 55U, 59U, 60U, 61U, 200U, 255U, 1000U, 4094U, 4095U}) {
    const std::string target(length, 't');
    ASSERT_EQ(err(::symlink(target.c_str(), "link")), 0) << length;
    std::string found(5000, '\0');
    const ssize_t got = ::readlink("link", found.data(), found.size());
    ASSERT_EQ(got, static_cast<ssize_t>(length)) << errno;
    EXPECT_EQ(found.substr(0, length), target);
    EXPECT_EQ(stat_of("link").st_size, static_cast<off_t>(length));
    EXPECT_EQ(mode_of("link"), 0777U);
    ASSERT_EQ(::unlink("link"), 0);
  }
  EXPECT_EQ(err(::symlink(std::string(4096, 't').c_str(), "link")), ENAMETOOLONG);
  ASSERT_EQ(::symlink("loop", "loop"), 0);
  EXPECT_EQ(err(::open("loop", O_RDONLY)), ELOOP);
  make_file("file", "end of the chain");
  std::string before = "file";
  for (int i = 0; i < 45; ++i) {
    const std::string name = "chain" + std::to_string(i);
    ASSERT_EQ(::symlink(before.c_str(), name.c_str()), 0);
    before = name;
  }
  EXPECT_EQ(read_file("chain38"), "end of the chain");
  EXPECT_EQ(err(::open("chain44", O_RDONLY)), ELOOP);
  EXPECT_EQ(err(::open("chain0", O_RDONLY | O_NOFOLLOW)), ELOOP);
}

TEST_F(Posix, AnOpenFileOutlivesItsName) {
  const Fd fd(::open("file", O_RDWR | O_CREAT, 0644));
  ASSERT_EQ(::write(fd, "before", 6), 6);
  ASSERT_EQ(::unlink("file"), 0);
  make_file("file", "another");
  ASSERT_EQ(::write(fd, " after", 6), 6);
  ASSERT_EQ(err(::fchmod(fd, 0600)), 0);
  ASSERT_EQ(err(::fsync(fd)), 0);
  char bytes[20] = {};
  EXPECT_EQ(::pread(fd, bytes, sizeof(bytes), 0), 12);
  EXPECT_STREQ(bytes, "before after");
  struct stat info {};
  ASSERT_EQ(::fstat(fd, &info), 0);
  EXPECT_EQ(info.st_nlink, 0U);
  EXPECT_EQ(info.st_mode & 07777U, 0600U);
  EXPECT_EQ(link_fd(fd, "back"), ENOENT);
  EXPECT_EQ(read_file("file"), "another");
}

TEST_F(Posix, ARemovedFolderTakesNoNames) {
  ASSERT_EQ(::mkdir("folder", 0755), 0);
  const Fd fd(::open("folder", O_RDONLY | O_DIRECTORY));
  ASSERT_EQ(::rmdir("folder"), 0);
  EXPECT_EQ(err(::openat(fd, "x", O_CREAT | O_WRONLY, 0644)), ENOENT);
  EXPECT_EQ(err(::mkdirat(fd, "x", 0755)), ENOENT);
  struct stat info {};
  ASSERT_EQ(::fstat(fd, &info), 0);
  EXPECT_EQ(info.st_nlink, 0U);
  DIR* dir = ::fdopendir(::dup(fd));
  ASSERT_NE(dir, nullptr);
  errno = 0;
  while (const dirent* entry = ::readdir(dir)) EXPECT_EQ(entry->d_name[0], '.');
  EXPECT_TRUE(errno == 0 || errno == ENOENT) << errno;
  ::closedir(dir);
}

TEST_F(Posix, EntriesTellTypeAndNumber) {
  make_file("file");
  ASSERT_EQ(::mkdir("folder", 0755), 0);
  ASSERT_EQ(::symlink("x", "symlink"), 0);
  ASSERT_EQ(::mkfifo("fifo", 0600), 0);
  const std::map<std::string, int> types = {{"file", DT_REG},  {"folder", DT_DIR}, {"symlink", DT_LNK},
                                            {"fifo", DT_FIFO}, {".", DT_DIR},      {"..", DT_DIR}};
  DIR* dir = ::opendir(".");
  ASSERT_NE(dir, nullptr);
  size_t seen = 0;
  while (const dirent* entry = ::readdir(dir)) {
    ++seen;
    ASSERT_EQ(types.count(entry->d_name), 1U) << entry->d_name;
    EXPECT_EQ(entry->d_type, types.at(entry->d_name)) << entry->d_name;
    EXPECT_EQ(entry->d_ino, stat_of(entry->d_name).st_ino) << entry->d_name;
  }
  EXPECT_EQ(seen, types.size());
  ::closedir(dir);
}

TEST_F(Posix, AFolderOf20000Files) {
  constexpr int kCount = 20'000;
  ASSERT_EQ(::mkdir("big", 0755), 0);
  const Fd folder(::open("big", O_RDONLY | O_DIRECTORY));
  for (int i = 0; i < kCount; ++i) {
    ASSERT_EQ(err(::mknodat(folder, ("file-" + std::to_string(i)).c_str(), S_IFREG | 0644, 0)), 0) << i;
  }
  const auto names = list("big");
  ASSERT_EQ(names.size(), static_cast<size_t>(kCount));
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size()) << "a name came twice";
  EXPECT_EQ(err(::mknodat(folder, "file-777", S_IFREG | 0644, 0)), EEXIST);
  // Removed while they are being listed, as rm -r does.
  DIR* dir = ::opendir("big");
  ASSERT_NE(dir, nullptr);
  int removed = 0;
  while (const dirent* entry = ::readdir(dir)) {
    if (entry->d_name[0] == '.') continue;
    ASSERT_EQ(err(::unlinkat(folder, entry->d_name, 0)), 0) << entry->d_name;
    ++removed;
  }
  ::closedir(dir);
  EXPECT_EQ(removed, kCount);
  EXPECT_EQ(err(::rmdir("big")), 0);
}

TEST_F(Posix, SeekdirUnderChange) {
  constexpr int kCount = 3000;
  const auto name_of = [](int i) { return "entry-" + std::to_string(i); };
  for (int i = 0; i < kCount; ++i) ASSERT_EQ(err(::mknod(name_of(i).c_str(), S_IFREG | 0644, 0)), 0);
  DIR* dir = ::opendir(".");
  ASSERT_NE(dir, nullptr);
  std::vector<std::pair<std::string, long>> seen;  // NOLINT(google-runtime-int): telldir's type
  for (int i = 0; i < kCount / 2; ++i) {
    const dirent* entry = ::readdir(dir);
    ASSERT_NE(entry, nullptr);
    seen.emplace_back(entry->d_name, ::telldir(dir));
  }
  // Names go and come while somebody is in the middle.
  std::set<std::string> gone;
  for (size_t i = 0; i < seen.size(); i += 3) {
    if (seen[i].first[0] == '.') continue;
    ASSERT_EQ(::unlink(seen[i].first.c_str()), 0);
    gone.insert(seen[i].first);
  }
  for (int i = 0; i < 1000; ++i)
    ASSERT_EQ(err(::mknod(("new-" + std::to_string(i)).c_str(), S_IFREG | 0644, 0)), 0);
  for (const size_t from : {size_t{10}, size_t{500}, seen.size() - 1}) {
    ::seekdir(dir, seen[from].second);
    std::multiset<std::string> rest;
    while (const dirent* entry = ::readdir(dir)) rest.insert(entry->d_name);
    for (size_t i = 0; i < seen.size(); ++i) {
      if (seen[i].first[0] == '.') continue;
      const size_t expected = i > from && gone.count(seen[i].first) == 0 ? 1 : 0;
      EXPECT_EQ(rest.count(seen[i].first), expected) << seen[i].first << " from " << from;
    }
    std::set<std::string> before;
    for (const auto& [name, cookie] : seen) before.insert(name);
    for (int i = 0; i < kCount; ++i) {
      if (before.count(name_of(i)) != 0) continue;
      EXPECT_EQ(rest.count(name_of(i)), 1U) << name_of(i) << " from " << from;
    }
  }
  ::rewinddir(dir);
  size_t count = 0;
  while (::readdir(dir) != nullptr) ++count;
  EXPECT_EQ(count, kCount - gone.size() + 1000 + 2);
  ::closedir(dir);
}

TEST_F(Posix, StickyFoldersProtectOthersFiles) {
  UDAX_NEEDS_ROOT();
  ASSERT_EQ(::mkdir("sticky", 0755), 0);
  ASSERT_EQ(::chmod("sticky", 01777), 0);
  make_file("sticky/theirs");
  ASSERT_EQ(::chown("sticky/theirs", kOther, kOther), 0);
  make_file("sticky/mine");
  ASSERT_EQ(::chown("sticky/mine", kUser, kUser), 0);
  EXPECT_EQ(in_child(kUser, [] { return err(::unlink("sticky/theirs")); }), EPERM);
  EXPECT_EQ(in_child(kUser, [] { return err(::rename("sticky/mine", "sticky/theirs")); }), EPERM);
  EXPECT_EQ(in_child(kUser, [] { return err(::rename("sticky/theirs", "sticky/x")); }), EPERM);
  EXPECT_EQ(in_child(kUser, [] { return err(::unlink("sticky/mine")); }), 0);
}

TEST_F(Posix, HandlesFindTheirFile) {
  UDAX_NEEDS_ROOT();
  make_file("file", "by handle");
  ASSERT_EQ(::mkdir("folder", 0755), 0);
  alignas(file_handle) char space[sizeof(file_handle) + MAX_HANDLE_SZ];
  auto* handle = reinterpret_cast<file_handle*>(space);
  const Fd mount(::open(".", O_RDONLY | O_DIRECTORY));
  int mount_id = 0;
  for (const char* path : {"file", "folder"}) {
    handle->handle_bytes = MAX_HANDLE_SZ;
    ASSERT_EQ(err(::name_to_handle_at(AT_FDCWD, path, handle, &mount_id, 0)), 0);
    const Fd fd(::open_by_handle_at(mount, handle, O_RDONLY));
    ASSERT_GE(fd, 0) << errno;
    struct stat info {};
    ASSERT_EQ(::fstat(fd, &info), 0);
    EXPECT_EQ(info.st_ino, stat_of(path).st_ino);
  }
  handle->handle_bytes = MAX_HANDLE_SZ;
  ASSERT_EQ(err(::name_to_handle_at(AT_FDCWD, "file", handle, &mount_id, 0)), 0);
  ASSERT_EQ(::rename("file", "folder/moved"), 0);
  {
    const Fd fd(::open_by_handle_at(mount, handle, O_RDONLY));
    ASSERT_GE(fd, 0) << errno;
  }
  ASSERT_EQ(::unlink("folder/moved"), 0);
  EXPECT_EQ(err(::open_by_handle_at(mount, handle, O_RDONLY)), ESTALE);
  make_file("another");
  EXPECT_EQ(err(::open_by_handle_at(mount, handle, O_RDONLY)), ESTALE);
}

TEST_F(Posix, FifosSocketsAndDevices) {
  ASSERT_EQ(::mkfifo("fifo", 0600), 0);
  const Fd reader(::open("fifo", O_RDONLY | O_NONBLOCK));
  ASSERT_GE(reader, 0);
  EXPECT_EQ(in_child(0,
                     [] {
                       const Fd writer(::open("fifo", O_WRONLY));
                       return ::write(writer, "through", 7) == 7 ? 0 : 1;
                     }),
            0);
  char bytes[8] = {};
  EXPECT_EQ(::read(reader, bytes, 7), 7);
  EXPECT_STREQ(bytes, "through");

  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof(address.sun_path), "socket");
  const Fd server(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(err(::bind(server, reinterpret_cast<sockaddr*>(&address), sizeof(address))), 0);
  ASSERT_EQ(::listen(server, 1), 0);
  const Fd client(::socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_EQ(err(::connect(client, reinterpret_cast<sockaddr*>(&address), sizeof(address))), 0);
  EXPECT_TRUE(S_ISSOCK(stat_of("socket").st_mode));

  UDAX_NEEDS_ROOT();
  ASSERT_EQ(::mknod("null", S_IFCHR | 0666, makedev(1, 3)), 0);
  EXPECT_EQ(stat_of("null").st_rdev, makedev(1, 3));
  const Fd null(::open("null", O_WRONLY));
  ASSERT_GE(null, 0) << errno;
  EXPECT_EQ(::write(null, "gone", 4), 4);
}

TEST_F(Posix, AFileHasManyLinks) {
  make_file("file", "x");
  ASSERT_EQ(::mkdir("links", 0755), 0);
  for (int i = 0; i < 2000; ++i) ASSERT_EQ(err(::link("file", ("links/" + std::to_string(i)).c_str())), 0);
  EXPECT_EQ(stat_of("file").st_nlink, 2001U);
  EXPECT_EQ(stat_of("links/1999").st_ino, stat_of("file").st_ino);
}

}  // namespace
}  // namespace udax::conformity
