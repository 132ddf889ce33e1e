// SPDX-License-Identifier: BSD-3-Clause
//
// Changing a file's size.
//
// Persistence: the size changes in the first transaction, together with the first blocks that go. If not all go in
// it, the inode is among the orphans until they are gone, and a mount after a crash finishes: a block behind the end
// must not come back to sight when the file grows. Where an error stops it half-way, it is taken up again before the
// file grows (resume_truncate).
// Growing makes zeroes of what follows the old end in its block first; cutting does so afterwards, for those who map it.
//
// Locks: rwsem exclusive, then invalidate_lock exclusive while blocks go; every mapper lets go of the range first.
#include "base/sync_point.h"
#include "fs/ops.h"

namespace udax::fs {
namespace {

using Also = std::function<Status(Change&, format::Inode&)>;

/// Removes everything behind block `keep`, in as many transactions as it takes; `first` is done in the first of them.
Status cut(const Ops& ops, inode::Inode& inode, FileBlock keep, const Also& first) {
  const bool nameless = inode.image().nlink == 0;  // an orphan whatever happens here
  FileBlock to = extent::kFileBlockEnd;
  for (bool is_first = true;; is_first = false) {
    Change change(ops.table());
    UDAX_TRY(format::Inode * image, change.edit(inode));
    if (is_first && first) UDAX_CHECK(first(change, *image));
    UDAX_TRY(const FileBlock left,
             extent::Editor(change.blocks(), *image, alloc::Purpose::kMustSucceed).remove(keep, to));
    const bool done = left == keep;
    bool orphan = inode.orphan;
    if (!nameless && done == orphan && !UDAX_KNOB("fs.truncate_forgets_orphan")) {
      UDAX_CHECK(done ? change.tx().remove_orphan(inode.ino()) : change.tx().add_orphan(inode.ino()));
      orphan = !done;
    }
    UDAX_CHECK(change.commit());
    inode.orphan = orphan;
    inode.cut_short = !done;
    if (done) return {};
    to = left;
  }
}

/// Mappers show the last block as it is: behind the end must be zeroes. Not before the size is committed, up to where these bytes are the
/// file's; if a crash comes between, or they are lost, it is growing that makes zeroes of them. REQUIRES: InvalidateLock.
void clear_tail(const Ops& ops, inode::Inode& inode, uint64_t size) {
  const uint64_t in_block = size % kBlockSize;
  if (in_block == 0 || UDAX_KNOB("fs.skip_zero_partial")) return;
  const SharedLockGuard guard(inode.extent_lock);
  const auto last = extent::Reader(ops.meta(), inode.image()).lookup(FileBlock(size >> kBlockShift), 1);
  if (!last || !last->is_data() || ops.medium().probe(offset_of(last->device), kBlockSize)) return;
  ops.medium().zero_nt(offset_of(last->device) + in_block, kBlockSize - in_block);
  (void)ops.settle();
}

}  // namespace

Status Ops::resize(inode::Inode& inode, uint64_t size, const Also& also) const {
  const uint64_t old_size = inode.image().size;
  if (size > old_size) {
    UDAX_CHECK(resume_truncate(inode));
    Change change(table());
    UDAX_TRY(format::Inode * image, change.edit(inode));
    UDAX_CHECK(zero_tail(change, *image, old_size));
    image->size = size;
    UDAX_CHECK(also(change, *image));
    UDAX_CHECK(change.commit());
    dax().grown(inode, old_size);
    return {};
  }
  // The same size, too: what was allocated behind the end goes.
  const InvalidateLock guard(inode);
  UDAX_SYNC_POINT("fs.truncate.locked");
  UDAX_CHECK(dax().drop(inode, FileBlock(blocks_for(size)), extent::kFileBlockEnd));
  const FileBlock keep(blocks_for(size) + (UDAX_KNOB("fs.truncate_keeps_block") ? 1 : 0));
  UDAX_CHECK(cut(*this, inode, keep, [&](Change& change, format::Inode& image) -> Status {
    image.size = size;
    return also(change, image);
  }));
  clear_tail(*this, inode, size);
  UDAX_SYNC_POINT("fs.truncate.done");
  copies_cut(inode, size);
  return {};
}

Status Ops::resume_truncate(inode::Inode& inode) const {
  if (!inode.cut_short && !(inode.orphan && inode.image().nlink != 0)) return {};
  return finish_truncate(inode);
}

Status Ops::finish_truncate(inode::Inode& inode) const {
  const InvalidateLock guard(inode);
  return cut(*this, inode, FileBlock(blocks_for(inode.image().size)), {});
}

}  // namespace udax::fs
