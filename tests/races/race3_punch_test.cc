// SPDX-License-Identifier: BSD-3-Clause
//
// Race 3: a fault against a hole punch.
//
// Thread: "Re: [PATCH v12 08/20] dax,ext2: Replace the XIP page fault handler with the DAX page fault handler", Matthew
// Wilcox to Andrew Morton, 13 January 2015: "How does this play with holepunching? Checking i_size won't work there?" -
// "It doesn't. But the same problem exists with non-DAX files too, and when I pointed it out, it was met with a shrug".
//
//   Process 0                                 Process 1                             here
//
//   data[0] = 1                                                                     p0.store
//     -> dax_fault()                                                                invalidate_lock shared
//        get_block(): block B                                                       "dax.fault.entry_locked"
//                                             fallocate(PUNCH_HOLE, 0, 4096)        puncher: must wait for
//                                               unmaps, frees B                     invalidate_lock
//        i_size is what it was: fine
//        maps B, which is free, or somebody else's                                  "dax.fault.install"
#include "tests/races/race.h"
#include "tests/races/storm.h"

namespace udax::races {
namespace {

using Race3 = Race;

struct Outcome {
  bool waited = false;
  std::string through_view;  // what the process reads after the punch
  std::string through_read;
  DeviceBlock view;    // the block that its page table names after it has read
  DeviceBlock before;  // the block that was punched
};

Outcome play(Stage& stage, const char* point, bool is_store) {
  Outcome out;
  const Ino f = stage.file("f", std::string(2 * kBlockSize, 'd'));
  out.before = stage.device_of(f, 0);
  Process p0;
  Process puncher;
  Mapping mapping(stage.mapper(), f);
  Gate gate(point);
  p0.run([&] { is_store ? mapping.put(0, "x") : static_cast<void>(mapping.get(0, 1)); });
  EXPECT_TRUE(gate.wait_reached());
  puncher.run([&] { stage.punch(f, 0, kBlockSize); });
  out.waited = puncher.must_wait();
  gate.open();
  p0.join();
  puncher.join();
  out.through_view = mapping.get(0, 8);
  out.view = mapping.pte(FileBlock(0)).device;
  out.through_read = stage.read(f, 0, 8);
  return out;
}

const std::string kZeroes(8, '\0');

TEST_F(Race3, ThePunchWaitsForTheFault) {
  for (const bool is_store : {false, true}) {
    for (const char* const point : {"dax.fault.within", "dax.fault.entry_locked", "dax.fault.install"}) {
      Stage stage;
      const Outcome out = play(stage, point, is_store);
      EXPECT_TRUE(out.waited) << point;
      // The store itself may come after the punch: it finds its view gone, and faults once more.
      const bool is_late = is_store && out.through_read[0] == 'x';
      EXPECT_EQ(out.through_read, is_late ? "x" + kZeroes.substr(1) : kZeroes) << point;
      EXPECT_EQ(out.through_view, out.through_read) << point;
      EXPECT_NE(out.view, out.before) << point;
    }
  }
}

TEST_F(Race3, ControlTheFaultKeepsTheFreedBlock) {
  for (const bool is_store : {false, true}) {
    Stage stage;
    const ScopedKnob knob("dax.fault.skip_invalidate_lock");
    const Outcome out = play(stage, "dax.fault.install", is_store);
    EXPECT_EQ(out.through_view.substr(1), "ddddddd");
    EXPECT_EQ(out.view, out.before) << "free by now, or somebody else's";
    stage.abandon();
  }
}

TEST_F(Race3, ControlThePunchTakesNoLock) {
  Stage stage;
  const ScopedKnob knob("fs.skip_invalidate_lock");
  const Outcome out = play(stage, "dax.fault.install", true);
  EXPECT_EQ(out.view, out.before);
  stage.abandon();
}

TEST_F(Race3, ControlThePunchLeavesViews) {
  Stage stage;
  const ScopedKnob knob("dax.drop.skip_invalidate");
  const Ino f = stage.file("f", std::string(kBlockSize, 'd'));
  Mapping mapping(stage.mapper(), f);
  EXPECT_EQ(mapping.get(0, 1), "d");
  stage.punch(f, 0, kBlockSize);
  EXPECT_EQ(mapping.get(0, 1), "d");
  stage.abandon();
}

TEST_F(Race3, TheFaultWaitsForThePunch) {
  for (const uint32_t mode : {fs::kFallocPunchHole | fs::kFallocKeepSize, fs::kFallocZeroRange}) {
    Stage stage;
    const Ino f = stage.file("f", std::string(3 * kBlockSize, 'd'));
    Process p0;
    Process puncher;
    Mapping mapping(stage.mapper(), f);
    mapping.put(kBlockSize, "x");
    Gate gate("dax.drop.invalidated");
    puncher.run([&] {
      const auto file = *stage->open(f, O_RDWR, false);
      EXPECT_TRUE(stage->fallocate(*file, mode, 100, 3 * kBlockSize - 200));
    });
    EXPECT_TRUE(gate.wait_reached());
    p0.run([&] { mapping.put(kBlockSize + 8, "new"); });
    EXPECT_TRUE(p0.must_wait());
    gate.open();
    puncher.join();
    p0.join();
    const std::string wanted = std::string(100, 'd') + std::string(kBlockSize - 92, '\0') + "new" +
                               std::string(2 * kBlockSize - 111, '\0') + std::string(100, 'd');
    EXPECT_EQ(mapping.get(0, 3 * kBlockSize), wanted);
    EXPECT_EQ(stage.read(f, 0, 3 * kBlockSize), wanted);
    stage.fsync(f);
    EXPECT_EQ(stage.after_power_failure(f, 0, 3 * kBlockSize), wanted);
  }
}

// Of a 2 MiB view a page is punched: the rest stays, dirty.
TEST_F(Race3, APunchWithinAHugePageKeepsWhatIsAroundIt) {
  Stage stage(64 << 20);
  const Ino f = stage.hole("f", kHugeSize);
  Mapping mapping(stage.huge_mapper(), f);
  mapping.put(5, "first");
  mapping.put(kHugeSize - 4, "last");
  ASSERT_TRUE(mapping.pte(FileBlock(0)).is_huge);
  stage.punch(f, 100 * kBlockSize, kBlockSize);
  EXPECT_EQ(mapping.get(5, 5), "first");
  EXPECT_TRUE(stage.is_dirty(mapping, 0));
  EXPECT_TRUE(stage.is_dirty(mapping, 511));
  EXPECT_FALSE(stage.is_dirty(mapping, 100));
  mapping.put(100 * kBlockSize, "middle");
  stage.fsync(f);
  EXPECT_EQ(stage.after_power_failure(f, 5, 5), "first");
  EXPECT_EQ(stage.after_power_failure(f, 100 * kBlockSize, 8), std::string("middle\0\0", 8));
  EXPECT_EQ(stage.after_power_failure(f, kHugeSize - 4, 4), "last");
}

TEST_F(Race3, LongForm) { storm({.loads = 4, .stores = 6, .writes = 1, .punches = 4, .zero_ranges = 2}); }

}  // namespace
}  // namespace udax::races
