// SPDX-License-Identifier: BSD-3-Clause
//
// Keeps a file open without a descriptor of it: as a message in flight on a socket. Closing a descriptor, even a duplicate,
// drops the process's POSIX locks of the file, which are the program's; closing the socket does not.
#pragma once

#include "client/descriptor.h"

namespace udax::client {

/// Puts the file that `fd` has open away; none if that fails (too many are in flight).
[[nodiscard]] Descriptor seal(int fd);
/// A new descriptor of what is in `vault`, which keeps it; or none.
[[nodiscard]] Descriptor unseal(const Descriptor& vault);
/// The same, as a number, for a thread with a descriptor table of its own; or -1.
[[nodiscard]] int take_copy(int vault);

}  // namespace udax::client
