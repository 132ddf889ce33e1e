// SPDX-License-Identifier: BSD-3-Clause
//
// The form of a request: what can be told from its bytes alone.
#pragma once

#include <cstddef>

#include "base/error.h"
#include "direct/protocol.h"

namespace udax::direct {

/// kInvalid: a type that may not come now (after the handshake), a field that the type does not use and that is not 0, unknown
/// flags or protections, descriptors that nobody asked for.
[[nodiscard]] Status check_request(const Request& request, size_t descriptors);

}  // namespace udax::direct
