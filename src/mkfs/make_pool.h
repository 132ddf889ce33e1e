// SPDX-License-Identifier: BSD-3-Clause
//
// Making an empty pool on a medium: an empty root directory, and nothing else in it.
//
// Persistence: superblocks that are there are wiped and drained first; those of the new pool are stored last,
// after everything else has been drained. A crash on the way leaves no pool, never half of one.
//
// Cost: the group descriptors (64 bytes per 128 MiB) and a few blocks; nothing else grows with the pool.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "format/format.h"
#include "media/medium.h"

namespace udax::mkfs {

inline constexpr size_t kLabelMax = 63;  // bytes; the field keeps a NUL at its end

/// What is zero is chosen: at random (uuid, hash_key, epoch), by the pool's size, or by the clock. All given, the
/// pool's bytes are the same every time.
struct MakeOptions {
  std::string label;
  std::array<uint8_t, 16> uuid{};
  std::array<uint8_t, 16> hash_key{};
  uint32_t journal_epoch = 0;  // a ring left by an earlier pool must not be taken for this one's
  uint64_t journal_blocks = 0;
  uint32_t root_uid = 0;
  uint32_t root_gid = 0;
  uint32_t root_mode = 0755;  // permission bits
  format::TimeStamp time;
};

/// kInvalid: the medium is too small or too large, or an option is out of range. kReadOnly. kIo. `why`, if given,
/// gets one sentence for the user. REQUIRES: nobody else uses the medium.
[[nodiscard]] Status make_pool(media::Medium& medium, const MakeOptions& options, std::string* why = nullptr);

/// Blocks from data_start on that a pool just made has in use: the chunk with the root directory's inode. Before
/// data_start all are in use, and the replica's is.
inline constexpr uint64_t kBlocksUsedInData = 1;

}  // namespace udax::mkfs
