// SPDX-License-Identifier: BSD-3-Clause
//
// Race 6: the DAX flag changes while the file is mapped and in use.
//
// Thread: "ext4: introduce per-inode DAX flag", August 2017 (patch of Lukas Czerner, 2 August): Christoph Hellwig's crash
// of 28 August, and what Dave Chinner (28 and 29 August) and Jan Kara (29 and 30 August) found about it.
//
//   Process 0                                 Process 1                             here
//
//   fsx 'f'                                   while true: chattr +x, chattr -x
//
//   data[0] = 1
//     -> xfs_filemap_fault()
//        checks IS_DAX: set                                                         "dax.fault.begin"
//                                             xfs_ioctl_setattr()                   flipper
//                                               locks MMAPLOCK                      invalidate_lock exclusive,
//                                               invalidates the mapping             "fs.flip.locked": dirty bytes made
//                                               changes IS_DAX                      durable, every view taken back
//        locks MMAPLOCK
//        handles a DAX fault of a file
//        that is none (or the other way
//        round): page is NULL, oops
//
// "Which means IS_DAX changed half way through a fault, despite us holding the MMAPLOCK". Here what a fault does does not
// follow from the flag: a view is of the pool's blocks whatever it says, and none survives a flip. What is left to the
// front doors (who may map at all now) is asked for under invalidate_lock, in Install.
#include "tests/races/race.h"
#include "tests/races/storm.h"

namespace udax::races {
namespace {

using Race6 = Race;

constexpr uint32_t kDax = format::kFlagDax;

struct Outcome {
  bool waited = false;
  bool has_view = false;  // of before the flip, when it has returned
  uint32_t flags = 0;
  std::string content;
};

/// A flip stands at `point` while a process stores through a view that it has, or wants.
Outcome play(Stage& stage, const char* point, std::chrono::milliseconds patience = 50ms) {
  Outcome out;
  const Ino f = stage.file("f", std::string(2 * kBlockSize, 'd'));
  Process p0;
  Process flipper;
  Mapping mapping(stage.mapper(), f);
  mapping.put(0, "before");
  Gate gate(point);
  flipper.run([&] {
    EXPECT_TRUE(stage->set_flags(f, kDax, kDax, {}, kRoot));
    out.has_view = mapping.pte(FileBlock(1)).is_there;
  });
  EXPECT_TRUE(gate.wait_reached());
  p0.run([&] { mapping.put(kBlockSize, "meanwhile"); });
  out.waited = p0.must_wait(patience);
  gate.open();
  flipper.join();
  p0.join();
  out.flags = stage->getattr(f)->flags;
  out.content = stage.read(f, 0, 6) + stage.read(f, kBlockSize, 9);
  return out;
}

TEST_F(Race6, FaultsWaitForAFlip) {
  for (const char* const point : {"fs.flip.locked", "dax.drop.invalidated", "fs.flip.done"}) {
    Stage stage;
    const Outcome out = play(stage, point);
    EXPECT_TRUE(out.waited) << point;
    EXPECT_EQ(out.flags, kDax) << point;
    EXPECT_EQ(out.content, "beforemeanwhile") << point;
  }
}

TEST_F(Race6, ControlAFaultMapsInTheMidstOfAFlip) {
  Stage stage;
  const ScopedKnob knob("dax.fault.skip_invalidate_lock");
  const Outcome out = play(stage, "dax.drop.invalidated", 10s);
  EXPECT_FALSE(out.waited);
  EXPECT_TRUE(out.has_view) << "made while the flag changed";
  stage.abandon();
}

TEST_F(Race6, AFlipWaitsForAFault) {
  for (const char* const point :
       {"dax.fault.locked", "dax.fault.zeroed", "dax.fault.allocated", "dax.fault.install"}) {
    Stage stage;
    const Ino f = stage.hole("f", kBlockSize);
    Process p0;
    Process flipper;
    Mapping mapping(stage.mapper(), f);
    Gate gate(point);
    p0.run([&] { mapping.put(0, "stored"); });
    EXPECT_TRUE(gate.wait_reached());
    flipper.run([&] { EXPECT_TRUE(stage->set_flags(f, kDax, kDax, {}, kRoot)); });
    EXPECT_TRUE(flipper.must_wait()) << point;
    gate.open();
    p0.join();
    flipper.join();
    EXPECT_EQ(stage.read(f, 0, 6), "stored") << point;
    EXPECT_EQ(stage->getattr(f)->flags, kDax) << point;
  }
}

TEST_F(Race6, AFlipTakesEveryViewBackAndWhatWasStoredIsDurable) {
  Stage stage(64 << 20);
  const Ino f = stage.hole("f", kHugeSize + 10 * kBlockSize);
  Mapping p0(stage.mapper(), f);
  Mapping p1(stage.huge_mapper(), f);
  for (const uint32_t flag : {kDax, 0U, kDax}) {
    const std::string mark = "flag " + std::to_string(flag);
    p1.put(100, mark);
    p0.put(kHugeSize + 100, mark);
    EXPECT_EQ(p0.get(100, mark.size()), mark);
    ASSERT_TRUE(stage->set_flags(f, flag, kDax, {}, kRoot));
    for (const uint64_t at : {uint64_t{0}, kHugeBlocks}) {
      EXPECT_FALSE(p0.pte(FileBlock(at)).is_there);
      EXPECT_FALSE(p1.pte(FileBlock(at)).is_there);
    }
    EXPECT_TRUE(stage.entries(p0).empty());
    EXPECT_EQ(stage.after_power_failure(f, 100, mark.size()), mark);
    EXPECT_EQ(stage.after_power_failure(f, kHugeSize + 100, mark.size()), mark);
    EXPECT_EQ(p0.get(100, mark.size()), mark);
  }
  EXPECT_EQ(stage->stats().dax.flips, 3U);
}

TEST_F(Race6, ControlAFlipLeavesViews) {
  Stage stage;
  const ScopedKnob knob("dax.drop.skip_invalidate");
  const Ino f = stage.file("f", std::string(kBlockSize, 'd'));
  Mapping p0(stage.mapper(), f);
  p0.put(0, "x");
  ASSERT_TRUE(stage->set_flags(f, kDax, kDax, {}, kRoot));
  EXPECT_TRUE(p0.pte(FileBlock(0)).is_there);
  stage.abandon();
}

TEST_F(Race6, AFlipThatCannotMakeBytesDurableDoesNotHappen) {
  Stage stage;
  const Ino f = stage.file("f", std::string(kBlockSize, 'd'));
  Mapping p0(stage.mapper(), f);
  p0.put(0, "x");
  stage.medium->fail_drains(1);
  const Status done = stage->set_flags(f, kDax, kDax, {}, kRoot);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error(), Error::kIo);
  EXPECT_EQ(stage->getattr(f)->flags, 0U);
  EXPECT_TRUE(stage->set_flags(f, kDax, kDax, {}, kRoot)) << "nothing is dirty any more";
  EXPECT_EQ(stage.read(f, 0, 1), "x");
}

// The other way round than in the diagram: a front door asks for the state before it faults. The answer may be old; asked
// for again in Install, it is not: invalidate_lock is held.
TEST_F(Race6, TheStateIsStableInInstall) {
  Stage stage;
  const Ino f = stage.file("f", std::string(kBlockSize, 'd'));
  ASSERT_TRUE(stage->set_flags(f, kDax, kDax, {}, kRoot));
  const auto file = *stage->open(f, O_RDWR, false);
  Process p0;
  Process flipper;
  bool before = false;
  bool in_install = false;
  Result<dax::FaultResult> result = Error::kNoTty;
  Gate begin("dax.fault.begin");
  p0.run([&] {
    before = stage->dax_state(f)->is_dax;
    result =
        stage->dax().fault(file->inode(), FileBlock(0), dax::Access::kRead, 0, [&](const dax::View&) -> Status {
          in_install = (file->inode().snapshot().flags & kDax) != 0;
          return in_install ? Status() : Status(Error::kAgain);  // go the other way
        });
  });
  EXPECT_TRUE(begin.wait_reached());
  flipper.run([&] { EXPECT_TRUE(stage->set_flags(f, 0, kDax, {}, kRoot)); });
  flipper.join();
  begin.open();
  p0.join();
  EXPECT_TRUE(before);
  EXPECT_FALSE(in_install);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error(), Error::kAgain);
}

TEST_F(Race6, LongForm) {
  storm({.loads = 4,
         .stores = 6,
         .writes = 3,
         .reads = 3,
         .truncates = 1,
         .punches = 1,
         .zero_ranges = 1,
         .flips = 4});
}

}  // namespace
}  // namespace udax::races
