// SPDX-License-Identifier: BSD-3-Clause
#include "tests/races/race.h"

#include "mkfs/make_pool.h"

namespace udax::races {

Status Stage::mkfs_on(media::Medium& medium, std::string* why) { return mkfs::make_pool(medium, {}, why); }

}  // namespace udax::races
