// SPDX-License-Identifier: BSD-3-Clause
//
// Superblocks without a filesystem behind them: all of a pool that this layer looks at.
#pragma once

#include <cstring>

#include "format/checksum.h"
#include "media/medium.h"
#include "media/superblock.h"

namespace udax::media {

/// Stores a superblock and its replica, as mkfs would lay a pool of the medium's size out.
inline void put_superblocks(Medium& medium) {
  const auto g = plan_geometry(medium.block_count());
  UDAX_ASSERT(g);
  auto sb = format::Superblock{};
  sb.magic = format::kSuperblockMagic;
  sb.version_major = format::kVersionMajor;
  sb.version_minor = format::kVersionMinor;
  std::memset(sb.uuid, 0x5A, sizeof sb.uuid);
  std::memset(sb.hash_key, 0xA5, sizeof sb.hash_key);
  sb.block_count = g->block_count;
  sb.group_count = g->group_count;
  sb.desc_start = g->desc_start.value;
  sb.desc_blocks = g->desc_blocks;
  sb.bitmap_start = g->bitmap_start.value;
  sb.journal_start = g->journal_start.value;
  sb.journal_blocks = g->journal_blocks;
  sb.data_start = g->data_start.value;
  sb.reserved_blocks = g->reserved_blocks;
  sb.created_s = uint64_t{1600000000};
  sb.block_size = kBlockSize;
  format::seal(0, format::Unit::kSuperblock, &sb);
  medium.store_nt(offset_of(g->replica()), &sb, sizeof sb);
  medium.store_nt(0, &sb, sizeof sb);
}

}  // namespace udax::media
