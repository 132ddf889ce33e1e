/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libudax: mappings of files on a mounted udaxfs that are the pool's own memory.
 *
 * Trust: whoever maps a file this way holds the whole pool open, and could read and write all of it. The administrator names
 * who may (mount option direct=, see udaxfs(8)); a file that was opened read-only is kept from stores by this library, not
 * by the kernel.
 *
 * Every function that may fail returns -1 (udax_map, udax_remap: MAP_FAILED) and sets errno. Thread-safe, all of them. In a
 * forked child mappings are there at the same addresses once the library has reconnected (by pthread_atfork); the child of a
 * vfork must not touch them. exec ends them.
 *
 * Common errors
 *   ENOSYS       no udaxfs there: fd is not of one (ENOTTY for its ioctls)
 *   EPERM        direct mapping is not allowed to this user
 *   EOPNOTSUPP   the daemon offers none (direct=off), or the file is not a DAX file: use mmap(2)
 *   ECONNRESET   the daemon is dead, or has cut this process off; mappings give SIGBUS from then on
 *   ENOMEM       memory, address space, or mappings ran out
 *   EINVAL       a range or flag makes no sense
 */
#ifndef UDAX_UDAX_H
#define UDAX_UDAX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Major in the upper half: changes that break; minor in the lower: functions added. */
#define UDAX_API_VERSION 0x00010000u

/* The version of the library at run time. Compatible if its major is UDAX_API_VERSION's and its minor not less. */
uint32_t udax_version(void);

/* Prepares direct mapping of files on the mount that `fd` (an open regular file) lies on: connects, reserves address space.
 * udax_map does it by itself; this tells beforehand whether it would work. flags: 0. Attaching again does nothing.
 * Errors: the common ones; EBADF. */
int udax_attach(int fd, unsigned flags);

/* As mmap(2), of a DAX file.
 *   addr    a hint; MAP_FIXED and MAP_FIXED_NOREPLACE: EOPNOTSUPP, but for udax_map over what udax_map gave (MAP_FIXED)
 *   prot    PROT_NONE, or PROT_READ with or without PROT_WRITE; PROT_EXEC: EOPNOTSUPP
 *   flags   MAP_SHARED or MAP_SHARED_VALIDATE; with MAP_POPULATE, and, with the latter, MAP_SYNC. MAP_PRIVATE: EOPNOTSUPP
 * MAP_SYNC: a store that has been flushed from the CPU's caches (or, where granularity is a byte, fenced) is durable: a fault
 * returns only when the metadata that it changed is. It holds of every mapping made here; asked for where the pool's
 * granularity is a page, it is EOPNOTSUPP, as the kernel's MAP_SYNC is. MAP_SHARED ignores MAP_SYNC, as the kernel does.
 * The mapping outlives fd. A touch behind the end of the file, or where there is no room or the media is lost: SIGBUS, EFAULT in
 * system calls. A file that ceases to be DAX: the mapping becomes the kernel's, of the file on the mount, in its place, and stays
 * so; udax_unmap and the others work on it as munmap(2) and so on do. New ones are refused, use mmap(2).
 * Errors: the common ones; EBADF; EACCES: fd is not open for that; EOVERFLOW: behind the largest offset. */
void* udax_map(void* addr, size_t length, int prot, int flags, int fd, off_t offset);

/* As munmap(2), of what lies in [addr, addr + length). EINVAL: not within what this library hands out. */
int udax_unmap(void* addr, size_t length);

/* As mremap(2): flags 0 or MREMAP_MAYMOVE. EINVAL: not one mapping throughout. */
void* udax_remap(void* addr, size_t old_length, size_t new_length, int flags);

/* As msync(2): when it returns, what was stored to the range before is durable. MS_ASYNC, MS_INVALIDATE: nothing to do.
 * ENOMEM: not mapped throughout. EIO: something of it may not be durable. */
int udax_sync(void* addr, size_t length, int flags);

/* As mprotect(2). ENOMEM: not mapped throughout. EACCES: the file was not open for that when it was mapped. */
int udax_protect(void* addr, size_t length, int prot);

/* As madvise(2): MADV_WILLNEED and MADV_POPULATE_READ map what is there ahead of its first touch; MADV_DONTNEED, MADV_FREE,
 * and other advice are accepted and have no effect. MADV_REMOVE makes a hole in the file. ENOMEM: not mapped throughout. EACCES: a hole
 * in what is not mapped for stores. EAGAIN: the hole takes a thread, and there can be none. */
int udax_advise(void* addr, size_t length, int advice);

/* What of [addr, addr + length) is mapped how, at this moment; bytes. */
struct udax_mapping {
  uint64_t direct_bytes;   /* present in the kernel's tables or about to be, as the pool's memory */
  uint64_t zero_bytes;     /* holes that were read */
  uint64_t unmapped_bytes; /* of no mapping of this library, or of one that has become the kernel's */
  uint64_t mappings;       /* of the kernel's, in use for this process in all */
  uint64_t mappings_max;   /* more than this the daemon will not make; it takes others back */
  uint32_t granularity;    /* UDAX_GRANULARITY_... (udax/ioctl.h) */
  uint32_t tracking; /* 1: stores are tracked page by page; 0: what was mapped writable counts as stored to */
};
/* `size`: sizeof(struct udax_mapping) as the caller knows it. Errors: the common ones; EINVAL. */
int udax_query(const void* addr, size_t length, struct udax_mapping* mapping, size_t size);

#ifdef __cplusplus
}
#endif
#endif
