// SPDX-License-Identifier: BSD-3-Clause
//
// The lock on a pool's file, and telling the user who has it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "media/pool_medium.h"

namespace udax::media {

enum class LockKind : uint8_t { kShared, kExclusive };

/// Takes the lock, trying again until `wait` is over. kBusy: another has it. kIo: it cannot be locked at all.
[[nodiscard]] Status lock_pool(int fd, LockKind kind, std::chrono::milliseconds wait);

/// Who has the pool behind `fd`: "udaxfs (pid 12), mounted on /mnt"; empty: nobody, as far as can be seen. `holder` is what the
/// pool's holder block says, and counts if somebody has the lock. May take a shared lock for a moment.
[[nodiscard]] std::string describe_user(int fd, const Holder& holder);

/// "PATH is in use by udaxfs (pid 12), mounted on /mnt". What the pool's holder block says counts if the process
/// is alive and, where the system tells, has the lock; else what the system tells.
[[nodiscard]] std::string describe_holder(const std::string& path, int fd, const Holder& holder);

}  // namespace udax::media
