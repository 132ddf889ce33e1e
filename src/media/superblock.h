// SPDX-License-Identifier: BSD-3-Clause
//
// Reading and checking the superblock: everything derived from it that others rely on is checked here, once.
#pragma once

#include <array>
#include <string>

#include "base/error.h"
#include "format/format.h"
#include "media/medium.h"

namespace udax::media {

/// A superblock that has passed every check, in native types.
struct Geometry {
  uint64_t block_count = 0;
  uint64_t group_count = 0;
  DeviceBlock desc_start;
  uint64_t desc_blocks = 0;
  DeviceBlock bitmap_start;
  DeviceBlock journal_start;
  uint64_t journal_blocks = 0;
  DeviceBlock data_start;
  uint64_t reserved_blocks = 0;
  uint32_t checksum_seed = 0;
  std::array<uint64_t, 2> hash_key{};
  bool ro_compat_unknown = false;  // mount read-only at most

  [[nodiscard]] DeviceBlock replica() const { return DeviceBlock(block_count - 1); }
  [[nodiscard]] uint64_t desc_offset(uint64_t group) const {
    return offset_of(desc_start) + group * sizeof(format::GroupDesc);
  }
  [[nodiscard]] DeviceBlock bitmap_block(uint64_t group) const { return bitmap_start + group; }
  /// Blocks that the last, or any, group really has.
  [[nodiscard]] uint32_t blocks_in_group(uint64_t group) const {
    const uint64_t first = group * format::kGroupBlocks;
    const uint64_t left = block_count - first;
    return left < format::kGroupBlocks ? static_cast<uint32_t>(left) : format::kGroupBlocks;
  }
  /// True for a run that lies wholly where files and metadata blocks may be.
  [[nodiscard]] bool is_data(DeviceBlock start, uint64_t count) const {
    return start >= data_start && count > 0 && start.value < replica().value &&
           count <= replica().value - start.value;
  }
};

enum class SuperblockSource : uint8_t { kPrimary, kReplica };

struct LoadedSuperblock {
  format::Superblock raw;
  Geometry geometry;
  SuperblockSource source = SuperblockSource::kPrimary;
};

/// Reads the superblock, or its replica at the end of the medium if the primary is broken.
/// kNotAPool: neither is there. kUnsupportedFormat: newer major version or unknown incompat feature.
/// kCorrupted: sealed but nonsense, or the medium is shorter than the pool. `why`, if given, gets one sentence
/// for the user.
[[nodiscard]] Result<LoadedSuperblock> load_superblock(const Medium& medium, std::string* why = nullptr);

/// The checks alone, for a superblock at hand. `medium_blocks`: what the medium has.
[[nodiscard]] Result<Geometry> check_superblock(const format::Superblock& sb, uint64_t medium_blocks,
                                                std::string* why = nullptr);

/// The layout that mkfs gives a pool of `block_count` blocks. kInvalid: below the least or above the greatest.
/// `journal_blocks` 0: chosen by size.
[[nodiscard]] Result<Geometry> plan_geometry(uint64_t block_count, uint64_t journal_blocks = 0);

}  // namespace udax::media
