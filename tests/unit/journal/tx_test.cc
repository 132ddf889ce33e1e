// SPDX-License-Identifier: BSD-3-Clause
#include "journal/tx.h"

#include <algorithm>
#include <string>

#include "tests/unit/journal/pool.h"

namespace udax::journal {
namespace {

using namespace testing;
using format::Unit;

constexpr format::BlockKind kKind = format::kKindDirLeaf;

class TxTest : public ::testing::Test {
 protected:
  void SetUp() override { pool_.start(96); }

  Journal& journal() { return pool_.journal(); }
  uint64_t word(uint64_t block, uint32_t index) { return word_of(pool_.medium, data_block(block), index); }
  static uint64_t at(uint64_t block) { return offset_of(data_block(block)); }
  /// Replays what the journal holds over `start`, and expects to get what the medium shows.
  void expect_replay_matches(const media::MemoryMedium& start, uint64_t records) {
    media::MemoryMedium image(kPoolBytes);
    image.copy_from(start);
    const uint64_t ring = kRingBlocks * kBlockSize;
    image.store(ring_offset(), pool_.medium.at(ring_offset()), ring);
    Stack stack(image);
    const auto replay = stack.journal.recover();
    ASSERT_TRUE(replay);
    EXPECT_EQ(replay->records, records);
    EXPECT_TRUE(same_outside_journal(image, pool_.medium));
  }
  void snapshot(media::MemoryMedium& into) { into.copy_from(pool_.medium); }

  Pool<> pool_;
};

TEST_F(TxTest, NothingIsVisibleBeforeCommitAndAllIsAfter) {
  media::MemoryMedium before(kPoolBytes);
  snapshot(before);
  Tx tx(journal());
  auto a = tx.edit_block(data_block(0), kKind, kOwner);
  auto b = tx.edit_block(data_block(1), kKind, kOwner);
  ASSERT_TRUE(a && b);
  set_word(*a, 3, 42);
  set_word(*b, 500, 43);
  EXPECT_EQ(word(0, 3), 0U);
  const auto seen = tx.read_block(data_block(0), kKind, kOwner);
  ASSERT_TRUE(seen);
  EXPECT_EQ(get_word(*seen, 3), 42U) << "a transaction reads its own edits";
  ASSERT_TRUE(tx.commit());
  EXPECT_EQ(word(0, 3), 42U);
  EXPECT_EQ(word(1, 500), 43U);
  EXPECT_TRUE(format::is_sealed(kSeed, Unit::kBlock, pool_.medium.block(data_block(0))));
  expect_replay_matches(before, 1);
}

TEST_F(TxTest, AbortAndDestructionUndoAll) {
  media::MemoryMedium before(kPoolBytes);
  snapshot(before);
  {
    Tx tx(journal());
    set_word(*tx.edit_block(data_block(0), kKind, kOwner), 0, 1);
    ASSERT_TRUE(tx.create_block(data_block(200), kKind, kOwner));
  }
  Tx tx(journal());
  set_word(*tx.edit_block(data_block(0), kKind, kOwner), 0, 1);
  tx.abort();
  EXPECT_TRUE(same_outside_journal(before, pool_.medium));
  EXPECT_EQ(journal().stats().commits, 0U);
}

TEST_F(TxTest, OnePlaceHasOneShadow) {
  Tx tx(journal());
  const auto a = tx.edit_block(data_block(0), kKind, kOwner);
  const auto other = tx.edit_block(data_block(1), kKind, kOwner);
  const auto again = tx.edit_block(data_block(0), kKind, kOwner);
  ASSERT_TRUE(a && other && again);
  EXPECT_EQ(*a, *again);
  EXPECT_NE(*a, *other);
  EXPECT_EQ(*tx.read_block(data_block(0), kKind, kOwner), *a);
}

TEST_F(TxTest, EmptyAndUnchangedTransactionsWriteNoRecord) {
  const Lsn head = journal().head();
  {
    Tx tx(journal());
    const auto lsn = tx.commit();
    ASSERT_TRUE(lsn);
    EXPECT_EQ(*lsn, journal().tail());
  }
  Tx tx(journal());
  ASSERT_TRUE(tx.edit_block(data_block(0), kKind, kOwner));
  ASSERT_TRUE(tx.commit());
  EXPECT_EQ(journal().head(), head);
}

TEST_F(TxTest, PendingDataIsDrainedEvenWithoutARecord) {
  const uint64_t drains = pool_.medium.counters().drains;
  Tx tx(journal());
  tx.data_pending();
  ASSERT_TRUE(tx.commit());
  EXPECT_EQ(pool_.medium.counters().drains, drains + 1);
}

TEST_F(TxTest, FreshBlocksGoAroundTheJournal) {
  const DeviceBlock b = data_block(200);
  Tx tx(journal());
  const auto image = tx.create_block(b, format::kKindExtentNode, 9);
  ASSERT_TRUE(image);
  for (uint32_t i = 0; i < kWords; ++i) EXPECT_EQ(get_word(*image, i), 0U);
  EXPECT_EQ(*tx.edit_block(b, format::kKindExtentNode, 9), *image);
  for (uint32_t i = 0; i < kWords; ++i) set_word(*image, i, i + 1);
  set_word(*tx.edit_block(data_block(0), kKind, kOwner), 0, b.value);
  EXPECT_FALSE(tx.read_block(b, kKind, kOwner)) << "another kind and owner";
  const auto lsn = tx.commit();
  ASSERT_TRUE(lsn);
  EXPECT_LT(ring_bytes(pool_.medium, *lsn).size(), 256U);
  const auto read = pool_.meta().read(b, format::kKindExtentNode, 9);
  ASSERT_TRUE(read);
  EXPECT_EQ(get_word(*read, 17), 18U);
  EXPECT_TRUE(format::is_sealed(kSeed, Unit::kBlock, *read));
}

TEST_F(TxTest, FreshBlocksAreTrustedAfterCommitOnly) {
  const DeviceBlock b = data_block(200);
  {
    Tx tx(journal());
    ASSERT_TRUE(tx.create_block(b, kKind, kOwner));
  }
  put_block(pool_.medium, b);
  pool_.medium.raw()[offset_of(b) + 99] = std::byte{1};
  EXPECT_FALSE(pool_.meta().read(b, kKind, kOwner));
  Tx tx(journal());
  ASSERT_TRUE(tx.create_block(b, kKind, kOwner));
  set_word(*tx.edit_block(data_block(0), kKind, kOwner), 0, b.value);
  ASSERT_TRUE(tx.commit());
  pool_.medium.raw()[offset_of(b) + 99] = std::byte{1};
  EXPECT_TRUE(pool_.meta().read(b, kKind, kOwner)) << "not checked again";
}

TEST_F(TxTest, DiscardDropsTheShadowAndTheTrust) {
  const DeviceBlock b = data_block(1);
  ASSERT_TRUE(pool_.meta().read(b, kKind, kOwner));
  Tx tx(journal());
  set_word(*tx.edit_block(b, kKind, kOwner), 0, 5);
  set_word(*tx.edit_block(data_block(0), kKind, kOwner), 0, 5);
  tx.discard_block(b);
  EXPECT_FALSE(tx.read_block(b, kKind, kOwner)) << "freed by this very transaction";
  EXPECT_FALSE(tx.edit_block(b, kKind, kOwner));
  ASSERT_TRUE(tx.commit());
  EXPECT_EQ(word(1, 0), 0U);
  pool_.medium.raw()[offset_of(b) + 4000] = std::byte{1};
  EXPECT_FALSE(pool_.meta().read(b, kKind, kOwner));
}

TEST_F(TxTest, DiscardWithoutAShadowForgetsToo) {
  const DeviceBlock b = data_block(1);
  ASSERT_TRUE(pool_.meta().read(b, kKind, kOwner));
  Tx tx(journal());
  tx.discard_block(b);
  ASSERT_TRUE(tx.commit());
  pool_.medium.raw()[offset_of(b) + 4000] = std::byte{1};
  EXPECT_FALSE(pool_.meta().read(b, kKind, kOwner));
}

TEST_F(TxTest, ABlockMadeDroppedAndMadeAgainIsThere) {
  const DeviceBlock b = data_block(200);
  Tx tx(journal());
  const auto first = tx.create_block(b, kKind, kOwner);
  ASSERT_TRUE(first);
  set_word(*first, 0, 1);
  tx.discard_block(b);
  EXPECT_EQ(get_word(*first, 0), 1U) << "a pointer lives to the end of the transaction";
  const auto second = tx.create_block(b, format::kKindExtentNode, 9);
  ASSERT_TRUE(second);
  EXPECT_EQ(get_word(*second, 0), 0U);
  set_word(*second, 0, 2);
  set_word(*tx.edit_block(data_block(0), kKind, kOwner), 0, b.value);
  ASSERT_TRUE(tx.commit());
  EXPECT_EQ(get_word(*pool_.meta().read(b, format::kKindExtentNode, 9), 0), 2U);
  pool_.medium.raw()[offset_of(b) + 99] = std::byte{1};
  EXPECT_TRUE(pool_.meta().read(b, format::kKindExtentNode, 9)) << "trusted";
}

TEST_F(TxTest, UnitsAreCheckedSealedAndReset) {
  const uint64_t place = at(150) + 256;
  {
    Tx tx(journal());
    const auto zero = tx.read_unit(place, Unit::kInode);
    EXPECT_TRUE(zero) << "a slot never used";
    EXPECT_FALSE(tx.read_unit(place, Unit::kChunk)) << "zeroes are no chunk header";
    const auto inode = tx.edit_unit(place, Unit::kInode);
    ASSERT_TRUE(inode);
    reinterpret_cast<format::Inode*>(*inode)->ino = 99;
    EXPECT_EQ(*tx.read_unit(place, Unit::kInode), *inode);
    ASSERT_TRUE(tx.commit());
  }
  EXPECT_TRUE(format::is_sealed(kSeed, Unit::kInode, pool_.medium.at(place)));
  pool_.medium.raw()[place + 200] = std::byte{1};
  {
    Tx tx(journal());
    const auto r = tx.read_unit(place, Unit::kInode);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error(), Error::kCorrupted);
    EXPECT_FALSE(tx.edit_unit(place, Unit::kInode));
  }
  media::MemoryMedium before(kPoolBytes);
  snapshot(before);
  Tx tx(journal());
  const auto fresh = tx.reset_unit(place, Unit::kInode);
  ASSERT_TRUE(fresh);
  EXPECT_EQ(reinterpret_cast<format::Inode*>(*fresh)->ino.get(), 0U);
  reinterpret_cast<format::Inode*>(*fresh)->ino = 100;
  EXPECT_EQ(*tx.edit_unit(place, Unit::kInode), *fresh);
  const auto lsn = tx.commit();
  ASSERT_TRUE(lsn);
  EXPECT_EQ(ring_bytes(pool_.medium, *lsn).size(), align_up(sizeof(format::RecordHeader) + 16 + 256, 64))
      << "journaled in full";
  EXPECT_TRUE(format::is_sealed(kSeed, Unit::kInode, pool_.medium.at(place)));
  // In full means: right over any content.
  before.store(place, std::string(256, 'x').data(), 256);
  media::MemoryMedium image(kPoolBytes);
  image.copy_from(before);
  put_ring(image, Lsn(0), {pool_.medium.at(ring_offset()), pool_.medium.at(ring_offset()) + 4096});
  Stack stack(image);
  ASSERT_TRUE(stack.journal.recover());
  EXPECT_TRUE(same_outside_journal(image, pool_.medium));
}

TEST_F(TxTest, AnEditedUnitCanBeReset) {
  const uint64_t place = at(150);
  Tx tx(journal());
  const auto edited = tx.edit_unit(place, Unit::kInode);
  ASSERT_TRUE(edited);
  reinterpret_cast<format::Inode*>(*edited)->uid = 3;
  const auto reset = tx.reset_unit(place, Unit::kInode);
  ASSERT_TRUE(reset);
  EXPECT_EQ(*reset, *edited);
  EXPECT_EQ(reinterpret_cast<format::Inode*>(*reset)->uid.get(), 0U);
}

TEST_F(TxTest, OutOfBoundsIsCorrupted) {
  Tx tx(journal());
  const media::Geometry g = geometry();
  EXPECT_FALSE(tx.read_unit(at(1) + 8, Unit::kInode));
  EXPECT_FALSE(tx.edit_unit(~uint64_t{0} - 255, Unit::kInode));
  EXPECT_FALSE(tx.edit_unit(offset_of(g.journal_start), Unit::kInode));
  EXPECT_FALSE(tx.edit_unit(0, Unit::kSuperblock));
  EXPECT_FALSE(tx.reset_unit(offset_of(format::kJournalControlBlock), Unit::kRaw));
  EXPECT_FALSE(tx.create_block(g.replica(), kKind, kOwner));
  EXPECT_FALSE(tx.create_raw_block(DeviceBlock(3)));
  EXPECT_FALSE(tx.edit_block(DeviceBlock(3), kKind, kOwner));
  tx.discard_block(DeviceBlock(~uint64_t{0} >> 1));
  EXPECT_TRUE(tx.commit());
}

// Hostile media can make one block two things; no two shadows may come of it.
TEST_F(TxTest, OverlapsAreCorrupted) {
  Tx tx(journal());
  ASSERT_TRUE(tx.edit_block(data_block(0), kKind, kOwner));
  EXPECT_FALSE(tx.edit_unit(at(0) + 256, Unit::kInode));
  EXPECT_FALSE(tx.reset_unit(at(0) + 64, Unit::kGroupDesc));
  EXPECT_FALSE(tx.create_block(data_block(0), kKind, kOwner));
  EXPECT_FALSE(tx.create_raw_block(data_block(0)));
  ASSERT_TRUE(tx.edit_unit(at(150) + 256, Unit::kInode));
  EXPECT_FALSE(tx.edit_unit(at(150) + 256, Unit::kChunk));
  EXPECT_FALSE(tx.reset_unit(at(150) + 256 + 64, Unit::kShard));
  EXPECT_FALSE(tx.reset_unit(at(150), Unit::kRaw));
  EXPECT_FALSE(tx.create_block(data_block(150), kKind, kOwner));
  put_block(pool_.medium, data_block(150));
  EXPECT_FALSE(tx.edit_block(data_block(150), kKind, kOwner));
  ASSERT_TRUE(tx.create_raw_block(data_block(160)));
  EXPECT_FALSE(tx.edit_block(data_block(160), kKind, kOwner));
  EXPECT_FALSE(tx.create_raw_block(data_block(160)));
}

TEST_F(TxTest, UnitsOfAFreshRawBlockArePartsOfIt) {
  const uint64_t chunk = at(160);
  media::MemoryMedium before(kPoolBytes);
  Tx tx(journal());
  const auto raw = tx.create_raw_block(data_block(160));
  ASSERT_TRUE(raw);
  const auto header = tx.reset_unit(chunk, Unit::kChunk);
  ASSERT_TRUE(header);
  EXPECT_EQ(*header, *raw);
  reinterpret_cast<format::ChunkHeader*>(*header)->chunk = 4;
  const auto inode = tx.edit_unit(chunk + 512, Unit::kInode);
  ASSERT_TRUE(inode);
  EXPECT_EQ(*inode, *raw + 512);
  reinterpret_cast<format::Inode*>(*inode)->ino = 66;
  EXPECT_EQ(*tx.edit_unit(chunk + 512, Unit::kInode), *inode);
  EXPECT_EQ(*tx.read_unit(chunk + 256, Unit::kInode), *raw + 256);
  EXPECT_FALSE(tx.edit_unit(chunk + 512, Unit::kChunk));
  set_word(*tx.edit_block(data_block(0), kKind, kOwner), 0, 160);
  ASSERT_TRUE(tx.commit());
  EXPECT_TRUE(format::is_sealed(kSeed, Unit::kChunk, pool_.medium.at(chunk)));
  EXPECT_TRUE(format::is_sealed(kSeed, Unit::kInode, pool_.medium.at(chunk + 512)));
  EXPECT_EQ(pool_.medium.as<format::Inode>(chunk + 512)->ino.get(), 66U);
}

TEST_F(TxTest, ManyShadowsKeepApart) {
  {
    Tx tx(journal());
    for (uint64_t i = 0; i < 64; ++i) set_word(*tx.edit_block(data_block(i), kKind, kOwner), 9, i + 1);
    for (uint64_t i = 64; i-- > 0;) set_word(*tx.edit_block(data_block(i), kKind, kOwner), 10, i + 2);
    ASSERT_TRUE(tx.commit());
  }
  for (uint64_t i = 0; i < 64; ++i) {
    EXPECT_EQ(word(i, 9), i + 1);
    EXPECT_EQ(word(i, 10), i + 2);
  }
}

TEST_F(TxTest, NearlyFullComesBeforeTooBig) {
  const auto fill = [&](Tx& tx, uint64_t block) {
    const auto image = tx.edit_block(data_block(block), kKind, kOwner);
    ASSERT_TRUE(image);
    for (uint32_t w = 0; w < kWords; w += 2) set_word(*image, w, get_word(*image, w) + 1);
  };
  uint64_t used = 0;
  {
    Tx tx(journal());
    while (!tx.nearly_full()) fill(tx, used++);
    EXPECT_GE(used, 2 * uint64_t{format::kTreeLevelsMax});
    // What a step may take still fits, and so do the bitmaps of every group.
    for (uint32_t i = 0; i < 2 * format::kTreeLevelsMax; ++i) fill(tx, used++);
    for (uint32_t i = 0; i < kGroupsPerTx; ++i) {
      ASSERT_TRUE(tx.reset_unit(at(300 + i), Unit::kRaw));
      ASSERT_TRUE(tx.reset_unit(at(350) + 64 * i, Unit::kGroupDesc));
    }
    for (uint32_t i = 0; i < 4; ++i) ASSERT_TRUE(tx.reset_unit(at(351) + 256 * i, Unit::kInode));
    ASSERT_TRUE(tx.commit());
  }
  ASSERT_LE(used, 96U);
  media::MemoryMedium before(kPoolBytes);
  snapshot(before);
  const Lsn head = journal().head();
  Tx tx(journal());
  for (uint64_t i = 0; i < 96; ++i) fill(tx, i);
  const auto lsn = tx.commit();
  ASSERT_FALSE(lsn);
  EXPECT_EQ(lsn.error(), Error::kTooBig);
  EXPECT_EQ(journal().head(), head);
  EXPECT_TRUE(same_outside_journal(before, pool_.medium));
  EXPECT_TRUE(commit_edits(journal(), {{data_block(0), 1, 1}})) << "no harm done";
}

// --- Participants -----------------------------------------------------------------------------------------------

class Recorder final : public Participant {
 public:
  Recorder(std::string name, std::string& log) : name_(std::move(name)), log_(log) {}
  Status prepare(Tx& tx) override {
    log_ += name_ + "p ";
    if (edit) set_word(*tx.edit_block(data_block(2), kKind, kOwner), 0, 77);
    if (fails) return Error::kNoSpace;
    return {};
  }
  void finish(Lsn lsn) noexcept override {
    log_ += name_ + "f ";
    finished_at = lsn;
  }
  void abort() noexcept override { log_ += name_ + "a "; }
  bool fails = false;
  bool edit = false;
  Lsn finished_at;

 private:
  std::string name_;
  std::string& log_;
};

TEST_F(TxTest, ParticipantsPrepareByRankAndFinishInReverse) {
  std::string log;
  Recorder a("a", log);
  Recorder b("b", log);
  Recorder c("c", log);
  Recorder d("d", log);
  c.edit = true;
  const Lsn head = journal().head();
  Tx tx(journal());
  tx.add_participant(a, 50);
  tx.add_participant(b, 10);
  tx.add_participant(c, 50);
  tx.add_participant(d, 20);
  const auto lsn = tx.commit();
  ASSERT_TRUE(lsn);
  EXPECT_EQ(log, "bp dp ap cp cf af df bf ");
  EXPECT_EQ(*lsn, head);
  EXPECT_EQ(a.finished_at, head);
  EXPECT_EQ(word(2, 0), 77U);
  tx.abort();
  EXPECT_EQ(log, "bp dp ap cp cf af df bf ") << "over is over";
}

TEST_F(TxTest, AFailedPrepareAbortsAll) {
  std::string log;
  Recorder a("a", log);
  Recorder b("b", log);
  Recorder c("c", log);
  b.fails = true;
  a.edit = true;
  {
    Tx tx(journal());
    tx.add_participant(a, 1);
    tx.add_participant(b, 2);
    tx.add_participant(c, 3);
    const auto lsn = tx.commit();
    ASSERT_FALSE(lsn);
    EXPECT_EQ(lsn.error(), Error::kNoSpace);
  }
  EXPECT_EQ(log, "ap bp ca ba aa ");
  EXPECT_EQ(word(2, 0), 0U);
}

TEST_F(TxTest, AnUncommittedTransactionAbortsItsParticipants) {
  std::string log;
  Recorder a("a", log);
  Recorder b("b", log);
  {
    Tx tx(journal());
    tx.add_participant(a, 1);
    tx.add_participant(b, 2);
  }
  EXPECT_EQ(log, "ba aa ");
}

TEST_F(TxTest, ParticipantsAloneFinishWithTheTail) {
  std::string log;
  Recorder a("a", log);
  Tx tx(journal());
  tx.add_participant(a, 1);
  const auto lsn = tx.commit();
  ASSERT_TRUE(lsn);
  EXPECT_EQ(*lsn, journal().tail());
  EXPECT_EQ(log, "ap af ");
}

TEST(TxReadOnlyTest, CommitsAreRefusedBeforeAnyStore) {
  Pool<FrozenMedium> pool;
  put_block(pool.medium, data_block(0));
  pool.medium.freeze();
  ASSERT_TRUE(pool.journal().recover());
  std::string log;
  Recorder a("a", log);
  Tx tx(pool.journal());
  tx.add_participant(a, 1);
  ASSERT_TRUE(tx.create_block(data_block(9), kKind, kOwner));
  set_word(*tx.edit_block(data_block(0), kKind, kOwner), 0, 1);
  const auto lsn = tx.commit();
  ASSERT_FALSE(lsn);
  EXPECT_EQ(lsn.error(), Error::kReadOnly);
  EXPECT_EQ(log, "aa ");
}

}  // namespace
}  // namespace udax::journal
