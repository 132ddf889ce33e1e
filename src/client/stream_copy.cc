// SPDX-License-Identifier: BSD-3-Clause
#include "client/stream_copy.h"

#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace udax::client {
namespace {

#ifdef __SSE2__
constexpr size_t kLine = 64;
constexpr size_t kPart = 16;
constexpr size_t kStreamMin = 1024;  // less is quicker through the caches

void stream_line(std::byte* to, const std::byte* from) {
  for (size_t at = 0; at < kLine; at += kPart) {
    const __m128i part = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at));
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + at), part);
  }
}
#endif

}  // namespace

void copy_to_pool(std::byte* to, const std::byte* from, size_t size) {
#ifdef __SSE2__
  if (size >= kStreamMin) {
    const size_t head = (kLine - reinterpret_cast<uintptr_t>(to) % kLine) % kLine;
    std::memcpy(to, from, head);
    to += head;
    from += head;
    size -= head;
    for (; size >= kLine; size -= kLine, to += kLine, from += kLine) stream_line(to, from);
    std::memcpy(to, from, size);
    _mm_sfence();
    return;
  }
#endif
  std::memcpy(to, from, size);
}

}  // namespace udax::client
