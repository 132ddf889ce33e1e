// SPDX-License-Identifier: BSD-3-Clause
#include "tools/storm/session.h"

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "tests/unit/tools_storm/faulty_tree.h"
#include "tools/storm/generator.h"
#include "tools/storm/shrink.h"

namespace udax::storm {
namespace {

constexpr uint64_t kRounds = 12;
constexpr uint64_t kOperations = 2000;
constexpr Owner kOwner{1000, 1000};

Traits traits() {
  Traits out;
  out.dax = true;
  out.dax_inherits = true;
  out.counts_subdirs = true;
  out.devices = true;
  return out;
}

Choice choice() {
  Choice out = Choice::usual();
  out.shared_percent = 0;
  out.as_root = true;
  out.devices = true;
  out.entries_max = 60;
  out.file_size_max = 1000;
  return out;
}

struct Player {
  explicit Player(Bug bug) : tree(bug, kOwner), session(tree, model, all, "") {}

  const Traits all = traits();
  FaultyTree tree;
  Model model{kOwner, 0755, true};
  Session session;
};

// The index at which the list fails on a fresh tree.
std::optional<size_t> play(Bug bug, const std::vector<Op>& ops) {
  Player run(bug);
  for (size_t i = 0; i < ops.size(); ++i) {
    if (run.session.run(ops[i])) return i;
  }
  return std::nullopt;
}

// In rounds, as the program does it: what is found early in one is short.
std::optional<std::vector<Op>> find_failure(Bug bug, uint64_t seed, std::string* what) {
  for (uint64_t round = 0; round < kRounds; ++round) {
    Player player(bug);
    Model nobody(kOwner, 0755, true);
    Generator generator(derive_seed(seed, round), choice(), "p0_");
    std::vector<Op> ops;
    for (uint64_t n = 0; n < kOperations; ++n) {
      ops.push_back(n % 500 == 499 ? Op{} : generator.next(player.model, nobody));
      const std::optional<Failure> failure = player.session.run(ops.back());
      if (!failure) continue;
      *what = failure->what;
      EXPECT_EQ(failure->error, 0);
      return ops;
    }
  }
  return std::nullopt;
}

std::string shown(const std::vector<Op>& ops) {
  std::string out;
  for (const Op& op : ops) out += '\n' + to_text(op);
  return out;
}

class EachBug : public testing::TestWithParam<Bug> {};

TEST_P(EachBug, IsFoundAndShrinks) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    std::string what;
    const std::optional<std::vector<Op>> failing = find_failure(GetParam(), seed, &what);
    ASSERT_TRUE(failing.has_value()) << "seed " << seed;
    const stress::Trial<Op> trial = [](const std::vector<Op>& ops) { return play(GetParam(), ops); };
    const std::vector<Op> shortest = shrink(*failing, trial, std::chrono::seconds(60));
    EXPECT_LT(shortest.size(), 20U) << what << shown(shortest);
    EXPECT_EQ(play(GetParam(), shortest), shortest.size() - 1);
    EXPECT_EQ(play(Bug::kNone, shortest), std::nullopt);  // it is the bug, not the operations
  }
}

INSTANTIATE_TEST_SUITE_P(Session, EachBug,
                         testing::Values(Bug::kNoReplaceReplaces, Bug::kExchangeMovesOnly, Bug::kUnlinkKeepsCount,
                                         Bug::kRmdirTakesAll, Bug::kRenameLosesXattrs, Bug::kRenameKeepsName,
                                         Bug::kOrphanIsEmpty, Bug::kOrphanComesBack, Bug::kWriteKeepsTime,
                                         Bug::kChmodSetsTime, Bug::kUtimensCutsTime, Bug::kScanSkips,
                                         Bug::kListTwice, Bug::kExtendShowsOld, Bug::kChownKeepsSetUid,
                                         Bug::kFlagIsNotInherited, Bug::kSymlinkCut));

TEST(Session, FindsNothingWhereNothingIsWrong) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    std::string what;
    EXPECT_FALSE(find_failure(Bug::kNone, seed, &what).has_value()) << seed << ": " << what;
  }
}

TEST(Session, LeavesUndoneWhatMakesNoSense) {
  for (size_t i = 0; i < kKinds; ++i) {
    Player run(Bug::kNone);
    Op op;
    op.kind = static_cast<Kind>(i);
    EXPECT_FALSE(run.session.run(op)) << to_text(op);
    op.path = "there/is/none";
    op.to = "of/this";
    EXPECT_FALSE(run.session.run(op)) << to_text(op);
  }
}

Op op(Kind kind, const std::string& path, const std::string& to = {}) {
  Op out;
  out.kind = kind;
  out.path = path;
  out.to = to;
  out.mode = 0755;
  return out;
}

TEST(Model, RenameIsRefusedAsByTheKernel) {
  Model model(kOwner, 0755, false);
  for (const char* path : {"a", "a/b", "a/b/c", "empty"}) ASSERT_EQ(model.mkdir(path, 0755), 0);
  ASSERT_EQ(model.create("file", 0644), 0);
  EXPECT_EQ(model.rename("a", "a/b/c/d", 0), -EINVAL);
  EXPECT_EQ(model.rename("a/b/c", "a", 0), -ENOTEMPTY);
  EXPECT_EQ(model.rename("a/b/c", "a", RENAME_EXCHANGE), -EINVAL);
  EXPECT_EQ(model.rename("a", "file", 0), -ENOTDIR);
  EXPECT_EQ(model.rename("file", "empty", 0), -EISDIR);
  EXPECT_EQ(model.rename("empty", "a", 0), -ENOTEMPTY);
  EXPECT_EQ(model.rename("none", "file", RENAME_NOREPLACE), -ENOENT);
  EXPECT_EQ(model.rename("file", "empty", RENAME_NOREPLACE), -EEXIST);
  EXPECT_EQ(model.rename("file", "none", RENAME_EXCHANGE), -ENOENT);
  EXPECT_EQ(model.rename("file/x", "none", 0), -ENOTDIR);
  EXPECT_EQ(model.rename("none", std::string(256, 'x'), 0), -ENOENT);
  EXPECT_EQ(model.rename("file", std::string(256, 'x'), 0), -ENAMETOOLONG);
  ASSERT_EQ(model.link("file", "second"), 0);
  EXPECT_EQ(model.rename("file", "second", 0), 0);  // both stay
  EXPECT_NE(model.find("file"), nullptr);
  EXPECT_EQ(model.rename("a/b", "empty", RENAME_EXCHANGE), 0);
  EXPECT_EQ(model.find("empty/c")->parent, model.find("empty"));
}

// Two that work in one tree: each knows its own names; of the others' all that can be said is what is possible.
TEST(Shared, SeesItsOwnNamesOnly) {
  const Traits all = traits();
  FaultyTree tree(Bug::kNone, kOwner);
  Model mine(kOwner, 0755, true);
  Model others(kOwner, 0755, true);
  for (Model* model : {static_cast<Model*>(&tree), &mine, &others}) ASSERT_EQ(model->mkdir("d0", 0755), 0);
  Session first(tree, mine, all, "p0_");
  Session second(tree, others, all, "p1_");
  EXPECT_FALSE(first.run(op(Kind::kCreate, "d0/p0_1")));
  EXPECT_FALSE(second.run(op(Kind::kCreate, "d0/p1_1")));
  EXPECT_FALSE(first.run(op(Kind::kCreate, "d0/x1")));
  EXPECT_FALSE(second.run(op(Kind::kCreate, "d0/x1")));  // EEXIST may be
  EXPECT_FALSE(second.run(op(Kind::kRename, "d0/x1", "d0/x2")));
  EXPECT_FALSE(first.run(op(Kind::kUnlink, "d0/x1")));
  EXPECT_FALSE(first.run(op(Kind::kList, "d0")));
  EXPECT_FALSE(first.run(Op{}));
  ASSERT_EQ(tree.unlink("d0/p0_1"), 0);  // lost
  EXPECT_TRUE(first.run(op(Kind::kList, "d0")));
  EXPECT_TRUE(first.run(op(Kind::kStat, "d0/p0_1")));
  EXPECT_FALSE(second.run(Op{}));
}

}  // namespace
}  // namespace udax::storm
