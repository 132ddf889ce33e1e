// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>

#include <unistd.h>

#include "tools/fsx/generator.h"
#include "tools/fsx/op_log.h"
#include "tools/stress/ddmin.h"

namespace udax::fsx {
namespace {

Setup shared_setup() {
  Setup setup;
  setup.max_size = 1 << 20;
  setup.processes = 2;
  setup.unit = 64;
  setup.shared_size = 1 << 19;
  setup.seed = 12345;
  setup.round = 7;
  setup.past_end = true;
  setup.msync_seek = true;
  return setup;
}

class LogFile : public testing::Test {
 protected:
  ~LogFile() override { std::filesystem::remove(path_); }
  void write(const std::string& text) const { std::ofstream(path_) << text; }
  const std::string path_ = testing::TempDir() + "udax_fsx_log_" + std::to_string(::getpid());
};

TEST(OpText, ComesBackFromText) {
  const fsx::Setup setup = shared_setup();
  for (uint8_t me = 0; me < 2; ++me) {
    Generator generator(3, setup, Choice::usual(), me);
    for (int n = 0; n < 2000; ++n) {
      const Op op = n % 10 == 0 ? generator.next_for_all() : generator.next(900'000);
      const std::optional<Op> back = op_from_text(to_text(op));
      ASSERT_TRUE(back.has_value()) << to_text(op);
      EXPECT_EQ(*back, op) << to_text(op);
    }
  }
}

TEST(OpText, RefusesWhatIsNone) {
  for (const char* text : {"", "p1", "all", "writ", "write off", "write off=", "write off=-1", "write off=1x",
                           "write fd=9", "write off=99999999999999999999", "write len=18446744073709551615",
                           "p300 write", "px write", "write off=1 cat=2"}) {
    EXPECT_FALSE(op_from_text(text).has_value()) << text;
  }
}

TEST(OpText, EachKindHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < kKinds; ++i) {
    const std::string_view name = info(static_cast<Kind>(i)).name;
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_EQ(kind_of(name), static_cast<Kind>(i));
  }
}

TEST(Pattern, HasNoZeroesAndDoesNotDependOnWhereItIsCut) {
  std::vector<std::byte> whole(5000);
  fill_pattern(77, 1003, whole);
  EXPECT_EQ(std::ranges::count(whole, std::byte{0}), 0);
  std::vector<std::byte> part(100);
  fill_pattern(77, 1003 + 333, part);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 333));
  fill_pattern(78, 1003 + 333, part);
  EXPECT_FALSE(std::equal(part.begin(), part.end(), whole.begin() + 333));
}

TEST_F(LogFile, ComesBackFromFile) {
  const std::vector<Op> ops = {{.kind = Kind::kWrite, .offset = 5, .length = 6, .tag = 7},
                               {.kind = Kind::kAllPunch, .process = kAll, .offset = 1, .length = 2},
                               {.kind = Kind::kHoldWrite, .process = 1, .length = 3, .tag = 9}};
  ASSERT_TRUE(write_log(path_, shared_setup(), ops, "two\nlines"));
  OpLog log;
  std::string error;
  ASSERT_TRUE(read_log(path_, log, error)) << error;
  EXPECT_EQ(log.ops, ops);
  EXPECT_EQ(head_text(log.setup), head_text(shared_setup()));
}

TEST_F(LogFile, RefusesWhatIsNone) {
  OpLog log;
  std::string error;
  EXPECT_FALSE(read_log(path_ + ".none", log, error));
  for (const char* text :
       {"", "write off=1 len=1\n", "setup max-size=0\n", "setup max-size=4096 processes=2\n",
        "setup max-size=99999999999999\n", "setup max-size=65536 cat=1\n", "setup max-size=65536\nnonsense\n",
        "setup max-size=65536\np1 write off=1 len=1\n", "setup max-size=65536 direct-align=0\n",
        "setup max-size=65536 processes=2 unit=0 shared-size=9\n"}) {
    write(text);
    OpLog fresh;
    EXPECT_FALSE(read_log(path_, fresh, error)) << text;
  }
}

TEST(Ddmin, FindsTheItemsThatMatter) {
  std::vector<int> items(1000);
  for (int i = 0; i < 1000; ++i) items[static_cast<size_t>(i)] = i;
  const stress::Trial<int> trial = [](const std::vector<int>& some) -> std::optional<size_t> {
    bool first = false;
    bool second = false;
    for (size_t i = 0; i < some.size(); ++i) {
      if (some[i] == 17) first = true;
      if (some[i] == 400 && first) second = true;
      if (some[i] == 733 && second) return i;
    }
    return std::nullopt;
  };
  EXPECT_EQ(stress::ddmin(items, trial, std::chrono::seconds(60)), (std::vector<int>{17, 400, 733}));
}

TEST(Ddmin, EndsInTime) {
  std::vector<int> items(1000, 1);
  const stress::Trial<int> never = [](const std::vector<int>&) { return std::nullopt; };
  EXPECT_EQ(stress::ddmin(items, never, std::chrono::seconds(0)).size(), 1000U);
}

}  // namespace
}  // namespace udax::fsx
