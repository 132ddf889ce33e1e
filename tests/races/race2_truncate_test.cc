// SPDX-License-Identifier: BSD-3-Clause
//
// Race 2: a fault against truncation: blocks that are allocated after i_size shrank.
//
// Thread: "Re: [PATCH v12 08/20] dax,ext2: Replace the XIP page fault handler with the DAX page fault handler", Matthew
// Wilcox to Andrew Morton, 13 January 2015.
//
//   Process 0                                 Process 1                             here
//
//   data[0] = 1                                                                     p0.store
//     -> dax_fault()                                                                invalidate_lock shared
//        pgoff < i_size: fine                                                       "dax.fault.within"
//                                             ftruncate('f', 0)                     truncater: must wait for
//                                               i_size = 0, frees blocks            invalidate_lock
//        get_block() allocates                                                      "dax.fault.allocated"
//        lock i_mmap_mutex
//        "Check truncate didn't happen while we were allocating a block"
//        "In the worst case, the file still has blocks allocated past the end"
//        maps the block                                                             "dax.fault.install"
//
// Here the truncation waits for the fault, then takes its view back and frees its block; or comes first, and the fault
// finds the end: SIGBUS, and nothing is allocated.
#include "tests/races/race.h"
#include "tests/races/storm.h"

namespace udax::races {
namespace {

using Race2 = Race;

struct Outcome {
  bool waited = false;  // the truncation, for the fault
  Touch store = Touch::kDone;
  Touch later = Touch::kDone;  // another store, after the truncation
  uint64_t blocks = 0;         // that the file of size 0 has
};

/// A write fault stands at `point` while the file is cut to nothing.
Outcome play(Stage& stage, const char* point, Ino f, std::chrono::milliseconds patience = 50ms) {
  Outcome out;
  Process p0;
  Process truncater;
  Mapping mapping(stage.mapper(), f);
  Gate gate(point);
  p0.run([&] { out.store = mapping.store(0, "x", 1); });
  EXPECT_TRUE(gate.wait_reached());
  truncater.run([&] { stage.resize(f, 0); });
  out.waited = truncater.must_wait(patience);
  gate.open();
  p0.join();
  truncater.join();
  out.blocks = stage.blocks(f);
  out.later = mapping.store(0, "y", 1);
  return out;
}

TEST_F(Race2, TheTruncationWaitsForTheFault) {
  for (const char* const point : {"dax.fault.within", "dax.fault.entry_locked", "dax.fault.zeroed",
                                  "dax.fault.allocated", "dax.fault.install"}) {
    Stage stage;
    const uint64_t free = stage->statfs().blocks_free;
    const Outcome out = play(stage, point, stage.hole("f", kBlockSize));
    EXPECT_TRUE(out.waited) << point;
    // The view may be taken back again before the store is repeated: then it faults once more, and finds the end.
    EXPECT_NE(out.store, Touch::kFailed) << point;
    EXPECT_EQ(out.later, Touch::kBeyondEnd) << point;
    EXPECT_EQ(out.blocks, 0U) << point;
    EXPECT_TRUE(stage->unlink(kRootIno, "f"));
    EXPECT_EQ(stage->statfs().blocks_free, free) << point;
  }
}

TEST_F(Race2, TheFaultWaitsForTheTruncation) {
  for (const char* const point : {"fs.truncate.locked", "dax.drop.invalidated"}) {
    Stage stage;
    const Ino f = stage.file("f", std::string(2 * kBlockSize, 'd'));
    Process p0;
    Process truncater;
    Mapping mapping(stage.mapper(), f);
    mapping.put(kBlockSize, "x");
    Touch touch = Touch::kDone;
    Gate gate(point);
    truncater.run([&] { stage.resize(f, 1); });
    EXPECT_TRUE(gate.wait_reached());
    p0.run([&] {
      touch = mapping.store(kBlockSize + 8, "y", 1);
      if (touch == Touch::kDone) touch = mapping.store(kBlockSize + 16, "y", 1);
    });
    // Before the views are taken back an old one may still be used.
    EXPECT_TRUE(p0.must_wait() || point == std::string_view("fs.truncate.locked"));
    gate.open();
    truncater.join();
    p0.join();
    if (point == std::string_view("dax.drop.invalidated")) {
      EXPECT_EQ(touch, Touch::kBeyondEnd);
    }
    EXPECT_EQ(mapping.store(kBlockSize, "z", 1), Touch::kBeyondEnd);
    EXPECT_EQ(stage.blocks(f), 1U);
  }
}

TEST_F(Race2, ControlTheFaultAllocatesBehindTheEnd) {
  Stage stage;
  const ScopedKnob knob("dax.fault.skip_invalidate_lock");
  const Outcome out = play(stage, "dax.fault.within", stage.hole("f", kBlockSize), 10s);
  EXPECT_FALSE(out.waited);
  EXPECT_EQ(out.store, Touch::kBeyondEnd) << "the check after the allocation";
  EXPECT_EQ(out.blocks, 1U) << "what the kernel of 2014 left";
  stage.abandon();
}

TEST_F(Race2, ControlTheFaultMapsAFreedBlock) {
  Stage stage;
  const ScopedKnob knob("dax.fault.skip_invalidate_lock");
  const Ino f = stage.file("f", std::string(kBlockSize, 'd'));
  const Outcome out = play(stage, "dax.fault.install", f);
  EXPECT_EQ(out.later, Touch::kDone) << "a store into a block that is not the file's any more";
  stage.abandon();
}

TEST_F(Race2, ControlViewsOutliveTheTruncation) {
  Stage stage;
  const ScopedKnob knob("dax.drop.skip_invalidate");
  const Ino f = stage.file("f", std::string(kBlockSize, 'd'));
  Mapping mapping(stage.mapper(), f);
  mapping.put(0, "x");
  stage.resize(f, 0);
  EXPECT_EQ(mapping.store(0, "y", 1), Touch::kDone);
  stage.abandon();
}

// A thread in the midst of a store when its view is taken back: the truncation waits for it, too.
TEST_F(Race2, TheTruncationWaitsForAStoreUnderWay) {
  Stage stage;
  const Ino f = stage.file("f", std::string(kBlockSize, 'd'));
  Process p0;
  Process truncater;
  Mapping mapping(stage.mapper(), f);
  mapping.put(0, "x");
  Gate access("model.access");
  p0.run([&] { mapping.put(0, "y"); });
  EXPECT_TRUE(access.wait_reached());
  truncater.run([&] { stage.resize(f, 0); });
  EXPECT_TRUE(truncater.must_wait());
  access.open();
  truncater.join();
  EXPECT_EQ(stage.blocks(f), 0U);
}

TEST_F(Race2, WhatComesBackAfterATruncationIsZero) {
  Stage stage;
  const Ino f = stage.file("f", std::string(kBlockSize, 'd'));
  Mapping mapping(stage.mapper(), f);
  mapping.put(10, "old");
  stage.resize(f, 5);
  mapping.put(100, "behind the end, in the same page");
  stage.resize(f, kBlockSize);
  EXPECT_EQ(mapping.get(0, kBlockSize), "ddddd" + std::string(kBlockSize - 5, '\0'));
}

TEST_F(Race2, LongForm) { storm({.loads = 4, .stores = 6, .writes = 2, .truncates = 3, .fsyncs = 1}); }

}  // namespace
}  // namespace udax::races
