// SPDX-License-Identifier: BSD-3-Clause
//
// The kernel's page cache behind the mount, as one of the mappers of a file.
//
// Who may call it: threads that serve another front door (a direct-mapping client, a guest). While a thread serves a
// FUSE request the calls do nothing: the kernel sees to its own pages around its own requests, and it waits for the
// reply with locks held (the inode's, or a page's) that dropping pages would need: that would never end.
//
// Locks: the kernel writes dirty pages back, through the dispatcher, before it drops them, so callers hold no lock
// that fs::Filesystem::write needs.
#pragma once

#include "fuse/dispatcher.h"
#include "mapping/mapper.h"

namespace udax::fuse {

class KernelMapper final : public mapping::Mapper {
 public:
  /// `notifier` must outlive this.
  explicit KernelMapper(Notifier& notifier) : notifier_(notifier) {}
  void invalidate(Ino ino, mapping::ByteRange range) override;
  /// The kernel knows no such request: the pages are dropped, so that the next store faults.
  void write_protect(Ino ino, mapping::ByteRange range) override { invalidate(ino, range); }

 private:
  Notifier& notifier_;
};

}  // namespace udax::fuse
