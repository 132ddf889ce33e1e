// SPDX-License-Identifier: BSD-3-Clause
#include "media/medium.h"

#include <algorithm>

namespace udax::media {

bool Medium::probe(uint64_t offset, uint64_t size) const {
  for (uint64_t page = align_down(offset, kBlockSize); page < offset + size; page += kBlockSize) {
    if (is_lost(page, 1)) continue;  // touching it could take its neighbours along
    static_cast<void>(*reinterpret_cast<const volatile unsigned char*>(at(page)));
  }
  return is_lost(offset, size);
}

uint64_t Medium::sound_bytes(uint64_t offset, uint64_t size) const {
  if (!is_lost(offset, size)) return size;
  const uint64_t end = offset + size;
  uint64_t at = offset;
  while (at < end && !is_lost(at, 1)) at = align_down(at, kBlockSize) + kBlockSize;
  return std::min(at, end) - offset;
}

}  // namespace udax::media
