// SPDX-License-Identifier: BSD-3-Clause
//
// A Change is one transaction over some inodes. The first edit of an inode takes its extent_lock exclusive, kept until
// the Change is destroyed: whoever edits any part of an inode's image holds it (faults edit the extent root
// without rwsem), so that no two transactions work on copies of one image. The committed images are
// published before the locks go.
//
// Locks: rwsems as lock order says are the callers' own; a Change takes extent locks in the order of edits, which
// cannot deadlock since all inodes of a several-inode change are held by rwsem exclusive, and a fault takes one.
#pragma once

#include <array>

#include "inode/inode.h"
#include "inode/inode_table.h"

namespace udax::inode {

class Change {
 public:
  explicit Change(InodeTable& table) : tx_(table) {}
  ~Change() UDAX_NO_THREAD_SAFETY_ANALYSIS;  // run-time set of locks
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;

  [[nodiscard]] InodeTx& tx() { return tx_; }
  [[nodiscard]] alloc::BlockTx& blocks() { return tx_.blocks(); }

  /// The shadow of `inode` to change. kStale: it has been freed.
  [[nodiscard]] Result<format::Inode*> edit(Inode& inode) UDAX_NO_THREAD_SAFETY_ANALYSIS;
  /// Frees `inode` on the medium with this change. It is dead from the commit on: the cache keeps `ghost`, its image, for as long as
  /// the kernel knows the number. The caller references it, holds its rwsem exclusive, and has called hold_number.
  [[nodiscard]] Status free(Inode& inode, const format::Inode& ghost);
  [[nodiscard]] bool nearly_full() { return tx_.blocks().nearly_full(); }

  /// Commits and publishes, and tells who watches (mapping/state_watch.h). On error nothing has changed.
  [[nodiscard]] Status commit();

 private:
  struct Edited {
    Inode* inode = nullptr;
    format::Inode* shadow = nullptr;
    bool freed = false;
    format::Inode ghost{};
  };
  [[nodiscard]] static mapping::StateWatchers* watchers_of(const Inode& inode);

  static constexpr size_t kEditedMax = 6;
  InodeTx tx_;
  std::array<Edited, kEditedMax> edited_{};
  size_t count_ = 0;
};

}  // namespace udax::inode
