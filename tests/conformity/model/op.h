// SPDX-License-Identifier: BSD-3-Clause
//
// One system call with its arguments: drawn at random, printed in the log, done by the model and by the filesystem.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace udax::vfs_model {

enum class Call : uint8_t {
  kOpen,
  kTmpfile,
  kClose,
  kRead,
  kWrite,
  kFtruncate,
  kFallocate,
  kSeekData,
  kSeekHole,
  kCopyRange,
  kLinkFd,
  kFstat,
  kMkdir,
  kMknod,
  kSymlink,
  kLink,
  kUnlink,
  kRmdir,
  kRename,
  kChmod,
  kChown,
  kLchown,
  kUtimens,
  kTruncate,
  kAccess,
  kStat,
  kReadlink,
  kList,
  kSetxattr,
  kGetxattr,
  kRemovexattr,
  kListxattr,
  kCount
};

/// On whose behalf. One supplementary group.
struct Who {
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t group = 0;
};

inline constexpr int kSlots = 4;                // descriptors; one is closed when another is opened in its place
inline constexpr int64_t kSizeMax = 96 * 1024;  // bytes of a file
inline constexpr uint32_t kSame = ~0U;          // chown: not this one

struct Op {
  Call call = Call::kStat;
  Who who;
  int slot = 0;
  int other_slot = 0;
  std::string path;
  std::string other;  // a second path, a symbolic link's target, an xattr's name
  std::string value;  // an xattr's
  int flags = 0;      // of open, renameat2, fallocate, setxattr; access: the mask
  uint32_t mode = 0;  // of what is made, with its type for mknod; utimens: 0 set, 1 now, 2 omit both, 3 mtime only
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t offset = 0;  // utimens: seconds
  int64_t length = 0;
  char byte = 'x';  // what is written
  int64_t other_offset = 0;
};

/// What a call gave: an errno, and what else there is to compare.
struct Outcome {
  int error = 0;
  std::string data;
  int64_t atime = 0;  // seconds
  int64_t mtime = 0;
  bool operator==(const Outcome&) const = default;
};

[[nodiscard]] const char* name_of(Call call);
[[nodiscard]] std::string to_string(const Op& op);
[[nodiscard]] std::string to_string(const Outcome& outcome);

class Generator {
 public:
  /// `users`: on whose behalf operations are.
  Generator(uint64_t seed, std::vector<Who> users) : random_(seed), users_(std::move(users)) {}
  /// `existing`: paths, of which some are to be used.
  [[nodiscard]] Op next(const std::vector<std::string>& existing);

 private:
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  std::string name();
  std::string path(bool fresh);  // `fresh`: better one where nothing is yet
  uint32_t mode();
  void draw_names(Op& op);
  void draw_attributes(Op& op);
  void draw_bytes(Op& op);

  std::mt19937_64 random_;
  std::vector<Who> users_;
  std::vector<std::string> existing_;
};

}  // namespace udax::vfs_model
