/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ioctl(2) commands of a mounted udaxfs, for any file or directory on it. C and C++.
 *
 * Errors: ENOTTY: not a file of udaxfs (or of one too old). EINVAL: a reserved field is not zero.
 *
 * Compatibility: a command's number carries the size of its structure; a structure never changes, a later one gets
 * a new number.
 */
#ifndef UDAX_IOCTL_H
#define UDAX_IOCTL_H

#include <stdint.h>
#include <sys/ioctl.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UDAX_IOC_MAGIC 0xDA

/* What the pool is. */
struct udax_ioc_info {
  uint16_t version_major; /* of the format */
  uint16_t version_minor;
  uint32_t block_size; /* bytes */
  uint64_t compat;     /* feature bits of the superblock */
  uint64_t ro_compat;
  uint64_t incompat;
  uint8_t uuid[16];
  char label[64]; /* ended by NUL */
  uint64_t block_count;
  uint64_t blocks_free;
  uint64_t journal_blocks;
  uint32_t flags;       /* UDAX_INFO_... */
  uint32_t dax_mode;    /* UDAX_DAX_... */
  uint32_t granularity; /* of stores that persist: UDAX_GRANULARITY_... */
  uint32_t reserved[13];
};
#define UDAX_INFO_READ_ONLY 1u
#define UDAX_DAX_INODE 0u
#define UDAX_DAX_ALWAYS 1u
#define UDAX_DAX_NEVER 2u
#define UDAX_GRANULARITY_BYTE 0u
#define UDAX_GRANULARITY_CACHE_LINE 1u
#define UDAX_GRANULARITY_PAGE 2u

/* Live counters: a JSON text. */
#define UDAX_STAT_TEXT_MAX 14328
struct udax_ioc_stat {
  uint32_t length; /* bytes of text, its NUL not counted */
  uint32_t reserved;
  char text[UDAX_STAT_TEXT_MAX]; /* ended by NUL */
};

/* Where a file lies. In: start, reserved 0. Out: count, flags, extents. Ask again with start behind the last extent
 * until UDAX_EXTENTS_LAST is set. The file must be open for reading. */
#define UDAX_EXTENTS_MAX 256
struct udax_extent {
  uint64_t file_offset;   /* bytes */
  uint64_t device_offset; /* bytes, within the pool */
  uint64_t length;        /* bytes */
  uint32_t flags;         /* UDAX_EXTENT_... */
  uint32_t reserved;
};
struct udax_ioc_extents {
  uint64_t start; /* bytes */
  uint32_t count; /* of extents[] that are filled in */
  uint32_t flags; /* UDAX_EXTENTS_LAST */
  uint64_t reserved;
  struct udax_extent extents[UDAX_EXTENTS_MAX];
};
#define UDAX_EXTENT_UNWRITTEN 1u
#define UDAX_EXTENTS_LAST 1u

/* How a regular file is accessed; of a directory, what files made in it get. */
struct udax_ioc_dax {
  uint32_t flags;       /* UDAX_DAX_FLAG, UDAX_DAX_EFFECTIVE */
  uint32_t open_dax;    /* files open, by how they were opened, but for the one that asks: a change of the flag */
  uint32_t open_cached; /* holds for later opens, while open ones keep their caching */
  uint32_t reserved[5];
};
#define UDAX_DAX_FLAG 1u      /* the flag is set */
#define UDAX_DAX_EFFECTIVE 2u /* the next open is for direct access: the flag, or the mount's dax= option */

/* Leave to map an open regular file directly (see udax.h, which does all this). The answer names the daemon's socket and
 * holds a cookie that proves, once, that its bearer had the file open: it is bound to the file, to the mode that it is open in,
 * and to the user that asked, and is good for UDAX_DIRECT_COOKIE_SECONDS. EINVAL: not a regular file. EPERM: the administrator
 * does not allow this user (-o direct=). EOPNOTSUPP: the daemon runs with direct=off, or the file is not DAX. ENOMEM, EAGAIN:
 * too many cookies are out. */
#define UDAX_DIRECT_COOKIE_SECONDS 10
struct udax_ioc_direct {
  uint32_t version;        /* of the socket's protocol */
  uint32_t pid;            /* of the daemon, as its own namespace has it */
  uint32_t uid;            /* the daemon's: who connects compares it with SO_PEERCRED */
  uint32_t address_length; /* bytes of address that are used */
  uint8_t cookie[16];
  uint8_t address[108]; /* sun_path, AF_UNIX, SOCK_SEQPACKET; begins with NUL: an abstract one */
  uint32_t reserved;
  uint64_t pool[2]; /* the pool's UUID: files of one pool share a connection */
};

/* What has been stored to the pool, by write(2) and through direct mappings of whichever process, is durable when this returns, with
 * what the memory controllers hold. It is what syncfs(2) would do, which Linux does not tell a FUSE daemon of. Not what the kernel
 * holds still of stores through its own mappings: udaxctl sync has that sent before, and so does fsync(2). Takes no argument.
 * EIO: some of it cannot be. */
#define UDAX_IOC_SYNC _IO(UDAX_IOC_MAGIC, 6)

#define UDAX_IOC_INFO _IOR(UDAX_IOC_MAGIC, 1, struct udax_ioc_info)
#define UDAX_IOC_STAT _IOR(UDAX_IOC_MAGIC, 2, struct udax_ioc_stat)
#define UDAX_IOC_EXTENTS _IOWR(UDAX_IOC_MAGIC, 3, struct udax_ioc_extents)
#define UDAX_IOC_DAX _IOR(UDAX_IOC_MAGIC, 4, struct udax_ioc_dax)
#define UDAX_IOC_DIRECT _IOR(UDAX_IOC_MAGIC, 5, struct udax_ioc_direct)

#ifdef __cplusplus
}
#endif
#endif
