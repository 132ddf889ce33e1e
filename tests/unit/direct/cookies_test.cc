// SPDX-License-Identifier: BSD-3-Clause
#include "direct/cookies.h"

#include <gtest/gtest.h>

namespace udax::direct {
namespace {

constexpr uint64_t kLifetime = 100;
const Leave kLeave{Ino(5), 7, 2, 1000};

Cookie issue(CookieJar& jar, const Leave& leave, uint64_t now) {
  const auto cookie = jar.issue(leave, now);
  EXPECT_TRUE(cookie);
  return cookie ? *cookie : Cookie{};
}

TEST(Cookies, GoodOnce) {
  CookieJar jar(kLifetime);
  const Cookie cookie = issue(jar, kLeave, 0);
  const auto leave = jar.redeem(cookie, 1000, 50);
  ASSERT_TRUE(leave);
  EXPECT_EQ(leave->ino, Ino(5));
  EXPECT_EQ(leave->generation, 7U);
  EXPECT_EQ(leave->open_flags, 2U);
  EXPECT_EQ(jar.redeem(cookie, 1000, 50).error(), Error::kAccess);
  EXPECT_EQ(jar.size(), 0U);
}

TEST(Cookies, ForgedAndExpiredOnesAreRefused) {
  CookieJar jar(kLifetime);
  Cookie cookie = issue(jar, kLeave, 0);
  EXPECT_FALSE(jar.redeem(Cookie{}, 1000, 1));
  for (uint8_t& byte : cookie) {
    byte ^= 1U;
    EXPECT_FALSE(jar.redeem(cookie, 1000, 1));
    byte ^= 1U;
  }
  EXPECT_FALSE(jar.redeem(cookie, 1000, kLifetime));
}

TEST(Cookies, AnotherUsersEndsItAndGivesNothing) {
  CookieJar jar(kLifetime);
  const Cookie cookie = issue(jar, kLeave, 0);
  EXPECT_EQ(jar.redeem(cookie, 1001, 1).error(), Error::kAccess);
  EXPECT_EQ(jar.redeem(cookie, 1000, 1).error(), Error::kAccess);
}

TEST(Cookies, OneUserCannotTakeThemAll) {
  CookieJar jar(kLifetime);
  for (size_t i = 0; i < CookieJar::kPerUserMax; ++i) (void)issue(jar, kLeave, 0);
  EXPECT_EQ(jar.issue(kLeave, 1).error(), Error::kAgain);
  EXPECT_TRUE(jar.issue({Ino(5), 7, 2, 1001}, 1));
  EXPECT_TRUE(jar.issue(kLeave, kLifetime)) << "they expire";
}

TEST(Cookies, NoTwoAreAlike) {
  CookieJar jar(kLifetime);
  EXPECT_NE(issue(jar, kLeave, 0), issue(jar, kLeave, 0));
}

}  // namespace
}  // namespace udax::direct
