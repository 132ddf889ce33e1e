// SPDX-License-Identifier: BSD-3-Clause
//
// Negative controls of the explorer: with any of its safeguards taken away, or a known bug put in, something is found.
// With what is known to survive, and why: udax-crash --mutate.
#include <gtest/gtest.h>

#include <cstdio>

#include "base/sync_point.h"
#include "tests/crash/engine/damage.h"
#include "tests/crash/engine/mutation.h"

namespace udax::crash {
namespace {

class Mutations : public testing::TestWithParam<MutationClass> {};

TEST_P(Mutations, AreKilled) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "needs a build with knobs (UDAX_SYNC_POINTS)";
  std::vector<Mutation> some;
  for (const Mutation& m : mutations()) {
    if (m.kind == GetParam() && m.survives_because == nullptr) some.push_back(m);
  }
  ASSERT_FALSE(some.empty());
  static_cast<void>(run_mutations(some, 1, 2, [](const MutationResult& r) {
    std::printf("%-32s %s\n", r.mutation->knob, r.how.c_str());
    EXPECT_TRUE(r.killed) << r.mutation->knob << ": " << r.mutation->what;
  }));
}

std::string name_of_class(const testing::TestParamInfo<MutationClass>& info) { return to_string(info.param); }

INSTANTIATE_TEST_SUITE_P(Of, Mutations,
                         testing::Values(MutationClass::kFlush, MutationClass::kDrain, MutationClass::kOrder,
                                         MutationClass::kAppend, MutationClass::kReplay, MutationClass::kChecksum,
                                         MutationClass::kBug),
                         name_of_class);

TEST(Damage, IsNoticed) {
  Lab lab;
  for (const Violation& v : run_damage(lab, 10)) ADD_FAILURE() << v.id << "\n" << v.story;
}

}  // namespace
}  // namespace udax::crash
