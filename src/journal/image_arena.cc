// SPDX-License-Identifier: BSD-3-Clause
#include "journal/image_arena.h"

#include <new>

#include "base/types.h"

// Recycling would hide a shadow that is used after its transaction from AddressSanitizer.
#if defined(__SANITIZE_ADDRESS__)
#define UDAX_RECYCLE_IMAGES false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UDAX_RECYCLE_IMAGES false
#endif
#endif
#ifndef UDAX_RECYCLE_IMAGES
#define UDAX_RECYCLE_IMAGES true
#endif

namespace udax::journal {
namespace {

constexpr std::align_val_t kAlignment{kCacheLine};

void drop(std::byte* image) noexcept { ::operator delete(image, kAlignment); }

template <typename Cache>
std::byte* take_from(Cache& cache, uint32_t bytes) noexcept {
  if (cache.count > 0) return cache.images[--cache.count];
  return static_cast<std::byte*>(::operator new(bytes, kAlignment, std::nothrow));
}

template <typename Cache>
void give_to(Cache& cache, std::byte* image) noexcept {
  if (UDAX_RECYCLE_IMAGES && cache.count < cache.images.size()) {
    cache.images[cache.count++] = image;
  } else {
    drop(image);
  }
}

template <typename Cache>
void empty(Cache& cache) noexcept {
  while (cache.count > 0) drop(cache.images[--cache.count]);
}

}  // namespace

ImageArena& ImageArena::local() {
  thread_local ImageArena arena;
  return arena;
}

ImageArena::~ImageArena() {
  empty(small_);
  empty(blocks_);
}

std::byte* ImageArena::take(uint32_t size) noexcept {
  return size <= kSmallBytes ? take_from(small_, kSmallBytes) : take_from(blocks_, kBlockSize);
}

void ImageArena::give(std::byte* image, uint32_t size) noexcept {
  if (size <= kSmallBytes) {
    give_to(small_, image);
  } else {
    give_to(blocks_, image);
  }
}

}  // namespace udax::journal
