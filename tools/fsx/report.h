// SPDX-License-Identifier: BSD-3-Clause
//
// What a failure looks like to who has to find its cause.
#pragma once

#include <span>
#include <string>

#include "tools/fsx/op.h"
#include "tools/fsx/session.h"

namespace udax::fsx {

/// What was wrong, expected and actual bytes, the last operations that changed them and the last of all. `done`: the
/// operations that the session ran, the failing one last.
[[nodiscard]] std::string describe(const Failure& failure, const Session& session, std::span<const Op> done);

}  // namespace udax::fsx
