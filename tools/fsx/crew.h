// SPDX-License-Identifier: BSD-3-Clause
//
// The processes that work on one file for one round, and the parent that watches them.
//
// They share an anonymous mapping: flags, a barrier, counters, the report of the first that failed, and each one's
// operations (written by that one only, so that the parent has them whatever became of it). The parent holds no
// descriptor or mapping of the file while they run, and ends them if it ends.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "tools/fsx/file_target.h"
#include "tools/fsx/generator.h"
#include "tools/fsx/op.h"
#include "tools/fsx/session.h"

namespace udax::fsx {

struct CrewOptions {
  std::string path;
  Setup setup;
  DaxStates dax_states;
  bool op_flips = false;        // operations flip the DAX flag
  bool flipper = false;         // one more process does, all the while
  std::string live_log;         // each operation goes here before it begins; empty: nowhere
  uint64_t hang_seconds = 300;  // no operation ended for so long: failed; 0: wait for ever
};

struct Draw {                // a round of operations drawn at random
  uint64_t operations = 0;   // of each process
  uint64_t check_every = 0;  // operations; 0: at the end only
  uint64_t meet_every = 0;   // operations, with several processes
  Choice choice;
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
};

enum class Ending : uint8_t { kPassed, kFailed, kEnvironment, kInterrupted };

struct Outcome {
  Ending ending = Ending::kPassed;
  std::string report;      // unless passed
  uint64_t failed_at = 0;  // replay: the index in the list
  std::vector<Op> ops;     // what was done, in the order in which it began
  uint64_t operations = 0;
  uint64_t flips = 0;
  uint64_t flips_refused = 0;
};

/// Makes the file anew and runs a round on it; the seed is the setup's, derived by its round.
[[nodiscard]] Outcome run_round(const CrewOptions& options, const Draw& draw);
/// Makes the file anew and does the operations of a log: each process its own, meeting where all meet. `in_step`: one
/// operation at a time, in the order of the list.
[[nodiscard]] Outcome run_list(const CrewOptions& options, const std::vector<Op>& ops, bool in_step);

/// What a round left: removes the file, its other name and the second ones.
void remove_files(const CrewOptions& options);

/// For a signal handler: the round ends as soon as it can, as kInterrupted.
void interrupt();

}  // namespace udax::fsx
