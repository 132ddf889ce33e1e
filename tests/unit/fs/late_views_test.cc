// SPDX-License-Identifier: BSD-3-Clause
//
// A mapper that is told to take its views back and does not, yet: what is stored through them meanwhile is not covered by a page that
// comes back whole from a page cache.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <string>

#include "base/sync_point.h"
#include "tests/support/pool.h"

namespace udax {
namespace {

using test::bytes;
using test::kRoot;
using test::TestPool;

constexpr uint64_t kMiB = 1024 * 1024;

/// Keeps every view, and says so.
class LateMapper final : public mapping::Mapper {
 public:
  void invalidate(Ino, mapping::ByteRange) override { ++asked; }
  void write_protect(Ino, mapping::ByteRange) override {}
  bool may_hold(Ino, mapping::ByteRange) override { return asked > 0; }
  int asked = 0;
};

class LateViews : public ::testing::Test {
 protected:
  void SetUp() override {
    pool_->mappers().add(&mapper_);
    ino_ = pool_.file(kRootIno, "file", std::string(kBlockSize, 'a'));
    ASSERT_TRUE(pool_->set_flags(ino_, format::kFlagDax, format::kFlagDax, {}, kRoot));
    auto opened = pool_->open(ino_, O_RDWR, false);
    ASSERT_TRUE(opened);
    file_ = std::move(*opened);
  }
  void TearDown() override {
    file_.reset();
    pool_->mappers().remove(&mapper_);
  }
  /// A view of the first page is made; the page goes to a page cache; both are stored to; the page comes back. What the file has then.
  std::string store_to_both() {
    DeviceBlock device;
    const auto install = [&](const dax::View& view) -> Status {
      device = view.device;
      return {};
    };
    const auto mapped =
        pool_->fault(file_->inode(), FileBlock(0), dax::Access::kWrite, mapping::kPageOrder, install);
    EXPECT_TRUE(mapped && *mapped == dax::FaultResult::kMapped);
    std::string copy;
    const auto take = [&](std::span<const iovec> pieces, uint64_t) -> Status {
      for (const iovec& piece : pieces) copy.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
      return {};
    };
    EXPECT_TRUE(pool_->fill(*file_, 0, kBlockSize, take));
    EXPECT_GT(mapper_.asked, 0) << "the page is handed out beside views that nobody wanted back";
    const std::string stored(8, 'v');
    pool_.medium().store(offset_of(device) + 16, bytes(stored).data(), stored.size());
    copy.replace(100, 8, 8, 'k');
    EXPECT_TRUE(pool_->write_back(*file_, 0, bytes(copy)));
    return pool_.content(ino_);
  }

  LateMapper mapper_;
  TestPool pool_{16 * kMiB};
  Ino ino_;
  fs::OpenFilePtr file_;
};

TEST_F(LateViews, AStoreThroughOneSurvivesThePageThatComesBack) {
  std::string expected(kBlockSize, 'a');
  expected.replace(16, 8, 8, 'v').replace(100, 8, 8, 'k');
  EXPECT_EQ(store_to_both(), expected);
}

#if defined(UDAX_SYNC_POINTS)
TEST_F(LateViews, ControlItIsLostWithoutATwin) {
  const sync_point::ScopedKnob knob("dax.revoke.skip_late");
  std::string lost(kBlockSize, 'a');
  lost.replace(100, 8, 8, 'k');
  EXPECT_EQ(store_to_both(), lost);
}
#endif

}  // namespace
}  // namespace udax
