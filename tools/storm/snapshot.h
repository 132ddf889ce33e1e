// SPDX-License-Identifier: BSD-3-Clause
//
// A tree in lines of text: what --save-model writes and --verify compares, and operation logs.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tools/storm/namespace.h"
#include "tools/storm/op.h"

namespace udax::storm {

/// A line for each name, sorted: type, attributes, a checksum of what it holds, and the first name of the same file.
/// False: `error` says what could not be read.
[[nodiscard]] bool describe(Namespace& tree, bool with_dax, std::vector<std::string>& out, std::string& error);

/// "p0", "shared"... -> its lines.
struct Snapshot {
  bool with_dax = false;
  std::map<std::string, std::vector<std::string>> trees;
};
[[nodiscard]] bool write_snapshot(const std::string& path, const Snapshot& snapshot);
[[nodiscard]] bool read_snapshot(const std::string& path, Snapshot& out, std::string& error);

/// What a log says in its head.
struct Setup {
  uint64_t seed = 0;
  uint64_t round = 0;
  uint64_t process = 0;
};
[[nodiscard]] std::string head_text(const Setup& setup);
[[nodiscard]] bool write_log(const std::string& path, const Setup& setup, const std::vector<Op>& ops,
                             const std::string& comment);
[[nodiscard]] bool read_log(const std::string& path, Setup& setup, std::vector<Op>& ops, std::string& error);

}  // namespace udax::storm
