// SPDX-License-Identifier: BSD-3-Clause
//
// What a worker's folder must hold: a model of it, the operations that change it, and how both are told apart from
// what is really there.
//
// An operation is a line of the log, and all that it does follows from the line and the worker's seed; so the model can
// be built again from the log alone, by another process, after a crash.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"

namespace udax::stress {

enum class Kind : uint8_t {
  kCreate,       // open(O_CREAT | O_EXCL) a, mode
  kWrite,        // pwrite of pieces (offset, length)... of a, made durable
  kAppend,       // O_APPEND write of length to a, made durable
  kMapWrite,     // stores through mmap(MAP_SHARED) at (offset, length) of a, msync
  kTruncate,     // a to size
  kFallocate,    // of a: mode, offset, length
  kCopy,         // copy_file_range from a to b: offset in a, offset in b, length; made durable
  kTmpFile,      // O_TMPFILE in folder a, write of length, made durable, linked as b
  kRename,       // a to b, flags
  kLink,         // a as b
  kSymlink,      // b, with target a
  kUnlink,       // a
  kMkdir,        // a, mode
  kRmdir,        // a
  kChmod,        // a, mode
  kSetXattr,     // a: name b, length
  kRemoveXattr,  // a: name b
};

struct Op {
  uint64_t seq = 0;
  Kind kind = Kind::kCreate;
  std::string a, b;  // never empty in the log: "-" stands for nothing
  std::vector<uint64_t> numbers;

  [[nodiscard]] std::string to_line() const;
  [[nodiscard]] static std::optional<Op> from_line(const std::string& line);
  /// Changes bytes of a file in steps that a crash may part.
  [[nodiscard]] bool is_of_bytes() const;
};

enum class Type : uint8_t { kFile, kFolder, kSymlink };

struct Node {
  Type type = Type::kFile;
  uint32_t mode = 0;    // permission bits; not of symlinks
  std::string content;  // bytes, or target
  std::map<std::string, std::string> xattrs;
};
using NodePtr = std::shared_ptr<const Node>;

/// Paths are relative to the worker's folder. Names of one file share a node.
struct State {
  std::map<std::string, NodePtr> names;

  [[nodiscard]] NodePtr find(const std::string& path) const;
  /// Gives the node at `path`, and all its names, another content.
  void replace(const std::string& path, Node node);
  [[nodiscard]] bool is_empty(const std::string& folder) const;
};

/// The bytes that operation `seq` writes as its `piece`.
[[nodiscard]] std::string bytes_of(uint64_t seed, uint64_t seq, uint64_t piece, uint64_t length);

/// The states that the operation passes through, the one after it last. Empty: it is not possible in `before`.
[[nodiscard]] std::vector<State> stages(const State& before, const Op& op, uint64_t seed);

/// An operation that is possible in `state`.
[[nodiscard]] Op draw(const State& state, Random& random, uint64_t seq);

/// Reads what is there. Empty with `why` set: it could not be read.
[[nodiscard]] std::optional<State> read_folder(const std::string& folder, std::string* why);

/// The first difference, in words; empty if there is none.
[[nodiscard]] std::string difference(const State& expected, const State& found);

/// The same, when `op` may or may not have happened, or a part of the bytes it writes.
[[nodiscard]] std::string difference_in_flight(const State& before, const Op& op, uint64_t seed,
                                               const State& found);

}  // namespace udax::stress
