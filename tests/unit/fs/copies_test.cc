// SPDX-License-Identifier: BSD-3-Clause
//
// Pages that a kernel holds, of files that others access directly: what it stores to them comes to the file whole, byte
// by byte, whatever has happened to the file meanwhile. The test plays the kernel.
#include <fcntl.h>
#include <gtest/gtest.h>

#include "tests/support/pool.h"

namespace udax {
namespace {

using test::bytes;
using test::kRoot;
using test::TestPool;

constexpr uint64_t kMiB = 1024 * 1024;

class Copies : public ::testing::Test {
 protected:
  void SetUp() override {
    ino_ = pool_.file(kRootIno, "file", std::string(2 * kBlockSize, 'a'));
    set_dax(true);
  }
  void TearDown() override { file_.reset(); }
  void set_dax(bool on) {
    const Status done = pool_->set_flags(ino_, on ? format::kFlagDax : 0, format::kFlagDax, {}, kRoot);
    ASSERT_TRUE(done) << to_string(done.error());
  }
  void open() {
    file_.reset();
    auto opened = pool_->open(ino_, O_RDWR, false);
    ASSERT_TRUE(opened);
    file_ = std::move(*opened);
  }
  /// The kernel takes a page into its cache.
  std::string page(uint64_t at) {
    std::string out;
    const Status done =
        pool_->fill(*file_, at * kBlockSize, kBlockSize, [&out](std::span<const iovec> pieces, uint64_t) {
          for (const iovec& piece : pieces) out.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
          return Status();
        });
    EXPECT_TRUE(done);
    return out;
  }
  void write_back(uint64_t at, const std::string& page) {
    EXPECT_TRUE(pool_->write_back(*file_, at * kBlockSize, bytes(page)));
  }

  TestPool pool_{16 * kMiB};
  Ino ino_;
  fs::OpenFilePtr file_;
};

TEST_F(Copies, AStoreOfTheOldByteAfterAPunchIsNotLost) {
  for (const uint32_t mode : {fs::kFallocPunchHole | fs::kFallocKeepSize, fs::kFallocZeroRange}) {
    open();
    ASSERT_TRUE(pool_->write(*file_, 0, bytes(std::string(2 * kBlockSize, 'a')), false, false));
    std::string copies[2] = {page(0), page(1)};
    // From the middle of one page to that of the other: the kernel keeps both, and clears what it has of the range.
    ASSERT_TRUE(pool_->fallocate(*file_, mode, 1000, kBlockSize));
    copies[0].replace(1000, kBlockSize - 1000, kBlockSize - 1000, '\0');
    copies[1].replace(0, 1000, 1000, '\0');
    copies[0].replace(2000, 10, "aaaaaaaaaa");  // a process stores what was there before
    copies[1].replace(500, 10, "aaaaaaaaaa");
    write_back(0, copies[0]);
    write_back(1, copies[1]);
    EXPECT_EQ(pool_.content(ino_), copies[0] + copies[1]) << mode;
  }
}

TEST_F(Copies, WhatWasKeptBeforeTheFlagWentIsNotTakenForWhatIsThere) {
  open();
  static_cast<void>(page(0));
  // Written directly: the page as it was handed out is kept.
  ASSERT_TRUE(pool_->write(*file_, 0, bytes(std::string(kBlockSize, 'b')), false, false));
  file_.reset();
  set_dax(false);
  open();
  // Everything goes through the kernel's pages now: it writes a whole one, without having read it.
  fs::DoubtfulCopies doubtful;
  ASSERT_TRUE(pool_->write_through(*file_, 0, bytes(std::string(kBlockSize, 'c')), false, &doubtful));
  EXPECT_FALSE(doubtful.any());
  set_dax(true);
  const std::string stored = std::string(100, 'a') + std::string(kBlockSize - 100, 'c');
  write_back(0, stored);
  EXPECT_EQ(pool_.content(ino_).substr(0, kBlockSize), stored);
}

TEST_F(Copies, WhatIsReadWhileTheFlagIsOffIsKnownWhenItComesBack) {
  open();
  static_cast<void>(page(0));
  ASSERT_TRUE(pool_->write(*file_, 0, bytes(std::string(kBlockSize, 'b')), false, false));
  file_.reset();
  set_dax(false);
  open();
  std::string copy = page(0);
  EXPECT_EQ(copy, std::string(kBlockSize, 'b'));
  set_dax(true);
  copy.replace(0, 100, 100, 'a');
  write_back(0, copy);
  EXPECT_EQ(pool_.content(ino_).substr(0, kBlockSize), copy);
}

}  // namespace
}  // namespace udax
