// SPDX-License-Identifier: BSD-3-Clause
//
// Race 7: a copy-on-write fault of a private mapping against write and truncation.
//
// Thread: "Re: [PATCH v12 08/20] dax,ext2: Replace the XIP page fault handler with the DAX page fault handler", Matthew
// Wilcox to Andrew Morton, 13 January 2015: the same function serves private mappings, by copy_user_bh(); it looks the
// block up, copies it, and checks i_size under i_mmap_mutex after.
//
//   Process 0                                 Process 1                             here
//
//   data = mmap('f', MAP_PRIVATE)
//   data[0] = 1
//     -> dax_fault()
//        pgoff < i_size: fine                                                       "dax.fault.within"
//        get_block(): block B                                                       extent_lock shared
//                                             ftruncate('f', 0)                     must wait for invalidate_lock
//                                               frees B; others get it
//        copy_user_bh() from B                                                      "dax.fault.copy"
#include "tests/races/race.h"
#include "tests/races/storm.h"

namespace udax::races {
namespace {

using Race7 = Race;
constexpr Mapping::Kind kPrivate = Mapping::Kind::kPrivate;

struct Outcome {
  bool waited = false;
  Touch store = Touch::kDone;
  std::string copy;  // of the private page, but for what was stored
};

/// A COW fault stands at `point` while another process does `what` to the file.
Outcome play(Stage& stage, const char* point, Ino f, const std::function<void()>& what,
             std::chrono::milliseconds patience = 50ms) {
  Outcome out;
  Process p0;
  Process p1;
  Mapping mapping(stage.mapper(), f, kPrivate);
  Gate gate(point);
  p0.run([&] { out.store = mapping.store(0, "x", 1); });
  EXPECT_TRUE(gate.wait_reached());
  p1.run(what);
  out.waited = p1.must_wait(patience);
  gate.open();
  p0.join();
  p1.join();
  if (out.store == Touch::kDone) {
    EXPECT_TRUE(mapping.pte(FileBlock(0)).is_own);
    EXPECT_EQ(mapping.get(0, 1), "x");
    out.copy = mapping.get(1, kBlockSize - 1);
  }
  return out;
}

const std::string kOld(kBlockSize - 1, 'd');
const std::string kZeroes(kBlockSize - 1, '\0');

TEST_F(Race7, ATruncationWaitsForTheCopy) {
  for (const char* const point : {"dax.fault.within", "dax.fault.copy"}) {
    Stage stage;
    const Ino f = stage.file("f", std::string(kBlockSize, 'd'));
    const Outcome out = play(stage, point, f, [&] { stage.resize(f, 0); });
    EXPECT_TRUE(out.waited) << point;
    EXPECT_EQ(out.store, Touch::kDone) << point;
    EXPECT_EQ(out.copy, kOld) << point;
    EXPECT_EQ(stage.blocks(f), 0U) << point;
  }
}

TEST_F(Race7, ControlAPageBehindTheEndIsCopied) {
  Stage stage;
  const ScopedKnob knob("dax.fault.skip_invalidate_lock");
  const Ino f = stage.file("f", std::string(kBlockSize, 'd'));
  const Outcome out = play(
      stage, "dax.fault.within", f, [&] { stage.resize(f, 0); }, 10s);
  EXPECT_FALSE(out.waited);
  EXPECT_EQ(out.store, Touch::kDone) << "no SIGBUS";
  EXPECT_EQ(out.copy, kZeroes);
  stage.abandon();
}

TEST_F(Race7, TheCopyWaitsForATruncation) {
  Stage stage;
  const Ino f = stage.file("f", std::string(kBlockSize, 'd'));
  Process p0;
  Process truncater;
  Mapping mapping(stage.mapper(), f, kPrivate);
  Touch touch = Touch::kDone;
  Gate gate("dax.drop.invalidated");
  EXPECT_EQ(mapping.get(0, 1), "d");
  truncater.run([&] { stage.resize(f, 0); });
  EXPECT_TRUE(gate.wait_reached());
  p0.run([&] { touch = mapping.store(0, "x", 1); });
  EXPECT_TRUE(p0.must_wait());
  gate.open();
  truncater.join();
  p0.join();
  EXPECT_EQ(touch, Touch::kBeyondEnd);
}

// A write to a hole: the copy has zeroes, or what was written; never what the new block held before.
TEST_F(Race7, TheCopyOfAHoleThatIsWritten) {
  for (const char* const point : {"dax.fault.within", "dax.fault.copy"}) {
    Stage stage;
    const Ino f = stage.hole("f", kBlockSize);
    const Outcome out = play(stage, point, f, [&] { stage.write(f, 100, "written"); });
    const std::string with_write = std::string(99, '\0') + "written" + std::string(kBlockSize - 107, '\0');
    EXPECT_TRUE(out.copy == kZeroes || out.copy == with_write) << point;
    EXPECT_EQ(stage.read(f, 1, kBlockSize - 1), with_write) << "nothing of a private store gets to the file";
  }
}

TEST_F(Race7, ControlTheWriteLeavesStaleBytesAroundIt) {
  Stage stage;
  const ScopedKnob knob("fs.skip_fill_zeroes");
  const Ino f = stage.hole("f", kBlockSize);
  const Outcome out = play(stage, "dax.fault.within", f, [&] { stage.write(f, 100, "written"); });
  EXPECT_NE(out.copy.find(test::kStale), std::string::npos);
  stage.abandon();
}

// A COW fault against a write fault that allocates.
TEST_F(Race7, TheCopyOfAHoleThatAnotherStoresTo) {
  for (const bool is_control : {false, true}) {
    Stage stage;
    const std::unique_ptr<ScopedKnob> knob =
        is_control ? std::make_unique<ScopedKnob>("dax.fault.skip_zero") : nullptr;
    const Ino f = stage.hole("f", kBlockSize);
    Mapping shared(stage.mapper(), f);
    const Outcome out = play(stage, "dax.fault.within", f, [&] { shared.put(100, "stored"); });
    const std::string with_store = std::string(99, '\0') + "stored" + std::string(kBlockSize - 106, '\0');
    const bool is_sound = out.copy == kZeroes || out.copy == with_store;
    EXPECT_NE(is_sound, is_control);
    if (is_control) stage.abandon();
  }
}

TEST_F(Race7, APrivateCopyStaysWhatItIs) {
  Stage stage;
  const Ino f = stage.file("f", std::string(2 * kBlockSize, 'd'));
  Mapping mine(stage.mapper(), f, kPrivate);
  Mapping shared(stage.mapper(), f);
  mine.put(0, "mine");
  shared.put(0, "theirs");
  shared.put(kBlockSize, "seen");
  stage.write(f, 10, "written");
  stage.punch(f, 0, kBlockSize);
  EXPECT_EQ(mine.get(0, 18), "minedddddddddddddd");
  EXPECT_EQ(mine.get(kBlockSize, 4), "seen") << "not copied yet: the file's";
  EXPECT_EQ(shared.get(0, 4), std::string(4, '\0'));
  EXPECT_EQ(stage->stats().dax.copied, 1U);
}

TEST_F(Race7, LongForm) {
  storm({.loads = 1, .stores = 4, .writes = 4, .truncates = 1, .punches = 2, .copies = 6});
}

}  // namespace
}  // namespace udax::races
