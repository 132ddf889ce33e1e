// SPDX-License-Identifier: BSD-3-Clause
//
// What operations take and give, in native types.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/types.h"
#include "format/format.h"

namespace udax::fs {

/// On whose behalf an operation runs.
struct Caller {
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t pid = 0;
  uint32_t umask = 0;  // of the calling process; applied to new inodes unless a default ACL is inherited
  [[nodiscard]] bool is_root() const { return uid == 0; }
};

struct Attr {
  Ino ino;
  uint32_t generation = 0;
  uint32_t mode = 0;
  uint32_t nlink = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t rdev_major = 0;
  uint32_t rdev_minor = 0;
  uint64_t size = 0;    // bytes
  uint64_t blocks = 0;  // of 4096 bytes
  uint32_t flags = 0;   // format::kFlag...
  uint32_t project_id = 0;
  format::TimeStamp atime, mtime, ctime, btime;
};

/// Absent: leave as it is.
struct SetAttr {
  std::optional<uint32_t> mode;  // permission bits, 07777
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  std::optional<uint64_t> size;
  std::optional<format::TimeStamp> atime;
  std::optional<format::TimeStamp> mtime;
  std::optional<format::TimeStamp> ctime;
  bool atime_now = false;
  bool mtime_now = false;
  /// The kernel asks for setuid, setgid (if group-executable) and file capabilities to go (truncate, by one who
  /// lacks CAP_FSETID).
  bool kill_suidgid = false;
};

struct StatFs {
  uint64_t blocks = 0;  // of 4096 bytes
  uint64_t blocks_free = 0;
  uint64_t blocks_available = 0;
  uint64_t inodes = 0;
  uint64_t inodes_free = 0;
};

enum class DaxMode : uint8_t { kInode, kAlways, kNever };
enum class DataMode : uint8_t { kInPlace, kAtomic };
enum class AtimeMode : uint8_t { kRelative, kNever, kStrict };

struct MountOptions {
  bool read_only = false;
  DaxMode dax = DaxMode::kInode;
  DataMode data = DataMode::kInPlace;
  AtimeMode atime = AtimeMode::kRelative;
  bool count_lookups = false;    // the caller is a kernel's front door, and will forget() what it was given
  uint64_t inode_cache = 65536;  // unreferenced inodes kept in memory
};

// renameat2(2)
inline constexpr uint32_t kRenameNoReplace = 1;
inline constexpr uint32_t kRenameExchange = 2;

// fallocate(2)
inline constexpr uint32_t kFallocKeepSize = 0x01;
inline constexpr uint32_t kFallocPunchHole = 0x02;
inline constexpr uint32_t kFallocCollapseRange = 0x08;
inline constexpr uint32_t kFallocZeroRange = 0x10;
inline constexpr uint32_t kFallocInsertRange = 0x20;

/// One extent, for those who ask where a file lies.
struct ExtentInfo {
  uint64_t file_offset = 0;    // bytes
  uint64_t device_offset = 0;  // bytes
  uint64_t length = 0;         // bytes
  bool unwritten = false;
};

}  // namespace udax::fs
