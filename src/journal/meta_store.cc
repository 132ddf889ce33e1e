// SPDX-License-Identifier: BSD-3-Clause
#include "journal/meta_store.h"

#include <array>
#include <new>

#include "base/clock.h"
#include "base/log.h"
#include "base/sync_point.h"

namespace udax::journal {
namespace {

constexpr uint32_t kBitsPerWord = 64;
// A broken pool can hand out a bad block at every lookup: the first few tell, the count tells the rest.
constexpr uint64_t kLogWindow_ns = 1'000'000'000;
constexpr uint32_t kLogsPerWindow = 8;

bool may_log() {
  static std::atomic<uint64_t> window{0};
  static std::atomic<uint32_t> used{0};
  const uint64_t now = monotonic_ns() / kLogWindow_ns;
  uint64_t seen = window.load(std::memory_order_relaxed);
  if (seen != now && window.compare_exchange_strong(seen, now, std::memory_order_relaxed)) {
    used.store(0, std::memory_order_relaxed);
  }
  return used.fetch_add(1, std::memory_order_relaxed) < kLogsPerWindow;
}

}  // namespace

struct MetaStore::GroupBits {
  std::array<std::atomic<uint64_t>, format::kGroupBlocks / kBitsPerWord> words{};
};

namespace {

struct Bit {
  uint32_t word;
  uint64_t mask;
};
Bit bit_of(DeviceBlock b) {
  const auto index = static_cast<uint32_t>(b.value % format::kGroupBlocks);
  return {index / kBitsPerWord, uint64_t{1} << (index % kBitsPerWord)};
}

}  // namespace

MetaStore::MetaStore(media::Medium& medium, const media::Geometry& geometry)
    : medium_(medium), geometry_(geometry), verified_(geometry.group_count) {}

MetaStore::~MetaStore() {
  for (auto& group : verified_) delete group.load(std::memory_order_relaxed);
}

std::atomic<MetaStore::GroupBits*>& MetaStore::slot(DeviceBlock b) const {
  const uint64_t group = b.value / format::kGroupBlocks;
  UDAX_ASSERT(group < verified_.size());
  return verified_[group];
}

void MetaStore::trust(DeviceBlock b) const {
  std::atomic<GroupBits*>& place = slot(b);
  GroupBits* bits = place.load(std::memory_order_acquire);
  if (bits == nullptr) {
    auto* made = new (std::nothrow) GroupBits;
    if (made == nullptr) return;  // the block is checked in full every time: slower, not wrong
    if (place.compare_exchange_strong(bits, made, std::memory_order_acq_rel, std::memory_order_acquire)) {
      bits = made;
    } else {
      delete made;
    }
  }
  const Bit bit = bit_of(b);
  bits->words[bit.word].fetch_or(bit.mask, std::memory_order_relaxed);
}

void MetaStore::forget(DeviceBlock b) const {
  GroupBits* bits = slot(b).load(std::memory_order_acquire);
  if (bits == nullptr) return;
  const Bit bit = bit_of(b);
  bits->words[bit.word].fetch_and(~bit.mask, std::memory_order_relaxed);
}

Result<const std::byte*> MetaStore::read(DeviceBlock b, format::BlockKind kind, uint64_t owner) const {
  if (!geometry_.is_data(b, 1)) return corrupted("a metadata block number out of bounds", b.value);
  // Asked before, since touching a lost page may take its neighbours along; and afterwards, since it may be the
  // reading that finds it out.
  if (is_lost(offset_of(b), kBlockSize)) [[unlikely]]
    return lost("a metadata block", b.value);
  const Result<const std::byte*> image = read_checked(b, kind, owner);
  if (is_lost(offset_of(b), kBlockSize)) [[unlikely]]
    return lost("a metadata block", b.value);
  return image;
}

Result<const std::byte*> MetaStore::read_checked(DeviceBlock b, format::BlockKind kind, uint64_t owner) const {
  const std::byte* image = medium_.block(b);
  const auto* header = reinterpret_cast<const format::BlockHeader*>(image);
  if (header->magic != format::kBlockMagic || header->block != b.value) {
    return corrupted("a block that is no metadata block, or not of this place", b.value);
  }
  if (header->kind != kind || header->owner != owner) {
    return corrupted("a metadata block of another kind or owner", b.value);
  }
  const GroupBits* bits = slot(b).load(std::memory_order_acquire);
  const Bit bit = bit_of(b);
  if (bits != nullptr && (bits->words[bit.word].load(std::memory_order_relaxed) & bit.mask) != 0) return image;
  if (!format::is_sealed(seed(), format::Unit::kBlock, image) && !UDAX_KNOB("journal.skip_block_checksum")) {
    return corrupted("a metadata block with a wrong checksum", b.value);
  }
  trust(b);
  return image;
}

Error MetaStore::lost(const char* what, uint64_t where) const {
  if (may_log()) log::error("{} was lost to a media error (at {})", what, where);
  return Error::kIo;
}

Error MetaStore::corrupted(const char* what, uint64_t where) const {
  corruptions_.fetch_add(1, std::memory_order_relaxed);
  if (may_log()) log::error("corrupted media: {} (at {})", what, where);
  return Error::kCorrupted;
}

}  // namespace udax::journal
