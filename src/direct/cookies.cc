// SPDX-License-Identifier: BSD-3-Clause
#include "direct/cookies.h"

#include <algorithm>
#include <new>

#include "base/random.h"

namespace udax::direct {
namespace {

// In a time that does not depend on where they differ: a cookie cannot be guessed byte by byte.
bool is_same(const Cookie& a, const Cookie& b) {
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace

void CookieJar::expire(uint64_t now_ns) {
  const auto end =
      std::find_if(issued_.begin(), issued_.end(), [&](const Issued& i) { return i.expires_ns > now_ns; });
  issued_.erase(issued_.begin(), end);
}

Result<Cookie> CookieJar::issue(const Leave& leave, uint64_t now_ns) try {
  Issued issued{{}, leave, now_ns + lifetime_ns_};
  fill_random(issued.cookie.data(), issued.cookie.size());
  const LockGuard guard(mutex_);
  expire(now_ns);
  const auto same_user = [&](const Issued& i) { return i.leave.uid == leave.uid; };
  if (issued_.size() >= kMax) return Error::kAgain;
  if (std::count_if(issued_.begin(), issued_.end(), same_user) >= static_cast<std::ptrdiff_t>(kPerUserMax)) {
    return Error::kAgain;
  }
  issued_.push_back(issued);
  return issued.cookie;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Result<Leave> CookieJar::redeem(const Cookie& cookie, uint32_t uid, uint64_t now_ns) {
  const LockGuard guard(mutex_);
  expire(now_ns);
  const auto found =
      std::find_if(issued_.begin(), issued_.end(), [&](const Issued& i) { return is_same(i.cookie, cookie); });
  if (found == issued_.end()) return Error::kAccess;
  const Leave leave = found->leave;
  issued_.erase(found);
  if (leave.uid != uid) return Error::kAccess;
  return leave;
}

size_t CookieJar::size() const {
  const LockGuard guard(mutex_);
  return issued_.size();
}

}  // namespace udax::direct
