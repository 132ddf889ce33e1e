// SPDX-License-Identifier: BSD-3-Clause
//
// readdir(3), telldir(3), seekdir(3), getdents64(2) while names come and go: a name that was there all the time is given
// exactly once; one that came or went meanwhile, at most once.
#include <dirent.h>
#include <sys/syscall.h>

#include <map>
#include <random>
#include <set>

#include "tests/conformity/posix.h"

namespace udax::conformity {
namespace {

std::string name_of(int i) { return "entry-" + std::to_string(i); }

void make(int i) { ASSERT_EQ(err(::mknod(name_of(i).c_str(), S_IFREG | 0644, 0)), 0) << i; }

class Dir {
 public:
  explicit Dir(const char* path) : dir_(::opendir(path)) { EXPECT_NE(dir_, nullptr); }
  ~Dir() { ::closedir(dir_); }
  Dir(const Dir&) = delete;
  Dir& operator=(const Dir&) = delete;
  operator DIR*() const { return dir_; }  // NOLINT(google-explicit-constructor): for library calls

 private:
  DIR* const dir_;
};

std::multiset<std::string> rest(DIR* dir) {
  std::multiset<std::string> names;
  while (const dirent* entry = ::readdir(dir)) names.insert(entry->d_name);
  return names;
}

TEST_F(Posix, NamesThatStayAreSeenOnce) {
  constexpr int kStay = 1200;
  for (int i = 0; i < kStay; ++i) make(i);
  std::mt19937 random(7);
  for (int round = 0; round < 4; ++round) {
    SCOPED_TRACE(round);
    std::set<int> extra;
    std::multiset<std::string> seen;
    const Dir dir(".");
    int step = 0;
    while (const dirent* entry = ::readdir(dir)) {
      seen.insert(entry->d_name);
      // Around each name that is read others come, go, and move.
      const int i = kStay + static_cast<int>(random() % 800);
      if (extra.insert(i).second) {
        make(i);
      } else if (random() % 3 != 0) {
        ASSERT_EQ(::unlink(name_of(i).c_str()), 0);
        extra.erase(i);
      } else if (extra.insert(i + 1000).second) {
        ASSERT_EQ(::rename(name_of(i).c_str(), name_of(i + 1000).c_str()), 0);
        extra.erase(i);
      }
      ASSERT_LT(++step, 20'000) << "it does not end";
    }
    for (int i = 0; i < kStay; ++i) ASSERT_EQ(seen.count(name_of(i)), 1U) << name_of(i);
    EXPECT_EQ(seen.count("."), 1U);
    EXPECT_EQ(seen.count(".."), 1U);
    for (const int i : extra) ASSERT_EQ(::unlink(name_of(i).c_str()), 0);
  }
}

TEST_F(Posix, CookiesLeadBack) {
  constexpr int kCount = 700;
  for (int i = 0; i < kCount; ++i) make(i);
  const Dir dir(".");
  std::vector<std::pair<long, std::string>> places;  // NOLINT(google-runtime-int): telldir's type
  for (;;) {
    const long at = ::telldir(dir);  // NOLINT(google-runtime-int)
    const dirent* const entry = ::readdir(dir);
    if (entry == nullptr) break;
    places.emplace_back(at, entry->d_name);
  }
  ASSERT_EQ(places.size(), kCount + 2U);
  EXPECT_EQ(::readdir(dir), nullptr) << "the end stays the end";
  for (size_t i = 0; i < places.size(); i += 37) {
    ::seekdir(dir, places[i].first);
    const dirent* const entry = ::readdir(dir);
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->d_name, places[i].second);
  }
  // Of names that are gone, the cookie leads to the next that is there.
  const size_t middle = places.size() / 2;
  for (size_t i = middle; i < middle + 50; ++i) {
    if (places[i].second[0] != '.') {
      ASSERT_EQ(::unlink(places[i].second.c_str()), 0);
    }
  }
  ::seekdir(dir, places[middle].first);
  const auto names = rest(dir);
  for (size_t i = 0; i < places.size(); ++i) {
    if (places[i].second[0] == '.') continue;
    EXPECT_EQ(names.count(places[i].second), i >= middle + 50 ? 1U : 0U) << i;
  }
}

TEST_F(Posix, RewindSeesWhatIsThereNow) {
  make(1);
  const Dir dir(".");
  EXPECT_EQ(rest(dir).size(), 3U);
  make(2);
  ASSERT_EQ(::unlink(name_of(1).c_str()), 0);
  ::rewinddir(dir);
  const auto names = rest(dir);
  EXPECT_EQ(names.count(name_of(2)), 1U);
  EXPECT_EQ(names.count(name_of(1)), 0U);
  // Two descriptors have two positions; copies of one share it.
  const Dir another(".");
  EXPECT_EQ(rest(another).size(), 3U);
}

TEST_F(Posix, BuffersOfGetdents) {
  for (int i = 0; i < 100; ++i) make(i);
  const std::string longest(255, 'n');
  make_file(longest);
  const Fd fd(::open(".", O_RDONLY | O_DIRECTORY));
  const auto read_all = [&](size_t size) {
    std::vector<char> buffer(size);
    std::multiset<std::string> names;
    EXPECT_EQ(::lseek(fd, 0, SEEK_SET), 0);
    for (;;) {
      const int64_t got = ::syscall(SYS_getdents64, static_cast<int>(fd), buffer.data(), buffer.size());
      EXPECT_GE(got, 0) << errno;
      if (got <= 0) return names;
      for (int64_t at = 0; at < got;) {
        const auto* const entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
        names.insert(entry->d_name);
        at += entry->d_reclen;
      }
    }
  };
  for (const size_t size : {300U, 4096U, 65536U, 1U << 20}) {
    const auto names = read_all(size);
    EXPECT_EQ(names.size(), 103U) << size;
    EXPECT_EQ(names.count(longest), 1U) << size;
  }
  char small[16];
  EXPECT_EQ(::lseek(fd, 0, SEEK_SET), 0);
  EXPECT_EQ(err(::syscall(SYS_getdents64, static_cast<int>(fd), small, sizeof small)), EINVAL);
  const Fd file(::open(longest.c_str(), O_RDONLY));
  EXPECT_EQ(err(::syscall(SYS_getdents64, static_cast<int>(file), small, sizeof small)), ENOTDIR);
}

TEST_F(Posix, LinkCountsOfFolders) {
  constexpr uint32_t kCount = 300;
  for (uint32_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(err(::mkdir(std::to_string(i).c_str(), 0755)), 0);
    ASSERT_EQ(stat_of(".").st_nlink, 3U + i);
  }
  EXPECT_EQ(stat_of("0").st_nlink, 2U);
  for (uint32_t i = 0; i < kCount; ++i) ASSERT_EQ(err(::rmdir(std::to_string(i).c_str())), 0);
  EXPECT_EQ(stat_of(".").st_nlink, 2U);
}

TEST_F(Posix, AFolderThatIsGone) {
  ASSERT_EQ(::mkdir("d", 0755), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (::chdir("d") != 0 || ::rmdir("../d") != 0) ::_exit(1);
    char here[100];
    if (::getcwd(here, sizeof here) != nullptr || errno != ENOENT) ::_exit(2);
    if (err(::open("new", O_CREAT | O_WRONLY, 0644)) != ENOENT) ::_exit(3);
    if (err(::mkdir("new", 0755)) != ENOENT || err(::symlink("x", "new")) != ENOENT) ::_exit(4);
    if (err(::rename("../other", "new")) != ENOENT) ::_exit(5);
    if (err(::link("../other", "new")) != ENOENT) ::_exit(6);
    if (err(::access("none", F_OK)) != ENOENT || err(::access(".", F_OK)) != 0) ::_exit(7);
    if (!is_peer() && err(::open(".", O_TMPFILE | O_RDWR, 0600)) != ENOENT) ::_exit(8);
    if (err(::chdir("..")) != 0) ::_exit(9);
    ::_exit(0);
  }
  make_file("other");
  EXPECT_EQ(wait_for(pid), 0);
  EXPECT_EQ(list("."), std::vector<std::string>{"other"});
}

}  // namespace
}  // namespace udax::conformity
