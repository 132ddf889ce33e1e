// SPDX-License-Identifier: BSD-3-Clause
//
// Who may map directly: what the administrator said with -o direct=.
//
// The default is off: whoever maps directly holds the whole pool open, so that it must be given on purpose. `owner` is
// the user that the daemon runs as, who has the pool anyway, and root.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace udax::direct {

class Policy {
 public:
  static constexpr size_t kUidsMax = 64;

  /// Nobody.
  Policy() = default;
  /// "off", "owner", or "uid:N[:N...]" (those users, and nobody else, not even root). kInvalid.
  [[nodiscard]] static Result<Policy> parse(std::string_view text);

  [[nodiscard]] bool is_off() const { return mode_ == Mode::kOff; }
  /// `daemon`: the user that the daemon runs as.
  [[nodiscard]] bool allows(uid_t uid, uid_t daemon) const;

 private:
  enum class Mode : uint8_t { kOff, kOwner, kUids };
  Mode mode_ = Mode::kOff;
  std::vector<uid_t> uids_;
};

}  // namespace udax::direct
