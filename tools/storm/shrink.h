// SPDX-License-Identifier: BSD-3-Clause
//
// Shortens a list of operations that fails. Delta debugging alone gets stuck: without a rename, whatever was done
// to the new name afterwards goes nowhere. So a rename, a link or the making of a directory is also left out with the paths
// of later operations led to where the file then is; and a scan is tried as the changes that it makes.
#pragma once

#include <chrono>
#include <vector>

#include "tools/storm/op.h"
#include "tools/stress/ddmin.h"

namespace udax::storm {

/// REQUIRES: `ops` fails; the caller has tried. Ends after `limit` with what it has by then.
[[nodiscard]] std::vector<Op> shrink(std::vector<Op> ops, const stress::Trial<Op>& trial,
                                     std::chrono::seconds limit);

}  // namespace udax::storm
