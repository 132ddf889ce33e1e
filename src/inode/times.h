// SPDX-License-Identifier: BSD-3-Clause
//
// The times of an inode image.
#pragma once

#include "base/clock.h"
#include "format/format.h"

namespace udax::inode {

/// The kernel's tick, as kernel filesystems use it.
[[nodiscard]] inline format::TimeStamp now() {
  const RealTime t = realtime_coarse();
  return {t.seconds, t.nanoseconds};
}
inline void set_mtime(format::Inode& image, format::TimeStamp t) {
  image.mtime_s = static_cast<uint64_t>(t.seconds);
  image.mtime_ns = t.nanoseconds;
}
inline void set_ctime(format::Inode& image, format::TimeStamp t) {
  image.ctime_s = static_cast<uint64_t>(t.seconds);
  image.ctime_ns = t.nanoseconds;
}
inline void set_atime(format::Inode& image, format::TimeStamp t) {
  image.atime_s = static_cast<uint64_t>(t.seconds);
  image.atime_ns = t.nanoseconds;
}
inline void touch_modified(format::Inode& image, format::TimeStamp t) {
  set_mtime(image, t);
  set_ctime(image, t);
}
/// mtime and ctime are `t` already.
[[nodiscard]] inline bool is_touched(const format::Inode& image, format::TimeStamp t) {
  const auto s = static_cast<uint64_t>(t.seconds);
  return image.mtime_s.get() == s && image.ctime_s.get() == s && image.mtime_ns.get() == t.nanoseconds &&
         image.ctime_ns.get() == t.nanoseconds;
}

}  // namespace udax::inode
