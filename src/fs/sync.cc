// SPDX-License-Identifier: BSD-3-Clause
//
// fsync, syncfs. Metadata is durable already; what is left is file data that the medium's granularity made
// too dear to drain at each write (see dirty_data.h).
#include "fs/dirty_data.h"
#include "fs/ops.h"

namespace udax::fs {

Status Ops::flush_data(inode::Inode& inode) const {
  // What could not be journaled may not be in place: nothing may be promised any more.
  if (fs.journal_->failed()) return Error::kIo;
  if (medium().granularity() != media::Granularity::kPage) return {};
  // Without it a second fsync would return while the first is still at what it took.
  const LockGuard guard(dirty_data().flushing(inode.ino()));
  if (!inode.data_dirty.exchange(false, std::memory_order_acq_rel)) return {};
  for (const DirtyData::Range& range : dirty_data().take(inode.ino())) {
    medium().flush(range.start, range.end - range.start);
  }
  return medium().drain();
}

Status Filesystem::fsync(OpenFile& file, bool /*data_only*/) {
  if (read_only()) return {};
  return Ops{*this}.flush_data(file.inode());
}

Status Filesystem::sync() {
  if (read_only()) return {};
  if (journal_->failed()) return Error::kIo;
  return medium_->deep_flush(0, medium_->size());
}

}  // namespace udax::fs
