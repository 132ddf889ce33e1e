// SPDX-License-Identifier: BSD-3-Clause
//
// Race 5: a direct read against a write fault that allocates under it.
//
// Thread: the review of moving ext4's direct I/O to iomap (the fourth of this project's five, without date and subject in
// what is left of it), Ritesh Harjani answering Jan Kara.
//
//   Process 0                                 Process 1                             here
//
//   read('f'), direct                                                               reader: rwsem and extent_lock shared
//     iomap_dio_rw()
//       filemap_write_and_wait_range()
//       inode_dio_begin()
//       invalidate_inode_pages2_range()
//                                             data[0] = 1                           storer
//                                               ext4_page_mkwrite()
//                                                 ext4_get_block(): allocates       must wait for extent_lock
//       ext4_map_blocks()
//       // this will return IOMAP_MAPPED
//       submit_bio()                                                                "fs.read.gathered"
//       // this goes and reads the block with stale data
//
// "And if submit_bio() from DIO path is serviced late i.e. after ext4_get_block() has already allocated block there, then
// this may expose stale data. Thoughts?" Here a block is zeroed, durably, before an extent points at it.
#include "tests/races/race.h"
#include "tests/races/storm.h"

namespace udax::races {
namespace {

using Race5 = Race;

bool is_stale(const std::string& bytes) { return bytes.find(test::kStale) != std::string::npos; }

/// What a read gives that goes on while a write fault stands at `point`, and one that is made after.
struct Outcome {
  std::string during, after;
};
Outcome play(Stage& stage, const char* point, Ino f) {
  Outcome out;
  Process storer;
  Process reader;
  Mapping mapping(stage.mapper(), f);
  Gate gate(point);
  storer.run([&] { mapping.put(1000, "x"); });
  EXPECT_TRUE(gate.wait_reached());
  // Around the byte that is stored: to read that, too, would be a race of the application's.
  const auto read_around = [&] { return stage.read(f, 0, 1000) + '?' + stage.read(f, 1001, kBlockSize - 1001); };
  reader.run([&] { out.during = read_around(); });
  std::this_thread::sleep_for(50ms);
  gate.open();
  storer.join();
  reader.join();
  out.after = stage.read(f, 0, kBlockSize);
  return out;
}

const std::string kZeroes(kBlockSize, '\0');
const std::string kAround = std::string(1000, '\0') + "?" + std::string(kBlockSize - 1001, '\0');
const std::string kStored = std::string(1000, '\0') + "x" + std::string(kBlockSize - 1001, '\0');

TEST_F(Race5, ReadsGiveZeroesOrWhatWasStored) {
  for (const char* const point :
       {"dax.fault.entry_locked", "dax.fault.zeroed", "dax.fault.allocated", "dax.fault.install"}) {
    for (const bool is_unwritten : {false, true}) {
      Stage stage;
      const Ino f = stage.hole("f", kBlockSize);
      if (is_unwritten) {
        const auto file = *stage->open(f, O_RDWR, false);
        EXPECT_TRUE(stage->fallocate(*file, 0, 0, kBlockSize));
      }
      const Outcome out = play(stage, point, f);
      EXPECT_EQ(out.during, kAround) << point;
      EXPECT_EQ(out.after, kStored) << point;
      stage.fsync(f);
      EXPECT_EQ(stage.after_power_failure(f, 0, kBlockSize), kStored);
    }
  }
}

TEST_F(Race5, ControlTheBlockIsNotZeroed) {
  Stage stage;
  const ScopedKnob knob("dax.fault.skip_zero");
  const Outcome out = play(stage, "dax.fault.allocated", stage.hole("f", kBlockSize));
  EXPECT_TRUE(is_stale(out.during));
  EXPECT_TRUE(is_stale(out.after));
  stage.abandon();
}

// The diagram itself: the read has its blocks in hand when the fault comes.
TEST_F(Race5, TheFaultWaitsForAReadUnderWay) {
  Stage stage;
  const Ino f = stage.hole("f", kBlockSize);
  std::string during;
  Process reader;
  Process storer;
  Mapping mapping(stage.mapper(), f);
  Gate gathered("fs.read.gathered");
  reader.run([&] { during = stage.read(f, 0, kBlockSize); });
  EXPECT_TRUE(gathered.wait_reached());
  storer.run([&] { mapping.put(1000, "x"); });
  EXPECT_TRUE(storer.must_wait());
  gathered.open();
  reader.join();
  storer.join();
  EXPECT_EQ(during, kZeroes);
  EXPECT_EQ(stage.read(f, 0, kBlockSize), kStored);
}

// A read of data in a block that is punched, and given to another file, while the read has it in hand.
TEST_F(Race5, APunchWaitsForAReadUnderWay) {
  Stage stage;
  const Ino f = stage.file("f", std::string(kBlockSize, 'd'));
  std::string during;
  Process reader;
  Process puncher;
  Gate gathered("fs.read.gathered");
  reader.run([&] { during = stage.read(f, 0, kBlockSize); });
  EXPECT_TRUE(gathered.wait_reached());
  puncher.run([&] { stage.punch(f, 0, kBlockSize); });
  EXPECT_TRUE(puncher.must_wait());
  gathered.open();
  reader.join();
  puncher.join();
  EXPECT_EQ(during, std::string(kBlockSize, 'd'));
  EXPECT_EQ(stage.read(f, 0, kBlockSize), kZeroes);
}

TEST_F(Race5, LongForm) {
  storm({.loads = 1, .stores = 5, .writes = 1, .reads = 5, .punches = 3, .allocates = 2});
}

}  // namespace
}  // namespace udax::races
