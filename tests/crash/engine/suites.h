// SPDX-License-Identifier: BSD-3-Clause
//
// The sets of workloads, and running one with a table of what came out.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/crash/engine/lab.h"

namespace udax::crash {

struct Suite {
  const char* name;
  const char* what;  // for people
  Budget budget;
  std::vector<Workload> workloads;
};

/// How much: for each test run, or for a run of its own.
enum class Scale : uint8_t { kQuick, kFull };

[[nodiscard]] std::vector<Suite> suites(Scale scale, uint64_t seed);

struct SuiteResult {
  Totals totals;
  std::vector<Violation> violations;
};

/// Runs those workloads of a suite whose index is `part` modulo `parts`. `on_violation` is told at once.
[[nodiscard]] SuiteResult run_suite(const Suite& suite, size_t part, size_t parts,
                                    const std::function<void(const Violation&)>& on_violation);

[[nodiscard]] std::string table_head();
[[nodiscard]] std::string table_row(std::string_view name, const Totals& totals);

}  // namespace udax::crash
