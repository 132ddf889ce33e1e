// SPDX-License-Identifier: BSD-3-Clause
//
// A full pool: every operation, with 0, 1, 2, ... 12 blocks left. One that says that there is no room must have changed
// nothing: neither names, attributes, bytes and times nor the count of free blocks. What gives room back must work.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>

#include "media/memory_medium.h"
#include "tests/support/check.h"
#include "tests/support/pool.h"

namespace udax {
namespace {

using test::bytes;
using test::kRoot;
using test::TestPool;

constexpr uint64_t kPoolSize = 8 * 1024 * 1024;

std::string times_of(const fs::Attr& a) {
  return std::to_string(a.mtime.seconds) + "." + std::to_string(a.mtime.nanoseconds) + " " +
         std::to_string(a.ctime.seconds) + "." + std::to_string(a.ctime.nanoseconds);
}

/// Everything that can be seen of the pool, by path.
void describe(TestPool& pool, Ino ino, const std::string& path, std::map<std::string, std::string>& out) {
  const auto a = pool->getattr(ino);
  ASSERT_TRUE(a) << path;
  std::string& text = out[path];
  text = "mode " + std::to_string(a->mode) + " nlink " + std::to_string(a->nlink) + " uid " +
         std::to_string(a->uid) + " size " + std::to_string(a->size) + " blocks " + std::to_string(a->blocks) +
         " flags " + std::to_string(a->flags) + " times " + times_of(*a);
  const auto names = pool->listxattr(ino, kRoot);
  ASSERT_TRUE(names) << path;
  for (size_t at = 0; at < names->size(); at += std::strlen(names->c_str() + at) + 1) {
    const auto value = pool->getxattr(ino, names->c_str() + at);
    ASSERT_TRUE(value);
    text += std::string(" ") + (names->c_str() + at) + "=" +
            std::to_string(std::hash<std::string>()(
                std::string(reinterpret_cast<const char*>(value->data()), value->size())));
  }
  if ((a->mode & 0170000U) == 0100000U && path != "/filler") {
    text += " content " + std::to_string(std::hash<std::string>()(pool.content(ino)));
    const auto extents = pool->extents(ino, 0, 10000);
    ASSERT_TRUE(extents);
    for (const fs::ExtentInfo& e : *extents) {
      text.append(" ").append(std::to_string(e.file_offset));
      text.append("+").append(std::to_string(e.length)).append(e.unwritten ? "u" : "");
    }
  }
  if ((a->mode & 0170000U) != 0040000U) return;
  for (const std::string& name : pool.list(ino)) {
    const auto child = pool->lookup(ino, name);
    ASSERT_TRUE(child) << path << "/" << name;
    describe(pool, child->ino, std::string(path).append("/").append(name), out);
  }
}

std::map<std::string, std::string> describe(TestPool& pool) {
  std::map<std::string, std::string> out;
  describe(pool, kRootIno, "", out);
  out["free"] = std::to_string(pool.free_blocks());
  return out;
}

Ino find(TestPool& pool, const std::string& path) {
  Ino ino = kRootIno;
  for (size_t at = 0; at < path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    const auto attr = pool->lookup(ino, path.substr(at, end - at));
    EXPECT_TRUE(attr) << path;
    if (!attr) return kNoIno;
    ino = attr->ino;
    at = end + 1;
  }
  return ino;
}

/// A tree with something for every operation, then a filler that leaves `left` blocks to ordinary requests.
std::shared_ptr<media::MemoryMedium> make_full(uint64_t left) {
  auto medium = std::make_shared<media::MemoryMedium>(kPoolSize);
  fs::MountOptions options;
  options.atime = fs::AtimeMode::kNever;
  TestPool pool(medium, true, options);
  const Ino d = pool.mkdir(kRootIno, "d");
  static_cast<void>(pool.mkdir(d, "empty"));
  for (int i = 0; i < 61; ++i) static_cast<void>(pool.file(d, "a name of some length " + std::to_string(i)));
  const Ino f = pool.file(d, "f", std::string(40000, 'f'));
  EXPECT_TRUE(pool->setxattr(f, "user.old", bytes(std::string(3000, 'o')), 0, false, kRoot));
  const Ino holes = pool.file(d, "holes");
  for (uint64_t i = 0; i < 5; ++i) pool.write(holes, i * 40960, std::string(4096, 'h'));
  const Ino tree = pool.file(d, "tree");
  for (uint64_t i = 0; i < 169; ++i) pool.write(tree, i * 8192, std::string(12288, 't').substr(0, 4096));
  const Ino filler = pool.file(kRootIno, "filler");
  auto file = pool->open(filler, O_RDWR, false);
  EXPECT_TRUE(file);
  uint64_t at = 0;
  for (uint64_t want = 1; want > 0;) {
    const uint64_t available = pool->statfs().blocks_available;
    if (available <= left) break;
    want = available - left;
    while (want > 0 && !pool->fallocate(**file, 0, at, want * kBlockSize)) want /= 2;
    at += want * kBlockSize;
  }
  EXPECT_EQ(pool->statfs().blocks_available, left);
  file->reset();
  pool.unmount();
  pool.check();
  pool.mount();
  return medium;
}

struct Operation {
  const char* name;
  bool must_succeed;
  std::function<Status(TestPool&)> run;
};

template <typename R>
Status status_of(const R& result) {
  return result ? Status() : Status(result.error());
}

fs::OpenFilePtr open(TestPool& pool, const std::string& path) {
  auto file = pool->open(find(pool, path), O_RDWR, false);
  EXPECT_TRUE(file);
  return std::move(*file);
}

fs::SetAttr size_of(uint64_t size) {
  fs::SetAttr s;
  s.size = size;
  return s;
}

std::vector<Operation> operations() {
  const auto in_d = [](const char* path) { return std::string("d/") + path; };
  const std::string long_name(250, 'n');
  return {
      {"create", false,
       [=](TestPool& p) {
         fs::Attr attr;
         return status_of(p->create(find(p, "d"), long_name, 0644, O_RDWR, kRoot, &attr));
       }},
      {"mkdir", false,
       [=](TestPool& p) { return status_of(p->make(find(p, "d"), long_name, 0040755, 0, 0, kRoot)); }},
      {"mkdir-and-fill", false,
       [=](TestPool& p) {
         const auto made = p->make(kRootIno, "new", 0040755, 0, 0, kRoot);
         return status_of(made);
       }},
      {"symlink", false,
       [=](TestPool& p) { return status_of(p->symlink(find(p, "d"), "l", std::string(4000, 'l'), kRoot)); }},
      {"tmpfile", false,
       [=](TestPool& p) {
         fs::Attr attr;
         return status_of(p->tmpfile(find(p, "d"), 0600, O_RDWR, kRoot, &attr));
       }},
      {"link", false,
       [=](TestPool& p) { return status_of(p->link(find(p, in_d("f")), find(p, "d"), long_name)); }},
      {"rename", false, [=](TestPool& p) { return p->rename(find(p, "d"), "f", find(p, "d"), long_name, 0); }},
      {"rename-across", false, [=](TestPool& p) { return p->rename(find(p, "d"), "f", kRootIno, long_name, 0); }},
      {"rename-over", true, [=](TestPool& p) { return p->rename(find(p, "d"), "f", find(p, "d"), "holes", 0); }},
      {"exchange", true,
       [=](TestPool& p) { return p->rename(find(p, "d"), "f", find(p, "d"), "empty", fs::kRenameExchange); }},
      {"append-8-blocks", false,
       [=](TestPool& p) {
         return status_of(p->write(*open(p, in_d("f")), 0, bytes(std::string(32768, 'x')), true, false));
       }},
      {"write-a-byte-far-out", false,
       [=](TestPool& p) { return status_of(p->write(*open(p, in_d("f")), 1 << 20, bytes("x"), false, false)); }},
      {"write-to-a-hole", false,
       [=](TestPool& p) { return status_of(p->write(*open(p, in_d("holes")), 8192, bytes("x"), false, false)); }},
      {"write-to-a-hole-of-a-tree", false,
       [=](TestPool& p) {
         return status_of(p->write(*open(p, in_d("tree")), 4096, bytes(std::string(4096, 'x')), false, false));
       }},
      {"write-to-unwritten", false,
       [=](TestPool& p) { return status_of(p->write(*open(p, "filler"), 40960, bytes("x"), false, false)); }},
      {"overwrite", true,
       [=](TestPool& p) {
         return status_of(p->write(*open(p, in_d("f")), 0, bytes(std::string(40000, 'x')), false, false));
       }},
      {"truncate-up", true,
       [=](TestPool& p) { return status_of(p->setattr(find(p, in_d("f")), size_of(1 << 20), kRoot)); }},
      {"truncate-down", true,
       [=](TestPool& p) { return status_of(p->setattr(find(p, in_d("tree")), size_of(5000), kRoot)); }},
      {"allocate-12-blocks", false,
       [=](TestPool& p) { return p->fallocate(*open(p, in_d("f")), 0, 40960, 12 * 4096); }},
      {"allocate-holes", false, [=](TestPool& p) { return p->fallocate(*open(p, in_d("holes")), 0, 0, 80000); }},
      {"zero-range", false,
       [=](TestPool& p) { return p->fallocate(*open(p, in_d("holes")), fs::kFallocZeroRange, 100, 60000); }},
      {"zero-range-in-a-tree", false,
       [=](TestPool& p) { return p->fallocate(*open(p, in_d("tree")), fs::kFallocZeroRange, 8000, 30000); }},
      {"punch", true,
       [=](TestPool& p) {
         return p->fallocate(*open(p, in_d("f")), fs::kFallocPunchHole | fs::kFallocKeepSize, 5000, 20000);
       }},
      {"copy-range", false,
       [=](TestPool& p) {
         return status_of(p->copy_range(*open(p, in_d("f")), 0, *open(p, in_d("holes")), 4096, 4096));
       }},
      {"setxattr", false,
       [=](TestPool& p) { return p->setxattr(find(p, in_d("f")), "user.new", bytes("1"), 0, false, kRoot); }},
      {"setxattr-long", false,
       [=](TestPool& p) {
         return p->setxattr(find(p, in_d("f")), "user.old", bytes(std::string(30000, 'n')), 0, false, kRoot);
       }},
      {"removexattr", true, [=](TestPool& p) { return p->removexattr(find(p, in_d("f")), "user.old", kRoot); }},
      {"chmod", true,
       [=](TestPool& p) {
         fs::SetAttr s;
         s.mode = 0600;
         return status_of(p->setattr(find(p, in_d("f")), s, kRoot));
       }},
      {"set-flags", true,
       [=](TestPool& p) {
         return p->set_flags(find(p, in_d("f")), format::kFlagNoDump, format::kFlagNoDump, {}, kRoot);
       }},
      {"unlink", true, [=](TestPool& p) { return p->unlink(find(p, "d"), "tree"); }},
      {"unlink-open", true,
       [=](TestPool& p) {
         const auto file = open(p, in_d("f"));
         return p->unlink(find(p, "d"), "f");
       }},
      {"rmdir", true, [=](TestPool& p) { return p->rmdir(find(p, "d"), "empty"); }},
      {"remove-all", true,
       [=](TestPool& p) -> Status {
         const Ino d = find(p, "d");
         for (const std::string& name : p.list(d)) {
           UDAX_CHECK(name == "empty" ? p->rmdir(d, name) : p->unlink(d, name));
         }
         return p->rmdir(kRootIno, "d");
       }},
  };
}

class FullPool : public testing::TestWithParam<uint64_t> {};

TEST_P(FullPool, WhatFindsNoRoomChangesNothing) {
  const auto full = make_full(GetParam());
  fs::MountOptions options;
  options.atime = fs::AtimeMode::kNever;
  for (const Operation& op : operations()) {
    SCOPED_TRACE(op.name);
    auto medium = std::make_shared<media::MemoryMedium>(kPoolSize);
    medium->copy_from(*full);
    TestPool pool(medium, false, options);
    const auto before = describe(pool);
    const Status done = op.run(pool);
    if (op.must_succeed) {
      EXPECT_TRUE(done) << to_string(done ? Error::kIo : done.error());
    }
    if (!done) {
      EXPECT_EQ(done.error(), Error::kNoSpace);
      EXPECT_EQ(describe(pool), before);
      pool.remount();
      EXPECT_EQ(describe(pool), before);
    }
    // Room comes back, and can be used.
    ASSERT_TRUE(pool->unlink(kRootIno, "filler"));
    EXPECT_TRUE(pool.content(pool.file(kRootIno, "after", std::string(100000, 'a'))) == std::string(100000, 'a'));
  }
}

INSTANTIATE_TEST_SUITE_P(BlocksLeft, FullPool, testing::Range<uint64_t>(0, 13));

TEST(Space, AFileInManyGroupsGoesFromAFullPool) {
  // Each group of 128 MiB is full: a transaction that frees in as many as it can has no room for an orphan's slot there.
  constexpr uint64_t kGroups = 24;
  TestPool pool(kGroups * 128 * 1024 * 1024);
  const uint64_t before = pool.free_blocks();
  const Ino big = pool.file(kRootIno, "big");
  {
    auto file = pool->open(big, O_RDWR, false);
    uint64_t want = pool->statfs().blocks_available;
    uint64_t at = 0;
    while (want > 0) {
      const Status done = pool->fallocate(**file, fs::kFallocKeepSize, at, want * kBlockSize);
      if (done) at += want * kBlockSize;
      want = done ? std::min(want, pool->statfs().blocks_available) : want / 2;
    }
    EXPECT_EQ(pool->statfs().blocks_available, 0U);
  }
  ASSERT_TRUE(pool->unlink(kRootIno, "big"));
  EXPECT_EQ(pool.free_blocks(), before);
}

}  // namespace
}  // namespace udax
