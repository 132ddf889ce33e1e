// SPDX-License-Identifier: BSD-3-Clause
//
// Race 8: all of it at once. No thread has this one: it is what is left when the seven that have are taken care of, and
// somebody has overlooked an eighth.
//
// 8 threads with 4 page tables, of 4 KiB and 2 MiB views, on one file: loads, stores, write, read, truncation, punch, zero
// range, allocation, fsync, flips of the DAX flag, private mappings; every byte checked against a model (storm.h). The
// long form: UDAX_STORM_SECONDS=600.
//
// Negative controls: with a safeguard taken away the model must find a wrong byte. (Or the pool comes apart: then what
// ends the storm is an error.)
#include "base/random.h"
#include "tests/races/race.h"
#include "tests/races/storm.h"

namespace udax::races {
namespace {

using Race8 = Race;

constexpr Mix kAll{.loads = 8,
                   .stores = 10,
                   .writes = 5,
                   .reads = 5,
                   .truncates = 1,
                   .punches = 2,
                   .zero_ranges = 1,
                   .allocates = 1,
                   .fsyncs = 1,
                   .flips = 1,
                   .copies = 1};

TEST_F(Race8, AllAtOnce) { storm(kAll, 4); }

// Where a write(2) leaves dirty entries: a page is what is made durable.
TEST_F(Race8, AllAtOnceByPages) { storm(kAll, 1, {}, media::Granularity::kPage); }

// Where a write(2) puts new blocks into the place of those that are mapped.
TEST_F(Race8, AllAtOnceWithWritesThatAreAtomic) {
  fs::MountOptions options;
  options.data = fs::DataMode::kAtomic;
  storm(kAll, 1, options);
}

/// Storms on a pool that is thrown away, until something is wrong or it has gone on for long enough.
StormResult storm_without(const std::string& safeguard, const Mix& mix, std::chrono::microseconds window = 100us) {
  Stage stage(64 << 20);
  stage.abandon();
  const ScopedKnob knob(safeguard);
  // Between what a fault has found out and what it makes of it: the window that the safeguards close is made wide.
  const sync_point::ScopedHandler pause("dax.fault.install", [window] { std::this_thread::sleep_for(window); });
  return run_storm(stage.fs(), mix, 20, 1);
}

TEST_F(Race8, ControlWritesLeaveZeroViews) {
  EXPECT_NE(storm_without("dax.filled.skip", {.loads = 5, .stores = 1, .writes = 5, .punches = 2}).wrong, 0U);
}

TEST_F(Race8, ControlFaultsLeaveZeroViews) {
  const StormResult result =
      storm_without("dax.fault.keep_zero_views", {.loads = 5, .stores = 5, .writes = 0, .punches = 2});
  EXPECT_NE(result.wrong, 0U);
}

TEST_F(Race8, ControlRemovedBlocksKeepTheirViews) {
  EXPECT_NE(storm_without("dax.drop.skip_invalidate", {.loads = 5, .stores = 5, .punches = 2}).wrong, 0U);
}

TEST_F(Race8, ControlNewBlocksAreNotZeroed) {
  EXPECT_NE(storm_without("dax.fault.skip_zero", {.loads = 5, .stores = 5, .reads = 5, .punches = 2}).wrong, 0U);
}

TEST_F(Race8, ControlFaultsAndPunchesMeet) {
  const StormResult result =
      // A whole punch, and a reuse of its blocks, must fit in.
      storm_without("dax.fault.skip_invalidate_lock", {.loads = 5, .stores = 5, .writes = 5, .punches = 8}, 2ms);
  EXPECT_NE(result.wrong, 0U);
}

}  // namespace
}  // namespace udax::races
