// SPDX-License-Identifier: BSD-3-Clause
//
// Views that a change would take with the file's locks held are taken before them, and held off until it is done: there may be
// nobody to wait for then. And none are taken where none would go.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/sync_point.h"
#include "tests/support/pool.h"

namespace udax {
namespace {

using mapping::ByteRange;
using test::bytes;
using test::kRoot;
using test::TestPool;

constexpr uint64_t kMiB = 1024 * 1024;

/// Writes down what it is asked for: "hold A-B", "release", "take A-B", in blocks.
class Witness final : public mapping::Mapper {
 public:
  void invalidate(Ino, ByteRange range) override { note("take", range); }
  void write_protect(Ino, ByteRange) override {}
  void hold(Ino, ByteRange range, mapping::Patience) override { note("hold", range); }
  void release(Ino, ByteRange) override { said.emplace_back("release"); }
  std::vector<std::string> said;

 private:
  void note(const char* what, ByteRange range) {
    said.push_back(std::string(what) + " " + std::to_string(range.start >> kBlockShift) + "-" +
                   std::to_string(range.end >> kBlockShift));
  }
};

using Said = std::vector<std::string>;

class Hold : public ::testing::Test {
 protected:
  explicit Hold(const fs::MountOptions& options = {}) : pool_(16 * kMiB, options) {}
  void SetUp() override { pool_->mappers().add(&witness_); }
  void TearDown() override {
    file_.reset();
    pool_->mappers().remove(&witness_);
  }
  /// A DAX file of `size` bytes, with data in its first block.
  void make(uint64_t size) {
    const Ino ino = pool_.file(kRootIno, "file", std::string(kBlockSize, 'a'));
    ASSERT_TRUE(pool_->set_flags(ino, format::kFlagDax, format::kFlagDax, {}, kRoot));
    auto opened = pool_->open(ino, O_RDWR, false);
    ASSERT_TRUE(opened);
    file_ = std::move(*opened);
    fs::SetAttr longer;
    longer.size = size;
    ASSERT_TRUE(pool_->setattr(ino, longer, kRoot));
  }
  void fault(uint64_t block, dax::Access access = dax::Access::kRead) {
    const auto done = pool_->fault(file_->inode(), FileBlock(block), access, mapping::kPageOrder,
                                   [](const dax::View&) { return Status(); });
    ASSERT_TRUE(done && *done == dax::FaultResult::kMapped);
    witness_.said.clear();
  }
  void write(uint64_t block) {
    ASSERT_TRUE(pool_->write(*file_, block * kBlockSize, bytes(std::string(kBlockSize, 'w')), false, false));
  }
  void fill(uint64_t block) {
    const auto ignore = [](std::span<const iovec>, uint64_t) { return Status(); };
    ASSERT_TRUE(pool_->fill(*file_, block * kBlockSize, kBlockSize, ignore));
  }

  Witness witness_;
  TestPool pool_;
  fs::OpenFilePtr file_;
};

TEST_F(Hold, AWriteToAHoleThatWasReadTakesItsViewsFirst) {
  make(16 * kBlockSize);
  fault(5);
  write(5);
  EXPECT_EQ(witness_.said, (Said{"hold 5-6", "take 5-6", "release"}));
}

TEST_F(Hold, AWriteOverDataOrToAHoleThatNobodyReadTakesNone) {
  make(16 * kBlockSize);
  fault(0, dax::Access::kWrite);
  write(0);
  write(7);
  EXPECT_EQ(witness_.said, Said());
}

TEST_F(Hold, PagesForACacheAreTakenFirst) {
  make(16 * kBlockSize);
  fault(0, dax::Access::kWrite);
  fill(0);
  EXPECT_EQ(witness_.said, (Said{"hold 0-1", "take 0-1", "release"}));
  witness_.said.clear();
  fill(3);
  EXPECT_EQ(witness_.said, Said()) << "nobody has views of it";
}

#if defined(UDAX_SYNC_POINTS)
TEST_F(Hold, ControlTheViewsAreTakenWithLocksOnly) {
  make(16 * kBlockSize);
  fault(5);
  const sync_point::ScopedKnob knob("fs.skip_hold");
  write(5);
  EXPECT_EQ(witness_.said, (Said{"take 5-6"}));
}
#endif

fs::MountOptions whole_writes() {
  fs::MountOptions options;
  options.data = fs::DataMode::kAtomic;
  return options;
}

class HoldWhole : public Hold {
 protected:
  HoldWhole() : Hold(whole_writes()) {}
};

TEST_F(HoldWhole, AWriteThatMovesBlocksTakesTheirViewsFirst) {
  make(16 * kBlockSize);
  fault(0, dax::Access::kWrite);
  write(0);
  ASSERT_GE(witness_.said.size(), 2U);
  EXPECT_EQ(witness_.said.front(), "hold 0-1");
  EXPECT_EQ(witness_.said.back(), "release");
  witness_.said.clear();
  write(9);
  EXPECT_EQ(witness_.said, Said()) << "nobody has views of it";
}

}  // namespace
}  // namespace udax
