// SPDX-License-Identifier: BSD-3-Clause
//
// One operation on the tree, and its line in an operation log.
//
// An operation says all that it needs, and what comes of it (also its error) follows from the tree as it is: so
// any part of a log can be run by itself, which is what shrinking does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "tools/storm/namespace.h"

namespace udax::storm {

enum class Kind : uint8_t {
  kCreate,
  kMkdir,
  kMknod,
  kSymlink,
  kLink,
  kUnlink,
  kRmdir,
  kRename,
  kNoReplace,
  kExchange,
  kWhiteout,
  kWrite,
  kTruncate,
  kChmod,
  kChown,
  kUtimens,
  kSetxattr,
  kRemovexattr,
  kFlip,  // of FS_XFLAG_DAX
  kFsync,
  kOpen,     // into a slot
  kTmpfile,  // O_TMPFILE into a slot
  kSlotWrite,
  kSlotLink,
  kSlotCheck,
  kSlotClose,
  kStat,
  kRead,
  kList,
  kScan,   // a listing in pieces, with changes in between
  kCheck,  // the whole tree
};
inline constexpr size_t kKinds = static_cast<size_t>(Kind::kCheck) + 1;

struct KindInfo {
  std::string_view name;
  uint32_t weight;  // how often in the process's own tree
  uint32_t shared;  // and in the shared one
};
[[nodiscard]] const KindInfo& info(Kind kind);
[[nodiscard]] std::optional<Kind> kind_of(std::string_view name);

struct Op {
  Kind kind = Kind::kCheck;
  bool shared = false;  // in the tree of all processes
  uint8_t slot = 0;
  std::string path{};
  std::string to{};   // the second path; a symbolic link's target; an xattr's name
  uint32_t mode = 0;  // with the type, for mknod; flags, for setxattr
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t offset = 0;  // a size, for truncate; nanoseconds, for utimens; 0 or 1, for a flip; a device, for mknod
  uint64_t length = 0;
  uint64_t tag = 0;  // what is written

  friend bool operator==(const Op&, const Op&) = default;
};

/// Of a rename or a link: `to` is a path as well.
[[nodiscard]] bool has_two_paths(Kind kind);

/// Bytes of names that a line cannot show are %XX.
[[nodiscard]] std::string to_text(const Op& op);
/// nullopt: not an operation.
[[nodiscard]] std::optional<Op> op_from_text(std::string_view line);

[[nodiscard]] std::string escape(std::string_view text);
[[nodiscard]] std::optional<std::string> unescape(std::string_view text);

/// The bytes that an operation of this tag writes.
void fill_pattern(uint64_t tag, std::span<std::byte> out);

/// Does one that changes something. REQUIRES: not one that only looks (kSlotCheck, kStat and those after it).
[[nodiscard]] int apply(Namespace& tree, const Op& op);
[[nodiscard]] bool only_looks(Kind kind);

}  // namespace udax::storm
