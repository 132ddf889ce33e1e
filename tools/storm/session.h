// SPDX-License-Identifier: BSD-3-Clause
//
// Does operations to a tree and to the model of it, and compares: the error of each, what became of the names and
// directories that it touched, and the whole tree when asked.
//
// In the process's own tree the model knows everything. In the tree that all share it knows the names that begin with this
// process's prefix, which nobody else touches; of others only the error can be judged, by what is possible.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tools/storm/directory.h"
#include "tools/storm/model.h"
#include "tools/storm/op.h"

namespace udax::storm {

struct Failure {
  std::string what;
  int error = 0;  // a positive errno that only says that the environment is at fault; else 0
};

struct Counters {
  uint64_t operations = 0;
  uint64_t refused = 0;  // by errors that were expected
  uint64_t flips = 0;
};

class Session {
 public:
  /// `shared_prefix`: empty for a tree of one's own.
  Session(Namespace& real, Model& model, const Traits& traits, std::string shared_prefix);

  [[nodiscard]] std::optional<Failure> run(const Op& op);
  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  using Verdict = std::optional<Failure>;
  struct Seen {  // of an inode, when it was last looked at
    uint64_t ino = 0;
    int64_t mtime_ns = 0;
    int64_t ctime_ns = 0;
    uint64_t mtime_version = 0;
    bool mtime_was_set = false;
  };

  [[nodiscard]] bool makes_sense(const Op& op);
  [[nodiscard]] bool is_ours(const std::string& path) const;
  [[nodiscard]] bool in_shared() const { return !prefix_.empty(); }
  Verdict change(const Op& op);
  Verdict compare_result(const Op& op, int expected, int actual);
  Verdict contend(const Op& op);
  Verdict look(const Op& op);
  Verdict verify_around(const std::string& path);
  Verdict verify(const std::string& path);
  Verdict compare_attributes(const std::string& what, const Attributes& expected, const Attributes& actual);
  Verdict compare_times(const std::string& what, const Attributes& expected, const Attributes& actual, Seen& seen);
  Verdict verify_content(const std::string& path);
  Verdict verify_slot(uint8_t slot);
  Verdict list(const std::string& path);
  Verdict scan(const Op& op);
  Verdict change_in_scan(const Op& op, uint64_t piece, std::set<std::string>& stable);
  Verdict check_all();
  Verdict check_directory(const std::string& path, std::map<uint64_t, uint64_t>& inodes);

  Namespace& real_;
  Model& model_;
  const Traits& traits_;
  const std::string prefix_;
  const int64_t begin_ns_;
  std::map<uint64_t, Seen> seen_;  // by the model's inode number
  Counters counters_;
};

}  // namespace udax::storm
