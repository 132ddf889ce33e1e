// SPDX-License-Identifier: BSD-3-Clause
//
// udaxctl's commands. Each gives the exit code: 0 done, 1 it could not be done (a sentence on standard error says why),
// 2 wrong usage.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "output.h"

namespace udax::ctl {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

/// Prints "udaxctl: SENTENCE" and gives kExitFailed.
int fail(const std::string& sentence);

using tools::print;
using tools::printable;

/// "12.5 MiB"
std::string size_text(uint64_t bytes);
std::string time_text(int64_t seconds, uint32_t nanoseconds);

/// A descriptor that closes itself.
class Fd {
 public:
  /// errno is left as open(2) set it if there is none.
  Fd(const std::string& path, int flags);
  ~Fd();
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

/// What the daemon that serves `path` says of its pool; nullopt: errno says why.
std::optional<nlohmann::json> ask_mount(const std::string& path);
/// The daemon's counters; nullopt: errno says why (EPROTO: not JSON).
std::optional<nlohmann::json> read_stat(int fd);

int run_info(const std::string& path, bool json);
int run_list(bool json);
int run_sync(const std::string& path);
int run_extents(const std::string& path, bool json);

enum class DaxAction : uint8_t { kShow, kOn, kOff, kInherit };
struct DaxOptions {
  DaxAction action = DaxAction::kShow;
  std::vector<std::string> paths;
  bool recursive = false;
  bool json = false;
};
int run_dax(const DaxOptions& options);

struct StatOptions {
  std::string mount;
  bool json = false;
  bool prometheus = false;
  bool watch = false;
  uint32_t interval_s = 1;
  uint32_t count = 0;  // of lines; 0: until interrupted
};
int run_stat(const StatOptions& options);

struct DumpOptions {
  std::string pool;
  bool superblock = false;
  bool journal = false;
  bool groups = false;
  std::optional<uint64_t> inode;
  std::optional<uint64_t> dir;
  std::optional<uint64_t> block;
};
int run_dump(const DumpOptions& options);

struct RunOptions {
  std::string library;               // the shim; empty: the one that belongs to this udaxctl
  bool reads_and_writes = false;     // as well as mappings
  std::vector<std::string> command;  // the program and its arguments
};
/// Takes the program and its arguments off the end of `udaxctl run [options] [--] PROGRAM...`; how many arguments are left.
int take_command(int argc, char** argv, RunOptions* options);
/// Does not return if the program starts; 126 and 127 as env(1) has them.
int run_run(const RunOptions& options);

}  // namespace udax::ctl
