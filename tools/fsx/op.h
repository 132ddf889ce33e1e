// SPDX-License-Identifier: BSD-3-Clause
//
// One operation on the file, and its line in an operation log.
//
// An operation says all that it needs (what it writes follows from its tag), and one that makes no sense on the file as
// it is (a mapped store past its end) is cut down or does nothing: so any part of a log can be run by itself, which is
// what shrinking does.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace udax::fsx {

enum class Kind : uint8_t {
  kRead,
  kWrite,
  kAppend,
  kDirectRead,
  kDirectWrite,
  kMapRead,  // a new shared mapping of the range, and away with it
  kMapWrite,
  kMapPrivate,  // a private one: read, store, read back; the file keeps its bytes
  kHold,        // the held mapping (shared, of the longest file there may be) is made anew
  kHoldRead,    // through it
  kHoldWrite,
  kHoldPastEnd,  // a load from the first page past the end: SIGBUS
  kHoldPollute,  // stores past the end, in the last page: never to be seen by a longer file
  kTruncate,
  kTruncatePath,
  kPunch,
  kZero,
  kZeroKeep,
  kAllocate,
  kAllocateKeep,
  kCollapse,
  kInsert,
  kCopy,     // copy_file_range(2) within the file
  kCopyOut,  // to the second file
  kCopyIn,   // from it
  kFsync,
  kFdatasync,
  kMsync,
  kDrop,  // posix_fadvise(POSIX_FADV_DONTNEED), after fdatasync
  kReopen,
  kRename,
  kSeek,   // SEEK_DATA and SEEK_HOLE from an offset to the end
  kFlip,   // of FS_XFLAG_DAX
  kCheck,  // the whole file, by read(2) and through the held mapping
  // While all processes stand still (--share):
  kAllTruncate,  // down to an offset, and up again
  kAllPunch,
  kAllZero,
  kAllStop,  // the round is over
};
inline constexpr size_t kKinds = static_cast<size_t>(Kind::kAllStop) + 1;

/// What can be left out by an option "--no-<name>".
enum class Group : uint8_t {
  kData,  // cannot be left out
  kAppend,
  kDirect,
  kMmap,
  kTruncate,
  kPunch,
  kZero,
  kFallocate,
  kCollapse,
  kCopy,
  kSync,
  kDrop,
  kReopen,
  kRename,
  kSeek,
  kFlip,     // taken in by --dax-flip
  kPollute,  // taken in by --past-eof
};
inline constexpr size_t kGroups = static_cast<size_t>(Group::kPollute) + 1;

struct KindInfo {
  std::string_view name;
  Group group;
  uint32_t weight;  // how often, in relation to the others
};
[[nodiscard]] const KindInfo& info(Kind kind);
[[nodiscard]] std::optional<Kind> kind_of(std::string_view name);
/// "mmap"; empty for those without an option to leave them out.
[[nodiscard]] std::string_view name_of(Group group);

/// Descriptors: several plain ones (opened at different times, so perhaps in different caching modes), one with
/// O_APPEND, one with O_DIRECT.
inline constexpr uint8_t kPlainFds = 3;
inline constexpr uint8_t kAppendFd = 3;
inline constexpr uint8_t kDirectFd = 4;
inline constexpr uint8_t kFds = 5;

/// Done by all processes at once.
inline constexpr uint8_t kAll = 255;

struct Op {
  Kind kind = Kind::kCheck;
  uint8_t process = 0;
  uint8_t fd = 0;
  uint64_t offset = 0;  // the new size, for truncation
  uint64_t length = 0;
  uint64_t to = 0;   // where a copy goes
  uint64_t tag = 0;  // what is written; 1 or 0 for a flip
  uint64_t time_ns =
      0;  // CLOCK_MONOTONIC when it began, for merging the logs of several processes; not in the text

  friend bool operator==(const Op&, const Op&) = default;
};

[[nodiscard]] std::string to_text(const Op& op);
/// nullopt: not an operation.
[[nodiscard]] std::optional<Op> op_from_text(std::string_view line);

/// The bytes that an operation of this tag stores at a file's offset: no zeroes among them, so that one that was lost
/// shows, and no two tags alike.
void fill_pattern(uint64_t tag, uint64_t offset, std::span<std::byte> out);

}  // namespace udax::fsx
