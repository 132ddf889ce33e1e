// SPDX-License-Identifier: BSD-3-Clause
//
// The whole-filesystem check, as tests use it.
#pragma once

#include "media/medium.h"

namespace udax::test {

/// EXPECTs that a check of `medium` (not changed) finds nothing. A journal that was not closed is replayed on a copy.
void expect_clean(const media::Medium& medium);

}  // namespace udax::test
