// SPDX-License-Identifier: BSD-3-Clause
#include "tools/fsx/session.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <vector>

#include "tests/unit/tools_fsx/faulty_file.h"
#include "tools/fsx/generator.h"
#include "tools/fsx/report.h"
#include "tools/stress/ddmin.h"

namespace udax::fsx {
namespace {

constexpr uint64_t kOperations = 20'000;

Setup small() {
  Setup setup;
  setup.max_size = 64 * 1024;
  return setup;
}

Choice everything() {
  Choice choice = Choice::usual();
  choice.length_max = 16 * 1024;
  choice.weights[static_cast<size_t>(Kind::kFlip)] = 2;
  return choice;
}

// The index at which the list fails on a fresh file.
std::optional<size_t> play(Bug bug, const std::vector<Op>& ops) {
  FaultyFile file(bug);
  Session session(file, small(), 0);
  for (size_t i = 0; i < ops.size(); ++i) {
    if (session.run(ops[i])) return i;
  }
  return std::nullopt;
}

std::optional<std::vector<Op>> find_failure(Bug bug, uint64_t seed) {
  FaultyFile file(bug);
  Session session(file, small(), 0);
  Generator generator(seed, small(), everything(), 0);
  std::vector<Op> ops;
  for (uint64_t n = 0; n < kOperations; ++n) {
    ops.push_back(n % 100 == 99 ? Op{} : generator.next(session.size()));
    const std::optional<Failure> failure = session.run(ops.back());
    if (!failure) continue;
    EXPECT_FALSE(is_environment(*failure));
    EXPECT_FALSE(describe(*failure, session, ops).empty());
    return ops;
  }
  return std::nullopt;
}

class EachBug : public testing::TestWithParam<Bug> {};

TEST_P(EachBug, IsFoundAndShrinks) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const std::optional<std::vector<Op>> failing = find_failure(GetParam(), seed);
    ASSERT_TRUE(failing.has_value()) << "seed " << seed;
    const stress::Trial<Op> trial = [](const std::vector<Op>& ops) { return play(GetParam(), ops); };
    const std::vector<Op> shortest = stress::ddmin(*failing, trial, std::chrono::seconds(60));
    EXPECT_LT(shortest.size(), 10U);
    EXPECT_EQ(play(GetParam(), shortest), shortest.size() - 1);
    EXPECT_EQ(play(Bug::kNone, shortest), std::nullopt);  // it is the bug, not the operations
  }
}

INSTANTIATE_TEST_SUITE_P(Session, EachBug,
                         testing::Values(Bug::kPunchKeepsTail, Bug::kAppendLost, Bug::kZeroPageKept,
                                         Bug::kExtendShowsOld, Bug::kMappedStoreLost, Bug::kDirectReadIsStale,
                                         Bug::kCopyIsShort, Bug::kZeroRangeKeepsSize, Bug::kHoleOverData,
                                         Bug::kFlipDropsStores, Bug::kFailsOnce));

TEST(Session, FindsNothingWhereNothingIsWrong) {
  for (uint64_t seed = 1; seed <= 5; ++seed) EXPECT_FALSE(find_failure(Bug::kNone, seed).has_value()) << seed;
}

TEST(Session, SameSeedSameOperations) {
  Generator a(7, small(), everything(), 0);
  Generator b(7, small(), everything(), 0);
  for (int n = 0; n < 1000; ++n) EXPECT_EQ(a.next(5000), b.next(5000));
}

TEST(Session, OperationsCutToWhatIsThere) {
  FaultyFile file(Bug::kNone);
  Session session(file, small(), 0);
  for (size_t i = 0; i < kKinds; ++i) {  // on an empty file, and far out
    Op op;
    op.kind = static_cast<Kind>(i);
    op.offset = op.length = op.to = UINT64_MAX / 4;
    EXPECT_FALSE(session.run(op)) << to_text(op);
    op.length = 0;
    EXPECT_FALSE(session.run(op)) << to_text(op);
  }
}

TEST(Session, NamesWhoTouchedTheRange) {
  FaultyFile file(Bug::kNone);
  Session session(file, small(), 0);
  EXPECT_FALSE(session.run({.kind = Kind::kWrite, .length = 100, .tag = 1}));
  EXPECT_FALSE(session.run({.kind = Kind::kWrite, .offset = 200, .length = 100, .tag = 2}));
  EXPECT_FALSE(session.run({.kind = Kind::kPunch, .offset = 50, .length = 10}));
  EXPECT_EQ(session.who_touched(40, 20, 10), (std::vector<uint64_t>{0, 2}));
  EXPECT_EQ(session.who_touched(250, 1, 10), (std::vector<uint64_t>{1}));
  EXPECT_EQ(session.who_touched(40, 20, 1), (std::vector<uint64_t>{2}));
}

TEST(Session, NoSpaceIsNotAWrongByte) {
  class Full : public FaultyFile {
   public:
    Full() : FaultyFile(Bug::kNone) {}
    int64_t write(int, uint64_t, std::span<const std::byte>) override { return -ENOSPC; }
  } file;
  Session session(file, small(), 0);
  const auto failure = session.run({.kind = Kind::kWrite, .length = 100, .tag = 1});
  ASSERT_TRUE(failure.has_value());
  EXPECT_TRUE(is_environment(*failure));
}

// Several sessions on one file, taking turns: each looks at its own bytes only.
class Shared : public testing::Test {
 protected:
  static constexpr uint32_t kProcesses = 3;

  static fsx::Setup setup() {
    fsx::Setup out;
    out.max_size = 64 * 1024;
    out.processes = kProcesses;
    out.unit = 100;
    out.shared_size = 30'000;
    return out;
  }

  static std::optional<Failure> run(Bug bug, uint64_t seed) {
    Choice choice = everything();
    choice.leave_out(Group::kCopy);  // each would need a second file of its own
    FaultyFile file(bug, setup().shared_size);
    std::vector<std::unique_ptr<Session>> sessions;
    std::vector<Generator> generators;
    Generator together(seed, setup(), choice, 0);
    for (uint8_t me = 0; me < kProcesses; ++me) {
      sessions.push_back(std::make_unique<Session>(file, setup(), me));
      generators.emplace_back(seed + me, setup(), choice, me);
    }
    for (uint64_t n = 0; n < kOperations; ++n) {
      const bool all = n % 50 == 49;
      const Op op = all ? together.next_for_all() : Op{};
      for (uint8_t me = 0; me < kProcesses; ++me) {
        auto failure = sessions[me]->run(all ? op : generators[me].next(sessions[me]->size()));
        if (failure) return failure;
      }
    }
    return std::nullopt;
  }
};

TEST_F(Shared, FindsNothingWhereNothingIsWrong) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const auto failure = run(Bug::kNone, seed);
    EXPECT_FALSE(failure.has_value()) << seed << ": " << failure->what;
  }
}

TEST_F(Shared, FindsAnUpdateLostBetweenTwo) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    EXPECT_TRUE(run(Bug::kMappedStoreLost, seed).has_value());
    EXPECT_TRUE(run(Bug::kFlipDropsStores, seed).has_value());
    EXPECT_TRUE(run(Bug::kZeroPageKept, seed).has_value());
  }
}

}  // namespace
}  // namespace udax::fsx
