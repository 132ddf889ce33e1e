// SPDX-License-Identifier: BSD-3-Clause
//
// Getting hold of a pool that another process may be about to let go.
#pragma once

#include <memory>
#include <string>

#include "base/error.h"
#include "media/pool_medium.h"

namespace udax::media {

/// PoolMedium::open. If another process holds the pool and is not, by its own account, serving a mount that is still
/// there, waits a few seconds: umount(8) returns before the last daemon has finished. kBusy: `why` names the holder.
[[nodiscard]] Result<std::unique_ptr<PoolMedium>> open_when_free(const std::string& path, OpenMode mode,
                                                                 std::string* why);

}  // namespace udax::media
