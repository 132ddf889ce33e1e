// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/handle_table.h"

#include <new>

namespace udax::fuse {
namespace {

// An index is: slot within the shard (20 bits) * kShards + shard. A handle is generation << 32 | index + 1, so that
// zero is never a handle.
constexpr uint32_t index_of(uint64_t handle) { return static_cast<uint32_t>(handle) - 1; }
constexpr uint64_t generation_of(uint64_t word) { return word >> 32; }

uint32_t favourite_shard() {
  static std::atomic<uint32_t> next{0};
  thread_local const uint32_t mine = next.fetch_add(1, std::memory_order_relaxed);
  return mine;
}

}  // namespace

HandleTable::Slot* HandleTable::find(uint32_t index) const {
  const uint32_t slot = index / kShards;
  const uint32_t chunk = slot / kChunkSlots;
  if (chunk >= kChunksPerShard) return nullptr;
  Chunk* there = shards_[index % kShards].chunks[chunk].load(std::memory_order_acquire);
  return there == nullptr ? nullptr : &there->slots[slot % kChunkSlots];
}

Result<uint32_t> HandleTable::reserve_slot(uint32_t shard_number) {
  Shard& shard = shards_[shard_number];
  const LockGuard guard(shard.mutex);
  if (!shard.free.empty()) {
    const uint32_t slot = shard.free.back();
    shard.free.pop_back();
    return slot;
  }
  const uint32_t slot = shard.slots_made;
  if (slot == kChunkSlots * kChunksPerShard) return Error::kTooManyFiles;
  if (slot % kChunkSlots == 0) {
    try {
      shard.free.reserve(slot + kChunkSlots);  // so that giving a slot back never fails
      shard.chunks[slot / kChunkSlots].store(new Chunk, std::memory_order_release);
    } catch (const std::bad_alloc&) {
      return Error::kNoMemory;
    }
  }
  ++shard.slots_made;
  return slot;
}

Result<uint64_t> HandleTable::insert(fs::OpenFilePtr file, bool is_directory) {
  const uint32_t shard_number = favourite_shard() % kShards;
  UDAX_TRY(const uint32_t slot_number, reserve_slot(shard_number));
  const uint32_t index = slot_number * kShards + shard_number;
  Slot& slot = *find(index);
  slot.file = std::move(file);
  slot.is_directory = is_directory;
  const uint64_t generation = generation_of(slot.state.load(std::memory_order_relaxed));
  slot.state.store(generation << 32 | kLive, std::memory_order_release);
  shards_[shard_number].open.fetch_add(1, std::memory_order_relaxed);
  return generation << 32 | (uint64_t{index} + 1);
}

Result<HandleTable::Use> HandleTable::acquire(uint64_t handle, Ino ino, bool is_directory) {
  const uint32_t index = index_of(handle);
  Slot* slot = find(index);
  if (slot == nullptr) return Error::kBadHandle;
  uint64_t state = slot->state.load(std::memory_order_acquire);
  do {
    if (generation_of(state) != generation_of(handle) || (state & kLive) == 0 ||
        (state & kCountMask) == kCountMask) {
      return Error::kBadHandle;
    }
  } while (
      !slot->state.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel, std::memory_order_acquire));
  Use use(this, slot, index);
  if (slot->is_directory != is_directory || slot->file->ino() != ino) return Error::kBadHandle;
  return use;
}

void HandleTable::drop(Slot& slot, uint32_t index) {
  const uint64_t before = slot.state.fetch_sub(1, std::memory_order_acq_rel);
  if ((before & kLive) == 0 && (before & kCountMask) == 1) retire(slot, index);
}

Status HandleTable::close(uint64_t handle) {
  const uint32_t index = index_of(handle);
  Slot* slot = find(index);
  if (slot == nullptr) return Error::kBadHandle;
  uint64_t state = slot->state.load(std::memory_order_acquire);
  do {
    if (generation_of(state) != generation_of(handle) || (state & kLive) == 0) return Error::kBadHandle;
  } while (!slot->state.compare_exchange_weak(state, state & ~kLive, std::memory_order_acq_rel,
                                              std::memory_order_acquire));
  if ((state & kCountMask) == 0) retire(*slot, index);
  return {};
}

void HandleTable::retire(Slot& slot, uint32_t index) {
  slot.file.reset();
  const uint64_t generation = generation_of(slot.state.load(std::memory_order_relaxed));
  slot.state.store(((generation + 1) & 0xFFFFFFFFU) << 32, std::memory_order_release);
  Shard& shard = shards_[index % kShards];
  shard.open.fetch_sub(1, std::memory_order_relaxed);
  const LockGuard guard(shard.mutex);
  shard.free.push_back(index / kShards);
}

void HandleTable::close_all() {
  for (Shard& shard : shards_) {
    {
      const LockGuard guard(shard.mutex);
      shard.slots_made = 0;
      shard.free.clear();
    }
    for (auto& place : shard.chunks) delete place.exchange(nullptr);  // the files close with their slots
    shard.open.store(0, std::memory_order_relaxed);
  }
}

uint64_t HandleTable::open_count() const {
  uint64_t sum = 0;
  for (const Shard& shard : shards_) sum += shard.open.load(std::memory_order_relaxed);
  return sum;
}

}  // namespace udax::fuse
