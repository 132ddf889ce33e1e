// SPDX-License-Identifier: BSD-3-Clause
//
// Threads at work on one tree: names made, moved and removed in shared directories, bytes written, read, cut and punched
// in shared files. A watchdog ends the program if it stands still. Each thread knows what its own part of a shared file
// may hold; the pool is checked as a whole at the end.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <array>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>

#include "base/random.h"
#include "base/sync_point.h"
#include "tests/support/pool.h"

// Directories move, so that of two one comes first today and the other tomorrow: no order of locks that a tool could
// learn. The watchdog below is what finds deadlocks here; the tool is left with races.
extern "C" const char* __tsan_default_options();  // NOLINT(bugprone-reserved-identifier)
extern "C" const char* __tsan_default_options() {
  return "detect_deadlocks=0";
}  // NOLINT(bugprone-reserved-identifier)

namespace udax {
namespace {

using test::bytes;
using test::kRoot;
using test::TestPool;

constexpr uint64_t kMiB = 1024 * 1024;
constexpr int kThreads = 4;

uint64_t seed() {
  const char* given = std::getenv("UDAX_SEED");
  const uint64_t value = given != nullptr ? std::strtoull(given, nullptr, 0) : 20260;
  std::printf("UDAX_SEED=%llu\n", static_cast<unsigned long long>(value));
  return value;
}

/// Aborts if it is not destroyed in time: a deadlock would otherwise only show as a test that never ends.
class Watchdog {
 public:
  explicit Watchdog(std::chrono::seconds limit)
      : thread_([this, limit] {
          std::unique_lock lock(mutex_);
          if (done_.wait_for(lock, limit, [this] { return is_done_; })) return;
          std::fprintf(stderr, "deadlock: the threads have not finished\n");
          std::abort();
        }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      is_done_ = true;
    }
    done_.notify_all();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  bool is_done_ = false;
  std::thread thread_;
};

void run_threads(const std::function<void(int, Random&)>& body) {
  const uint64_t first = seed();
  const Watchdog watchdog(std::chrono::seconds(240));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t, first, &body] {
      Random random(first + static_cast<uint64_t>(t));
      body(t, random);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

/// What concurrent operations on names may come to.
bool is_expected(Error e) {
  switch (e) {
    case Error::kNotFound:
    case Error::kExists:
    case Error::kNotEmpty:
    case Error::kNotDirectory:
    case Error::kIsDirectory:
    case Error::kInvalid:  // a directory into itself
    case Error::kStale:
    case Error::kPermission:  // link of what has become a directory
      return true;
    default: return false;
  }
}

template <typename R>
void expect_expected(const R& result, const char* what) {
  if (!result) {
    EXPECT_TRUE(is_expected(result.error())) << what << ": " << to_string(result.error());
  }
}

class Storm {
 public:
  Storm(TestPool& pool, Random& random) : fs_(pool.fs()), random_(random) {}

  void step() {
    const Ino a = any_directory();
    const Ino b = any_directory();
    const std::string name = any_name();
    const std::string other = any_name();
    switch (random_.below(12)) {
      case 0: {
        fs::Attr attr;
        auto file = fs_.create(a, name, 0644, O_RDWR, kRoot, &attr);
        expect_expected(file, "create");
        if (file) {
          EXPECT_TRUE(fs_.write(**file, random_.below(20000), bytes("some bytes"), false, false));
        }
        break;
      }
      case 1: expect_expected(fs_.make(a, name, 0040755, 0, 0, kRoot), "mkdir"); break;
      case 2: expect_expected(fs_.unlink(a, name), "unlink"); break;
      case 3: expect_expected(fs_.rmdir(a, name), "rmdir"); break;
      case 4: expect_expected(fs_.rename(a, name, b, other, 0), "rename"); break;
      case 5: expect_expected(fs_.rename(a, name, b, other, fs::kRenameNoReplace), "rename"); break;
      case 6: expect_expected(fs_.rename(a, name, b, other, fs::kRenameExchange), "exchange"); break;
      case 7: link(a, name, b, other); break;
      case 8:
        expect_expected(fs_.symlink(a, name, std::string(random_.below(300) + 1, 's'), kRoot), "symlink");
        break;
      case 9: list(a); break;
      case 10: look_at(a, name); break;
      default: unlink_open(a, name); break;
    }
  }

 private:
  std::string any_name() { return "n" + std::to_string(random_.below(6)); }
  Ino any_directory() {
    Ino ino = kRootIno;
    while (random_.below(3) != 0) {
      const auto attr = fs_.lookup(ino, any_name());
      if (!attr || (attr->mode & 0170000U) != 0040000U) break;
      ino = attr->ino;
    }
    return ino;
  }
  void link(Ino a, const std::string& name, Ino b, const std::string& other) {
    const auto attr = fs_.lookup(a, name);
    if (!attr) return expect_expected(attr, "lookup");
    expect_expected(fs_.link(attr->ino, b, other), "link");
  }
  void list(Ino a) {
    auto dir = fs_.open(a, O_RDONLY, false);
    if (!dir) return expect_expected(dir, "open");
    expect_expected(fs_.readdir(**dir, 0, [](const fs::DirEntry& e) { return !e.name.empty(); }), "readdir");
  }
  void look_at(Ino a, const std::string& name) {
    const auto attr = fs_.lookup(a, name);
    if (!attr) return expect_expected(attr, "lookup");
    expect_expected(fs_.getattr(attr->ino), "getattr");
    if ((attr->mode & 0170000U) == 0120000U) expect_expected(fs_.readlink(attr->ino), "readlink");
    fs::SetAttr s;
    s.mode = 0700;
    expect_expected(fs_.setattr(attr->ino, s, kRoot), "chmod");
    expect_expected(fs_.setxattr(attr->ino, "user.x", bytes("y"), 0, false, kRoot), "setxattr");
    expect_expected(fs_.listxattr(attr->ino, kRoot), "listxattr");
  }
  void unlink_open(Ino a, const std::string& name) {
    const auto attr = fs_.lookup(a, name);
    if (!attr || (attr->mode & 0170000U) != 0100000U) return;
    auto file = fs_.open(attr->ino, O_RDWR, false);
    if (!file) return expect_expected(file, "open");
    expect_expected(fs_.unlink(a, name), "unlink");
    EXPECT_TRUE(fs_.write(**file, 0, bytes("to the nameless"), false, false));
    EXPECT_TRUE(test::read_file(fs_, **file, 0, 100));
  }

  fs::Filesystem& fs_;
  Random& random_;
};

TEST(Concurrency, NamesInSharedDirectories) {
  TestPool pool(64 * kMiB);
  const uint64_t before = pool.free_blocks();
  run_threads([&pool](int, Random& random) {
    Storm storm(pool, random);
    for (int i = 0; i < 3000; ++i) storm.step();
  });
  pool.remount();
  // Everything can be taken away again, and nothing is left over.
  const std::function<void(Ino)> clear = [&](Ino dir) {
    for (const std::string& name : pool.list(dir)) {
      const auto attr = pool->lookup(dir, name);
      ASSERT_TRUE(attr);
      if ((attr->mode & 0170000U) == 0040000U) {
        clear(attr->ino);
        EXPECT_TRUE(pool->rmdir(dir, name));
      } else {
        EXPECT_TRUE(pool->unlink(dir, name));
      }
    }
  };
  clear(kRootIno);
  pool.remount();
  EXPECT_EQ(pool.free_blocks(), before);
}

/// A thread's blocks of a shared file: every kThreads-th. They hold what it wrote last, or zeroes (cut, punched).
class Stripe {
 public:
  Stripe(fs::Filesystem& fs, Ino ino, int thread) : fs_(fs), ino_(ino), thread_(static_cast<uint64_t>(thread)) {}

  void step(Random& random) {
    auto file = fs_.open(ino_, O_RDWR, false);
    ASSERT_TRUE(file);
    const uint64_t index = random.below(kBlocks);
    const uint64_t block = index * kThreads + thread_;
    const uint64_t offset = block * kBlockSize + random.below(kBlockSize - 100);
    const uint64_t length = std::min<uint64_t>(random.below(kBlockSize), (block + 1) * kBlockSize - offset - 1);
    switch (random.below(8)) {
      case 0:
      case 1:
      case 2: {
        last_[index] = static_cast<char>('a' + random.below(26));
        const std::string data(kBlockSize, last_[index]);
        const auto done = fs_.write(**file, block * kBlockSize, bytes(data), false, false);
        EXPECT_TRUE(done && *done == kBlockSize);
        break;
      }
      case 3:
        EXPECT_TRUE(fs_.fallocate(**file, fs::kFallocPunchHole | fs::kFallocKeepSize, offset, length + 1));
        break;
      case 4:
        EXPECT_TRUE(fs_.fallocate(**file, fs::kFallocZeroRange | fs::kFallocKeepSize, offset, length + 1));
        break;
      case 5:
        if (random.one_in(8)) {
          fs::SetAttr s;
          s.size = random.below(kBlocks * kThreads * kBlockSize);
          EXPECT_TRUE(fs_.setattr(ino_, s, kRoot));
        } else {
          EXPECT_TRUE(fs_.fsync(**file, false));
        }
        break;
      default: check(**file, index, block);
    }
  }

 private:
  static constexpr uint64_t kBlocks = 40;
  void check(fs::OpenFile& file, uint64_t index, uint64_t block) {
    const auto data = test::read_file(fs_, file, block * kBlockSize, kBlockSize);
    ASSERT_TRUE(data);
    for (const char c : *data) {
      if (c != '\0' && c != last_[index]) {
        ADD_FAILURE() << "block " << block << " holds " << static_cast<int>(c) << " instead of "
                      << static_cast<int>(last_[index]);
        return;
      }
    }
  }

  fs::Filesystem& fs_;
  const Ino ino_;
  const uint64_t thread_;
  std::array<char, kBlocks> last_{};
};

TEST(Concurrency, AFileUnlinkedWhileItIsCreatedLeaksNothing) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "built without sync points";
  TestPool pool(16 * kMiB);
  static_cast<void>(pool.file(kRootIno, "first"));
  ASSERT_TRUE(pool->unlink(kRootIno, "first"));
  const uint64_t before = pool.free_blocks();
  {
    sync_point::Gate gate("fs.create.made");
    std::thread creator([&pool] {
      fs::Attr attr;
      auto file = pool->create(kRootIno, "f", 0644, O_RDWR, kRoot, &attr);
      ASSERT_TRUE(file);
      EXPECT_TRUE(pool->write(**file, 0, bytes("to the nameless"), false, false));
    });
    EXPECT_TRUE(gate.wait_reached());
    EXPECT_TRUE(pool->unlink(kRootIno, "f"));
    gate.open();
    creator.join();
  }
  EXPECT_EQ(pool.free_blocks(), before);
  pool.remount();
  EXPECT_EQ(pool.free_blocks(), before);
}

TEST(Concurrency, BytesOfSharedFiles) {
  TestPool pool(64 * kMiB);
  const Ino a = pool.file(kRootIno, "a");
  const Ino b = pool.file(kRootIno, "b");
  run_threads([&](int thread, Random& random) {
    Stripe in_a(pool.fs(), a, thread);
    Stripe in_b(pool.fs(), b, thread);
    for (int i = 0; i < 3000; ++i) (random.one_in(2) ? in_a : in_b).step(random);
  });
  pool.remount();
  ASSERT_TRUE(pool->unlink(kRootIno, "a"));
  ASSERT_TRUE(pool->unlink(kRootIno, "b"));
}

TEST(Concurrency, AppendsDoNotOverlap) {
  TestPool pool(64 * kMiB);
  const Ino log = pool.file(kRootIno, "log");
  constexpr int kLines = 1000;
  run_threads([&](int thread, Random&) {
    auto file = pool->open(log, O_WRONLY | O_APPEND, false);
    ASSERT_TRUE(file);
    for (int i = 0; i < kLines; ++i) {
      const std::string line = std::string(static_cast<size_t>(i % 50), static_cast<char>('a' + thread)) + "\n";
      EXPECT_TRUE(pool->write(**file, 0, bytes(line), true, false));
    }
  });
  const std::string content = pool.content(log);
  size_t lines = 0;
  for (size_t at = 0; at < content.size(); ++lines) {
    const size_t end = content.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    for (size_t i = at; i < end; ++i) ASSERT_EQ(content[i], content[at]);
    at = end + 1;
  }
  EXPECT_EQ(lines, size_t{kLines} * kThreads);
}

TEST(Concurrency, CopiesBetweenTwoFilesInBothDirections) {
  TestPool pool(64 * kMiB);
  const Ino a = pool.file(kRootIno, "a", std::string(100000, 'a'));
  const Ino b = pool.file(kRootIno, "b", std::string(100000, 'a'));
  run_threads([&](int thread, Random& random) {
    auto from = pool->open(thread % 2 == 0 ? a : b, O_RDWR, false);
    auto to = pool->open(thread % 2 == 0 ? b : a, O_RDWR, false);
    ASSERT_TRUE(from && to);
    for (int i = 0; i < 300; ++i) {
      EXPECT_TRUE(pool->copy_range(**from, random.below(50000), **to, random.below(40000), random.below(50000)));
    }
  });
  EXPECT_EQ(pool.content(a), std::string(100000, 'a'));
  EXPECT_EQ(pool.content(b), std::string(100000, 'a'));
}

}  // namespace
}  // namespace udax
