// SPDX-License-Identifier: BSD-3-Clause
#include "base/log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {
struct Unprintable {};
}  // namespace

template <>
struct fmt::formatter<Unprintable> {
  static constexpr auto parse(format_parse_context& context) { return context.begin(); }
  static auto format(Unprintable /*value*/, format_context& context) -> decltype(context.out()) {
    throw std::runtime_error("unprintable");
  }
};

namespace udax {
namespace {

class LogTest : public testing::Test {
 protected:
  ~LogTest() override { EXPECT_TRUE(log_init(LogLevel::kInfo, LogTarget::kStderr)); }
};

TEST_F(LogTest, WritesFormattedLinesToStandardError) {
  ASSERT_TRUE(log_init(LogLevel::kInfo, LogTarget::kStderr));
  testing::internal::CaptureStderr();
  log::warning("{} of {} blocks", 3, "four");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("udaxfs["), std::string::npos) << text;
  EXPECT_NE(text.find("warning: 3 of four blocks\n"), std::string::npos) << text;
}

TEST_F(LogTest, LevelHoldsBackTheLesser) {
  ASSERT_TRUE(log_init(LogLevel::kWarning, LogTarget::kStderr));
  EXPECT_FALSE(log::is_on(LogLevel::kInfo));
  EXPECT_TRUE(log::is_on(LogLevel::kError));
  testing::internal::CaptureStderr();
  log::trace("one");
  log::debug("two");
  log::info("three");
  log::error("four");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(text.find("three"), std::string::npos) << text;
  EXPECT_NE(text.find("four"), std::string::npos) << text;
}

TEST_F(LogTest, TraceShowsAll) {
  ASSERT_TRUE(log_init(LogLevel::kTrace, LogTarget::kStderr));
  testing::internal::CaptureStderr();
  log::trace("deep");
  EXPECT_NE(testing::internal::GetCapturedStderr().find("trace: deep"), std::string::npos);
}

TEST_F(LogTest, NeverThrows) {
  testing::internal::CaptureStderr();
  log::error("{}", Unprintable());
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(LogTest, TextWithBracesIsNotAFormat) {
  testing::internal::CaptureStderr();
  const std::string name = "{} {nonsense";
  log::info("name {}", name);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("name {} {nonsense"), std::string::npos);
}

TEST_F(LogTest, SyslogCanBeSetUpAndLeft) {
  ASSERT_TRUE(log_init(LogLevel::kError, LogTarget::kSyslog));
  testing::internal::CaptureStderr();
  log::info("held back, and not for standard error anyway");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(LogTest, ManyThreads) {
  testing::internal::CaptureStderr();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 250; ++i) log::info("line");
    });
  }
  for (std::thread& t : threads) t.join();
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1000);
}

TEST(LogLevelTest, Names) {
  EXPECT_EQ(*parse_log_level("trace"), LogLevel::kTrace);
  EXPECT_EQ(*parse_log_level("error"), LogLevel::kError);
  EXPECT_EQ(parse_log_level("loud").error(), Error::kInvalid);
  EXPECT_EQ(parse_log_level("").error(), Error::kInvalid);
}

}  // namespace
}  // namespace udax
