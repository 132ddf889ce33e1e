// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "tools/storm/generator.h"
#include "tools/storm/shrink.h"
#include "tools/storm/snapshot.h"

namespace udax::storm {
namespace {

class LogFile : public testing::Test {
 protected:
  ~LogFile() override { std::filesystem::remove(path_); }
  void write(const std::string& text) const { std::ofstream(path_) << text; }
  const std::string path_ = testing::TempDir() + "udax_storm_log_" + std::to_string(::getpid());
};

TEST(OpText, ComesBackFromText) {
  Model own({0, 0}, 0755, true);
  Model shared({0, 0}, 0755, true);
  for (uint64_t n = 0; n < kSharedDirectories; ++n) ASSERT_EQ(shared.mkdir(shared_directory(n), 0755), 0);
  Generator generator(3, Choice::usual(), "p0_");
  for (int n = 0; n < 5000; ++n) {
    const Op op = generator.next(own, shared);
    const std::optional<Op> back = op_from_text(to_text(op));
    ASSERT_TRUE(back.has_value()) << to_text(op);
    EXPECT_EQ(*back, op) << to_text(op);
    if (!only_looks(op.kind)) static_cast<void>(apply(op.shared ? shared : own, op));
  }
}

TEST(OpText, RefusesWhatIsNone) {
  for (const char* text : {"", "shared", "creat", "create path", "create path=../x", "create path=/x",
                           "create path=a//b", "create path=a/", "create path=a%0", "create path=a%zz",
                           "create path=a%00b", "create slot=4", "create slot=-1", "write off=9223372036854775807",
                           "write len=99999999999", "rename to=a/../b", "create cat=1"}) {
    EXPECT_FALSE(op_from_text(text).has_value()) << text;
  }
}

TEST(OpText, EachKindHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < kKinds; ++i) {
    EXPECT_TRUE(names.insert(info(static_cast<Kind>(i)).name).second);
    EXPECT_EQ(kind_of(info(static_cast<Kind>(i)).name), static_cast<Kind>(i));
  }
}

TEST_F(LogFile, ComesBackFromFile) {
  Op op;
  op.kind = Kind::kCreate;
  op.path = "odd \n=%#";
  const std::vector<Op> ops = {op, Op{}};
  ASSERT_TRUE(write_log(path_, {.seed = 1, .round = 2, .process = 3}, ops, "two\nlines"));
  storm::Setup setup;
  std::vector<Op> back;
  std::string error;
  ASSERT_TRUE(read_log(path_, setup, back, error)) << error;
  EXPECT_EQ(back, ops);
  EXPECT_EQ(setup.seed, 1U);
  EXPECT_EQ(setup.process, 3U);
}

TEST_F(LogFile, RefusesWhatIsNone) {
  storm::Setup setup;
  std::vector<Op> ops;
  std::string error;
  EXPECT_FALSE(read_log(path_ + ".none", setup, ops, error));
  for (const char* text : {"", "create path=a\n", "setup cat=1\n", "setup seed=x\n", "setup seed=1\nnonsense\n"}) {
    write(text);
    EXPECT_FALSE(read_log(path_, setup, ops, error)) << text;
  }
}

TEST_F(LogFile, SnapshotComesBackFromFile) {
  Model tree({0, 0}, 0755, true);
  ASSERT_EQ(tree.create("a b", 0644), 0);
  ASSERT_EQ(tree.link("a b", "c"), 0);
  Snapshot snapshot;
  std::string error;
  snapshot.with_dax = true;
  ASSERT_TRUE(describe(tree, true, snapshot.trees["p0"], error)) << error;
  ASSERT_EQ(snapshot.trees["p0"].size(), 3U);
  EXPECT_NE(snapshot.trees["p0"][2].find("first=a%20b"), std::string::npos) << snapshot.trees["p0"][2];
  ASSERT_TRUE(write_snapshot(path_, snapshot));
  Snapshot back;
  ASSERT_TRUE(read_snapshot(path_, back, error)) << error;
  EXPECT_EQ(back.trees, snapshot.trees);
  EXPECT_TRUE(back.with_dax);
  write("something else\n");
  EXPECT_FALSE(read_snapshot(path_, back, error));
}

// Regression: what was left could be the rename of a directory that the shared tree cannot be without, which fails for that.
TEST(Shrink, LeavesTheSharedDirectories) {
  Op make;
  make.kind = Kind::kMkdir;
  make.shared = true;
  make.path = "d1/p0_5";
  Op move = make;
  move.kind = Kind::kRename;
  move.to = "d0/p0_30";
  const stress::Trial<Op> trial = [&](const std::vector<Op>& ops) -> std::optional<size_t> {
    for (size_t i = 0; i < ops.size(); ++i) {
      const bool is_made = i > 0 && ops[i - 1] == make;
      if (ops[i].kind == Kind::kRename && (is_made || ops[i].path == "d1")) return i;
    }
    return std::nullopt;
  };
  const std::vector<Op> shortest = shrink({make, move}, trial, std::chrono::seconds(10));
  EXPECT_EQ(shortest, (std::vector<Op>{make, move}));
  // Elsewhere a directory may go, and what was in it is above then.
  make.shared = move.shared = false;
  make.path = "a/b";
  move.path = "a/b";
  move.to = "a/c";
  const stress::Trial<Op> any_move = [](const std::vector<Op>& ops) -> std::optional<size_t> {
    for (size_t i = 0; i < ops.size(); ++i) {
      if (ops[i].kind == Kind::kRename) return i;
    }
    return std::nullopt;
  };
  EXPECT_EQ(shrink({make, move}, any_move, std::chrono::seconds(10)).size(), 1U);
}

}  // namespace
}  // namespace udax::storm
