// SPDX-License-Identifier: BSD-3-Clause
//
// Replay of rings made by hand: whole, torn, flipped, old, hostile.
#include <set>
#include <utility>

#include "base/crc32c.h"
#include "base/sync_point.h"
#include "media/recording_medium.h"
#include "tests/unit/journal/pool.h"

namespace udax::journal {
namespace {

using namespace testing;

/// A pool at some moment, its ring filled with bytes that are no record.
void make_start(media::MemoryMedium& medium) {
  format_pool(medium);
  const std::vector<std::byte> rubbish(kBlockSize, std::byte{0xA5});
  for (uint64_t i = 0; i < kRingBlocks; ++i) {
    medium.store(ring_offset() + i * kBlockSize, rubbish.data(), kBlockSize);
  }
  for (uint64_t i = 0; i < 8; ++i) put_block(medium, data_block(i));
}

/// A live pool, the medium as it was before its first transaction (which is how it looks if nothing but the ring
/// reached the medium), and the records it made.
struct History {
  History() : live(kPoolBytes), before(kPoolBytes), stack(live) {
    make_start(live);
    UDAX_ASSERT(stack.journal.recover().has_value());
    before.copy_from(live);
  }
  void commit(const std::vector<Edit>& edits) {
    const auto lsn = commit_edits(stack.journal, edits);
    UDAX_ASSERT(lsn.has_value());
    lsns.push_back(*lsn);
    records.push_back(ring_bytes(live, *lsn));
  }
  media::MemoryMedium live;
  media::MemoryMedium before;
  Stack stack;
  std::vector<Lsn> lsns;
  std::vector<std::vector<std::byte>> records;
};

/// Recovers `image`, expecting `records` of them.
void recover(media::MemoryMedium& image, uint64_t records, bool clean = false) {
  Stack stack(image);
  const auto replay = stack.journal.recover();
  ASSERT_TRUE(replay);
  EXPECT_EQ(replay->records, records);
  EXPECT_EQ(replay->was_clean, clean);
}

TEST(RecoveryTest, ACleanPoolIsClean) {
  media::MemoryMedium medium(kPoolBytes);
  format_pool(medium);
  for (int mounts = 0; mounts < 3; ++mounts) {
    Stack stack(medium);
    const auto replay = stack.journal.recover();
    ASSERT_TRUE(replay);
    EXPECT_TRUE(replay->was_clean);
    EXPECT_EQ(replay->records, 0U);
    ASSERT_TRUE(stack.journal.close());
  }
  const auto* slot_a = medium.as<format::JournalSlot>(slot_offset(0));
  const auto* slot_b = medium.as<format::JournalSlot>(slot_offset(1));
  for (const auto* slot : {slot_a, slot_b}) {
    EXPECT_EQ(slot->state.get(), format::kJournalClean);
    EXPECT_EQ(slot->mount_count.get(), 3U);
    EXPECT_GT(slot->epoch.get(), 3U);
    EXPECT_GT(slot->mounted_s.get(), 0U);
  }
}

// Found by fuzzing: fsck replayed what an earlier mount had left, since the epoch came round to that mount's again.
TEST(RecoveryTest, EpochsDoNotGoBackWithADamagedSlot) {
  media::MemoryMedium medium(kPoolBytes);
  format_pool(medium);
  for (int mounts = 0; mounts < 3; ++mounts) ASSERT_TRUE(Stack(medium).journal.recover());
  auto* newer = reinterpret_cast<format::JournalSlot*>(medium.raw() + slot_offset(0));
  const auto* older = medium.as<format::JournalSlot>(slot_offset(1));
  const uint64_t last = older->epoch;
  newer->epoch = 0;
  newer->sequence = older->sequence + 1;
  Stack stack(medium);
  newer->checksum =
      format::checksum_without(stack.meta.seed(), newer, sizeof *newer, offsetof(format::JournalSlot, checksum));
  ASSERT_TRUE(stack.journal.recover());
  EXPECT_GT(newer->epoch.get(), last);
  EXPECT_GT(older->epoch.get(), last);
}

// As before, with nothing left that knows of the epochs that have been.
TEST(RecoveryTest, EpochsAreNotMetAgainByCountingFromNothing) {
  std::set<uint64_t> seen;
  media::MemoryMedium medium(kPoolBytes);
  format_pool(medium);
  const auto* slot_b = medium.as<format::JournalSlot>(slot_offset(1));
  for (int mounts = 0; mounts < 20; ++mounts) {
    ASSERT_TRUE(Stack(medium).journal.recover());
    EXPECT_TRUE(seen.insert(slot_b->epoch).second);
  }
  auto* only = reinterpret_cast<format::JournalSlot*>(medium.raw() + slot_offset(0));
  std::memset(medium.raw() + slot_offset(1), 0, sizeof *only);
  only->epoch = 0;
  for (int mounts = 0; mounts < 20; ++mounts) {
    Stack stack(medium);
    only->checksum =
        format::checksum_without(stack.meta.seed(), only, sizeof *only, offsetof(format::JournalSlot, checksum));
    ASSERT_TRUE(stack.journal.recover());
    EXPECT_TRUE(seen.insert(slot_b->epoch).second);
  }
}

TEST(RecoveryTest, WithoutCloseItIsNotClean) {
  media::MemoryMedium medium(kPoolBytes);
  format_pool(medium);
  { ASSERT_TRUE(Stack(medium).journal.recover()); }
  recover(medium, 0);
}

TEST(RecoveryTest, ReplaysAllThatIsInTheRing) {
  for (const uint64_t count : {1U, 2U, 7U, 100U}) {
    History h;
    for (uint64_t i = 1; i <= count; ++i) h.commit({{data_block(i % 8), 3, i}, {data_block((i + 1) % 8), 400, i}});
    media::MemoryMedium image(kPoolBytes);
    image.copy_from(h.before);
    for (size_t i = 0; i < count; ++i) put_ring(image, h.lsns[i], h.records[i]);
    recover(image, count);
    EXPECT_TRUE(same_outside_journal(image, h.live));
    recover(image, 0);  // they are of an old epoch now
    EXPECT_TRUE(same_outside_journal(image, h.live));
  }
}

TEST(RecoveryTest, ReplayOverAnyMixtureOfOldAndNewGivesTheNew) {
  History h;
  for (uint64_t i = 1; i <= 20; ++i) h.commit({{data_block(i % 3), 3, i}, {data_block(4), 400, i}});
  Random random(test_seed());
  for (int round = 0; round < 50; ++round) {
    media::MemoryMedium image(kPoolBytes);
    image.copy_from(h.before);
    for (size_t i = 0; i < h.lsns.size(); ++i) put_ring(image, h.lsns[i], h.records[i]);
    for (uint64_t i = 0; i < 8; ++i) {
      for (uint32_t at = 0; at < kBlockSize; at += 8) {
        const uint64_t place = offset_of(data_block(i)) + at;
        if (random.one_in(2)) image.store(place, h.live.at(place), 8);
      }
    }
    recover(image, 20);
    ASSERT_TRUE(same_outside_journal(image, h.live));
  }
}

TEST(RecoveryTest, NothingOfATornRecordIsApplied) {
  History h;
  h.commit({{data_block(0), 0, 11}});
  media::MemoryMedium middle(kPoolBytes);
  middle.copy_from(h.before);
  put_ring(middle, h.lsns[0], h.records[0]);
  recover(middle, 1);
  h.commit({{data_block(0), 1, 22}, {data_block(1), 2, 33}, {data_block(2), 77, 44}});
  const std::vector<std::byte>& record = h.records[1];
  for (size_t cut = 0; cut <= record.size(); cut += 8) {
    media::MemoryMedium image(kPoolBytes);
    image.copy_from(h.before);
    put_ring(image, h.lsns[0], h.records[0]);
    put_ring(image, h.lsns[1], {record.begin(), record.begin() + static_cast<ptrdiff_t>(cut)});
    const bool whole = cut == record.size();
    recover(image, whole ? 2 : 1);
    ASSERT_TRUE(same_outside_journal(image, whole ? h.live : middle)) << "cut at " << cut;
  }
  for (size_t hole = 0; hole < record.size(); hole += 8) {  // any single unit missing
    media::MemoryMedium image(kPoolBytes);
    image.copy_from(h.before);
    put_ring(image, h.lsns[0], h.records[0]);
    std::vector<std::byte> torn = record;
    std::memset(torn.data() + hole, 0xA5, 8);
    put_ring(image, h.lsns[1], torn);
    recover(image, 1);
    ASSERT_TRUE(same_outside_journal(image, middle)) << "hole at " << hole;
  }
}

TEST(RecoveryTest, NothingBehindATornRecordIsApplied) {
  History h;
  for (uint64_t i = 1; i <= 5; ++i) h.commit({{data_block(i), 0, i}});
  media::MemoryMedium image(kPoolBytes);
  image.copy_from(h.before);
  for (size_t i = 0; i < 5; ++i) put_ring(image, h.lsns[i], h.records[i]);
  const std::vector<std::byte> zero(8);
  image.store(ring_offset() + h.lsns[2].value + 64, zero.data(), 8);
  recover(image, 2);
  for (uint64_t i = 1; i <= 5; ++i) EXPECT_EQ(word_of(image, data_block(i), 0), i <= 2 ? i : 0);
}

TEST(RecoveryTest, ABitFlippedAnywhereEndsTheReplay) {
  History h;
  h.commit({{data_block(0), 0, 1}, {data_block(1), 5, 9}});
  media::MemoryMedium image(kPoolBytes);
  image.copy_from(h.before);
  for (size_t bit = 0; bit < h.records[0].size() * 8; ++bit) {
    image.store(slot_offset(0), h.before.at(slot_offset(0)), sizeof(format::JournalSlot));
    image.store(slot_offset(1), h.before.at(slot_offset(1)), sizeof(format::JournalSlot));
    std::vector<std::byte> flipped = h.records[0];
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    put_ring(image, h.lsns[0], flipped);
    recover(image, 0);
    ASSERT_EQ(word_of(image, data_block(0), 0), 0U) << "bit " << bit;
  }
  EXPECT_TRUE(same_outside_journal(image, h.before));
}

TEST(RecoveryTest, NegativeControlWithoutTheChecksumATornRecordIsApplied) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "needs UDAX_SYNC_POINTS";
  History h;
  h.commit({{data_block(0), 0, 1}, {data_block(1), 5, 9}});
  media::MemoryMedium image(kPoolBytes);
  image.copy_from(h.before);
  std::vector<std::byte> torn = h.records[0];
  std::memset(torn.data() + torn.size() - 72, 0, 8);
  put_ring(image, h.lsns[0], torn);
  const sync_point::ScopedKnob knob("journal.skip_checksum");
  Stack stack(image);
  const auto replay = stack.journal.recover();
  EXPECT_FALSE(replay && replay->records == 0);
}

/// T1 torn and T2 whole behind it; recovered; T1' of T1's length takes its place; a crash. How many records the
/// last recovery replays, and T2's word after it.
std::pair<uint64_t, uint64_t> stale_record_scenario() {
  History h;
  h.commit({{data_block(0), 0, 1}});
  h.commit({{data_block(1), 0, 2}});
  media::MemoryMedium image(kPoolBytes);
  image.copy_from(h.before);
  std::vector<std::byte> torn = h.records[0];
  torn[80] ^= std::byte{0xFF};
  put_ring(image, h.lsns[0], torn);
  put_ring(image, h.lsns[1], h.records[1]);
  recover(image, 0);
  EXPECT_EQ(word_of(image, data_block(1), 0), 0U);
  {
    Stack stack(image);
    EXPECT_TRUE(stack.journal.recover());
    const auto again = commit_edits(stack.journal, {{data_block(0), 0, 3}});
    EXPECT_TRUE(again);
    EXPECT_EQ(*again, h.lsns[0]);
    EXPECT_EQ(ring_bytes(image, *again).size(), torn.size());
  }
  Stack stack(image);
  const auto replay = stack.journal.recover();
  EXPECT_TRUE(replay);
  EXPECT_EQ(word_of(image, data_block(0), 0), 3U);
  return {replay ? replay->records : 0, word_of(image, data_block(1), 0)};
}

TEST(RecoveryTest, AWholeRecordBehindATornOneNeverComesBack) {
  const auto [records, word] = stale_record_scenario();
  EXPECT_EQ(records, 1U);
  EXPECT_EQ(word, 0U);
}

TEST(RecoveryTest, NegativeControlWithoutTheEpochItComesBack) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "needs UDAX_SYNC_POINTS";
  // The first recoveries are right in either case: what T1 torn ends, no epoch is needed for.
  const sync_point::ScopedKnob knob("journal.skip_epoch_check");
  const auto [records, word] = stale_record_scenario();
  EXPECT_EQ(records, 2U);
  EXPECT_EQ(word, 2U);
}

TEST(RecoveryTest, ACrashDuringRecoveryChangesNothing) {
  History h;
  for (uint64_t i = 1; i <= 6; ++i) h.commit({{data_block(i % 3), 3, i}, {data_block(4), 400, i}});
  media::RecordingMedium medium(kPoolBytes);
  medium.copy_from(h.before);
  for (size_t i = 0; i < h.lsns.size(); ++i) put_ring(medium, h.lsns[i], h.records[i]);
  medium.start();
  {
    Stack stack(medium);
    ASSERT_TRUE(stack.journal.recover());
  }
  medium.stop();
  // The crash comes after each event of the recovery; of what was stored, all or a random part is on the medium.
  Random random(test_seed());
  for (size_t crash = 0; crash <= medium.events().size(); ++crash) {
    for (int variant = 0; variant < 4; ++variant) {
      media::MemoryMedium image(kPoolBytes);
      image.copy_from(medium.start_image());
      size_t drained = 0;
      for (size_t i = 0; i < crash; ++i) {
        if (medium.events()[i].kind == media::RecordingMedium::Kind::kDrain) drained = i;
      }
      for (size_t i = 0; i < crash; ++i) {
        const auto& e = medium.events()[i];
        if (e.kind != media::RecordingMedium::Kind::kStore && e.kind != media::RecordingMedium::Kind::kStoreNt)
          continue;
        for (uint64_t at = 0; at < e.size; at += 8) {
          if (i > drained && variant > 0 && random.one_in(2)) continue;
          image.store(e.offset + at, medium.data().data() + e.data + at, 8);
        }
      }
      Stack stack(image);
      const auto replay = stack.journal.recover();
      ASSERT_TRUE(replay);
      EXPECT_TRUE(replay->records == 6 || replay->records == 0);
      ASSERT_TRUE(same_outside_journal(image, h.live)) << "crash at " << crash;
    }
  }
}

TEST(RecoveryTest, TornSlotsLeaveTheOtherToCount) {
  History h;
  h.commit({{data_block(0), 0, 1}});
  media::MemoryMedium before_tail(kPoolBytes);
  before_tail.copy_from(h.live);
  ASSERT_TRUE(h.stack.journal.advance_tail());
  for (uint32_t which = 0; which < 2; ++which) {
    if (std::memcmp(before_tail.at(slot_offset(which)), h.live.at(slot_offset(which)), 64) == 0) continue;
    for (uint32_t cut = 0; cut <= 64; cut += 8) {
      media::MemoryMedium image(kPoolBytes);
      image.copy_from(before_tail);
      image.store(slot_offset(which), h.live.at(slot_offset(which)), cut);
      // What lies at the slot's end is the same in the slot that was there before.
      const bool torn = std::memcmp(image.at(slot_offset(which)), h.live.at(slot_offset(which)), 64) != 0;
      EXPECT_TRUE(torn || cut > 8);
      recover(image, torn ? 1 : 0);
      EXPECT_TRUE(same_outside_journal(image, h.live));
    }
  }
}

TEST(RecoveryTest, EitherSlotMayBeBrokenAfterMountAndUnmount) {
  for (const bool closed : {false, true}) {
    media::MemoryMedium medium(kPoolBytes);
    make_start(medium);
    {
      Stack stack(medium);
      ASSERT_TRUE(stack.journal.recover());
      if (closed) {
        ASSERT_TRUE(commit_edits(stack.journal, {{data_block(0), 0, 1}}));
        ASSERT_TRUE(stack.journal.close());
      }
    }
    for (uint32_t which = 0; which < 2; ++which) {
      media::MemoryMedium image(kPoolBytes);
      image.copy_from(medium);
      image.raw()[slot_offset(which) + 20] ^= std::byte{4};
      Stack stack(image);
      const auto replay = stack.journal.recover();
      ASSERT_TRUE(replay);
      EXPECT_EQ(replay->was_clean, closed);
      EXPECT_EQ(replay->records, 0U);
    }
  }
}

TEST(RecoveryTest, NoValidSlotIsCorrupted) {
  media::MemoryMedium medium(kPoolBytes);
  const auto expect_corrupted = [&] {
    Stack stack(medium);
    const auto replay = stack.journal.recover();
    ASSERT_FALSE(replay);
    EXPECT_EQ(replay.error(), Error::kCorrupted);
  };
  expect_corrupted();
  const auto try_slot = [&](const format::JournalSlot& slot) {
    medium.store(slot_offset(0), &slot, sizeof slot);
    expect_corrupted();
  };
  try_slot(make_slot(7, 1, 0, 1));                                     // no such state
  try_slot(make_slot(format::kJournalLive, 1, 32, 1));                 // not aligned
  try_slot(make_slot(format::kJournalLive, 1, ~uint64_t{0} << 6, 1));  // would overflow
  try_slot(make_slot(format::kJournalLive, ~uint64_t{0}, 0, 1));
  try_slot(make_slot(format::kJournalLive, 1, 0, ~uint64_t{0}));
}

TEST(RecoveryTest, StartsAnywhereInTheRing) {
  for (const uint64_t tail : {uint64_t{64}, kRingBytesMin - 64, 5 * kRingBytesMin - 128, uint64_t{1} << 61}) {
    media::MemoryMedium medium(kPoolBytes);
    format_pool(medium, tail);
    for (uint64_t i = 0; i < 8; ++i) put_block(medium, data_block(i));
    {
      Stack stack(medium);
      ASSERT_TRUE(stack.journal.recover());
      EXPECT_EQ(stack.journal.head(), Lsn(tail));
      for (uint64_t i = 1; i < 4; ++i) ASSERT_TRUE(commit_edits(stack.journal, {{data_block(i), 0, i}}));
    }
    for (uint64_t i = 1; i < 4; ++i) put_block(medium, data_block(i));
    recover(medium, 3);
    for (uint64_t i = 1; i < 4; ++i) EXPECT_EQ(word_of(medium, data_block(i), 0), i);
  }
}

// --- Hostile records: sealed, and wrong -------------------------------------------------------------------------

std::vector<std::byte> craft(Lsn lsn, std::vector<std::byte> ops, uint32_t op_count, uint64_t epoch) {
  ops.resize(record::length_for(ops.size()) - sizeof(format::RecordHeader));
  format::RecordHeader header{};
  header.magic = format::kRecordMagic;
  header.lsn = lsn.value;
  header.epoch = epoch;
  header.length = static_cast<uint32_t>(sizeof header + ops.size());
  header.op_count = op_count;
  std::vector<std::byte> out(sizeof header + ops.size());
  std::memcpy(out.data(), &header, sizeof header);
  if (!ops.empty()) std::memcpy(out.data() + sizeof header, ops.data(), ops.size());
  header.checksum = format::checksum_without(kSeed, out.data(), static_cast<uint32_t>(out.size()),
                                             offsetof(format::RecordHeader, checksum));
  std::memcpy(out.data(), &header, sizeof header);
  return out;
}

void add_raw_op(std::vector<std::byte>& ops, uint64_t offset, uint32_t length, uint64_t payload) {
  format::RecordOp op;
  op.offset = offset;
  op.length = length;
  const auto* p = reinterpret_cast<const std::byte*>(&op);
  ops.insert(ops.end(), p, p + sizeof op);
  ops.resize(ops.size() + payload, std::byte{0x5A});
}

void expect_hostile(const std::vector<std::byte>& ops, uint32_t op_count) {
  media::MemoryMedium image(kPoolBytes);
  make_start(image);
  media::MemoryMedium before(kPoolBytes);
  before.copy_from(image);
  // A good record before it: not even that is applied, for the ring cannot be trusted.
  std::vector<std::byte> good;
  add_raw_op(good, offset_of(data_block(0)) + 64, 8, 8);
  const auto first = craft(Lsn(0), good, 1, 1);
  put_ring(image, Lsn(0), first);
  put_ring(image, Lsn(first.size()), craft(Lsn(first.size()), ops, op_count, 1));
  Stack stack(image);
  const auto replay = stack.journal.recover();
  ASSERT_FALSE(replay);
  EXPECT_EQ(replay.error(), Error::kCorrupted);
  EXPECT_TRUE(same_outside_journal(image, before));
  EXPECT_EQ(
      std::memcmp(image.block(format::kJournalControlBlock), before.block(format::kJournalControlBlock), 4096), 0);
}

TEST(RecoveryTest, HostileTargetsAreRefusedBeforeAnythingIsStored) {
  const media::Geometry g = geometry();
  const uint64_t data = offset_of(data_block(1));
  const std::pair<uint64_t, uint32_t> bad[] = {
      {0, 8},
      {offset_of(format::kHolderBlock), 8},
      {offset_of(format::kJournalControlBlock) + 2048, 64},
      {ring_offset(), 8},
      {ring_offset() + kRingBytesMin - 8, 8},
      {offset_of(g.replica()), 8},
      {kPoolBytes, 8},
      {~uint64_t{0} - 7, 8},
      {~uint64_t{0}, 4096},
      {data, 0},
      {data, 4097},
      {data + 4092, 8},
      {data, ~0U},
  };
  for (const auto& [offset, length] : bad) {
    std::vector<std::byte> ops;
    add_raw_op(ops, data, 8, 8);  // a good one before it must not be applied either
    add_raw_op(ops, offset, length, align_up(std::min(length, 8192U), 8));
    SCOPED_TRACE(offset);
    expect_hostile(ops, 2);
  }
}

TEST(RecoveryTest, HostileCountsAndSizesAreRefused) {
  std::vector<std::byte> ops;
  for (uint64_t i = 0; i < 8; ++i) add_raw_op(ops, offset_of(data_block(i)) + 64, 8, 8);
  expect_hostile(ops, 1);
  expect_hostile(ops, 9);
  expect_hostile(ops, ~0U);
  std::vector<std::byte> cut;
  add_raw_op(cut, offset_of(data_block(1)), 4096, 16);
  expect_hostile(cut, 1);
}

TEST(RecoveryTest, LengthsThatCannotBeAreNoRecords) {
  std::vector<std::byte> ops;
  add_raw_op(ops, offset_of(data_block(0)) + 64, 8, 8);
  for (const uint32_t length : {0U, 8U, 63U, 65U, 100U, 0x80000000U, ~0U, record::kLengthMax + 64}) {
    media::MemoryMedium image(kPoolBytes);
    make_start(image);
    auto bytes = craft(Lsn(0), ops, 1, 1);
    const le32 wrong = length;
    std::memcpy(bytes.data() + offsetof(format::RecordHeader, length), &wrong, sizeof wrong);
    put_ring(image, Lsn(0), bytes);
    recover(image, 0, true);
  }
}

TEST(RecoveryTest, RecordsThatWouldLapTheTailAreNoRecords) {
  media::MemoryMedium image(kPoolBytes);
  make_start(image);
  std::vector<std::byte> ops;
  const std::vector<std::byte> bytes(kBlockSize, std::byte{1});
  for (uint64_t i = 0; i < 80; ++i) record::add_op(ops, offset_of(data_block(100 + i)), bytes.data(), kBlockSize);
  Lsn at(0);
  uint64_t whole = 0;
  for (int i = 0; i < 4; ++i) {  // three fit; the fourth would run over the first, which it cannot have done
    const auto record_bytes = craft(at, ops, 80, 1);
    const uint64_t room = kRingBytesMin - at.value;
    if (record_bytes.size() <= room) {
      put_ring(image, at, record_bytes);
      ++whole;
    } else {
      put_ring(image, at, {record_bytes.begin(), record_bytes.begin() + static_cast<ptrdiff_t>(room)});
    }
    at += record_bytes.size();
  }
  EXPECT_EQ(whole, 3U);
  recover(image, 3);
}

TEST(RecoveryTest, AFullRingOfTheSmallestRecordsIsReplayedAndEnds) {
  media::MemoryMedium image(kPoolBytes);
  make_start(image);
  for (uint64_t at = 0; at < kRingBytesMin; at += 64) put_ring(image, Lsn(at), craft(Lsn(at), {}, 0, 1));
  recover(image, kRingBytesMin / 64);
}

TEST(RecoveryTest, RandomRubbishIsNoCrash) {
  const uint64_t seed = test_seed();
  Random random(seed);
  History h;
  for (uint64_t i = 1; i <= 10; ++i) h.commit({{data_block(i % 8), 3, i}, {data_block((i + 1) % 8), 400, i}});
  for (int round = 0; round < 300; ++round) {
    media::MemoryMedium image(kPoolBytes);
    image.copy_from(h.before);
    for (size_t i = 0; i < h.lsns.size(); ++i) put_ring(image, h.lsns[i], h.records[i]);
    const uint64_t end = h.stack.journal.head().value;
    for (uint64_t n = random.between(1, 8); n > 0; --n) {
      image.raw()[ring_offset() + random.below(end)] = static_cast<std::byte>(random.next());
    }
    // Sealed again, so that the checks behind the checksum are what is met.
    for (size_t i = 0; i < h.lsns.size() && random.one_in(2); ++i) {
      std::byte* record = image.raw() + ring_offset() + h.lsns[i].value;
      const le32 sum = format::checksum_without(kSeed, record, static_cast<uint32_t>(h.records[i].size()),
                                                offsetof(format::RecordHeader, checksum));
      std::memcpy(record + offsetof(format::RecordHeader, checksum), &sum, sizeof sum);
    }
    Stack stack(image);
    const auto replay = stack.journal.recover();
    EXPECT_TRUE(replay || replay.error() == Error::kCorrupted);
  }
}

// --- Read-only media --------------------------------------------------------------------------------------------

TEST(RecoveryTest, AReadOnlyMediumIsLeftAlone) {
  History h;
  h.commit({{data_block(0), 0, 1}});
  FrozenMedium dirty(kPoolBytes);
  dirty.copy_from(h.live);
  dirty.freeze();
  Stack waiting(dirty);
  const auto refused = waiting.journal.recover();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), Error::kReadOnly);

  ASSERT_TRUE(h.stack.journal.close());
  FrozenMedium clean(kPoolBytes);
  clean.copy_from(h.live);
  clean.freeze();
  Stack stack(clean);
  const auto replay = stack.journal.recover();
  ASSERT_TRUE(replay);
  EXPECT_TRUE(replay->was_clean);
  EXPECT_TRUE(stack.journal.advance_tail());
  EXPECT_TRUE(stack.journal.close());
  EXPECT_EQ(std::memcmp(clean.at(0), h.live.at(0), kPoolBytes), 0);
}

}  // namespace
}  // namespace udax::journal
