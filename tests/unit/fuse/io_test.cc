// SPDX-License-Identifier: BSD-3-Clause
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <functional>

#include "tests/unit/fuse/wire_harness.h"

namespace udax::fuse::test {
namespace {

class IoTest : public Harness {
 protected:
  IoTest() { init(); }
  Opened create_dax(std::string_view name, uint32_t flags = O_RDWR) {
    const Opened f = create(1, name, flags);
    EXPECT_TRUE(
        pool.fs().set_flags(Ino(f.node), format::kFlagDax, format::kFlagDax, std::nullopt, udax::test::kRoot));
    (void)release(f);
    return open(f.node, flags);
  }
};

TEST_F(IoTest, WritesAndReads) {
  const Opened f = create(1, "file");
  EXPECT_EQ(write(f, 3, "hello").as<fuse_write_out>().size, 5U);
  EXPECT_EQ(read(f, 0, 4096).text(), std::string("\0\0\0hello", 8));
  EXPECT_EQ(read(f, 4, 2).text(), "el");
  const Answer end = read(f, 8, 4096);
  EXPECT_EQ(end.error, 0);
  EXPECT_TRUE(end.body.empty());
  EXPECT_EQ(read(f, ~0ULL, 1).error, -EINVAL);
}

TEST_F(IoTest, LargestRequest) {
  const Opened f = create(1, "file");
  std::string data(kIoMax, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 31 + i / 4096);
  EXPECT_EQ(write(f, 1, data).as<fuse_write_out>().size, kIoMax);
  EXPECT_EQ(read(f, 1, kIoMax).text(), data);
  EXPECT_EQ(read(f, 0, ~0U).body.size(), kIoMax);  // what no kernel asks for
}

TEST_F(IoTest, OpenSaysHowToCache) {
  const Opened cached = create(1, "cached");
  EXPECT_EQ(cached.flags, wire::kOpenKeepCache | wire::kOpenNoFlush);
  const Opened direct = create_dax("direct");
  EXPECT_EQ(direct.flags, wire::kOpenDirectIo | wire::kOpenNoFlush);
}

// Else the kernel's mmap(2) and a write may wait for each other: dax_tests has the program.
TEST_F(IoTest, ParallelWritesOnlyWhereDaxFilesCannotBeMapped) {
  init(~0U, ~wire::kDirectIoAllowMmap);
  const Opened direct = create_dax("direct");
  EXPECT_EQ(direct.flags, wire::kOpenDirectIo | wire::kOpenParallelDirectWrites | wire::kOpenNoFlush);
}

TEST_F(IoTest, AppendsOfDirectFilesGoToTheEnd) {
  const Opened f = create_dax("file", O_RDWR | O_APPEND);
  (void)write(f, 0, "one", 0, O_RDWR | O_APPEND);
  (void)write(f, 0, "two", 0, O_RDWR | O_APPEND);  // an offset from before the first one
  EXPECT_EQ(read(f, 0, 100).text(), "onetwo");
  // A page of a mapping comes back to where it belongs.
  (void)write(f, 0, "ONE", FUSE_WRITE_CACHE, O_RDWR | O_APPEND);
  EXPECT_EQ(read(f, 0, 100).text(), "ONEtwo");
}

TEST_F(IoTest, CachedFilesAreWrittenWhereTheKernelSays) {
  const Opened f = create(1, "file", O_RDWR | O_APPEND);
  (void)write(f, 0, "one", 0, O_RDWR | O_APPEND);
  (void)write(f, 1, "two", 0, O_RDWR | O_APPEND);
  EXPECT_EQ(read(f, 0, 100).text(), "otwo");
}

TEST_F(IoTest, ModesOfOpening) {
  const Opened f = create(1, "file", O_WRONLY);
  EXPECT_EQ(write(f, 0, "x").error, 0);
  const Opened r = open(f.node, O_RDONLY);
  EXPECT_EQ(write(r, 0, "x").error, -EBADF);
  EXPECT_EQ(ask(FUSE_FALLOCATE, r.node, Body().add(fuse_fallocate_in{r.handle, 0, 10, 0, 0})).error, -EBADF);
  EXPECT_EQ(ask(FUSE_OPEN, 1, Body().add(fuse_open_in{O_RDONLY, 0})).error, -EISDIR);
  EXPECT_EQ(ask(FUSE_OPENDIR, f.node, Body().add(fuse_open_in{})).error, -ENOTDIR);
}

TEST_F(IoTest, TruncatedByOpen) {
  const Opened f = create(1, "file");
  (void)write(f, 0, "text");
  const Opened g = open(f.node, O_RDWR | O_TRUNC);
  EXPECT_TRUE(read(g, 0, 100).body.empty());
}

TEST_F(IoTest, WrongHandles) {
  const Opened f = create(1, "file");
  const Opened g = create(1, "other");
  const uint64_t dir = opendir(1);
  for (const uint64_t bad : {uint64_t{0}, ~uint64_t{0}, f.handle + (uint64_t{1} << 32), f.handle + 16, g.handle,
                             dir, uint64_t{0xFFFFFFFF}}) {
    const Opened wrong{f.node, bad, 0};
    EXPECT_EQ(read(wrong, 0, 10).error, -EBADF) << bad;
    EXPECT_EQ(write(wrong, 0, "x").error, -EBADF) << bad;
    EXPECT_EQ(ask(FUSE_FSYNC, f.node, Body().add(fuse_fsync_in{bad, 0, 0})).error, -EBADF) << bad;
    EXPECT_EQ(ask(FUSE_FLUSH, f.node, Body().add(fuse_flush_in{bad, 0, 0, 0})).error, -EBADF) << bad;
    if (bad != f.handle) {
      fuse_read_in in{};
      in.fh = bad == dir ? f.handle : bad;
      in.size = 4096;
      EXPECT_EQ(ask(FUSE_READDIR, 1, Body().add(in)).error, -EBADF) << bad;
    }
  }
  EXPECT_EQ(release(f).error, 0);
  EXPECT_EQ(release(f).error, -EBADF);
  EXPECT_EQ(read(f, 0, 10).error, -EBADF);
  // The slot serves another file now, under another number.
  const Opened h = create(1, "third");
  EXPECT_NE(h.handle, f.handle);
  EXPECT_EQ(read({h.node, f.handle, 0}, 0, 10).error, -EBADF);
}

TEST_F(IoTest, SyncAllocateSeekCopy) {
  const Opened f = create(1, "file");
  (void)write(f, 8192, "data");
  EXPECT_EQ(ask(FUSE_FSYNC, f.node, Body().add(fuse_fsync_in{f.handle, 1, 0})).error, 0);
  EXPECT_EQ(ask(FUSE_FLUSH, f.node, Body().add(fuse_flush_in{f.handle, 0, 0, 0})).error, 0);
  const auto seek = [&](uint64_t offset, uint32_t whence) {
    return ask(FUSE_LSEEK, f.node, Body().add(fuse_lseek_in{f.handle, offset, whence, 0}));
  };
  EXPECT_EQ(seek(0, SEEK_DATA).as<fuse_lseek_out>().offset, 8192U);
  EXPECT_EQ(seek(0, SEEK_HOLE).as<fuse_lseek_out>().offset, 0U);
  EXPECT_EQ(seek(9000, SEEK_DATA).error, -ENXIO);
  EXPECT_EQ(seek(~0ULL, SEEK_DATA).error, -ENXIO);
  EXPECT_EQ(seek(0, SEEK_SET).error, -EINVAL);

  const auto allocate = [&](uint64_t offset, uint64_t length, uint32_t mode) {
    return ask(FUSE_FALLOCATE, f.node, Body().add(fuse_fallocate_in{f.handle, offset, length, mode, 0})).error;
  };
  EXPECT_EQ(allocate(0, 100000, 0), 0);
  EXPECT_EQ(allocate(0, 0, 0), -EINVAL);
  EXPECT_EQ(allocate(1, ~0ULL >> 1, 0), -EFBIG);
  EXPECT_EQ(allocate(~0ULL, 1, 0), -EINVAL);
  EXPECT_EQ(allocate(8192, 4096, fs::kFallocPunchHole | fs::kFallocKeepSize), 0);
  EXPECT_EQ(read(f, 8192, 4).text(), std::string(4, '\0'));

  (void)write(f, 0, "copied");
  const Opened g = create(1, "copy");
  const fuse_copy_file_range_in in{f.handle, 0, g.node, g.handle, 4096, 6, 0};
  EXPECT_EQ(ask(FUSE_COPY_FILE_RANGE, f.node, Body().add(in)).as<fuse_write_out>().size, 6U);
  EXPECT_EQ(read(g, 4096, 100).text(), "copied");
  EXPECT_EQ(ask(wire::kOpCopyFileRange64, f.node, Body().add(in)).as<wire::CopyFileRangeOut>().bytes_copied, 6U);
  fuse_copy_file_range_in bad = in;
  bad.flags = 1;
  EXPECT_EQ(ask(FUSE_COPY_FILE_RANGE, f.node, Body().add(bad)).error, -EINVAL);
  bad = in;
  bad.off_out = ~0ULL;
  EXPECT_EQ(ask(FUSE_COPY_FILE_RANGE, f.node, Body().add(bad)).error, -EFBIG);
}

// Notes what is recalled, and what the file's byte 5000 is then.
class Recalls : public mapping::CopyHolder {
 public:
  explicit Recalls(std::function<std::string()> look) : look_(std::move(look)) {}
  void drop_copies(Ino, mapping::ByteRange range) override { seen.push_back({range.start, range.end, look_()}); }
  void drop_copies_unlike(Ino, uint64_t, std::span<const std::byte>) override {}

  struct Seen {
    uint64_t start;
    uint64_t end;
    std::string byte;
    bool operator==(const Seen&) const = default;
  };
  std::vector<Seen> seen;

 private:
  const std::function<std::string()> look_;
};

// The kernel zeroes its pages afterwards: what is written back meanwhile must not bring the old bytes back.
TEST_F(IoTest, PagesOfWhichAPartIsZeroedAreRecalledFirst) {
  const Opened f = create(1, "file");
  (void)write(f, 0, std::string(40'000, 'f'));
  Recalls recalls([&] { return pool.content(Ino(f.node)).substr(5000, 1); });
  pool.fs().mappers().add(&recalls);
  const auto zero = [&](uint64_t offset, uint64_t length, uint32_t mode) {
    recalls.seen.clear();
    const fuse_fallocate_in in{f.handle, offset, length, mode, 0};
    EXPECT_EQ(ask(FUSE_FALLOCATE, f.node, Body().add(in)).error, 0);
    return recalls.seen;
  };
  using All = std::vector<Recalls::Seen>;
  constexpr uint32_t kPunch = fs::kFallocPunchHole | fs::kFallocKeepSize;
  EXPECT_EQ(zero(0, 100, 0), All{});
  EXPECT_EQ(zero(8192, 4096, kPunch), All{});
  EXPECT_EQ(zero(5000, 10, kPunch), (All{{4096, 8192, "f"}}));
  EXPECT_EQ(read(f, 4999, 3).text(), std::string("f\0\0", 3));
  EXPECT_EQ(zero(5000, 20'000, fs::kFallocZeroRange),
            (All{{4096, 8192, std::string(1, '\0')}, {24'576, 28'672, std::string(1, '\0')}}));
  EXPECT_EQ(zero(12'288, 100, kPunch).size(), 1U);
  EXPECT_EQ(zero(12'200, 88, kPunch).size(), 1U);
  pool.fs().mappers().remove(&recalls);
}

// The kernel drops the pages at the edges of a copy with what others stored there through mappings meanwhile.
TEST_F(IoTest, CopiesToPartsOfPagesAreLeftToTheKernel) {
  const Opened f = create(1, "file");
  const Opened g = create(1, "copy");
  for (uint64_t offset = 0; offset < 256 * 1024; offset += 64 * 1024) {
    (void)write(f, offset, std::string(64 * 1024, 'f'));
    (void)write(g, offset, std::string(64 * 1024, 'g'));
  }
  const auto copy = [&](uint64_t offset, uint64_t length) {
    return ask(FUSE_COPY_FILE_RANGE, f.node,
               Body().add(fuse_copy_file_range_in{f.handle, 0, g.node, g.handle, offset, length, 0}));
  };
  EXPECT_EQ(copy(1, 4096).error, -EOPNOTSUPP);
  EXPECT_EQ(copy(4096, 100).error, -EOPNOTSUPP);
  EXPECT_EQ(copy(4096, 4096).as<fuse_write_out>().size, 4096U);
  EXPECT_EQ(copy(4096, 100'000).as<fuse_write_out>().size, 98'304U);  // its whole pages
  EXPECT_EQ(read(g, 4095, 2).text(), "gf");
  EXPECT_EQ(read(g, 4096 + 98'303, 2).text(), "fg");
  EXPECT_EQ(copy(252 * 1024, 5000).as<fuse_write_out>().size, 5000U);  // past the end there is nothing to lose
}

TEST_F(IoTest, AWriteShorterThanItClaims) {
  const Opened f = create(1, "file");
  fuse_write_in in{};
  in.fh = f.handle;
  in.size = 100;
  EXPECT_EQ(ask(FUSE_WRITE, f.node, Body().add(in).raw("short")).error, -EINVAL);
  EXPECT_TRUE(read(f, 0, 10).body.empty());
}

TEST_F(IoTest, PoisonedBytesAreAnError) {
  const Opened f = create(1, "file");
  (void)write(f, 0, "text");
  channel.fate = Delivery::kFailed;
  EXPECT_EQ(read(f, 0, 10).error, -EIO);
  EXPECT_EQ(read(f, 0, 10).text(), "text");
}

}  // namespace
}  // namespace udax::fuse::test
