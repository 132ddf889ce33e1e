// SPDX-License-Identifier: BSD-3-Clause
//
// What the preload shim needs of the library beyond <udax/udax.h>. Exported under a version of its own (libudax.map); both come
// from the same build, and nobody else may use it.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

/// True of a descriptor that the library itself has open.
bool udax_private_is_own_descriptor(int fd);
/// True while the calling thread is in the library.
bool udax_private_inside();
/// As udax_map, but MAP_FIXED may replace anything.
void* udax_private_map(void* addr, size_t length, int prot, int flags, int fd, int64_t offset);
/// True if any byte of the range is mapped by the library.
bool udax_private_overlaps(const void* addr, size_t length);
/// The piece of [addr, addr + length) that `addr` begins: its bytes. `*own`: it is mapped by the library.
size_t udax_private_piece(const void* addr, size_t length, bool* own);
/// What the library maps of the range is unmapped, and the addresses are kept, for something else to be mapped there.
int udax_private_vacate(void* addr, size_t length);
}
