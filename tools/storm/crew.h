// SPDX-License-Identifier: BSD-3-Clause
//
// The processes of a round, each with a tree of its own (p0, p1, ...) and a part in the shared one, and the parent that
// watches them.
//
// They share an anonymous mapping: flags, counters, the report of the first that failed, and each one's operations as
// text (written by that one only, so that the parent has them whatever became of it).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/storm/directory.h"
#include "tools/storm/generator.h"
#include "tools/storm/op.h"
#include "tools/storm/snapshot.h"

namespace udax::storm {

struct CrewOptions {
  std::string path;  // the directory
  uint32_t processes = 1;
  uint64_t seed = 0;
  uint64_t round = 0;
  Traits traits;
  Choice choice;
  uint64_t operations = 0;          // of each process
  uint64_t check_every = 0;         // operations between checks of the whole tree; 0: at the end only
  uint64_t hang_seconds = 300;      // 0: wait for ever
  bool set_aside = false;           // trees that cannot be removed are renamed, to "p0.left1" and so on
  std::optional<uint64_t> acts_as;  // run_list: whose names in the shared tree are this process's
  std::string live_log;  // each operation goes to this file and ".p0" etc. before it begins; empty: nowhere
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
};

enum class Ending : uint8_t { kPassed, kFailed, kEnvironment, kInterrupted };

struct Outcome {
  Ending ending = Ending::kPassed;
  std::string report;
  uint64_t failed_at = 0;  // the index of the operation
  uint64_t process = 0;    // that failed
  std::vector<Op> ops;     // that it had done
  uint64_t operations = 0;
  uint64_t refused = 0;
  uint64_t flips = 0;
};

/// Makes the trees anew and runs a round.
[[nodiscard]] Outcome run_round(const CrewOptions& options);
/// Makes the trees anew and does the operations, in one process.
[[nodiscard]] Outcome run_list(const CrewOptions& options, const std::vector<Op>& ops);

/// Trees that a round left. Empty, or what could neither be removed nor set aside.
[[nodiscard]] std::string remove_trees(const CrewOptions& options);
/// The trees of a round, by name.
[[nodiscard]] std::vector<std::string> tree_names(uint32_t processes);

/// For a signal handler: the round ends as soon as it can.
void interrupt();

}  // namespace udax::storm
