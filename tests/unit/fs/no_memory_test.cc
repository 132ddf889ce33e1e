// SPDX-License-Identifier: BSD-3-Clause
//
// Memory runs out: each operation is tried with its first allocation failing, then its second, and so on, until it
// gets by without meeting one that fails. Each time it must say kNoMemory (or do without), leave no lock held and no
// block lost, and the pool must be sound.
//
// This program's operator new is the one below; only the thread that armed it is ever refused.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <new>
#include <string>

#include "media/memory_medium.h"
#include "mkfs/make_pool.h"
#include "tests/support/pool.h"

namespace {

thread_local bool armed = false;
thread_local uint64_t to_pass = 0;   // allocations that succeed before one fails
thread_local bool all_fail = false;  // from then on; else that one
thread_local uint64_t refused = 0;

bool is_refused() {
  if (!armed) return false;
  if (to_pass > 0) {
    --to_pass;
    return false;
  }
  if (refused > 0 && !all_fail) return false;
  ++refused;
  return true;
}

void* allocate(std::size_t size) noexcept { return is_refused() ? nullptr : std::malloc(size == 0 ? 1 : size); }

void* allocate(std::size_t size, std::align_val_t align) noexcept {
  const auto unit = static_cast<std::size_t>(align);
  return is_refused() ? nullptr : std::aligned_alloc(unit, (size + unit) / unit * unit);
}

void* or_throw(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// All forms: sanitizers bring their own of each that is left out, and check that they match. Not inlined: a compiler that
// sees malloc on the one side and the standard operator on the other warns of a mismatch.
[[gnu::noinline]] void* operator new(std::size_t n) { return or_throw(allocate(n)); }
[[gnu::noinline]] void* operator new[](std::size_t n) { return or_throw(allocate(n)); }
[[gnu::noinline]] void* operator new(std::size_t n, std::align_val_t a) { return or_throw(allocate(n, a)); }
[[gnu::noinline]] void* operator new[](std::size_t n, std::align_val_t a) { return or_throw(allocate(n, a)); }
[[gnu::noinline]] void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n); }
[[gnu::noinline]] void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return allocate(n); }
[[gnu::noinline]] void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, a);
}
[[gnu::noinline]] void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, a);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace udax {
namespace {

using test::bytes;
using test::kRoot;
using test::TestPool;

constexpr uint64_t kPoolSize = 16 * 1024 * 1024;
constexpr uint64_t kTriesMax = 2000;
const std::string kLongTarget(3000, 's');
const std::string kLongValue(20000, 'w');
const std::string kLarge(1 << 20, 'L');

/// Runs `body` with the allocation behind the first `pass` failing. Gives what it gave; kOverflow: it threw.
Status run_short(uint64_t pass, bool all, const std::function<Status()>& body) {
  refused = 0;
  to_pass = pass;
  all_fail = all;
  armed = true;
  Status done = Error::kOverflow;
  try {
    done = body();
  } catch (const std::bad_alloc&) {
    done = Error::kOverflow;
  }
  armed = false;
  return done;
}

template <typename T>
Status status_of(const Result<T>& result) {
  return result ? Status() : Status(result.error());
}

/// What the operations work on.
struct Tree {
  Ino file;    // three blocks
  Ino pieces;  // 300 extents
  Ino dir;     // 150 entries, in several blocks
  Ino attrs;   // xattrs in a block of their own
  Ino link;    // a symlink whose target has a block

  static Tree make(TestPool& pool) {
    Tree t;
    t.file = pool.file(kRootIno, "file", std::string(12000, 'f'));
    t.pieces = pool.file(kRootIno, "pieces");
    for (uint64_t i = 0; i < 300; ++i) pool.write(t.pieces, i * 8192, "piece");
    t.dir = pool.mkdir(kRootIno, "dir");
    for (int i = 0; i < 150; ++i) {
      EXPECT_TRUE(pool->link(t.file, t.dir, "a name to fill a block with " + std::to_string(i)));
    }
    static_cast<void>(pool.mkdir(kRootIno, "empty"));
    static_cast<void>(pool.mkdir(kRootIno, "other"));
    static_cast<void>(pool.mkdir(t.dir, "sub"));
    static_cast<void>(pool.file(kRootIno, "small", "small"));
    t.attrs = pool.file(kRootIno, "attrs");
    EXPECT_TRUE(pool->setxattr(t.attrs, "user.long", bytes(std::string(9000, 'v')), 0, false, kRoot));
    EXPECT_TRUE(pool->setxattr(t.attrs, "user.short", bytes("v"), 0, false, kRoot));
    t.link = pool->symlink(kRootIno, "link", std::string(3000, 't'), kRoot)->ino;
    return t;
  }
};

struct Operation {
  const char* name;
  std::function<Status(fs::Filesystem&, const Tree&)> run;
  /// What it is done to has to be open; null: nothing.
  std::function<Status(fs::Filesystem&, const Tree&, fs::OpenFile&)> run_open = nullptr;
  Ino Tree::*opened = nullptr;
  bool keeps_steps = false;  // of its space, what was allocated before the failure stays
};

void PrintTo(const Operation& operation, std::ostream* out) { *out << operation.name; }

Status set_size(fs::Filesystem& fs, Ino ino, uint64_t size) {
  fs::SetAttr changes;
  changes.size = size;
  return status_of(fs.setattr(ino, changes, kRoot));
}

Operation on(const char* name, Ino Tree::*opened,
             std::function<Status(fs::Filesystem&, const Tree&, fs::OpenFile&)> run, bool keeps_steps = false) {
  return {name, nullptr, std::move(run), opened, keeps_steps};
}

std::vector<Operation> operations_on_names() {
  using F = fs::Filesystem;
  using T = Tree;
  return {
      {"Lookup", [](F& f, const T& t) { return status_of(f.lookup(t.dir, "a name to fill a block with 77")); }},
      {"Mkdir", [](F& f, const T& t) { return status_of(f.make(t.dir, "new", 0040755, 0, 0, kRoot)); }},
      {"Mknod", [](F& f, const T&) { return status_of(f.make(kRootIno, "new", 0060600, 8, 1, kRoot)); }},
      {"Create",
       [](F& f, const T& t) {
         fs::Attr attr;
         return status_of(f.create(t.dir, "new", 0644, O_RDWR, kRoot, &attr));
       }},
      {"Tmpfile",
       [](F& f, const T&) {
         fs::Attr attr;
         return status_of(f.tmpfile(kRootIno, 0644, O_RDWR, kRoot, &attr));
       }},
      {"Symlink", [](F& f, const T&) { return status_of(f.symlink(kRootIno, "new", kLongTarget, kRoot)); }},
      {"Readlink", [](F& f, const T& t) { return status_of(f.readlink(t.link)); }},
      {"Link", [](F& f, const T& t) { return status_of(f.link(t.pieces, t.dir, "new")); }},
      {"UnlinkOneOfMany", [](F& f, const T& t) { return f.unlink(t.dir, "a name to fill a block with 3"); }},
      {"UnlinkTheLast", [](F& f, const T&) { return f.unlink(kRootIno, "small"); }},
      {"UnlinkAFileOfManyExtents", [](F& f, const T&) { return f.unlink(kRootIno, "pieces"); }},
      {"UnlinkAFileWithXattrs", [](F& f, const T&) { return f.unlink(kRootIno, "attrs"); }},
      {"UnlinkASymlink", [](F& f, const T&) { return f.unlink(kRootIno, "link"); }},
      {"Rmdir", [](F& f, const T&) { return f.rmdir(kRootIno, "empty"); }},
      {"Rename", [](F& f, const T&) { return f.rename(kRootIno, "small", kRootIno, "renamed", 0); }},
      {"RenameADirectory", [](F& f, const T& t) { return f.rename(t.dir, "sub", kRootIno, "moved", 0); }},
      {"RenameOverAFile",
       [](F& f, const T& t) { return f.rename(t.dir, "a name to fill a block with 9", kRootIno, "pieces", 0); }},
      {"RenameOverADirectory", [](F& f, const T& t) { return f.rename(t.dir, "sub", kRootIno, "empty", 0); }},
      {"RenameExchange",
       [](F& f, const T& t) { return f.rename(t.dir, "sub", kRootIno, "small", fs::kRenameExchange); }},
  };
}

std::vector<Operation> operations_on_attributes() {
  using F = fs::Filesystem;
  using T = Tree;
  return {
      {"Getattr", [](F& f, const T& t) { return status_of(f.getattr(t.pieces)); }},
      {"Chmod",
       [](F& f, const T& t) {
         fs::SetAttr changes;
         changes.mode = 0600;
         return status_of(f.setattr(t.file, changes, kRoot));
       }},
      {"SetFlags",
       [](F& f, const T& t) { return f.set_flags(t.file, format::kFlagNoDump, format::kFlagNoDump, {}, kRoot); }},
      {"Getxattr", [](F& f, const T& t) { return status_of(f.getxattr(t.attrs, "user.long")); }},
      {"Listxattr", [](F& f, const T& t) { return status_of(f.listxattr(t.attrs, kRoot)); }},
      {"Setxattr",
       [](F& f, const T& t) { return f.setxattr(t.file, "user.new", bytes("value"), 0, false, kRoot); }},
      {"SetxattrLong",
       [](F& f, const T& t) { return f.setxattr(t.attrs, "user.long", bytes(kLongValue), 0, false, kRoot); }},
      {"Removexattr", [](F& f, const T& t) { return f.removexattr(t.attrs, "user.long", kRoot); }},
      {"Statfs",
       [](F& f, const T&) {
         static_cast<void>(f.statfs());
         return Status();
       }},
      {"Forget",
       [](F& f, const T& t) {
         f.forget(t.file, 1);
         return Status();
       }},
      {"Remember", [](F& f, const T& t) { return f.remember(t.pieces); }},
      {"Extents", [](F& f, const T& t) { return status_of(f.extents(t.pieces, 0, 1000)); }},
      {"TruncateDown", [](F& f, const T& t) { return set_size(f, t.pieces, 5000); }},
      {"TruncateUp", [](F& f, const T& t) { return set_size(f, t.file, 1 << 20); }},
      {"Sync", [](F& f, const T&) { return f.sync(); }},
      {"Open", [](F& f, const T& t) { return status_of(f.open(t.pieces, O_RDWR, false)); }},
      {"OpenTruncating", [](F& f, const T& t) { return status_of(f.open(t.pieces, O_RDWR | O_TRUNC, false)); }},
  };
}

std::vector<Operation> operations_on_bytes() {
  using F = fs::Filesystem;
  using T = Tree;
  using O = fs::OpenFile;
  return {
      on("Read", &T::pieces,
         [](F& f, const T&, O& o) {
           return f.read(o, 0, 1 << 20, [](std::span<const iovec>, uint64_t) { return Status(); });
         }),
      on("Readdir", &T::dir,
         [](F& f, const T&, O& o) { return f.readdir(o, 0, [](const fs::DirEntry&) { return true; }); }),
      on("Overwrite", &T::file,
         [](F& f, const T&, O& o) { return status_of(f.write(o, 100, bytes("new"), false, false)); }),
      on("Append", &T::file,
         [](F& f, const T&, O& o) { return status_of(f.write(o, 0, bytes("new"), true, false)); }),
      on("WriteIntoHoles", &T::pieces,
         [](F& f, const T&, O& o) { return status_of(f.write(o, 4096, bytes(kLarge), false, false)); }),
      on("WriteFarOut", &T::pieces,
         [](F& f, const T&, O& o) {
           return status_of(f.write(o, uint64_t{1} << 40, bytes(kLarge), false, false));
         }),
      on("WriteKillingPrivileges", &T::file,
         [](F& f, const T&, O& o) { return status_of(f.write(o, 0, bytes("new"), false, true)); }),
      on(
          "Allocate", &T::pieces, [](F& f, const T&, O& o) { return f.fallocate(o, 0, 0, 4 << 20); }, true),
      on("Punch", &T::pieces,
         [](F& f, const T&, O& o) {
           return f.fallocate(o, fs::kFallocPunchHole | fs::kFallocKeepSize, 10'000, 2'000'000);
         }),
      on("ZeroRange", &T::pieces,
         [](F& f, const T&, O& o) { return f.fallocate(o, fs::kFallocZeroRange, 10'000, 2'000'000); }),
      on("CopyRange", &T::pieces,
         [](F& f, const T&, O& o) { return status_of(f.copy_range(o, 0, o, 1 << 30, 1 << 18)); }),
      on("SeekData", &T::pieces, [](F& f, const T&, O& o) { return status_of(f.seek(o, 100'000, true)); }),
      on("SeekHole", &T::pieces, [](F& f, const T&, O& o) { return status_of(f.seek(o, 100'000, false)); }),
      on("WriteAndFsync", &T::file,
         [](F& f, const T&, O& o) -> Status {
           UDAX_CHECK(status_of(f.write(o, 50, bytes("new"), false, false)));
           return f.fsync(o, false);
         }),
  };
}

std::vector<Operation> operations() {
  std::vector<Operation> all = operations_on_names();
  for (const auto& more : {operations_on_attributes(), operations_on_bytes()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

class NoMemory : public ::testing::TestWithParam<Operation> {
 protected:
  static std::unique_ptr<TestPool> fresh_pool(media::Granularity granularity, fs::DaxMode dax, Tree* tree) {
    fs::MountOptions options;
    options.dax = dax;
    auto pool =
        std::make_unique<TestPool>(std::make_shared<media::MemoryMedium>(kPoolSize, granularity), true, options);
    *tree = Tree::make(*pool);
    pool->remount();
    return pool;
  }

  /// Tries the operation once. False: it met no allocation that fails, so that there are no more to try.
  static bool try_once(TestPool& pool, const Tree& tree, uint64_t pass, bool all, bool* did) {
    const Operation& operation = GetParam();
    const uint64_t free_before = pool.free_blocks();
    Status done;
    {
      fs::OpenFilePtr file;
      if (operation.opened != nullptr) {
        const bool is_dir = operation.opened == &Tree::dir;
        auto opened = pool->open(tree.*operation.opened, is_dir ? O_RDONLY : O_RDWR, false);
        EXPECT_TRUE(opened);
        file = std::move(*opened);
      }
      done = run_short(pass, all, [&] {
        return file ? operation.run_open(pool.fs(), tree, *file) : operation.run(pool.fs(), tree);
      });
    }
    *did = done.has_value();
    if (refused == 0) {
      EXPECT_TRUE(done) << to_string(done.error());
      return false;
    }
    if (done) return true;  // it got by without
    EXPECT_NE(done.error(), Error::kOverflow) << "std::bad_alloc left the filesystem";
    EXPECT_EQ(done.error(), Error::kNoMemory) << to_string(done.error());
    // What a chain of steps has done stays done: one that removes can only have given space back.
    if (!operation.keeps_steps) {
      EXPECT_GE(pool.free_blocks(), free_before) << "blocks are lost";
    }
    return true;
  }

  /// Every inode can still be locked, and the pool still be changed.
  static void probe(TestPool& pool, const Tree& tree) {
    for (const Ino ino : {tree.file, tree.pieces, tree.dir, tree.attrs, tree.link}) {
      fs::SetAttr changes;
      changes.mtime_now = true;
      static_cast<void>(pool->setattr(ino, changes, kRoot));
    }
    for (const Ino dir : {kRootIno, tree.dir}) {
      const auto made = pool->make(dir, "probe", 0040755, 0, 0, kRoot);
      EXPECT_TRUE(made) << to_string(made ? Error::kIo : made.error());
      EXPECT_TRUE(pool->rmdir(dir, "probe"));
    }
    static_cast<void>(pool.content(tree.file));
  }

  static void run(media::Granularity granularity, fs::DaxMode dax, bool all) {
    Tree tree;
    auto pool = fresh_pool(granularity, dax, &tree);
    uint64_t pass = 0;
    for (; pass < kTriesMax; ++pass) {
      SCOPED_TRACE("allocations that succeed: " + std::to_string(pass) + (all ? ", all others fail" : ""));
      bool did = false;
      const bool more = try_once(*pool, tree, pass, all, &did);
      if (!more) break;
      if (did) {
        pool = fresh_pool(granularity, dax, &tree);  // checks the old one
      } else {
        probe(*pool, tree);
        if (pass % 4 == 3) pool->remount();
        if (pass % 4 == 1) pool->crash();
      }
      if (HasFailure()) return;
    }
    EXPECT_LT(pass, kTriesMax) << "it never gets by";
  }
};

TEST_P(NoMemory, OneAllocationFails) { run(media::Granularity::kCacheLine, fs::DaxMode::kInode, false); }
TEST_P(NoMemory, AllAllocationsFail) { run(media::Granularity::kCacheLine, fs::DaxMode::kInode, true); }
TEST_P(NoMemory, OneAllocationFailsWithDaxAndPages) {
  run(media::Granularity::kPage, fs::DaxMode::kAlways, false);
}

INSTANTIATE_TEST_SUITE_P(Operations, NoMemory, ::testing::ValuesIn(operations()),
                         [](const auto& tested) { return std::string(tested.param.name); });

/// A mount that fails for want of memory has changed nothing that the next cannot cope with.
TEST(NoMemoryAtMount, CleanAndAfterACrash) {
  for (const bool crashed : {false, true}) {
    auto medium = std::make_shared<media::MemoryMedium>(kPoolSize);
    media::MemoryMedium start(kPoolSize);
    {
      TestPool pool(medium, true);
      static_cast<void>(Tree::make(pool));
      EXPECT_TRUE(pool->sync());
      if (!crashed) pool.unmount();
      start.copy_from(*medium);
      if (!crashed) pool.mount();
    }
    medium->copy_from(start);
    uint64_t pass = 0;
    for (; pass < kTriesMax; ++pass) {
      SCOPED_TRACE(pass);
      std::unique_ptr<fs::Filesystem> mounted;
      std::string why;
      const Status done = run_short(pass, false, [&] {
        auto result = fs::Filesystem::mount(medium, {}, &why);
        if (result) mounted = std::move(*result);
        return status_of(result);
      });
      if (!done) {  // NOLINT(clang-analyzer-unix.Malloc): it takes the operator new above for malloc
        ASSERT_NE(done.error(), Error::kOverflow) << "std::bad_alloc left the filesystem";
        EXPECT_EQ(done.error(), Error::kNoMemory) << why;
      }
      if (mounted) {
        if (refused == 0) {
          EXPECT_TRUE(mounted->unmount());
          break;
        }
        mounted.reset();  // as by kill -9
      }
    }
    EXPECT_LT(pass, kTriesMax);
    const TestPool pool(medium, false);
  }
}

}  // namespace
}  // namespace udax
