// SPDX-License-Identifier: BSD-3-Clause
//
// Going to the background in such a way that whoever started the program learns how it went: the first process stays
// until the second reports, prints what it has to say, and exits with its status.
#pragma once

#include <string>

#include "base/error.h"

namespace udax::daemon {

// Exit statuses of mount(8).
inline constexpr int kExitOk = 0;
inline constexpr int kExitUsage = 1;
inline constexpr int kExitSystem = 2;
inline constexpr int kExitInternal = 4;
inline constexpr int kExitMount = 32;

class Background {
 public:
  /// Forks unless `stay`. In the first process this does not return. REQUIRES: no other thread yet.
  [[nodiscard]] static Result<Background> enter(bool stay);
  Background(Background&& other) noexcept;
  Background& operator=(Background&&) = delete;
  ~Background();

  /// Lets the first process exit with success, and lets go of terminal, directory and standard streams.
  void ready();
  /// Prints "udaxfs: text" where the user sees it, and returns `status` for exit().
  int fail(int status, const std::string& text);

 private:
  explicit Background(int pipe) : pipe_(pipe) {}
  void report(int status, const std::string& text);
  int pipe_;  // to the first process; -1: this is it
};

}  // namespace udax::daemon
