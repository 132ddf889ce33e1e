// SPDX-License-Identifier: BSD-3-Clause
//
// The largest transaction, derived. Operations that could outgrow it are split by their callers, who ask
// Tx::nearly_full() between steps.
#pragma once

#include "format/format.h"

namespace udax::journal {

/// Redo bytes of one 4 KiB unit whose every other word changed would be 8 + 16 for each 16: the writer merges
/// runs that are closer than a RecordOp, so a unit never costs more than itself and one RecordOp.
inline constexpr uint32_t kUnitBytesMax = kBlockSize + sizeof(format::RecordOp);

/// Groups whose bitmaps one transaction may change. Each: the bitmap block and the descriptor.
inline constexpr uint32_t kGroupsPerTx = 16;

/// 4 KiB units beside bitmaps: a rename across directories with two leaf splits up the whole tree
/// (2 x 2 x levels), one extent tree insert with splits (2 x levels) for the inode file, and slack.
inline constexpr uint32_t kUnitsPerTx = 2 * 2 * format::kTreeLevelsMax + 2 * format::kTreeLevelsMax + 16;  // 64

/// 64... 256-byte units: inodes (5: two parents, two children, the inode file), chunk headers (4), shards (2).
inline constexpr uint32_t kSmallUnitsPerTx = 16;

inline constexpr uint32_t kTxBytesMax =
    sizeof(format::RecordHeader) +
    kGroupsPerTx * (kUnitBytesMax + sizeof(format::GroupDesc) + sizeof(format::RecordOp)) +
    kUnitsPerTx * kUnitBytesMax + kSmallUnitsPerTx * (format::kInodeSize + sizeof(format::RecordOp));
static_assert(kTxBytesMax < 512 * 1024);

/// A ring must hold two of the largest, so that one can be written while another is being applied.
inline constexpr uint64_t kRingBytesMin = 1024 * 1024;
static_assert(kRingBytesMin >= 2 * kTxBytesMax);

}  // namespace udax::journal
