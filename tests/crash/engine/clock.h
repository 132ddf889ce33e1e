// SPDX-License-Identifier: BSD-3-Clause
//
// Time and place as the explorer wants them: the programs that link this engine see a coarse clock that moves only when
// told, and are always on CPU 0 (the linker's --wrap). So the same workload gives the same log every time, and an
// operation that forgets to stamp a time is told apart from one that came in the same tick.
#pragma once

#include <cstdint>

namespace udax::crash {

/// Sets the coarse clock to `ticks` of 4 ms after a fixed date.
void set_clock(uint64_t ticks);

}  // namespace udax::crash
