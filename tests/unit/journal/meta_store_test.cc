// SPDX-License-Identifier: BSD-3-Clause
#include "journal/meta_store.h"

#include <thread>

#include "tests/unit/journal/pool.h"

namespace udax::journal {
namespace {

using namespace testing;

class MetaStoreTest : public ::testing::Test {
 protected:
  MetaStoreTest() : medium_(kPoolBytes), meta_(medium_, geometry()) { put_block(medium_, b_, 0x11); }

  Result<const std::byte*> read(DeviceBlock b) { return meta_.read(b, format::kKindDirLeaf, kOwner); }
  void expect_corrupted(DeviceBlock b) {
    const uint64_t before = meta_.corruptions();
    const auto r = read(b);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error(), Error::kCorrupted);
    EXPECT_EQ(meta_.corruptions(), before + 1);
  }
  format::BlockHeader* header() { return reinterpret_cast<format::BlockHeader*>(medium_.raw() + offset_of(b_)); }
  void reseal() { format::seal(kSeed, format::Unit::kBlock, header()); }
  void flip_last_byte() { medium_.raw()[offset_of(b_) + kBlockSize - 1] ^= std::byte{1}; }

  const DeviceBlock b_ = data_block(5);
  media::MemoryMedium medium_;
  MetaStore meta_;
};

TEST_F(MetaStoreTest, GivesASealedBlock) {
  const auto r = read(b_);
  ASSERT_TRUE(r);
  EXPECT_EQ(*r, medium_.block(b_));
  EXPECT_EQ(meta_.corruptions(), 0U);
}

TEST_F(MetaStoreTest, RefusesPlacesOutOfTheDataArea) {
  const media::Geometry g = geometry();
  for (const uint64_t b : {uint64_t{0}, uint64_t{3}, g.journal_start.value, g.data_start.value - 1,
                           g.replica().value, g.block_count, uint64_t{1} << 40, ~uint64_t{0}}) {
    expect_corrupted(DeviceBlock(b));
  }
}

TEST_F(MetaStoreTest, RefusesWrongHeaders) {
  header()->magic = 1;
  reseal();
  expect_corrupted(b_);
  put_block(medium_, b_);
  header()->block = b_.value + 1;
  reseal();
  expect_corrupted(b_);
  put_block(medium_, b_, 0, format::kKindDirNode);
  expect_corrupted(b_);
  put_block(medium_, b_, 0, format::kKindDirLeaf, kOwner + 1);
  expect_corrupted(b_);
  put_block(medium_, b_);
  EXPECT_TRUE(read(b_));
}

TEST_F(MetaStoreTest, ChecksTheHeaderOfATrustedBlockToo) {
  ASSERT_TRUE(read(b_));
  EXPECT_FALSE(meta_.read(b_, format::kKindDirNode, kOwner));
  EXPECT_FALSE(meta_.read(b_, format::kKindDirLeaf, kOwner + 1));
  EXPECT_TRUE(read(b_));
}

TEST_F(MetaStoreTest, RefusesAWrongChecksumAndKeepsRefusing) {
  flip_last_byte();
  expect_corrupted(b_);
  expect_corrupted(b_);
}

TEST_F(MetaStoreTest, ChecksTheWholeBlockOnlyUntilItIsTrusted) {
  ASSERT_TRUE(read(b_));
  flip_last_byte();
  EXPECT_TRUE(read(b_));
  meta_.forget(b_);
  expect_corrupted(b_);
  meta_.trust(b_);
  EXPECT_TRUE(read(b_));
}

TEST_F(MetaStoreTest, TrustIsOfOneBlock) {
  put_block(medium_, b_ + 1);
  medium_.raw()[offset_of(b_ + 1) + 100] = std::byte{9};
  ASSERT_TRUE(read(b_));
  expect_corrupted(b_ + 1);
  meta_.forget(b_ + 1);
  flip_last_byte();
  EXPECT_TRUE(read(b_));
}

TEST_F(MetaStoreTest, ForgetsInAGroupThatWasNeverUsed) {
  meta_.forget(b_);
  EXPECT_TRUE(read(b_));
}

TEST_F(MetaStoreTest, ReadersOfOneGroupDoNotDisturbEachOther) {
  constexpr uint64_t kBlocks = 512;
  for (uint64_t i = 0; i < kBlocks; ++i) put_block(medium_, data_block(i), static_cast<uint8_t>(i));
  std::vector<std::thread> threads;
  std::atomic<uint64_t> failures{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (uint64_t i = 0; i < kBlocks; ++i) {
        if (!read(data_block(i))) ++failures;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(failures, 0U);
  // Each is trusted now: no bit was lost.
  for (uint64_t i = 0; i < kBlocks; ++i) {
    medium_.raw()[offset_of(data_block(i)) + kBlockSize - 1] ^= std::byte{1};
    EXPECT_TRUE(read(data_block(i)));
  }
}

}  // namespace
}  // namespace udax::journal
