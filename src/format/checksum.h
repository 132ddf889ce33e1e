// SPDX-License-Identifier: BSD-3-Clause
//
// Checksums of the on-media structures: computing, sealing, checking.
//
// The checksum field counts as zero while a structure is summed. The superblock is summed from ~0, everything
// else from a seed that depends on the pool's uuid, so that a block of another pool is never taken for ours.
#pragma once

#include <cstdint>

#include "format/format.h"

namespace udax::format {

/// The seed of all but the superblock: crc32c(~0, uuid).
[[nodiscard]] uint32_t checksum_seed(const uint8_t (&uuid)[16]);

/// CRC32C over [data, data + size) with the 4 bytes at `field_offset` taken as zero.
[[nodiscard]] uint32_t checksum_without(uint32_t seed, const void* data, uint32_t size, uint32_t field_offset);

/// What a unit of metadata is, hence where its checksum stands. The units that transactions edit.
enum class Unit : uint8_t {
  kRaw,         // no checksum of its own (bitmap blocks: theirs is in the descriptor; symlink blocks)
  kSuperblock,  // 4 KiB
  kGroupDesc,   // 64 bytes
  kShard,       // 64 bytes
  kInode,       // 256 bytes
  kChunk,       // 256 bytes
  kBlock,       // 4 KiB opened by BlockHeader
};
[[nodiscard]] uint32_t unit_size(Unit unit);  // bytes; kRaw: 4096

/// Stores the checksum into the unit at `data`.
void seal(uint32_t seed, Unit unit, void* data);
/// True if the unit at `data` carries the checksum it should. kRaw: always.
[[nodiscard]] bool is_sealed(uint32_t seed, Unit unit, const void* data);

/// What GroupDesc::bitmap_checksum holds for the bitmap block at `data` (4096 bytes).
[[nodiscard]] uint32_t bitmap_checksum(uint32_t seed, const void* data);

}  // namespace udax::format
