// SPDX-License-Identifier: BSD-3-Clause
//
// An inode in memory: the committed image, its locks, and who uses it.
//
// Lock order (docs/locking.md): rwsem -> invalidate_lock -> entry lock -> extent_lock -> image_lock; several inodes'
// rwsems as docs/locking.md says.
//
// The committed image is replaced as a whole after a commit, under image_lock. To read it: hold rwsem (see image())
// or take a copy by snapshot(). The extent root inside it (payload, block_count) is further guarded by
// extent_lock: page faults change extents under invalidate_lock shared, without rwsem.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#include "base/error.h"
#include "base/mutex.h"
#include "base/types.h"
#include "format/format.h"
#include "mapping/address_space.h"

namespace udax::inode {

class Inode {
 public:
  Inode(Ino ino, uint64_t slot_offset, const format::Inode& image)
      : ino_(ino), slot_offset_(slot_offset), type_(image.mode & 0170000U), image_(image) {}
  ~Inode() { delete space_.load(std::memory_order_relaxed); }
  Inode(const Inode&) = delete;
  Inode& operator=(const Inode&) = delete;

  [[nodiscard]] Ino ino() const { return ino_; }
  /// Where its 256 bytes are on the medium.
  [[nodiscard]] uint64_t slot_offset() const { return slot_offset_; }

  /// Readers of names or bytes shared; changes exclusive.
  SharedMutex rwsem;
  /// Faults shared; whoever removes or moves blocks exclusive.
  SharedMutex invalidate_lock;
  SharedMutex extent_lock;

  /// A copy of the committed image; needs no lock.
  [[nodiscard]] format::Inode snapshot() const {
    const LockGuard guard(image_lock_);
    return image_;
  }
  /// The committed image in place. The caller holds rwsem exclusive, or extent_lock; for what is no regular file
  /// rwsem shared will do (of a regular file, reads and writes under rwsem shared change times). With rwsem alone only what
  /// a fault does not change: not the times, the extent root and block_count.
  [[nodiscard]] const format::Inode& image() const { return image_; }
  /// Takes over the image that was just committed. The caller holds extent_lock exclusive.
  void publish(const format::Inode& committed) {
    // Only what differs is stored: a fault publishes while others read what it does not change under rwsem.
    const LockGuard guard(image_lock_);
    auto* const to = reinterpret_cast<std::byte*>(&image_);
    const auto* const from = reinterpret_cast<const std::byte*>(&committed);
    for (size_t word = 0; word < sizeof image_; word += sizeof(uint64_t)) {
      if (std::memcmp(to + word, from + word, sizeof(uint64_t)) == 0) continue;
      for (size_t i = word; i < word + sizeof(uint64_t); ++i) {
        if (to[i] != from[i]) to[i] = from[i];
      }
    }
  }

  [[nodiscard]] uint32_t mode() const { return image_.mode; }
  [[nodiscard]] bool is_dir() const { return type_ == 0040000U; }
  [[nodiscard]] bool is_reg() const { return type_ == 0100000U; }
  [[nodiscard]] bool is_symlink() const { return type_ == 0120000U; }

  /// Open handles. Changed under rwsem (shared is enough to add one; to find none: exclusive).
  std::atomic<uint32_t> open_count{0};
  /// True once the inode is free on the medium and lives on only because the kernel still knows its number.
  std::atomic<bool> dead{false};
  /// It stands in an orphan slot. Guarded by rwsem.
  bool orphan = false;
  /// Cutting its end off has failed half-way: blocks with old bytes are left behind the end. Guarded by rwsem.
  bool cut_short = false;

  /// Open handles by how they were opened; changed as open_count is.
  std::atomic<uint32_t> open_dax{0};
  std::atomic<uint32_t> open_cached{0};
  /// A page cache was given zeroes where the file has no data: what is stored to such a page is not known here before it comes back.
  std::atomic<bool> has_shown_holes{false};
  /// Counts failures to make data durable, so that each open handle can tell it once.
  std::atomic<uint32_t> write_errors{0};

  /// Entries and copies; null until something was mapped, or stored and not yet flushed.
  [[nodiscard]] mapping::AddressSpace* space() const { return space_.load(std::memory_order_acquire); }
  /// Makes it if need be. kNoMemory.
  [[nodiscard]] Result<mapping::AddressSpace*> make_space() {
    mapping::AddressSpace* there = space();
    if (there != nullptr) return there;
    auto* const made = new (std::nothrow) mapping::AddressSpace;
    if (made == nullptr) return Error::kNoMemory;
    if (space_.compare_exchange_strong(there, made, std::memory_order_acq_rel)) return made;
    delete made;
    return there;
  }
  /// Its blocks are free: nothing of it is mapped or dirty any more. Who flushes everything needs no handle, and may be at one of its
  /// entries: that one is waited for. REQUIRES: rwsem exclusive, no handle open; no extent_lock held.
  void forget_space() {
    if (mapping::AddressSpace* const s = space(); s != nullptr) {
      const Status erased = s->entries.erase_range(FileBlock(0), FileBlock(mapping::kFileBlockEnd));
      UDAX_ASSERT(erased.has_value());  // all of it: there is nothing to split
      s->copies.forget(FileBlock(0), FileBlock(mapping::kFileBlockEnd));
    }
  }
  /// Bytes stored that only a flush makes durable.
  [[nodiscard]] bool has_dirty_data() const {
    const mapping::AddressSpace* const s = space();
    return s != nullptr && (s->entries.dirty_blocks() != 0 || s->trackers.load() != 0);
  }

 private:
  friend class InodeCache;
  const Ino ino_;
  const uint64_t slot_offset_;
  const uint32_t type_;  // S_IFMT of the mode: never changes
  std::atomic<mapping::AddressSpace*> space_{nullptr};
  mutable SpinLock image_lock_;
  format::Inode image_;
  // Cache state, guarded by the shard's lock.
  uint32_t references_ = 0;
  bool recently_used_ = false;
};

}  // namespace udax::inode
