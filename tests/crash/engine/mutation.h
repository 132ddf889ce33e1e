// SPDX-License-Identifier: BSD-3-Clause
//
// Mutations: safeguards of the code that a knob of test builds takes away, and bugs that others' filesystems had, put in
// by a knob. Each must be noticed by the explorer. What is not is told with the reason why it may be so.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/crash/engine/suites.h"

namespace udax::crash {

/// What kind of safeguard a mutation takes away.
enum class MutationClass : uint8_t { kFlush, kDrain, kOrder, kAppend, kReplay, kChecksum, kBug };
inline constexpr size_t kMutationClasses = 7;
[[nodiscard]] const char* to_string(MutationClass c);

struct Mutation {
  const char* knob;
  MutationClass kind;
  const char* what;
  const char* first = nullptr;             // a workload that should notice, tried before all others
  const char* survives_because = nullptr;  // why nothing can notice it; null: something must
};

[[nodiscard]] std::span<const Mutation> mutations();

struct MutationResult {
  const Mutation* mutation = nullptr;
  bool killed = false;
  std::string how;  // the id of the image, or of what was damaged, and the first line of what is wrong with it
  std::string story;
  double seconds = 0;
};

/// Runs the explorer with each of the mutations taken away, each in a process of its own, `jobs` at once, until one of
/// its images is found wrong. `on_result` is told in order.
[[nodiscard]] std::vector<MutationResult> run_mutations(
    std::span<const Mutation> some, uint64_t seed, size_t jobs,
    const std::function<void(const MutationResult&)>& on_result);

/// Killed and total by class.
[[nodiscard]] std::string mutation_table(std::span<const MutationResult> results);

}  // namespace udax::crash
