// SPDX-License-Identifier: BSD-3-Clause
//
// Asking the machine what persistent memory it has, by libndctl and libdaxctl.
#pragma once

#include "base/error.h"
#include "media/platform.h"

namespace udax::media {

/// All buses, regions and namespaces, and devdax devices of no nvdimm bus (CXL, hmem). A machine without any gives an
/// empty list. What an ordinary user may not see (bad blocks of devdax, physical addresses) is left out. kNoMemory;
/// kIo: libndctl or libdaxctl cannot be started.
[[nodiscard]] Result<Platform> discover_platform();

}  // namespace udax::media
