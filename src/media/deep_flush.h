// SPDX-License-Identifier: BSD-3-Clause
//
// The deep flush of a devdax device: pushing what the memory controllers hold to the modules, by the file deep_flush of the
// device's region in /sys. libpmem2 writes to that file as well, but says 0 where it may not or where there is none; this one
// tells what was done.
//
// Locks: none; several threads may flush at once, the kernel sorts it out.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"
#include "media/pool_mapping.h"

namespace udax::media {

class DeepFlush {
 public:
  enum class State : uint8_t {
    kNoDevice,   // not asked for
    kNotNeeded,  // the region says that there is nothing to flush behind its controllers
    kReady,
    kRefused,  // there is such a flush, and this process may not ask for it
    kUnknown,  // the region does not tell
  };

  DeepFlush() = default;
  /// `folder`: of the device in /sys (/sys/dev/char/252:0), below that of its region.
  [[nodiscard]] static DeepFlush find(const std::string& folder);

  [[nodiscard]] State state() const { return state_; }
  /// kIo: the device was asked, and failed. Where it cannot be asked this does nothing, which is no error: what was flushed and
  /// drained survives a power cut by the platform's own promise (ADR).
  [[nodiscard]] Status flush() const;
  /// What the user should know of it; empty: nothing.
  [[nodiscard]] std::string note() const;

 private:
  State state_ = State::kNoDevice;
  std::string path_;
  FileDescriptor fd_;
};

}  // namespace udax::media
