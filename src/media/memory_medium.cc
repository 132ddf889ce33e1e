// SPDX-License-Identifier: BSD-3-Clause
//
// Nothing here outlives the process, so flush and drain only count. Bounds are asserted: a store past the end is
// a bug of the caller, and here is where tests find it.
#include "media/memory_medium.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace udax::media {
namespace {

uint64_t lines_of(uint64_t offset, uint64_t size) {
  if (size == 0) return 0;
  return (align_up(offset + size, kCacheLine) - align_down(offset, kCacheLine)) / kCacheLine;
}

// Whoever has the page mapped may read what is cut off of a file while it is zeroed: bytes and words that are whole.
void zero(std::byte* p, uint64_t size) {
  std::byte* const end = p + size;
  const auto is_aligned = [](const std::byte* at) {
    return reinterpret_cast<uintptr_t>(at) % sizeof(uint64_t) == 0;
  };
  while (p < end) {
    if (is_aligned(p) && static_cast<size_t>(end - p) >= sizeof(uint64_t)) {
      __atomic_store_n(reinterpret_cast<uint64_t*>(p), 0, __ATOMIC_RELAXED);
      p += sizeof(uint64_t);
    } else {
      __atomic_store_n(reinterpret_cast<uint8_t*>(p), 0, __ATOMIC_RELAXED);
      ++p;
    }
  }
}

bool is_zero(const std::byte* p, size_t size) {
  return *p == std::byte{0} && std::memcmp(p, p + 1, size - 1) == 0;
}

}  // namespace

MemoryMedium::MemoryMedium(uint64_t size, Granularity granularity) {
  size = align_down(size, kBlockSize);
  if (size == 0) {
    set(nullptr, 0, granularity, false);
    return;
  }
  void* p = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  UDAX_ASSERT(p != MAP_FAILED);
  mapping_ = p;
  set(static_cast<std::byte*>(p), size, granularity, false);
}

MemoryMedium::~MemoryMedium() {
  if (mapping_ != nullptr) ::munmap(mapping_, size());
}

void MemoryMedium::store(uint64_t offset, const void* source, uint64_t size) {
  UDAX_ASSERT(offset <= this->size() && size <= this->size() - offset);
  if (size == 0) return;
  std::byte* to = writable(offset);
  // Aligned words may be read by others at any time (bitmaps, sizes): never let them see half of one.
  if (size == 8 && offset % 8 == 0) {
    uint64_t word = 0;
    std::memcpy(&word, source, sizeof word);
    __atomic_store_n(reinterpret_cast<uint64_t*>(to), word, __ATOMIC_RELAXED);
  } else {
    std::memmove(to, source, size);
  }
  stores_.fetch_add(1, std::memory_order_relaxed);
  stored_bytes_.fetch_add(size, std::memory_order_relaxed);
}

void MemoryMedium::store_nt(uint64_t offset, const void* source, uint64_t size) {
  MemoryMedium::store(offset, source, size);
  flushed_lines_.fetch_add(lines_of(offset, size), std::memory_order_relaxed);
}

void MemoryMedium::zero_nt(uint64_t offset, uint64_t size) {
  UDAX_ASSERT(offset <= this->size() && size <= this->size() - offset);
  if (size == 0) return;
  zero(writable(offset), size);
  stores_.fetch_add(1, std::memory_order_relaxed);
  stored_bytes_.fetch_add(size, std::memory_order_relaxed);
  flushed_lines_.fetch_add(lines_of(offset, size), std::memory_order_relaxed);
}

void MemoryMedium::flush(uint64_t offset, uint64_t size) {
  UDAX_ASSERT(offset <= this->size() && size <= this->size() - offset);
  flushed_lines_.fetch_add(lines_of(offset, size), std::memory_order_relaxed);
}

Status MemoryMedium::drain() {
  drains_.fetch_add(1, std::memory_order_relaxed);
  return {};
}

Status MemoryMedium::deep_flush(uint64_t offset, uint64_t size) {
  UDAX_ASSERT(offset <= this->size() && size <= this->size() - offset);
  deep_flushes_.fetch_add(1, std::memory_order_relaxed);
  return {};
}

Counters MemoryMedium::counters() const {
  Counters c;
  c.stores = stores_.load(std::memory_order_relaxed);
  c.stored_bytes = stored_bytes_.load(std::memory_order_relaxed);
  c.flushed_lines = flushed_lines_.load(std::memory_order_relaxed);
  c.drains = drains_.load(std::memory_order_relaxed);
  c.deep_flushes = deep_flushes_.load(std::memory_order_relaxed);
  return c;
}

std::byte* MemoryMedium::raw() { return writable(0); }

void MemoryMedium::copy_from(const Medium& other) {
  const uint64_t common = std::min(size(), other.size());
  // Dropping the pages zeroes them and keeps the copy as sparse as its source.
  if (size() != 0) UDAX_ASSERT(::madvise(mapping_, size(), MADV_DONTNEED) == 0);
  for (uint64_t offset = 0; offset < common; offset += kBlockSize) {
    if (!is_zero(other.at(offset), kBlockSize)) std::memcpy(writable(offset), other.at(offset), kBlockSize);
  }
}

}  // namespace udax::media
