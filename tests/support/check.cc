// SPDX-License-Identifier: BSD-3-Clause
#include "tests/support/check.h"

#include <gtest/gtest.h>

#include <string>

#include "check/check.h"

namespace udax::test {

void expect_clean(const media::Medium& medium) {
  check::CheckOptions options;
  options.problems_max = 20;
  std::string why;
  const auto report = check::check_pool(medium, options, &why);
  if (!report) {
    ADD_FAILURE() << "the pool cannot be checked: " << to_string(report.error()) << ": " << why;
    return;
  }
  if (report->clean()) return;
  std::string list;
  for (const check::Problem& problem : report->problems) {
    list += "\n  [" + std::string(check::to_string(problem.code)) + "] " + problem.what;
  }
  if (report->problem_count > report->problems.size()) list += "\n  ...";
  ADD_FAILURE() << "the pool has " << report->problem_count << " problems:" << list;
}

}  // namespace udax::test
