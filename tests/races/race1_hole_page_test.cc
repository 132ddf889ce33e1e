// SPDX-License-Identifier: BSD-3-Clause
//
// Race 1: a hole's zero page, a write(2) to that hole, and a write fault between.
//
// Thread: "Subtle races between DAX mmap fault and write path", linux-fsdevel, July 2016: Jan Kara's report of 27 July
// 14:07 +0200, and Dave Chinner's answer to it and to Ross Zwisler ("I think Christoph just (accidentally) removed this
// race condition from XFS").
//
//   Process 0                                 Process 1                             here
//
//   data = mmap('f')
//   read data[0]                                                                    p0.get: a zero view, a zero entry
//     -> fault, we map a hole page
//                                             pwrite('f', buf, len, 0)              writer
//                                               inode_lock(inode)                   rwsem
//                                               invalidate_inode_pages2_range()     (not done: the entry stays)
//                                               allocates block for offset 0        "fs.write.committed": held here
//   data[0] = 1                                                                     p0.put
//     -> page_mkwrite fault                                                         meets the zero entry: takes the zero
//        creates locked radix tree entry                                            views back, finds the block, makes it
//        maps block into PTE                                                        a DIRTY data entry
//                                               invalidate_inode_pages2_range()     Dax::filled: lets data entries be
//                                               - removes dax entry               (but for zero entries)
//
// "So we have just lost information that block 0 is mapped and needs flushing caches."
#include "tests/races/race.h"
#include "tests/races/storm.h"

namespace udax::races {
namespace {

using Race1 = Race;

struct Outcome {
  bool is_dirty = false;    // the information that was lost
  bool is_durable = false;  // and what it is for: after fsync
  std::string p0, other;    // what processes see at 0: what was written
};

Outcome play(Stage& stage) {
  const Ino f = stage.hole("f", kBlockSize);
  Outcome out;
  Process writer;
  {
    Mapping p0(stage.mapper(), f);
    Mapping other(stage.huge_mapper(), f);  // a third process, that has the hole page, too
    EXPECT_EQ(p0.get(0, 1)[0], '\0');
    EXPECT_EQ(other.get(0, 1)[0], '\0');

    Gate committed("fs.write.committed");
    writer.run([&] { stage.write(f, 0, "written"); });
    EXPECT_TRUE(committed.wait_reached());
    p0.put(100, "stored");
    committed.open();
    writer.join();

    out.is_dirty = stage.is_dirty(p0, 0);
    out.p0 = p0.get(0, 7);
    out.other = other.get(0, 7);
    stage.fsync(f);
    out.is_durable = stage.after_power_failure(f, 0, 106) == "written" + std::string(93, '\0') + "stored";
  }
  return out;
}

TEST_F(Race1, TheDirtyEntrySurvivesAndNobodyKeepsTheHolePage) {
  Stage stage;
  const Outcome out = play(stage);
  EXPECT_TRUE(out.is_dirty);
  EXPECT_TRUE(out.is_durable);
  EXPECT_EQ(out.p0, "written");
  EXPECT_EQ(out.other, "written");
}

TEST_F(Race1, ControlTheWriteRemovesTheDirtyEntry) {
  Stage stage;
  const ScopedKnob knob("dax.filled.erase_all");  // as invalidate_inode_pages2_range() after the write
  const Outcome out = play(stage);
  EXPECT_FALSE(out.is_dirty);
  EXPECT_FALSE(out.is_durable);
  stage.abandon();
}

TEST_F(Race1, ControlTheFaultLeavesHolePages) {
  Stage stage;
  const ScopedKnob knob("dax.fault.keep_zero_views");
  EXPECT_NE(play(stage).other, "written");
  stage.abandon();
}

// The same without a store between: the write alone must take the hole page back.
std::string play_write_alone(Stage& stage) {
  const Ino f = stage.hole("f", kBlockSize);
  Mapping p0(stage.mapper(), f);
  EXPECT_EQ(p0.get(0, 1)[0], '\0');
  stage.write(f, 0, "written");
  return p0.get(0, 7);
}

TEST_F(Race1, AWriteTakesTheHolePageBack) {
  Stage stage;
  EXPECT_EQ(play_write_alone(stage), "written");
}

TEST_F(Race1, ControlAWriteLeavesTheHolePage) {
  Stage stage;
  const ScopedKnob knob("dax.filled.skip");
  EXPECT_EQ(play_write_alone(stage), std::string(7, '\0'));
  stage.abandon();
}

// A read fault that has looked at the extents before the write, and maps what it saw after it: the hole page.
std::string play_late_read_fault(Stage& stage) {
  const Ino f = stage.hole("f", kBlockSize);
  Mapping p0(stage.mapper(), f);
  Process reader;
  Process writer;
  Gate resolved("dax.fault.read.resolved");
  reader.run([&] { EXPECT_EQ(p0.get(0, 1).size(), 1U); });
  EXPECT_TRUE(resolved.wait_reached());
  writer.run([&] { stage.write(f, 0, "written"); });
  EXPECT_TRUE(writer.must_wait() || UDAX_KNOB("dax.filled.skip")) << "for the entry, which the fault has locked";
  resolved.open();
  reader.join();
  writer.join();
  return p0.get(0, 7);
}

TEST_F(Race1, AWriteWaitsForAFaultThatSawTheHole) {
  Stage stage;
  EXPECT_EQ(play_late_read_fault(stage), "written");
}

TEST_F(Race1, ControlAWriteDoesNotWait) {
  Stage stage;
  const ScopedKnob knob("dax.filled.skip");
  EXPECT_EQ(play_late_read_fault(stage), std::string(7, '\0'));
  stage.abandon();
}

// Two faults that fill one hole: one allocates, the other finds it done.
TEST_F(Race1, TwoWriteFaultsAllocateOneBlock) {
  Stage stage;
  const Ino f = stage.hole("f", kBlockSize);
  Mapping p0(stage.mapper(), f);
  Mapping p1(stage.mapper(), f);
  Process first;
  Process second;
  Gate allocated("dax.fault.allocated");
  first.run([&] { p0.put(0, "one"); });
  EXPECT_TRUE(allocated.wait_reached());
  second.run([&] { p1.put(8, "two"); });
  EXPECT_TRUE(second.must_wait());
  allocated.open();
  first.join();
  second.join();
  EXPECT_EQ(stage.blocks(f), 1U);
  EXPECT_EQ(p0.get(0, 11), std::string("one\0\0\0\0\0two", 11));
}

TEST_F(Race1, LongForm) { storm({.loads = 4, .stores = 4, .writes = 4, .punches = 2, .fsyncs = 1}); }

}  // namespace
}  // namespace udax::races
