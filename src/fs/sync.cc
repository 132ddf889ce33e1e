// SPDX-License-Identifier: BSD-3-Clause
//
// fsync, syncfs. Metadata is durable already; what is left is file data: stored through a mapping, or where the
// medium's granularity makes it too dear to drain at each write. dax/writeback.cc flushes it.
#include <algorithm>

#include "base/log.h"
#include "fs/ops.h"

namespace udax::fs {

Status Ops::flush_data(inode::Inode& inode) const {
  return flush_data(inode, FileBlock(0), extent::kFileBlockEnd);
}

Status Ops::flush_data(inode::Inode& inode, FileBlock from, FileBlock to) const {
  // What could not be journaled may not be in place: nothing may be promised any more.
  if (fs.journal_->failed()) return Error::kIo;
  return dax().writeback(inode, from, to);
}

Status Filesystem::fsync(OpenFile& file, bool /*data_only*/) { return fsync_range(file, 0, ~uint64_t{0}); }

Status Filesystem::fsync_range(OpenFile& file, uint64_t from, uint64_t to) {
  if (read_only()) return {};
  const FileBlock end(std::min(blocks_for(to), extent::kFileBlockEnd.value));
  const Status flushed = Ops{*this}.flush_data(file.inode(), FileBlock(from >> kBlockShift), end);
  tell_attributes(file.inode());
  // An error that an earlier writeback met, on whoever's behalf, is told to each open handle once (fsync(2)).
  const uint32_t errors = file.inode().write_errors.load(std::memory_order_relaxed);
  const bool is_news = file.errors_seen_.exchange(errors, std::memory_order_relaxed) != errors;
  UDAX_CHECK(flushed);
  return is_news ? Status(Error::kIo) : Status();
}

Status Filesystem::sync() {
  if (read_only()) return {};
  if (journal_->failed()) return Error::kIo;
  return flush_all();
}

Status Ops::flush_all_data(Tell tell) const {
  UDAX_TRY(const std::vector<inode::InodeRef> dirty, cache().dirty());
  Status all;
  for (const inode::InodeRef& ref : dirty) {
    if (const Status flushed = flush_data(*ref); !flushed && all) all = flushed;
    if (tell == Tell::kAll) fs.tell_attributes(*ref);
  }
  return all;
}

void Filesystem::flush_dirty() {
  if (read_only()) return;
  if (const Status done = Ops{*this}.flush_all_data(Ops::Tell::kAll); !done) {
    log::error("flushing what waits for fsync: {}", to_string(done.error()));
  }
}

Status Filesystem::flush_all() {
  // A deep flush alone does not reach what is in the CPUs' caches.
  // For a request, perhaps the only one that is served: new attributes are told of later.
  const Status all = Ops{*this}.flush_all_data(Ops::Tell::kNobody);
  // What lost pages were to hold has been told to those who stored it.
  const Status flushed = medium_->deep_flush(0, medium_->size());
  if (!flushed && !medium_->failed_by_loss()) return flushed;
  return all;
}

}  // namespace udax::fs
