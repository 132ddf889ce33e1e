// SPDX-License-Identifier: BSD-3-Clause
//
// Hostile inodes, chunk headers, shard lines, and descriptors.
#include "tests/fuzz/structure.h"

namespace udax::fuzz {
namespace {

const std::vector<Place>& places() {
  static const std::vector<Place> all = [] {
    std::vector<Place> found = {{offset_of(format::kRootBlock), format::kInodeSize, 4}};
    for (uint32_t i = 0; i < 3; ++i) {
      found.push_back({offset_of(format::kRootBlock) + offsetof(format::RootBlock, shard) + i * 64, 64, 4});
    }
    found.push_back({offset_of(format::kDescStart), 64, 4});
    for (const uint64_t b : image_seed().blocks) {
      const auto* chunk = image_seed().medium.as<format::ChunkHeader>(b * kBlockSize);
      if (chunk->magic != format::kChunkMagic) continue;
      found.push_back({b * kBlockSize, format::kInodeSize, 16});
      for (uint32_t slot = 1; slot < format::kInodesPerChunk; ++slot) {
        if ((chunk->used_mask >> slot & 1) == 0) continue;
        found.push_back({b * kBlockSize + slot * format::kInodeSize, format::kInodeSize, 4});
      }
    }
    return found;
  }();
  return all;
}

}  // namespace
}  // namespace udax::fuzz

UDAX_FUZZ_STRUCTURES(udax::fuzz::places)
