// SPDX-License-Identifier: BSD-3-Clause
//
// One structure of the media at a time: the input takes the place of its bytes in an image, its checksum is made right, and
// the image is used. The mutator hands the fuzzer what really stands there, so that it starts from sound structures and
// gets behind the checksums.
//
// Input: which of the structures (1), flags (1: 1 the checksum stays as the input has it, 2 what makes the block known -
// magic, number, owner, kind - is the input's as well), then its bytes, from the start on.
#pragma once

#include <algorithm>

#include "tests/fuzz/image.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace udax::fuzz {

struct Place {
  uint64_t offset = 0;
  uint32_t size = 0;
  uint32_t identity = 0;  // bytes at its start that make it known
};

/// Blocks with a header, of these kinds.
inline std::vector<Place> places_of(std::initializer_list<uint32_t> kinds) {
  std::vector<Place> places;
  for (const uint64_t b : image_seed().blocks) {
    const auto* header = image_seed().medium.as<format::BlockHeader>(b * kBlockSize);
    if (header->magic != format::kBlockMagic) continue;
    if (std::find(kinds.begin(), kinds.end(), header->kind.get()) == kinds.end()) continue;
    places.push_back({b * kBlockSize, kBlockSize, 26});
  }
  must(!places.empty());
  return places;
}

inline constexpr size_t kHead = 2;

inline int run_structure(const std::vector<Place>& places, const uint8_t* data, size_t size) {
  if (size <= kHead) return 0;
  const Place& place = places[data[0] % places.size()];
  const auto medium = fresh_image();
  std::byte* const at = medium->raw() + place.offset;
  std::vector<std::byte> was(at, at + place.identity);
  std::memcpy(at, data + kHead, std::min<size_t>(size - kHead, place.size));
  if ((data[1] & 2) == 0) std::copy(was.begin(), was.end(), at);  // none: there is no pointer to copy from
  if ((data[1] & 1) == 0) reseal(*medium, place.offset, image_seed().checksum_seed);
  use(medium);
  return 0;
}

inline size_t mutate_structure(const std::vector<Place>& places, uint8_t* data, size_t size, size_t max_size,
                               unsigned seed) {
  if (max_size < kHead + 64) return LLVMFuzzerMutate(data, size, max_size);
  if (size < kHead + 64 || seed % 32 == 0) {
    data[0] = static_cast<uint8_t>(seed >> 8);
    data[1] = 0;
    const Place& place = places[data[0] % places.size()];
    size = std::min<size_t>(max_size, kHead + place.size);
    std::memcpy(data + kHead, image_seed().medium.at(place.offset), size - kHead);
  }
  // Half of the changes are of the front, where the fields are.
  const size_t front = (seed & 64) != 0 ? std::min<size_t>(size, kHead + 160) : size;
  if (front == size) return kHead + LLVMFuzzerMutate(data + kHead, size - kHead, max_size - kHead);
  static_cast<void>(LLVMFuzzerMutate(data + kHead, front - kHead, front - kHead));
  if ((seed >> 16) % 16 == 0) data[1] = static_cast<uint8_t>(seed >> 24) & 3;
  return size;
}

}  // namespace udax::fuzz

#define UDAX_FUZZ_STRUCTURES(list)                                                                        \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {                               \
    return udax::fuzz::run_structure(list(), data, size);                                                 \
  }                                                                                                       \
  extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) { \
    return udax::fuzz::mutate_structure(list(), data, size, max_size, seed);                              \
  }
