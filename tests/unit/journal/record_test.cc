// SPDX-License-Identifier: BSD-3-Clause
#include "journal/record.h"

#include "tests/unit/journal/pool.h"

namespace udax::journal::record {
namespace {

using namespace journal::testing;

TEST(RecordTest, TargetsAreOutOfTheFixedAndTheJournalsPlaces) {
  const media::Geometry g = geometry();
  const auto ok = [&](DeviceBlock b) { return may_target(g, offset_of(b), kBlockSize); };
  EXPECT_FALSE(ok(format::kSuperblockBlock));
  EXPECT_FALSE(ok(format::kHolderBlock));
  EXPECT_FALSE(ok(format::kJournalControlBlock));
  EXPECT_TRUE(ok(format::kRootBlock));
  EXPECT_TRUE(ok(g.desc_start));
  EXPECT_TRUE(ok(g.bitmap_start));
  EXPECT_TRUE(ok(g.journal_start - 1));
  EXPECT_FALSE(ok(g.journal_start));
  EXPECT_FALSE(ok(g.journal_start + g.journal_blocks - 1));
  EXPECT_TRUE(ok(g.data_start));
  EXPECT_TRUE(ok(g.replica() - 1));
  EXPECT_FALSE(ok(g.replica()));
  EXPECT_FALSE(ok(g.replica() + 1));
}

TEST(RecordTest, TargetsStayWithinABlock) {
  const media::Geometry g = geometry();
  const uint64_t at = offset_of(data_block(1));
  EXPECT_TRUE(may_target(g, at, 1));
  EXPECT_TRUE(may_target(g, at, kBlockSize));
  EXPECT_TRUE(may_target(g, at + 4088, 8));
  EXPECT_FALSE(may_target(g, at, 0));
  EXPECT_FALSE(may_target(g, at, kBlockSize + 1));
  EXPECT_FALSE(may_target(g, at + 4088, 9));
  EXPECT_FALSE(may_target(g, at, ~uint64_t{0}));
  EXPECT_FALSE(may_target(g, ~uint64_t{0}, 1));
  EXPECT_FALSE(may_target(g, ~uint64_t{0}, 4096));
}

TEST(RecordTest, OperationsComeBackAsTheyWent) {
  std::vector<std::byte> out;
  Random random(1);
  std::vector<std::vector<std::byte>> sent;
  for (const uint32_t length : {1U, 7U, 8U, 9U, 4096U}) {
    sent.emplace_back(length);
    random.fill(sent.back().data(), length);
    add_op(out, offset_of(data_block(sent.size())), sent.back().data(), length);
  }
  out.resize(length_for(out.size()) - sizeof(format::RecordHeader));
  ASSERT_TRUE(check_ops(geometry(), out, 5));
  size_t n = 0;
  for_each_op(out, 5, [&](uint64_t offset, const std::byte* bytes, uint32_t length) {
    ASSERT_EQ(length, sent[n].size());
    EXPECT_EQ(offset, offset_of(data_block(n + 1)));
    EXPECT_EQ(std::memcmp(bytes, sent[n].data(), length), 0);
    ++n;
  });
  EXPECT_EQ(n, 5U);
}

TEST(RecordTest, CountsAndSizesMustAddUp) {
  std::vector<std::byte> out;
  const std::vector<std::byte> bytes(100);
  add_op(out, offset_of(data_block(0)), bytes.data(), 100);
  add_op(out, offset_of(data_block(1)), bytes.data(), 100);
  EXPECT_TRUE(check_ops(geometry(), out, 2));
  EXPECT_FALSE(check_ops(geometry(), out, 1));  // more than padding is left over
  EXPECT_FALSE(check_ops(geometry(), out, 3));
  EXPECT_FALSE(check_ops(geometry(), out, ~0U));
  for (size_t cut = 1; cut < out.size(); ++cut) {
    EXPECT_FALSE(check_ops(geometry(), std::span(out).first(out.size() - cut), 2));
  }
  EXPECT_TRUE(check_ops(geometry(), {}, 0));
  EXPECT_FALSE(check_ops(geometry(), {}, 1));
}

TEST(RecordTest, CloseRunsBecomeOne) {
  std::vector<std::byte> before(256);
  std::vector<std::byte> now = before;
  const auto count = [&] {
    std::vector<std::byte> out;
    return add_difference(out, 0, before.data(), now.data(), 256);
  };
  EXPECT_EQ(count(), 0U);
  now[0] = std::byte{1};
  EXPECT_EQ(count(), 1U);
  now[23] = std::byte{1};  // one word between
  EXPECT_EQ(count(), 1U);
  now[40] = std::byte{1};  // two words between
  EXPECT_EQ(count(), 2U);
  now[255] = std::byte{1};
  EXPECT_EQ(count(), 3U);
}

TEST(RecordTest, DifferencesTurnOneIntoTheOther) {
  Random random(test_seed());
  for (int round = 0; round < 2000; ++round) {
    const auto size = static_cast<uint32_t>(64U << (2 * random.below(4)));
    std::vector<std::byte> before(size);
    random.fill(before.data(), size);
    std::vector<std::byte> now = before;
    // From nothing to every other word, which costs the most.
    const uint64_t changes = random.below(3) == 0 ? 0 : random.below(size / 4) + 1;
    for (uint64_t i = 0; i < changes; ++i) now[random.below(size)] ^= std::byte{0xFF};
    if (random.one_in(4)) {
      for (uint32_t i = 0; i < size; i += 16) now[i] ^= std::byte{0xFF};
    }
    std::vector<std::byte> out;
    const uint64_t base = offset_of(data_block(3));
    const uint32_t ops = add_difference(out, base, before.data(), now.data(), size);
    EXPECT_LE(out.size(), size + sizeof(format::RecordOp)) << "more than limits.h counts on";
    EXPECT_TRUE(check_ops(geometry(), out, ops));
    uint64_t last_end = 0;
    for_each_op(out, ops, [&](uint64_t offset, const std::byte* bytes, uint32_t length) {
      EXPECT_EQ(length % 8, 0U);
      EXPECT_TRUE(last_end == 0 || offset >= last_end + sizeof(format::RecordOp));
      last_end = offset + length;
      std::memcpy(before.data() + (offset - base), bytes, length);
    });
    ASSERT_EQ(before, now);
  }
}

}  // namespace
}  // namespace udax::journal::record
