// SPDX-License-Identifier: BSD-3-Clause
#include "media/contents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "tests/unit/media/superblocks.h"

namespace udax::media {
namespace {

using testing::HasSubstr;

constexpr uint64_t kSize = 16 << 20;

class ContentsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = "/dev/shm/udax-contents-XXXXXX";
    if (::mkdtemp(folder.data()) == nullptr) GTEST_SKIP() << "no place for a pool file";
    folder_ = folder;
    path_ = folder_ + "/pool";
    std::string why;
    ASSERT_TRUE(PoolMedium::create_file(path_, kSize, &why)) << why;
  }
  void TearDown() override {
    if (folder_.empty()) return;
    ::unlink(path_.c_str());
    ::rmdir(folder_.c_str());
  }
  std::unique_ptr<PoolMedium> open() {
    std::string why;
    auto opened = PoolMedium::open(path_, {OpenMode::kExclusive, {}}, &why);
    EXPECT_TRUE(opened) << why;
    return opened ? std::move(*opened) : nullptr;
  }

  std::string folder_;
  std::string path_;
};

TEST_F(ContentsTest, NothingIsFoundInZeroes) {
  const Contents contents = identify(path_);
  EXPECT_EQ(contents.kind, Contents::Kind::kNothing);
  EXPECT_EQ(contents.what, "");
  EXPECT_EQ(contents.user, "");
  const auto medium = open();
  ASSERT_NE(medium, nullptr);
  EXPECT_EQ(find_foreign(*medium), "");
}

TEST_F(ContentsTest, APoolIsNamedAndSoIsItsUser) {
  auto medium = open();
  ASSERT_NE(medium, nullptr);
  put_superblocks(*medium);
  medium->announce_holder("unit-test", "/somewhere");
  Contents contents = identify(path_);
  EXPECT_EQ(contents.kind, Contents::Kind::kPool);
  EXPECT_EQ(contents.uuid, "5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a");
  EXPECT_THAT(contents.user,
              HasSubstr("unit-test (pid " + std::to_string(::getpid()) + "), mounted on /somewhere"));
  // As after a crash: the holder's word is there still, the lock is not.
  medium.reset();
  contents = identify(path_);
  EXPECT_EQ(contents.kind, Contents::Kind::kPool);
  EXPECT_EQ(contents.user, "");
}

TEST_F(ContentsTest, APoolThatIsDamagedIsAPoolStill) {
  {
    const auto medium = open();
    ASSERT_NE(medium, nullptr);
    put_superblocks(*medium);
    const uint64_t wrong = 0x1234;
    for (const uint64_t at : {uint64_t{64}, kSize - kBlockSize + 64}) medium->store_nt(at, &wrong, sizeof wrong);
  }
  const Contents contents = identify(path_);
  EXPECT_EQ(contents.kind, Contents::Kind::kPool);
  EXPECT_EQ(contents.uuid, "");
  EXPECT_NE(contents.what, "");
}

TEST_F(ContentsTest, OthersDataIsNamed) {
  const auto medium = open();
  ASSERT_NE(medium, nullptr);
  // A swap area: version and last page at 1024, the signature at the end of the first page.
  const uint32_t header[2] = {1, 1000};
  medium->store_nt(1024, header, sizeof header);
  medium->store_nt(kBlockSize - 10, "SWAPSPACE2", 10);
  EXPECT_EQ(find_foreign(*medium), "swap data");
  const Contents contents = identify(path_);
  EXPECT_EQ(contents.kind, Contents::Kind::kForeign);
  EXPECT_EQ(contents.what, "swap data");
}

TEST_F(ContentsTest, WhatCannotBeReadSaysWhy) {
  Contents contents = identify(folder_ + "/none");
  EXPECT_EQ(contents.kind, Contents::Kind::kUnreadable);
  EXPECT_THAT(contents.what, HasSubstr("No such file"));
  ASSERT_EQ(::truncate(path_.c_str(), 4096), 0);
  contents = identify(path_);
  EXPECT_EQ(contents.kind, Contents::Kind::kUnreadable);
  EXPECT_THAT(contents.what, HasSubstr("8 MiB"));
}

}  // namespace
}  // namespace udax::media
