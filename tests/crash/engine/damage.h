// SPDX-License-Identifier: BSD-3-Clause
//
// Single bits turned over in each kind of metadata, for the checksum checks among the mutations: what was damaged is
// noticed, or makes no difference. (Hostile media in full: tests/fuzz and tests/unit/check.)
#pragma once

#include <vector>

#include "tests/crash/engine/lab.h"

namespace udax::crash {

/// Damages each unit of a pool's metadata, once unmounted and once while mounted, and the journal's tail at crashes. Ids
/// are damage/<what>@<offset>:<bit>, damage/slot/<id of an image>.
[[nodiscard]] std::vector<Violation> run_damage(Lab& lab, size_t violations_max);

}  // namespace udax::crash
