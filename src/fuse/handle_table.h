// SPDX-License-Identifier: BSD-3-Clause
//
// Open files by the number that the kernel hands back (`fh`): an index and a generation, so that a number that is
// made up, closed or from before is told from a good one and never reaches a wrong file.
//
// Invariants
// - A slot's state word holds generation (upper half), a live bit and a count of users. Users can be added only
//   while it is live; the file is destroyed by whoever takes the count to zero after close().
// - Slots are never freed before the table is, so a stale number always points at memory of this table.
//
// Thread safety: everything, except that close_all() must be alone. Locks: a shard's mutex, for handing out and
// taking back slots only; acquire takes none. Closing a file runs outside of it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "fs/filesystem.h"

namespace udax::fuse {

class HandleTable {
 public:
  HandleTable() = default;
  ~HandleTable() { close_all(); }
  HandleTable(const HandleTable&) = delete;
  HandleTable& operator=(const HandleTable&) = delete;

 private:
  struct Slot {
    std::atomic<uint64_t> state{0};
    bool is_directory = false;
    fs::OpenFilePtr file;
  };

 public:
  /// The use of an open file; it stays open at least as long.
  class Use {
   public:
    Use(Use&& other) noexcept
        : table_(other.table_), slot_(std::exchange(other.slot_, nullptr)), index_(other.index_) {}
    Use& operator=(Use&&) = delete;
    ~Use() {
      if (slot_ != nullptr) table_->drop(*slot_, index_);
    }
    [[nodiscard]] fs::OpenFile& operator*() const { return *slot_->file; }
    fs::OpenFile* operator->() const { return slot_->file.get(); }

   private:
    friend class HandleTable;
    Use(HandleTable* table, Slot* slot, uint32_t index) : table_(table), slot_(slot), index_(index) {}
    HandleTable* table_;
    Slot* slot_;
    uint32_t index_;
  };

  /// Takes the file in and gives its number. kTooManyFiles, kNoMemory: the file is closed.
  [[nodiscard]] Result<uint64_t> insert(fs::OpenFilePtr file, bool is_directory);
  /// kBadHandle: no such open file, not one of `ino`, or not of that kind.
  [[nodiscard]] Result<Use> acquire(uint64_t handle, Ino ino, bool is_directory);
  /// Ends the number; the file goes with its last user. kBadHandle.
  [[nodiscard]] Status close(uint64_t handle);
  /// Closes everything. REQUIRES: no Use alive, no other call in progress.
  void close_all();
  [[nodiscard]] uint64_t open_count() const;

 private:
  static constexpr uint32_t kShards = 16;
  static constexpr uint32_t kChunkSlots = 1024;
  static constexpr uint32_t kChunksPerShard = 1024;  // 16 Mi open files in all
  static constexpr uint64_t kLive = uint64_t{1} << 31;
  static constexpr uint64_t kCountMask = kLive - 1;

  struct Chunk {
    std::array<Slot, kChunkSlots> slots;
  };
  struct Shard {
    Mutex mutex;
    std::array<std::atomic<Chunk*>, kChunksPerShard> chunks{};
    uint32_t slots_made UDAX_GUARDED_BY(mutex) = 0;
    std::vector<uint32_t> free UDAX_GUARDED_BY(mutex);  // indices within the shard
    std::atomic<uint64_t> open{0};
  };

  [[nodiscard]] Result<uint32_t> reserve_slot(uint32_t shard_number);
  [[nodiscard]] Slot* find(uint32_t index) const;
  void drop(Slot& slot, uint32_t index);
  void retire(Slot& slot, uint32_t index);

  std::array<Shard, kShards> shards_;
};

}  // namespace udax::fuse
