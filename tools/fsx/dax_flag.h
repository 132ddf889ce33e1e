// SPDX-License-Identifier: BSD-3-Clause
//
// The per-file DAX flag by FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR, which several filesystems have, and
// the attribute user.udax.state, which only one has.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace udax::fsx {

/// 0 or -errno.
[[nodiscard]] int64_t set_dax_flag(int fd, bool dax);
/// 1, 0 or -errno.
[[nodiscard]] int64_t get_dax_flag(int fd);
/// What user.udax.state says; nullopt if there is none.
[[nodiscard]] std::optional<std::string> dax_state(int fd);

/// What user.udax.state is with the flag on and off: a mount option may override the flag.
struct DaxStates {
  std::optional<std::string> on;
  std::optional<std::string> off;
};

/// Empty if flag (and state, where `states` knows it) are as they must be after a flip; else what is wrong.
[[nodiscard]] std::string check_flip(int fd, bool dax, const DaxStates& states);

}  // namespace udax::fsx
