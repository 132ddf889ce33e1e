// SPDX-License-Identifier: BSD-3-Clause
//
// The FUSE protocol as this build speaks it: the system's <linux/fuse.h> (7.38 on Debian 12), and what newer
// kernels added, defined here, so that what is spoken depends on the running kernel and not on the headers that it
// was built with.
//
// Source of the layouts: include/uapi/linux/fuse.h of Linux 6.18 (protocol 7.45).
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>

namespace udax::fuse::wire {

/// The minor version answered is the lesser of the kernel's and this. All that came after 7.31 is enabled by flags.
inline constexpr uint32_t kMinorMax = 45;
inline constexpr uint32_t kMinorMin = 31;  // Linux 5.4
inline constexpr uint32_t kMinorOfLinux616 = 44;

// Opcodes.
inline constexpr uint32_t kOpStatx = 52;            // 7.39
inline constexpr uint32_t kOpCopyFileRange64 = 53;  // 7.45
inline constexpr uint32_t kOpcodeCount = 54;

// fuse_init_in/out.flags, as unsigned numbers.
inline constexpr uint32_t kAsyncRead = 1U << 0;
inline constexpr uint32_t kAtomicOTrunc = 1U << 3;
inline constexpr uint32_t kExportSupport = 1U << 4;
inline constexpr uint32_t kBigWrites = 1U << 5;
inline constexpr uint32_t kDontMask = 1U << 6;
inline constexpr uint32_t kIoctlDir = 1U << 11;
inline constexpr uint32_t kDoReaddirplus = 1U << 13;
inline constexpr uint32_t kReaddirplusAuto = 1U << 14;
inline constexpr uint32_t kAsyncDio = 1U << 15;
inline constexpr uint32_t kParallelDirops = 1U << 18;
inline constexpr uint32_t kPosixAcl = 1U << 20;
inline constexpr uint32_t kMaxPages = 1U << 22;
inline constexpr uint32_t kCacheSymlinks = 1U << 23;
inline constexpr uint32_t kHandleKillprivV2 = 1U << 28;
inline constexpr uint32_t kSetxattrExt = 1U << 29;
inline constexpr uint32_t kInitExt = 1U << 30;
// .flags2
inline constexpr uint32_t kDirectIoAllowMmap = 1U << 4;  // 7.39

// fuse_open_out.open_flags
inline constexpr uint32_t kOpenDirectIo = 1U << 0;
inline constexpr uint32_t kOpenKeepCache = 1U << 1;
inline constexpr uint32_t kOpenNoFlush = 1U << 5;
inline constexpr uint32_t kOpenParallelDirectWrites = 1U << 6;

/// The body of FUSE_SETXATTR without kSetxattrExt; fuse_setxattr_in is the extended one.
struct SetxattrInOld {
  uint32_t size;
  uint32_t flags;
};

struct StatxIn {
  uint32_t getattr_flags;
  uint32_t reserved;
  uint64_t fh;
  uint32_t sx_flags;
  uint32_t sx_mask;
};
static_assert(sizeof(StatxIn) == 24);

struct StatxTime {
  int64_t seconds;
  uint32_t nanoseconds;
  int32_t reserved;
};

struct Statx {
  uint32_t mask;
  uint32_t blksize;
  uint64_t attributes;
  uint32_t nlink;
  uint32_t uid;
  uint32_t gid;
  uint16_t mode;
  uint16_t spare0;
  uint64_t ino;
  uint64_t size;
  uint64_t blocks;  // of 512 bytes
  uint64_t attributes_mask;
  StatxTime atime;
  StatxTime btime;
  StatxTime ctime;
  StatxTime mtime;
  uint32_t rdev_major;
  uint32_t rdev_minor;
  uint32_t dev_major;
  uint32_t dev_minor;
  uint64_t spare2[14];
};
static_assert(sizeof(Statx) == 256);
static_assert(offsetof(Statx, atime) == 64);
static_assert(offsetof(Statx, rdev_major) == 128);

struct StatxOut {
  uint64_t attr_valid;
  uint32_t attr_valid_nsec;
  uint32_t flags;
  uint64_t spare[2];
  Statx stat;
};
static_assert(sizeof(StatxOut) == 288);

struct CopyFileRangeOut {
  uint64_t bytes_copied;
};

static_assert(sizeof(fuse_in_header) == 40);
static_assert(sizeof(fuse_out_header) == 16);
static_assert(sizeof(fuse_write_in) == 40);
static_assert(sizeof(fuse_init_out) == 64);
static_assert(sizeof(fuse_setxattr_in) == 16);
static_assert(sizeof(fuse_attr) == 88);

}  // namespace udax::fuse::wire
