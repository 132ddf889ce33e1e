// SPDX-License-Identifier: BSD-3-Clause
//
// The daemon's life: pool, filesystem, mount, until it is unmounted or told to end.
#pragma once

#include "daemon/background.h"
#include "daemon/options.h"

namespace udax::daemon {

/// Runs to the end and returns the exit status. `options.pool` and `.mountpoint` are absolute. Messages before the
/// mount is live go through `background`, later ones to the log. SIGTERM, SIGINT and SIGHUP unmount; a second one does
/// not wait for open files.
[[nodiscard]] int serve(const Options& options, Background& background);

}  // namespace udax::daemon
