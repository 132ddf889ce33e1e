// SPDX-License-Identifier: BSD-3-Clause
//
// A sample of every suite of the explorer. All of them: udax-crash, or tools/test.sh --crash.
//
// Negative controls: with safeguards taken away the explorer must find violations. All of them: udax-crash --mutate.
#include <gtest/gtest.h>

#include <cstdio>

#include "base/log.h"
#include "base/sync_point.h"
#include "tests/crash/engine/suites.h"

namespace udax::crash {
namespace {

class QuietLog {
 public:
  QuietLog() { static_cast<void>(log_init(LogLevel::kError, LogTarget::kStderr)); }
  ~QuietLog() { static_cast<void>(log_init(LogLevel::kInfo, LogTarget::kStderr)); }
};

class CrashSuite : public testing::TestWithParam<size_t> {};

TEST_P(CrashSuite, HasNoViolation) {
  const QuietLog quiet;
  const Suite suite = suites(Scale::kQuick, 1).at(GetParam());
  const SuiteResult result = run_suite(suite, 0, 1, [](const Violation& v) {
    ADD_FAILURE() << "udax-crash --replay " << v.id << "\n" << v.story;
  });
  std::printf("seed 1\n%s%s", table_head().c_str(), table_row(suite.name, result.totals).c_str());
  EXPECT_GT(result.totals.images, 100U);
}

std::string name_of_suite(const testing::TestParamInfo<size_t>& info) {
  return suites(Scale::kQuick, 1).at(info.param).name;
}

INSTANTIATE_TEST_SUITE_P(Quick, CrashSuite, testing::Range<size_t>(0, suites(Scale::kQuick, 1).size()),
                         name_of_suite);

TEST(Crash, AViolationIsReplayedByItsId) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "needs a build with knobs (UDAX_SYNC_POINTS)";
  const QuietLog quiet;
  const sync_point::ScopedKnob taken_away("journal.skip_record_drain");
  Lab lab;
  const auto workload = Workload::parse("plain/rename_onto_file!", 3);
  ASSERT_TRUE(workload);
  const auto violations = lab.run(*workload, Budget{}, 1);
  ASSERT_FALSE(violations.empty());
  const auto id = ImageId::parse(violations.front().id);
  ASSERT_TRUE(id) << violations.front().id;
  const auto again = Workload::parse(id->workload, id->seed);
  ASSERT_TRUE(again);
  EXPECT_NE(Lab().replay(*again, id->points), "") << violations.front().id;
}

}  // namespace
}  // namespace udax::crash
