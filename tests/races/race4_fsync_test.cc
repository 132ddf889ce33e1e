// SPDX-License-Identifier: BSD-3-Clause
//
// Race 4: fsync against truncation between its lookup of an entry and the flush; two fsyncs on one range; fsync against
// those who store meanwhile.
//
// Thread: "Re: [PATCH v6 4/7] dax: add support for fsync/msync", Ross Zwisler to Dan Williams and Jan Kara, 5 January 2016.
//
//   Process 0                                 Process 1                             here
//
//   fsync('f')
//     -> dax_writeback_one()
//        finds the entry, TOWRITE                                                   grab_next_marked: locked
//        clears TOWRITE                                                             "dax.writeback.locked"
//        drops tree_lock, maps the sectors    ftruncate('f', 0)                     truncater: waits for the entry
//                                               frees the block; others get it
//        takes tree_lock: "We need to revalidate our radix entry"
//        flushes the sectors                                                        "dax.writeback.protected"
//
// "The concern is that we could have somehow raced against a truncate operation while we weren't holding the tree_lock, and
// that now the address we are about to flush belongs to another file or is unallocated by the filesystem."
//
// Here a writeback keeps the entry locked until its lines are flushed; truncation removes entries only with their
// lock held. The lookup that locks is the revalidation: it waits, and looks again.
#include "tests/races/race.h"
#include "tests/races/storm.h"

namespace udax::races {
namespace {

using Race4 = Race;

/// Was a block flushed while it was not (any more) the file's?
bool play_truncation(Stage& stage, const char* point) {
  const Ino f = stage.hole("f", kBlockSize);
  Process syncer;
  Process truncater;
  Mapping mapping(stage.mapper(), f);
  mapping.put(0, "dirty");
  const uint64_t device_offset = offset_of(stage.device_of(f, 0));
  std::atomic<bool> is_cut{false};
  std::atomic<bool> is_late{false};
  stage.medium->on_flush([&](uint64_t offset, uint64_t) {
    if (offset == device_offset && is_cut) is_late = true;
  });
  Gate gate(point);
  syncer.run([&] { stage.fsync(f); });
  EXPECT_TRUE(gate.wait_reached());
  truncater.run([&] {
    stage.resize(f, 0);
    is_cut = true;
  });
  std::this_thread::sleep_for(50ms);
  gate.open();
  syncer.join();
  truncater.join();
  stage.medium->on_flush({});
  EXPECT_EQ(stage.blocks(f), 0U);
  EXPECT_EQ(mapping.store(0, "x", 1), Touch::kBeyondEnd);
  return is_late;
}

TEST_F(Race4, NoBlockIsFlushedThatATruncationHasFreed) {
  for (const char* const point : {"dax.writeback.tagged", "dax.writeback.locked", "dax.writeback.protected",
                                  "dax.writeback.flushed", "dax.writeback.before_drain"}) {
    Stage stage;
    EXPECT_FALSE(play_truncation(stage, point)) << point;
  }
}

TEST_F(Race4, ControlTheEntryIsNotHeld) {
  Stage stage;
  const ScopedKnob knob("dax.writeback.unlock_early");
  EXPECT_TRUE(play_truncation(stage, "dax.writeback.protected")) << "a freed block is flushed";
  stage.abandon();
}

/// A process stores while fsync is at `point`. Gives whether the store is durable after another fsync.
bool play_store(Stage& stage, const char* point) {
  const Ino f = stage.hole("f", kBlockSize);
  Process syncer;
  Process storer;
  Mapping mapping(stage.mapper(), f);
  mapping.put(0, "first");
  Gate gate(point);
  syncer.run([&] { stage.fsync(f); });
  EXPECT_TRUE(gate.wait_reached());
  storer.run([&] { mapping.put(64, "second"); });
  std::this_thread::sleep_for(50ms);  // it waits, or it stores through the view that it has
  gate.open();
  syncer.join();
  storer.join();
  EXPECT_EQ(stage.after_power_failure(f, 0, 5), "first");
  stage.fsync(f);
  return stage.after_power_failure(f, 64, 6) == "second";
}

TEST_F(Race4, AStoreDuringFsyncIsDirtyAgain) {
  for (const char* const point : {"dax.writeback.tagged", "dax.writeback.locked", "dax.writeback.protected",
                                  "dax.writeback.flushed", "dax.writeback.before_drain"}) {
    Stage stage;
    EXPECT_TRUE(play_store(stage, point)) << point;
  }
}

TEST_F(Race4, ControlFsyncDoesNotWriteProtect) {
  Stage stage;
  const ScopedKnob knob("dax.writeback.skip_write_protect");
  EXPECT_FALSE(play_store(stage, "dax.writeback.flushed"));
  stage.abandon();
}

TEST_F(Race4, ControlFsyncClearsWhatAFaultHasSet) {
  Stage stage;
  const ScopedKnob knob("dax.writeback.unlock_early");
  EXPECT_FALSE(play_store(stage, "dax.writeback.flushed"));
  stage.abandon();
}

/// One fsync stands at `point` with the entry in hand; another begins, and returns at the latest when the first one has.
/// Gives whether what was stored was durable then.
bool play_two(Stage& stage, const char* point) {
  const Ino f = stage.hole("f", kBlockSize);
  Process first;
  Process second;
  Mapping mapping(stage.mapper(), f);
  mapping.put(0, "stored");
  std::string left;
  Gate gate(point);
  first.run([&] { stage.fsync(f); });
  EXPECT_TRUE(gate.wait_reached());
  second.run([&] {
    stage.fsync(f);
    left = stage.after_power_failure(f, 0, 6);
  });
  std::this_thread::sleep_for(50ms);
  gate.open();
  first.join();
  second.join();
  return left == "stored";
}

TEST_F(Race4, TheSecondFsyncReturnsWhenTheBytesAreDurable) {
  for (const char* const point : {"dax.writeback.tagged", "dax.writeback.locked", "dax.writeback.protected",
                                  "dax.writeback.flushed", "dax.writeback.before_drain"}) {
    Stage stage;
    EXPECT_TRUE(play_two(stage, point)) << point;
  }
}

TEST_F(Race4, ControlTheSecondFsyncDoesNotWait) {
  Stage stage;
  const ScopedKnob knob("dax.writeback.skip_wait");
  EXPECT_FALSE(play_two(stage, "dax.writeback.before_drain"));
  stage.abandon();
}

TEST_F(Race4, ControlNothingIsFlushed) {
  Stage stage;
  const ScopedKnob knob("dax.writeback.skip_flush");
  EXPECT_FALSE(play_two(stage, "dax.writeback.flushed"));
  stage.abandon();
}

// "another fsync thread may have already written back this entry"
TEST_F(Race4, TwoFsyncsFlushAnEntryOnce) {
  Stage stage;
  const Ino f = stage.hole("f", kBlockSize);
  Process first;
  Process second;
  Mapping mapping(stage.mapper(), f);
  mapping.put(0, "stored");
  const uint64_t before = stage->stats().dax.entries_flushed;
  Gate tagged("dax.writeback.tagged");
  first.run([&] { stage.fsync(f); });
  EXPECT_TRUE(tagged.wait_reached());
  second.run([&] { stage.fsync(f); });
  EXPECT_TRUE(second.must_wait()) << "it has flushed, and waits for the first, which may have";
  tagged.open();
  first.join();
  second.join();
  EXPECT_EQ(stage->stats().dax.entries_flushed - before, 1U);
}

TEST_F(Race4, LongForm) { storm({.loads = 2, .stores = 6, .writes = 1, .truncates = 1, .fsyncs = 4}); }

}  // namespace
}  // namespace udax::races
