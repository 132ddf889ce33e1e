// SPDX-License-Identifier: BSD-3-Clause
//
// All that a program can see of a filesystem, by way of src/fs: names, types, links, owners, modes, sizes, bytes, times
// (but atime), xattrs, targets, flags. Inode and block numbers are left out: they are the filesystem's own affair.
#pragma once

#include <compare>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fs/filesystem.h"

namespace udax::crash {

using Bytes = std::shared_ptr<const std::string>;

struct Node {
  std::string path;   // "" is the root
  uint64_t link = 0;  // index of the first node of the same inode
  uint32_t mode = 0;
  uint32_t nlink = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t rdev_major = 0;
  uint32_t rdev_minor = 0;
  uint32_t flags = 0;
  uint32_t project_id = 0;
  uint64_t size = 0;
  uint64_t blocks = 0;
  format::TimeStamp mtime;
  format::TimeStamp ctime;
  format::TimeStamp btime;
  std::string xattrs;         // names and values
  std::string target;         // of a symlink
  uint64_t content_hash = 0;  // of a file
  Bytes content;              // of a file, if kept
  std::string error;          // what could not be read

  [[nodiscard]] bool is_dir() const { return (mode & 0170000U) == 0040000U; }
};

/// What of a tree is compared.
enum class Look : uint8_t {
  kAll,
  kNoBlocks,    // how many blocks a file takes may differ
  kNoDirTimes,  // times and sizes of directories may differ, too
};

struct Tree {
  std::vector<Node> nodes;  // the root first, each directory before what is in it
  [[nodiscard]] uint64_t digest(Look look = Look::kAll) const;
  [[nodiscard]] const Node* find(std::string_view path) const;
};

/// Files are read up to this; the tests' are smaller.
inline constexpr uint64_t kContentMax = uint64_t{1} << 21;

/// Reads the whole tree. `keep`: with the bytes of files.
[[nodiscard]] Tree read_tree(fs::Filesystem& fs, bool keep);

/// True if the two nodes are the same but for their content.
[[nodiscard]] bool same_attributes(const Node& a, const Node& b, Look look);
/// What differs, in lines for people.
[[nodiscard]] std::string difference(const Tree& found, const Tree& expected, Look look = Look::kAll);

}  // namespace udax::crash
