// SPDX-License-Identifier: BSD-3-Clause
//
// What the preload shim needs of the library beyond <udax/udax.h>. Exported under a version of its own (libudax.map); both come
// from the same build, and nobody else may use it.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

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

// Reads and writes (io_table.h). UDAX_PRIVATE_KERNEL: the caller makes the system call; of a write, and if it wrote something,
// udax_private_wrote() is to follow with the `tick` that was given.
#define UDAX_PRIVATE_KERNEL (-2)
/// From now on, of descriptors that have had so many calls.
void udax_private_io(int calls_before);
ssize_t udax_private_preadv(int fd, const struct iovec* parts, int count, int64_t offset);
ssize_t udax_private_pwritev(int fd, const struct iovec* parts, int count, int64_t offset, uint64_t* tick);
/// These may fail: -1, and errno.
ssize_t udax_private_readv(int fd, const struct iovec* parts, int count);
ssize_t udax_private_writev(int fd, const struct iovec* parts, int count, uint64_t* tick);
void udax_private_wrote(int fd, uint64_t tick);
/// The number is about to be closed, or to mean something else; what F_SETFL sets, or RLIMIT_FSIZE, has changed.
void udax_private_io_forget(int fd);
void udax_private_io_forget_range(unsigned first, unsigned last);
void udax_private_io_flags_changed(int fd);
void udax_private_io_limit_changed();
}
