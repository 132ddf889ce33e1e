// SPDX-License-Identifier: BSD-3-Clause
#include "format/checksum.h"

#include <cstring>

#include "base/crc32c.h"

namespace udax::format {
namespace {

struct Shape {
  uint32_t size;
  uint32_t field;  // offset of the checksum
};

constexpr Shape shape(Unit unit) {
  switch (unit) {
    case Unit::kRaw: return {kBlockSize, 0};
    case Unit::kSuperblock: return {sizeof(Superblock), offsetof(Superblock, checksum)};
    case Unit::kGroupDesc: return {sizeof(GroupDesc), offsetof(GroupDesc, checksum)};
    case Unit::kShard: return {sizeof(InodeShard), offsetof(InodeShard, checksum)};
    case Unit::kInode: return {sizeof(Inode), offsetof(Inode, checksum)};
    case Unit::kChunk: return {sizeof(ChunkHeader), offsetof(ChunkHeader, checksum)};
    case Unit::kBlock: return {kBlockSize, offsetof(BlockHeader, checksum)};
  }
  return {0, 0};
}

uint32_t compute(uint32_t seed, Unit unit, const void* data) {
  const Shape s = shape(unit);
  return checksum_without(unit == Unit::kSuperblock ? ~0U : seed, data, s.size, s.field);
}

}  // namespace

uint32_t checksum_seed(const uint8_t (&uuid)[16]) { return crc32c(~0U, uuid, sizeof uuid); }

uint32_t checksum_without(uint32_t seed, const void* data, uint32_t size, uint32_t field_offset) {
  const auto* p = static_cast<const uint8_t*>(data);
  const uint32_t zero = 0;
  uint32_t crc = crc32c(seed, p, field_offset);
  crc = crc32c(crc, &zero, sizeof zero);
  return crc32c(crc, p + field_offset + sizeof zero, size - field_offset - sizeof zero);
}

uint32_t unit_size(Unit unit) { return shape(unit).size; }

void seal(uint32_t seed, Unit unit, void* data) {
  if (unit == Unit::kRaw) return;
  const le32 sum = compute(seed, unit, data);
  std::memcpy(static_cast<uint8_t*>(data) + shape(unit).field, &sum, sizeof sum);
}

bool is_sealed(uint32_t seed, Unit unit, const void* data) {
  if (unit == Unit::kRaw) return true;
  le32 stored;
  std::memcpy(&stored, static_cast<const uint8_t*>(data) + shape(unit).field, sizeof stored);
  return stored.get() == compute(seed, unit, data);
}

uint32_t bitmap_checksum(uint32_t seed, const void* data) { return crc32c(seed, data, kBlockSize); }

}  // namespace udax::format
