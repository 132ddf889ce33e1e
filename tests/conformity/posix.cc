// SPDX-License-Identifier: BSD-3-Clause
#include "tests/conformity/posix.h"

#include <dirent.h>
#include <grp.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace udax::conformity {

void Posix::SetUp() {
  const char* base = std::getenv("UDAX_TEST_DIR");
  ASSERT_NE(base, nullptr) << "UDAX_TEST_DIR is the folder to work in";
  std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
  std::replace(name.begin(), name.end(), '/', '-');  // of tests with parameters
  folder_ = std::string(base) + "/" + name;
  ::umask(022);
  ASSERT_EQ(err(::mkdir(folder_.c_str(), 0755)), 0);
  ASSERT_EQ(err(::chmod(folder_.c_str(), 0777)), 0);
  ASSERT_EQ(err(::chdir(folder_.c_str())), 0);
}

void Posix::TearDown() {
  ASSERT_EQ(err(::chdir("/")), 0);
  std::error_code error;
  std::filesystem::remove_all(folder_, error);
  EXPECT_FALSE(error) << folder_ << " cannot be removed: " << error.message();
}

int in_child(uint32_t id, const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (id != 0 && (::setgroups(0, nullptr) != 0 || ::setgid(id) != 0 || ::setuid(id) != 0)) ::_exit(99);
    ::_exit(body());
  }
  return wait_for(pid);
}

int wait_for(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct stat stat_of(const std::string& path) {
  struct stat result {};
  EXPECT_EQ(err(::lstat(path.c_str(), &result)), 0) << path;
  return result;
}

uint32_t mode_of(const std::string& path) { return stat_of(path).st_mode & 07777U; }

void make_file(const std::string& path, const std::string& content, uint32_t mode) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600));
  ASSERT_GE(fd, 0) << path << ": " << errno;
  ASSERT_EQ(::write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size())) << path;
  ASSERT_EQ(err(::fchmod(fd, mode)), 0);
}

std::string read_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY));
  EXPECT_GE(fd, 0) << path << ": " << errno;
  std::string result;
  char buffer[65536];
  ssize_t got = 0;
  while ((got = ::read(fd, buffer, sizeof(buffer))) > 0) result.append(buffer, static_cast<size_t>(got));
  EXPECT_EQ(got, 0) << path << ": " << errno;
  return result;
}

std::string at(int fd, int64_t offset, size_t length) {
  std::string bytes(length, '\1');
  const ssize_t got = ::pread(fd, bytes.data(), length, offset);
  EXPECT_GE(got, 0) << errno;
  bytes.resize(got < 0 ? 0 : static_cast<size_t>(got));
  return bytes;
}

void put(int fd, int64_t offset, const std::string& bytes) {
  ASSERT_EQ(::pwrite(fd, bytes.data(), bytes.size(), offset), static_cast<ssize_t>(bytes.size())) << errno;
}

int64_t blocks(int fd) {
  struct stat info {};
  EXPECT_EQ(::fstat(fd, &info), 0);
  return info.st_blocks;
}

std::vector<std::string> list(const std::string& folder) {
  std::vector<std::string> names;
  DIR* dir = ::opendir(folder.c_str());
  EXPECT_NE(dir, nullptr) << folder;
  if (dir == nullptr) return names;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  ::closedir(dir);
  std::sort(names.begin(), names.end());
  return names;
}

bool exists(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0;
}

int64_t ns(const timespec& t) { return t.tv_sec * 1'000'000'000 + t.tv_nsec; }

}  // namespace udax::conformity

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (argc > 1) ::setenv("UDAX_TEST_DIR", argv[1], 1);
  return RUN_ALL_TESTS();
}
