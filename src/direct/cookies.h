// SPDX-License-Identifier: BSD-3-Clause
//
// Cookies: proof, once, that their bearer had a file open. A number of 128 random bits, bound to the file (with its
// generation: numbers of inodes are used again), to how it was open, and to the user that asked.
//
// A cookie holds no reference: an unlinked file that its bearer closes goes, and the cookie with it.
//
// Thread safety: everything. Locks: its own, a leaf.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "base/types.h"
#include "direct/protocol.h"

namespace udax::direct {

using Cookie = std::array<uint8_t, kCookieSize>;

/// What a cookie stands for.
struct Leave {
  Ino ino;
  uint32_t generation = 0;
  uint32_t open_flags = 0;  // open(2)'s
  uint32_t uid = 0;
};

class CookieJar {
 public:
  static constexpr size_t kPerUserMax = 256;
  static constexpr size_t kMax = 4096;

  /// `lifetime_ns`: how long a cookie is good for.
  explicit CookieJar(uint64_t lifetime_ns) : lifetime_ns_(lifetime_ns) {}

  /// kAgain: too many are out, of this user or in all. kNoMemory. `now_ns`: monotonic.
  [[nodiscard]] Result<Cookie> issue(const Leave& leave, uint64_t now_ns);
  /// Ends the cookie, whoever presents it. kAccess: unknown, used, expired, or another user's.
  [[nodiscard]] Result<Leave> redeem(const Cookie& cookie, uint32_t uid, uint64_t now_ns);
  [[nodiscard]] size_t size() const;

 private:
  struct Issued {
    Cookie cookie{};
    Leave leave;
    uint64_t expires_ns = 0;
  };
  void expire(uint64_t now_ns) UDAX_REQUIRES(mutex_);

  const uint64_t lifetime_ns_;
  mutable Mutex mutex_;
  std::vector<Issued> issued_ UDAX_GUARDED_BY(mutex_);  // oldest first
};

}  // namespace udax::direct
