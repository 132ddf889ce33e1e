// SPDX-License-Identifier: BSD-3-Clause
//
// The cache of inodes in memory, and the kernel's lookup counts.
//
// Two tables, both sharded by inode number. Inodes: each at most once, found or loaded by get(); those that nobody
// references are kept up to a limit (clock replacement) and are re-read from the medium when needed again. Lookup
// counts: an entry of 16 bytes in a flat table (21 to 43 bytes as it fills) for each number the kernel knows; a count
// does not pin the inode, but an inode that nobody references goes with its last lookup. So memory follows the kernel's
// inode cache at a few bytes each, and comes back when it forgets.
//
// A dead inode (freed on the medium while the kernel knows its number) is pinned until it is forgotten: its last
// attributes must still be told, and its number must not be given out again (InodeTable::hold_number). It goes, and
// its number is released, when it is forgotten and nobody references it. Kept, too, are inodes with handles, with
// data held back, and orphans.
//
// Locks: each shard's mutex, a leaf but for the notes of InodeTable, which come after it. Loading holds none: a
// placeholder makes others wait. So a thread within an InodeTx may let go of inodes, and may get those that it has
// seen in the cache and holds a reference to, but no others (inode_table.h says why).
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "inode/inode.h"
#include "inode/inode_table.h"

namespace udax::inode {

class InodeCache;

/// A counted reference to a cached inode.
class InodeRef {
 public:
  InodeRef() = default;
  InodeRef(InodeRef&& other) noexcept
      : cache_(std::exchange(other.cache_, nullptr)), inode_(std::exchange(other.inode_, nullptr)) {}
  InodeRef& operator=(InodeRef&& other) noexcept {
    if (this != &other) {
      reset();
      cache_ = std::exchange(other.cache_, nullptr);
      inode_ = std::exchange(other.inode_, nullptr);
    }
    return *this;
  }
  ~InodeRef() { reset(); }
  void reset();
  /// Another reference to the same inode.
  [[nodiscard]] InodeRef share() const;

  [[nodiscard]] Inode* get() const { return inode_; }
  Inode* operator->() const { return inode_; }
  Inode& operator*() const { return *inode_; }
  explicit operator bool() const { return inode_ != nullptr; }

 private:
  friend class InodeCache;
  InodeRef(InodeCache* cache, Inode* inode) : cache_(cache), inode_(inode) {}
  InodeCache* cache_ = nullptr;
  Inode* inode_ = nullptr;
};

/// What the cache needs to take in an inode, had before the commit that creates it: nothing can fail afterwards.
class FreshInode {
 public:
  FreshInode(FreshInode&& other) noexcept
      : cache_(std::exchange(other.cache_, nullptr)), inode_(std::move(other.inode_)) {}
  FreshInode& operator=(FreshInode&&) = delete;
  ~FreshInode();

 private:
  friend class InodeCache;
  FreshInode(InodeCache* cache, std::unique_ptr<Inode> inode) : cache_(cache), inode_(std::move(inode)) {}
  InodeCache* cache_;
  std::unique_ptr<Inode> inode_;
};

struct CacheStats {
  uint64_t inodes = 0;   // in memory
  uint64_t lookups = 0;  // numbers that the kernel knows
  uint64_t hits = 0;
  uint64_t misses = 0;
};

class InodeCache {
 public:
  /// `capacity`: unreferenced inodes kept.
  explicit InodeCache(InodeTable& table, uint64_t capacity = 65536);
  ~InodeCache();

  /// The inode, loaded if need be. kStale: the number is not in use. kCorrupted, kNoMemory.
  [[nodiscard]] Result<InodeRef> get(Ino ino);
  /// For an inode that is about to be created with `image`. Waits for nobody: allowed within an InodeTx. kNoMemory.
  [[nodiscard]] Result<FreshInode> prepare(Ino ino, uint64_t slot_offset, const format::Inode& image);
  /// Puts it in, now that it is committed. Not within an InodeTx that has yet to end.
  [[nodiscard]] InodeRef insert(FreshInode fresh);

  /// The kernel was told about `ino` once more.
  [[nodiscard]] Status add_lookup(Ino ino);
  /// The kernel forgot `count` lookups. A count that is too large is cut at zero and logged. When a dead inode's
  /// count reaches zero and nobody references it, its number is released.
  void forget(Ino ino, uint64_t count);
  [[nodiscard]] uint64_t lookup_count(Ino ino) const;

  /// Those with bytes that only a flush makes durable, as it was at some moment of the call. kNoMemory.
  [[nodiscard]] Result<std::vector<InodeRef>> dirty();

  /// The mount is gone: all lookup counts become zero, dead inodes go.
  void forget_all();

  [[nodiscard]] CacheStats stats() const;

 private:
  friend class InodeRef;
  friend class FreshInode;
  void unprepare(Ino ino);
  void release(Inode* inode);
  void retain(Inode* inode);
  struct Impl;
  InodeTable& table_;
  std::unique_ptr<Impl> impl_;
};

inline FreshInode::~FreshInode() {
  if (cache_ != nullptr) cache_->unprepare(inode_->ino());
}
inline void InodeRef::reset() {
  if (inode_ != nullptr) cache_->release(inode_);
  inode_ = nullptr;
}
inline InodeRef InodeRef::share() const {
  if (inode_ != nullptr) cache_->retain(inode_);
  return {cache_, inode_};
}

}  // namespace udax::inode
