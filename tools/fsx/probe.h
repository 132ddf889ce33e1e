// SPDX-License-Identifier: BSD-3-Clause
//
// What a filesystem cannot do, tried on a file of its own, so that it is left out and said instead of failing later.
#pragma once

#include <string>
#include <vector>

#include "tools/fsx/dax_flag.h"
#include "tools/fsx/op.h"

namespace udax::fsx {

struct LeftOut {
  Kind kind;
  std::string reason;
};

struct Probed {
  std::string error;  // the file could not be made or written; the rest is void
  std::vector<LeftOut> left_out;
  DaxStates dax_states;
};

/// Makes and removes `path`. Asks about the DAX flag only if it is `wanted`.
[[nodiscard]] Probed probe(const std::string& path, bool dax_wanted);

}  // namespace udax::fsx
