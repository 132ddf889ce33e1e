// SPDX-License-Identifier: BSD-3-Clause
//
// Reading metadata blocks from the medium, each checked before it is trusted.
//
// A block opened by format::BlockHeader is checked in full (bounds, magic, checksum, its own place, owner, kind)
// the first time it is read after mount or after it was freed, and only cheaply (header fields) after that: the
// outcome is kept in a bitmap of one bit a block, made group by group as groups come into use.
//
// Locks: readers hold the lock of the structure the block belongs to (an inode's rwsem or extent lock, shared at
// least), so that nobody applies changes to it meanwhile. The bitmap itself is lock-free.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "base/error.h"
#include "format/checksum.h"
#include "format/format.h"
#include "media/medium.h"
#include "media/superblock.h"

namespace udax::journal {

class MetaStore {
 public:
  MetaStore(media::Medium& medium, const media::Geometry& geometry);
  ~MetaStore();
  MetaStore(const MetaStore&) = delete;
  MetaStore& operator=(const MetaStore&) = delete;

  [[nodiscard]] media::Medium& medium() const { return medium_; }
  [[nodiscard]] const media::Geometry& geometry() const { return geometry_; }
  [[nodiscard]] uint32_t seed() const { return geometry_.checksum_seed; }

  /// The block at `b` as it is on the medium. kCorrupted: `b` is not where a metadata block may be, or the block
  /// is not a sealed one of `kind` and `owner` that knows its place. kIo: it was lost to a media error. Both are logged
  /// (rate-limited), the first is counted.
  [[nodiscard]] Result<const std::byte*> read(DeviceBlock b, format::BlockKind kind, uint64_t owner) const;

  /// Whether bytes of the medium are lost to a media error; see Medium::is_lost().
  [[nodiscard]] bool is_lost(uint64_t offset, uint64_t size) const { return medium_.is_lost(offset, size); }
  /// Logs (rate-limited) that something is; gives kIo for returning.
  Error lost(const char* what, uint64_t where) const;

  /// Forgets that `b` was checked. To be called when a metadata block is freed.
  void forget(DeviceBlock b) const;
  /// Notes that `b` is known good (just written by a transaction).
  void trust(DeviceBlock b) const;

  /// Structures found corrupted since mount.
  [[nodiscard]] uint64_t corruptions() const { return corruptions_.load(std::memory_order_relaxed); }
  /// Notes and logs one found by a caller's own checks; gives kCorrupted for returning.
  Error corrupted(const char* what, uint64_t where) const;

 private:
  struct GroupBits;
  [[nodiscard]] Result<const std::byte*> read_checked(DeviceBlock b, format::BlockKind kind, uint64_t owner) const;
  std::atomic<GroupBits*>& slot(DeviceBlock b) const;
  media::Medium& medium_;
  const media::Geometry geometry_;
  mutable std::vector<std::atomic<GroupBits*>> verified_;
  mutable std::atomic<uint64_t> corruptions_{0};
};

}  // namespace udax::journal
