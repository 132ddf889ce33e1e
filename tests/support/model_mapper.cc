// SPDX-License-Identifier: BSD-3-Clause
#include "tests/support/model_mapper.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "base/sync_point.h"
#include "mapping/entry_tree.h"

namespace udax::test {
namespace {

constexpr uint64_t kPieceMax = 8;  // bytes

uint64_t window_of(uint64_t block) { return align_down(block, kHugeBlocks); }

/// Bytes of the pool, as a process that has it mapped reaches them.
std::byte* mapped(fs::Filesystem& fs, uint64_t device_offset) {
  return const_cast<std::byte*>(fs.medium().at(device_offset));
}

void load_bytes(const std::byte* from, std::byte* to, uint64_t size) {
  for (uint64_t i = 0; i < size; ++i) {
    to[i] = static_cast<std::byte>(__atomic_load_n(reinterpret_cast<const uint8_t*>(from + i), __ATOMIC_RELAXED));
  }
}

void store_bytes(std::byte* to, const std::byte* from, uint64_t size) {
  for (uint64_t i = 0; i < size; ++i) {
    __atomic_store_n(reinterpret_cast<uint8_t*>(to + i), static_cast<uint8_t>(from[i]), __ATOMIC_RELAXED);
  }
}

// Reads bytes that others may be storing to: theirs to keep apart. Volatile, so that it becomes no memcpy, which
// ThreadSanitizer would watch.
__attribute__((no_sanitize("thread"))) void copy_page(const std::byte* from, std::byte* to) {
  const volatile std::byte* const source = from;
  for (uint32_t i = 0; i < kBlockSize; ++i) to[i] = source[i];
}

}  // namespace

class UDAX_SCOPED_CAPABILITY Mapping::Shootdown {
 public:
  explicit Shootdown(Mapping& mapping) UDAX_ACQUIRE(mapping.lock_) : mapping_(mapping) {
    mapping.waiting_.fetch_add(1);
    mapping.lock_.lock();
    mapping.waiting_.fetch_sub(1);
  }
  ~Shootdown() UDAX_RELEASE() { mapping_.lock_.unlock(); }
  Shootdown(const Shootdown&) = delete;
  Shootdown& operator=(const Shootdown&) = delete;

 private:
  Mapping& mapping_;
};

ModelMapper::ModelMapper(fs::Filesystem& fs, Pages pages)
    : fs_(fs),
      order_max_(pages == Pages::kHuge ? mapping::kHugeOrder : mapping::kPageOrder),
      recording_(dynamic_cast<media::RecordingMedium*>(&fs.medium())) {
  fs_.mappers().add(this);
}

ModelMapper::~ModelMapper() {
  fs_.mappers().remove(this);
  const LockGuard guard(mutex_);
  UDAX_ASSERT(mappings_.empty());
}

void ModelMapper::invalidate(Ino ino, mapping::ByteRange range) {
  invalidations_.fetch_add(1);
  const SharedLockGuard guard(mutex_);
  for (Mapping* const m : mappings_) {
    if (m->file_->ino() == ino) m->take(range, true);
  }
}

void ModelMapper::write_protect(Ino ino, mapping::ByteRange range) {
  protections_.fetch_add(1);
  const SharedLockGuard guard(mutex_);
  for (Mapping* const m : mappings_) {
    if (m->file_->ino() == ino) m->take(range, false);
  }
}

Mapping::Mapping(ModelMapper& mapper, Ino ino, Kind kind) : mapper_(mapper), kind_(kind) {
  auto file = mapper.fs_.open(ino, mapper.fs_.read_only() ? O_RDONLY : O_RDWR, false);
  EXPECT_TRUE(file);
  UDAX_ASSERT(file);
  file_ = std::move(*file);
  const LockGuard guard(mapper_.mutex_);
  mapper_.mappings_.push_back(this);
}

Mapping::~Mapping() {
  const LockGuard guard(mapper_.mutex_);
  std::erase(mapper_.mappings_, this);
}

Touch Mapping::load(uint64_t offset, void* to, uint64_t size) {
  return access(offset, static_cast<std::byte*>(to), nullptr, size);
}

Touch Mapping::store(uint64_t offset, const void* from, uint64_t size) {
  return access(offset, nullptr, static_cast<const std::byte*>(from), size);
}

std::string Mapping::get(uint64_t offset, uint64_t size) {
  std::string bytes(size, '\0');
  EXPECT_EQ(load(offset, bytes.data(), size), Touch::kDone) << "at " << offset << ": " << to_string(error());
  return bytes;
}

void Mapping::put(uint64_t offset, std::string_view bytes) {
  EXPECT_EQ(store(offset, bytes.data(), bytes.size()), Touch::kDone)
      << "at " << offset << ": " << to_string(error());
}

Touch Mapping::access(uint64_t offset, std::byte* to, const std::byte* from, uint64_t size) {
  for (uint64_t done = 0; done < size;) {
    const uint64_t at = offset + done;
    const uint64_t piece = std::min({size - done, kPieceMax - at % kPieceMax, kBlockSize - at % kBlockSize});
    std::byte* const piece_to = to == nullptr ? nullptr : to + done;
    const std::byte* const piece_from = from == nullptr ? nullptr : from + done;
    while (!try_access(at, piece_to, piece_from, piece)) {
      const Touch faulted = fault(FileBlock(at >> kBlockShift), from != nullptr);
      if (faulted != Touch::kDone) return faulted;
    }
    done += piece;
  }
  return Touch::kDone;
}

Mapping::Found Mapping::find(FileBlock at) const {
  if (const auto slot = small_.find(at.value); slot != small_.end()) return {&slot->second, 0, false};
  const uint64_t start = window_of(at.value);
  if (const auto slot = huge_.find(start); slot != huge_.end()) return {&slot->second, at.value - start, true};
  return {};
}

bool Mapping::try_access(uint64_t offset, std::byte* to, const std::byte* from, uint64_t size) {
  while (waiting_.load() > 0) std::this_thread::yield();
  const SharedLockGuard guard(lock_);
  const Found found = find(FileBlock(offset >> kBlockShift));
  if (found.slot == nullptr || (from != nullptr && !found.slot->is_writable)) return false;
  UDAX_SYNC_POINT("model.access");
  const uint64_t in_page = offset & (kBlockSize - 1);
  if (found.slot->own != nullptr) {
    std::byte* const page = found.slot->own->data() + in_page;
    from != nullptr ? store_bytes(page, from, size) : load_bytes(page, to, size);
    return true;
  }
  if (found.slot->device == kNoBlock) {
    std::fill_n(to, size, std::byte{0});
    return true;
  }
  const uint64_t device_offset = offset_of(found.slot->device + found.block) + in_page;
  if (from == nullptr) {
    load_bytes(mapped(mapper_.fs_, device_offset), to, size);
  } else if (mapper_.recording_ != nullptr) {
    mapper_.recording_->store(device_offset, from, size);
  } else {
    store_bytes(mapped(mapper_.fs_, device_offset), from, size);
  }
  return true;
}

Touch Mapping::fault(FileBlock at, bool is_store) {
  UDAX_SYNC_POINT("model.fault");
  faults_.fetch_add(1);
  const bool copies = is_store && kind_ == Kind::kPrivate;
  const dax::Access access = copies ? dax::Access::kCopy : is_store ? dax::Access::kWrite : dax::Access::kRead;
  const auto result =
      mapper_.fs_.fault(file_->inode(), at, access, mapper_.order_max_, [&](const dax::View& view) -> Status {
        // What a mapper may rely on.
        const bool is_huge = view.count == kHugeBlocks;
        UDAX_ASSERT(view.count == 1 || is_huge);
        UDAX_ASSERT(!is_huge || mapper_.order_max_ == mapping::kHugeOrder);
        UDAX_ASSERT(view.start <= at && at < view.start + view.count);
        UDAX_ASSERT(view.start.value % view.count == 0);
        UDAX_ASSERT(view.device.value % view.count == 0);
        UDAX_ASSERT(!view.is_writable || !view.is_zero());
        install(view, copies);
        return {};
      });
  if (!result) {
    error_.store(result.error());
    return Touch::kFailed;
  }
  return *result == dax::FaultResult::kMapped ? Touch::kDone : Touch::kBeyondEnd;
}

void Mapping::install(const dax::View& view, bool copies) {
  std::unique_ptr<Page> own;
  if (copies) {
    own = std::make_unique<Page>();
    if (!view.is_zero()) copy_page(mapper_.fs_.medium().block(view.device), own->data());
  }
  const Shootdown guard(*this);
  if (view.count > 1) {
    // Own pages stay in front of it; views of single pages it replaces.
    std::erase_if(small_, [&](const auto& item) {
      return item.second.own == nullptr && window_of(item.first) == view.start.value;
    });
    huge_[view.start.value] = Slot{view.device, view.is_writable, nullptr};
    return;
  }
  Slot& slot = small_[view.start.value];
  if (slot.own != nullptr) return;  // another thread of the process was faster
  slot = Slot{view.device, copies || view.is_writable, std::move(own)};
}

void Mapping::take(mapping::ByteRange range, bool whole) {
  const uint64_t from = range.start >> kBlockShift;
  const uint64_t to = blocks_for(range.end);
  const Shootdown guard(*this);
  const auto is_in = [&](uint64_t block, uint64_t count) { return block < to && block + count > from; };
  if (whole) {
    std::erase_if(small_, [&](const auto& item) { return item.second.own == nullptr && is_in(item.first, 1); });
    std::erase_if(huge_, [&](const auto& item) { return is_in(item.first, kHugeBlocks); });
    return;
  }
  for (auto& [block, slot] : small_) {
    if (slot.own == nullptr && is_in(block, 1)) slot.is_writable = false;
  }
  for (auto& [block, slot] : huge_) {
    if (is_in(block, kHugeBlocks)) slot.is_writable = false;
  }
}

Mapping::Pte Mapping::pte(FileBlock at) {
  const SharedLockGuard guard(lock_);
  const Found found = find(at);
  if (found.slot == nullptr) return {};
  const bool is_own = found.slot->own != nullptr;
  const DeviceBlock device =
      is_own || found.slot->device == kNoBlock ? kNoBlock : found.slot->device + found.block;
  return {true, found.slot->is_writable, found.is_huge, is_own, device};
}

}  // namespace udax::test
