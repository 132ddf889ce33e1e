// SPDX-License-Identifier: BSD-3-Clause
//
// The writer: room, wrap-around, the order of commitment, and what a failing drain does.
#include "journal/journal.h"

#include <thread>

#include "base/sync_point.h"
#include "tests/unit/journal/pool.h"

namespace udax::journal {
namespace {

using namespace testing;
using std::chrono_literals::operator""ms;

/// Fills `count` blocks from `first` on with words made of `value`, in one transaction.
Result<Lsn> commit_large(Journal& journal, uint64_t first, uint64_t count, uint64_t value) {
  Tx tx(journal);
  for (uint64_t i = 0; i < count; ++i) {
    UDAX_TRY(std::byte* const image, tx.edit_block(data_block(first + i), format::kKindDirLeaf, kOwner));
    for (uint32_t w = 0; w < kWords; ++w) set_word(image, w, value + i + w);
  }
  return tx.commit();
}

TEST(JournalTest, PositionsFollowEachOther) {
  Pool<> pool;
  pool.start();
  EXPECT_EQ(pool.journal().head(), Lsn(0));
  EXPECT_EQ(pool.journal().tail(), Lsn(0));
  Lsn expected(0);
  for (uint64_t i = 1; i < 50; ++i) {
    const auto lsn = commit_edits(pool.journal(), {{data_block(i % 8), 0, i}});
    ASSERT_TRUE(lsn);
    EXPECT_EQ(*lsn, expected);
    expected = pool.journal().head();
    EXPECT_EQ(expected.value % 64, 0U);
  }
  const JournalStats stats = pool.journal().stats();
  EXPECT_EQ(stats.commits, 49U);
  EXPECT_EQ(stats.bytes, expected.value);
  EXPECT_EQ(stats.used_bytes, expected.value);
  EXPECT_EQ(stats.ring_bytes, kRingBytesMin);
  EXPECT_EQ(stats.tail_updates, 0U);
  ASSERT_TRUE(pool.journal().advance_tail());
  EXPECT_EQ(pool.journal().tail(), expected);
  EXPECT_EQ(pool.journal().stats().used_bytes, 0U);
  ASSERT_TRUE(pool.journal().advance_tail());
  EXPECT_EQ(pool.journal().stats().tail_updates, 1U) << "nothing to move: nothing written";
}

TEST(JournalTest, AdvancesTheTailToAGivenPlace) {
  Pool<> pool;
  pool.start();
  const auto lsn = commit_edits(pool.journal(), {{data_block(0), 0, 1}});
  ASSERT_TRUE(lsn);
  ASSERT_TRUE(pool.journal().advance_tail_to(*lsn + 1));
  EXPECT_GT(pool.journal().tail(), *lsn);
  ASSERT_TRUE(pool.journal().advance_tail_to(Lsn(~uint64_t{0}))) << "no further than the head";
}

TEST(JournalTest, WrapsAroundManyTimes) {
  Pool<> pool;
  pool.start(64);
  uint64_t value = 1;
  // Lengths that share no factor with the ring, so that records wrap at every kind of place.
  while (pool.journal().head().value < 12 * kRingBytesMin) {
    ASSERT_TRUE(commit_large(pool.journal(), 0, 1 + value % 61, value));
    ++value;
  }
  EXPECT_LE(pool.journal().stats().used_bytes, kRingBytesMin);
  // What is in the ring now is whole, including records over the ring's end.
  media::MemoryMedium image(kPoolBytes);
  image.copy_from(pool.medium);
  Stack stack(image);
  const auto replay = stack.journal.recover();
  ASSERT_TRUE(replay);
  EXPECT_EQ(stack.journal.head(), pool.journal().head());
  EXPECT_TRUE(same_outside_journal(image, pool.medium));
}

TEST(JournalTest, TheRingMayBeFullToTheLastByte) {
  Pool<> pool;
  pool.start(1);
  constexpr uint64_t kLength = kRingBytesMin / 4;
  std::vector<std::byte> ops;
  const std::vector<std::byte> bytes(kBlockSize, std::byte{7});
  uint32_t count = 0;
  while (ops.size() + sizeof(format::RecordHeader) < kLength) {
    const uint64_t left = kLength - ops.size() - sizeof(format::RecordHeader) - sizeof(format::RecordOp);
    const auto size = static_cast<uint32_t>(std::min<uint64_t>(kBlockSize, left));
    record::add_op(ops, offset_of(data_block(100 + count++)), bytes.data(), size);
  }
  std::vector<Lsn> lsns;
  for (int i = 0; i < 4; ++i) {
    const auto lsn = pool.journal().append(ops, count);
    ASSERT_TRUE(lsn);
    lsns.push_back(*lsn);
  }
  EXPECT_EQ(pool.journal().stats().used_bytes, kRingBytesMin);
  media::MemoryMedium image(kPoolBytes);
  image.copy_from(pool.medium);
  Stack stack(image);
  const auto replay = stack.journal.recover();
  ASSERT_TRUE(replay);
  EXPECT_EQ(replay->records, 4U);
  for (const Lsn lsn : lsns) pool.journal().applied(lsn);
  const auto next = pool.journal().append(ops, count);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->value, kRingBytesMin);
}

TEST(JournalTest, LargeTransactionsOfManyThreadsFitTheSmallestRing) {
  Pool<> pool;
  pool.start(4 * 60);
  std::vector<std::thread> threads;
  std::atomic<uint64_t> failures{0};
  constexpr uint64_t kRounds = 100;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, &failures, t] {
      for (uint64_t i = 1; i <= kRounds; ++i) {
        if (!commit_large(pool.journal(), 60 * t, 60, i * 1000)) ++failures;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(failures, 0U);
  EXPECT_EQ(pool.journal().stats().commits, 4 * kRounds);
  EXPECT_GT(pool.journal().stats().tail_updates, 4 * kRounds * 60 * 4096 / kRingBytesMin / 2);
  ASSERT_TRUE(pool.journal().close());
}

TEST(JournalTest, MoreInFlightThanTheTableHolds) {
  // Records are appended and not applied: the journal must refuse to lap them, and go on when they are.
  Pool<> pool;
  pool.start();
  std::vector<std::byte> ops;
  const uint64_t word = 5;
  record::add_op(ops, offset_of(data_block(0)), reinterpret_cast<const std::byte*>(&word), 8);
  std::vector<Lsn> pending;
  for (int i = 0; i < 1024; ++i) {
    const auto lsn = pool.journal().append(ops, 1);
    ASSERT_TRUE(lsn);
    pending.push_back(*lsn);
  }
  std::atomic<bool> done{false};
  std::thread late([&] {
    const auto lsn = pool.journal().append(ops, 1);
    ASSERT_TRUE(lsn);
    pool.journal().applied(*lsn);
    done = true;
  });
  while (pool.journal().stats().waits == 0) std::this_thread::yield();
  EXPECT_FALSE(done);
  for (size_t i = pending.size(); i-- > 0;) pool.journal().applied(pending[i]);  // any order
  late.join();
  EXPECT_TRUE(done);
  ASSERT_TRUE(pool.journal().advance_tail());
  EXPECT_EQ(pool.journal().tail(), pool.journal().head());
}

TEST(JournalTest, TheTailStopsAtTheFirstRecordThatIsNotApplied) {
  Pool<> pool;
  pool.start();
  std::vector<std::byte> ops;
  const uint64_t word = 5;
  record::add_op(ops, offset_of(data_block(0)), reinterpret_cast<const std::byte*>(&word), 8);
  const auto a = pool.journal().append(ops, 1);
  const auto b = pool.journal().append(ops, 1);
  const auto c = pool.journal().append(ops, 1);
  ASSERT_TRUE(a && b && c);
  pool.journal().applied(*b);
  ASSERT_TRUE(pool.journal().advance_tail());
  EXPECT_EQ(pool.journal().tail(), *a);
  pool.journal().applied(*a);
  ASSERT_TRUE(pool.journal().advance_tail());
  EXPECT_EQ(pool.journal().tail(), *c);
  pool.journal().applied(*c);
  ASSERT_TRUE(pool.journal().advance_tail_to(pool.journal().head()));
}

TEST(JournalTest, TakesNothingBeforeRecoveryAndAfterClose) {
  Pool<> pool;
  put_block(pool.medium, data_block(0));
  auto r = commit_edits(pool.journal(), {{data_block(0), 0, 1}});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error(), Error::kReadOnly);
  ASSERT_TRUE(pool.journal().recover());
  ASSERT_TRUE(commit_edits(pool.journal(), {{data_block(0), 0, 1}}));
  ASSERT_TRUE(pool.journal().close());
  ASSERT_TRUE(pool.journal().close()) << "twice is once";
  r = commit_edits(pool.journal(), {{data_block(0), 0, 2}});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error(), Error::kReadOnly);
}

TEST(JournalOrderTest, ARecordWaitsForTheOnesBeforeIt) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "needs UDAX_SYNC_POINTS";
  Pool<> pool;
  pool.start();
  sync_point::Gate gate("journal.append.reserved");
  std::thread first([&] { EXPECT_TRUE(commit_edits(pool.journal(), {{data_block(0), 0, 1}})); });
  ASSERT_TRUE(gate.wait_reached());
  std::atomic<bool> second_done{false};
  std::thread second([&] {
    EXPECT_TRUE(commit_edits(pool.journal(), {{data_block(1), 0, 2}}));
    second_done = true;
  });
  while (pool.journal().stats().waits == 0) std::this_thread::yield();
  EXPECT_FALSE(second_done);
  EXPECT_EQ(word_of(pool.medium, data_block(1), 0), 0U) << "not applied before it is committed";
  gate.open();
  first.join();
  second.join();
  EXPECT_EQ(word_of(pool.medium, data_block(0), 0), 1U);
  EXPECT_EQ(word_of(pool.medium, data_block(1), 0), 2U);
}

// --- Drains that fail -------------------------------------------------------------------------------------------

class DrainFailureTest : public ::testing::Test {
 protected:
  void SetUp() override { pool_.start(); }
  void expect_read_only() {
    EXPECT_TRUE(pool_.journal().failed());
    const auto r = commit_edits(pool_.journal(), {{data_block(7), 0, 99}});
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error(), Error::kReadOnly);
    EXPECT_EQ(word_of(pool_.medium, data_block(7), 0), 0U);
    EXPECT_FALSE(pool_.journal().close()) << "never marked clean";
  }
  /// The medium as it is, recovered by another journal.
  uint64_t recovered_word(DeviceBlock b, uint32_t index) {
    media::MemoryMedium image(kPoolBytes);
    image.copy_from(pool_.medium);
    Stack stack(image);
    const auto replay = stack.journal.recover();
    EXPECT_TRUE(replay);
    EXPECT_FALSE(replay && replay->was_clean);
    return word_of(image, b, index);
  }
  Pool<FailingMedium> pool_;
};

TEST_F(DrainFailureTest, OfTheRecord) {
  pool_.medium.fail_drain(0);
  const auto r = commit_edits(pool_.journal(), {{data_block(0), 0, 1}});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error(), Error::kIo);
  EXPECT_EQ(word_of(pool_.medium, data_block(0), 0), 0U) << "not applied";
  expect_read_only();
  const auto moved = pool_.journal().advance_tail_to(pool_.journal().head());
  ASSERT_FALSE(moved);
  EXPECT_EQ(moved.error(), Error::kReadOnly);
}

TEST_F(DrainFailureTest, OfFreshBlocks) {
  pool_.medium.fail_drain(0);
  Tx tx(pool_.journal());
  ASSERT_TRUE(tx.create_block(data_block(100), format::kKindDirLeaf, kOwner));
  set_word(*tx.edit_block(data_block(0), format::kKindDirLeaf, kOwner), 0, 1);
  const Lsn head = pool_.journal().head();
  const auto r = tx.commit();
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error(), Error::kIo);
  EXPECT_EQ(pool_.journal().head(), head) << "no record";
  expect_read_only();
}

TEST_F(DrainFailureTest, OfTheChangeInPlaceLeavesItCommitted) {
  pool_.medium.fail_drain(1);
  const auto r = commit_edits(pool_.journal(), {{data_block(0), 0, 1}});
  ASSERT_TRUE(r) << "the record is durable: it has happened";
  EXPECT_EQ(word_of(pool_.medium, data_block(0), 0), 1U);
  EXPECT_FALSE(pool_.journal().advance_tail());
  EXPECT_EQ(pool_.journal().tail(), *r) << "and it must stay in the ring";
  expect_read_only();
  // Suppose that nothing of the change in place is durable.
  put_block(pool_.medium, data_block(0));
  EXPECT_EQ(recovered_word(data_block(0), 0), 1U);
}

TEST_F(DrainFailureTest, OfTheTail) {
  ASSERT_TRUE(commit_edits(pool_.journal(), {{data_block(0), 0, 1}}));
  pool_.medium.fail_drain(0);
  const auto moved = pool_.journal().advance_tail();
  ASSERT_FALSE(moved);
  EXPECT_EQ(moved.error(), Error::kIo);
  EXPECT_EQ(pool_.journal().tail(), Lsn(0));
  expect_read_only();
}

TEST_F(DrainFailureTest, OfTheCleanMark) {
  ASSERT_TRUE(commit_edits(pool_.journal(), {{data_block(0), 0, 1}}));
  ASSERT_TRUE(pool_.journal().advance_tail());
  pool_.medium.fail_drain(0);
  EXPECT_FALSE(pool_.journal().close());
  expect_read_only();
}

TEST_F(DrainFailureTest, ThoseWhoWaitForTheFailedRecordFailToo) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "needs UDAX_SYNC_POINTS";
  sync_point::Gate gate("journal.append.reserved");
  std::thread first([&] {
    const auto r = commit_edits(pool_.journal(), {{data_block(0), 0, 1}});
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error(), Error::kIo);
  });
  ASSERT_TRUE(gate.wait_reached());
  std::vector<std::thread> others;
  for (uint64_t i = 1; i < 4; ++i) {
    others.emplace_back([&, i] {
      const auto r = commit_edits(pool_.journal(), {{data_block(i), 0, 1}});
      ASSERT_FALSE(r);
      EXPECT_EQ(r.error(), Error::kIo);
    });
  }
  while (pool_.journal().stats().waits < 3) std::this_thread::yield();
  pool_.medium.fail_drain(0);
  gate.open();
  first.join();
  for (auto& t : others) t.join();
  for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(word_of(pool_.medium, data_block(i), 0), 0U);
  expect_read_only();
}

TEST_F(DrainFailureTest, ThoseWhoWaitForRoomFailToo) {
  std::vector<std::byte> ops;
  const std::vector<std::byte> bytes(kBlockSize);
  for (uint64_t i = 0; i < 80; ++i) record::add_op(ops, offset_of(data_block(i)), bytes.data(), kBlockSize);
  // Three that nobody applies fill the ring.
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(pool_.journal().append(ops, 80));
  std::thread waiter([&] {
    const auto r = pool_.journal().append(ops, 80);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error(), Error::kReadOnly);
  });
  std::thread tail_waiter([&] { EXPECT_FALSE(pool_.journal().advance_tail_to(pool_.journal().head())); });
  while (pool_.journal().stats().waits == 0) std::this_thread::yield();
  pool_.medium.fail_drain(0);
  std::vector<std::byte> small;
  record::add_op(small, offset_of(data_block(0)), bytes.data(), 8);
  EXPECT_FALSE(pool_.journal().append(small, 1));
  waiter.join();
  tail_waiter.join();
}

TEST_F(DrainFailureTest, AtAnyMomentUnderLoadEndsInReadOnlyWithoutLoss) {
  const uint64_t seed = test_seed();
  Random random(seed);
  for (int round = 0; round < 30; ++round) {
    Pool<FailingMedium> pool;
    pool.start(8);
    pool.medium.fail_drain(static_cast<int64_t>(random.below(400)));
    std::array<uint64_t, 4> acknowledged{};
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (uint64_t i = 1; i < 10000; ++i) {
          const auto r =
              commit_edits(pool.journal(), {{data_block(2 * t), 0, i}, {data_block(2 * t + 1), 400, i}});
          if (!r) {
            EXPECT_TRUE(r.error() == Error::kIo || r.error() == Error::kReadOnly);
            return;
          }
          acknowledged[t] = i;
        }
      });
    }
    for (auto& t : threads) t.join();
    EXPECT_TRUE(pool.journal().failed());
    media::MemoryMedium image(kPoolBytes);
    image.copy_from(pool.medium);
    Stack stack(image);
    ASSERT_TRUE(stack.journal.recover());
    for (uint64_t t = 0; t < 4; ++t) {
      const uint64_t a = word_of(image, data_block(2 * t), 0);
      EXPECT_EQ(a, word_of(image, data_block(2 * t + 1), 400));
      // The one whose outcome is open may have happened.
      EXPECT_TRUE(a == acknowledged[t] || a == acknowledged[t] + 1) << a << " " << acknowledged[t];
    }
  }
}

}  // namespace
}  // namespace udax::journal
