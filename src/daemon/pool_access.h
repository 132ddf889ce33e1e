// SPDX-License-Identifier: BSD-3-Clause
//
// Getting hold of the pool for a mount.
#pragma once

#include <memory>
#include <string>

#include "base/error.h"
#include "media/pool_medium.h"

namespace udax::daemon {

/// Opens the pool, exclusively if it is to be written. If another process holds it and is not, by its own account,
/// serving a mount that is still there, waits a few seconds: umount(8) returns before the last daemon has
/// finished. Errors as PoolMedium::open; kBusy's `why` names the holder.
[[nodiscard]] Result<std::unique_ptr<media::PoolMedium>> open_pool(const std::string& path, bool read_only,
                                                                   std::string* why);

/// True if `mountpoint` is a mount of type fuse.udaxfs in this mount namespace.
[[nodiscard]] bool is_udaxfs_mount(const std::string& mountpoint);

}  // namespace udax::daemon
