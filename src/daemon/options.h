// SPDX-License-Identifier: BSD-3-Clause
//
// The command line of udaxfs(8): as users call it, and as mount(8) does (`mount.fuse.udaxfs SPEC DIR -o ...`, or
// mount.fuse3's `udaxfs SPEC DIR -o rw,...,dev,suid`).
//
// Rule: what is not understood is an error that names it. Only what is fstab's own business (noauto, user, x-...) is
// passed over in silence.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "direct/policy.h"
#include "fs/types.h"
#include "fuse/session.h"

namespace udax::daemon {

struct Options {
  enum class Action : uint8_t { kMount, kHelp, kVersion, kNothing };  // kNothing: mount(8)'s -f, "fake"
  Action action = Action::kMount;
  std::string pool;        // as given
  std::string mountpoint;  // as given
  std::string fsname;      // what mount(8) shows as the source; empty: the pool's path
  fs::MountOptions fs;
  std::vector<std::string> mount_options;  // for the kernel's mount, all but fsname
  bool foreground = false;
  uint32_t threads = 4;
  fuse::Transport transport = fuse::Transport::kAuto;
  direct::Policy direct;  // who may map files directly
  uint64_t entry_timeout_ns = kTimeoutDefaultNs;
  uint64_t attr_timeout_ns = kTimeoutDefaultNs;
  uint64_t negative_timeout_ns = kTimeoutDefaultNs;
  LogLevel log_level = LogLevel::kInfo;

  static constexpr uint64_t kTimeoutDefaultNs = 86'400'000'000'000;  // a day
};

/// Reads the command line, argv[0] included. `root`: the effective user is root (who gets suid, dev and allow_other
/// unless told otherwise). kInvalid: `why` says what is wrong, in one sentence.
[[nodiscard]] Result<Options> parse_options(std::span<const char* const> argv, bool root, std::string* why);

/// What -h prints.
[[nodiscard]] const char* usage();

}  // namespace udax::daemon
