// SPDX-License-Identifier: BSD-3-Clause
#include "base/error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>

namespace udax {
namespace {

constexpr int kErrorCount = static_cast<int>(Error::kNotAPool) + 1;

TEST(ErrorTest, EveryErrorHasAnErrnoAndAPhraseOfItsOwn) {
  std::set<std::string_view> phrases;
  for (int i = 0; i < kErrorCount; ++i) {
    const auto error = static_cast<Error>(i);
    EXPECT_GT(to_errno(error), 0);
    EXPECT_FALSE(to_string(error).empty());
    EXPECT_TRUE(phrases.insert(to_string(error)).second) << to_string(error);
  }
}

TEST(ErrorTest, ErrnoSurvivesTheRoundTrip) {
  for (int i = 0; i < kErrorCount; ++i) {
    const int number = to_errno(static_cast<Error>(i));
    EXPECT_EQ(to_errno(from_errno(number)), number);
  }
}

TEST(ErrorTest, SharedErrnosGiveTheGeneralError) {
  EXPECT_EQ(from_errno(EIO), Error::kIo);
  EXPECT_EQ(from_errno(EINVAL), Error::kInvalid);
  EXPECT_EQ(from_errno(ENOTSUP), Error::kNotSupported);
}

TEST(ErrorTest, UnknownErrnoIsIo) {
  EXPECT_EQ(from_errno(0), Error::kIo);
  EXPECT_EQ(from_errno(-1), Error::kIo);
  EXPECT_EQ(from_errno(100000), Error::kIo);
}

TEST(ResultTest, HoldsAValue) {
  const Result<int> r = 7;
  ASSERT_TRUE(r);
  EXPECT_EQ(r.value(), 7);
  EXPECT_EQ(*r, 7);
}

TEST(ResultTest, HoldsAnError) {
  const Result<std::string> r = Error::kNoSpace;
  ASSERT_FALSE(r);
  EXPECT_FALSE(r.has_value());
  EXPECT_EQ(r.error(), Error::kNoSpace);
}

TEST(ResultTest, CarriesAnErrorAsItsValueTypeNeverByAccident) {
  const Result<int> zero = 0;  // Error's first enumerator is 0 too
  EXPECT_TRUE(zero.has_value());
}

TEST(ResultTest, MovesWhatCannotBeCopied) {
  Result<std::unique_ptr<int>> r = std::make_unique<int>(3);
  ASSERT_TRUE(r);
  const std::unique_ptr<int> p = std::move(r).value();
  EXPECT_EQ(*p, 3);
}

TEST(ResultTest, MembersAreReachedThroughTheArrow) {
  Result<std::string> r = std::string("abc");
  EXPECT_EQ(r->size(), 3U);
  r->push_back('d');
  EXPECT_EQ(*r, "abcd");
}

TEST(ResultTest, VoidIsSuccessUnlessTold) {
  EXPECT_TRUE(Status());
  const Status failed = Error::kPermission;  // the first enumerator: not to be taken for "none"
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error(), Error::kPermission);
}

Result<int> half(int n) {
  if (n % 2 != 0) return Error::kInvalid;
  return n / 2;
}

Result<std::string> quarter_as_text(int n) {
  UDAX_TRY(const int once, half(n));
  UDAX_TRY(const int twice, half(once));
  return std::to_string(twice);
}

Status is_even(int n) {
  UDAX_CHECK(half(n));
  return {};
}

TEST(ResultTest, TryHandsOnTheFirstError) {
  EXPECT_EQ(*quarter_as_text(12), "3");
  EXPECT_EQ(quarter_as_text(6).error(), Error::kInvalid);
  EXPECT_EQ(quarter_as_text(5).error(), Error::kInvalid);
}

TEST(ResultTest, CheckHandsOnTheErrorAndDropsTheValue) {
  EXPECT_TRUE(is_even(4));
  EXPECT_EQ(is_even(3).error(), Error::kInvalid);
}

TEST(ResultTest, TryLeavesOutOfANestedBlock) {
  auto f = [](bool deep) -> Result<int> {
    if (deep) {
      UDAX_TRY(const int x, half(1));
      return x;
    }
    return 1;
  };
  EXPECT_EQ(f(true).error(), Error::kInvalid);
  EXPECT_EQ(*f(false), 1);
}

TEST(AssertDeathTest, SaysWhereAndWhat) {
  EXPECT_DEATH(UDAX_ASSERT(1 + 1 == 3), "broken invariant at .*error_test.cc:[0-9]+: 1 \\+ 1 == 3");
}

TEST(AssertTest, EvaluatesItsConditionOnce) {
  int n = 0;
  UDAX_ASSERT(++n == 1);
  EXPECT_EQ(n, 1);
}

}  // namespace
}  // namespace udax
