// SPDX-License-Identifier: BSD-3-Clause
//
// The filesystem that is tested: the current directory.
#pragma once

#include <array>

#include "tests/conformity/model/op.h"

namespace udax::vfs_model {

class Real {
 public:
  /// `switches`: operations are done on behalf of their `who`, which takes root; else on the process's.
  explicit Real(bool switches) : switches_(switches) { fds_.fill(-1); }
  ~Real();
  Real(const Real&) = delete;
  Real& operator=(const Real&) = delete;

  [[nodiscard]] Outcome apply(const Op& op);
  /// What kStat gives.
  [[nodiscard]] static Outcome describe(const std::string& path);
  /// What kList gives; `flags`: more of open(2)'s.
  [[nodiscard]] static Outcome list(const std::string& path, int flags);

 private:
  void become(const Who& who) const;
  [[nodiscard]] Outcome on_path(const Op& op);
  [[nodiscard]] Outcome on_slot(const Op& op);
  [[nodiscard]] Outcome copy_range(const Op& op);
  void keep(int slot, int fd);

  const bool switches_;
  std::array<int, kSlots> fds_{};
};

}  // namespace udax::vfs_model
