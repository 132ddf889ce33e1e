// SPDX-License-Identifier: BSD-3-Clause
//
// Hostile media: a small sound pool is changed as the input says, with checksums made right again where it says so;
// then checked, mounted, walked, read, written to, unmounted and repaired. Whatever is wrong must come out as an error.
//
// Input: edits of 8 bytes: place (4: of the metadata in use, or anywhere), what to do (1), argument (1), value (2).
#include "tests/fuzz/image.h"

namespace udax {
namespace {

using fuzz::ImageSeed;
using fuzz::kPoolSize;
using fuzz::reseal;

void edit(media::MemoryMedium& medium, const ImageSeed& seed, const uint8_t* in) {
  uint32_t place = 0;
  uint16_t value = 0;
  std::memcpy(&place, in, 4);
  std::memcpy(&value, in + 6, 2);
  const uint8_t what = in[4];
  uint64_t offset = 0;
  if ((what & 0x80) != 0) {
    offset = place % kPoolSize;
  } else {
    offset = seed.blocks[place / kBlockSize % seed.blocks.size()] * kBlockSize + place % kBlockSize;
  }
  std::byte* at = medium.raw() + align_down(offset, 8);
  uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  const uint32_t shift = in[5] % 64;
  switch (what & 7) {
    case 0: word ^= uint64_t{1} << shift; break;
    case 1: word = value; break;
    case 2: word += static_cast<uint64_t>(static_cast<int64_t>(static_cast<int16_t>(value))); break;
    case 3: word = ~uint64_t{0}; break;
    case 4: word = (word & ~(uint64_t{0xFFFF} << (shift & 48))) | (uint64_t{value} << (shift & 48)); break;
    case 5: word = uint64_t{1} << shift; break;
    case 6: word = seed.blocks[value % seed.blocks.size()]; break;
    default: std::memcpy(&word, medium.raw() + align_down(value * 8ULL, 8) % kPoolSize, sizeof word); break;
  }
  std::memcpy(at, &word, sizeof word);
  if ((what & 0x40) == 0) reseal(medium, offset, seed.checksum_seed);
}

}  // namespace
}  // namespace udax

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace udax;
  constexpr size_t kEdit = 8;
  constexpr size_t kEditsMax = 32;
  if (size < kEdit) return 0;
  const auto medium = fuzz::fresh_image();
  for (size_t i = 0; i + kEdit <= std::min(size, kEdit * kEditsMax); i += kEdit) {
    edit(*medium, fuzz::image_seed(), data + i);
  }
  fuzz::use(medium);
  return 0;
}
