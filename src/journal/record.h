// SPDX-License-Identifier: BSD-3-Clause
//
// The inside of a journal record: its operations, encoded, walked and checked. See format::RecordHeader.
//
// Invariants
// - A record that leaves here has its operations' padded sizes add up to its length, and names no place that a
//   transaction may not change (may_target). Replay holds every record on the medium to the same.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "base/error.h"
#include "format/format.h"
#include "journal/limits.h"
#include "media/superblock.h"

namespace udax::journal::record {

inline constexpr uint32_t kAlignment = kCacheLine;
/// Bytes of the longest record, padding included.
inline constexpr uint32_t kLengthMax = static_cast<uint32_t>(align_up(kTxBytesMax, kAlignment));
static_assert(2 * uint64_t{kLengthMax} <= kRingBytesMin);
static_assert(kAlignment == sizeof(format::RecordHeader));

/// Bytes of a record with `ops_bytes` of encoded operations.
[[nodiscard]] constexpr uint64_t length_for(uint64_t ops_bytes) {
  return align_up(sizeof(format::RecordHeader) + ops_bytes, kAlignment);
}

/// True for a run of 1... 4096 bytes within one block that a transaction may change: not the superblock, the
/// holder block, the journal's own places, nor the replica.
[[nodiscard]] bool may_target(const media::Geometry& geometry, uint64_t offset, uint64_t length);

/// Adds one operation to `out`. May throw std::bad_alloc.
void add_op(std::vector<std::byte>& out, uint64_t offset, const std::byte* bytes, uint32_t length);

/// Adds operations for the 8-byte words in which `now` differs from `before`, both `size` bytes (a multiple of 8)
/// for `offset`. Runs with less than a RecordOp between them become one. Returns how many operations. May throw
/// std::bad_alloc.
[[nodiscard]] uint32_t add_difference(std::vector<std::byte>& out, uint64_t offset, const std::byte* before,
                                      const std::byte* now, uint32_t size);

/// kCorrupted unless `op_count` operations fill `ops` (what follows a record's header) but for the padding, and
/// each may be where it is.
[[nodiscard]] Status check_ops(const media::Geometry& geometry, std::span<const std::byte> ops, uint32_t op_count);

/// Calls f(offset, bytes, length) for each. REQUIRES: encoded by add_op, or passed by check_ops.
template <typename F>
void for_each_op(std::span<const std::byte> ops, uint32_t op_count, F&& f) {
  uint64_t at = 0;
  for (uint32_t i = 0; i < op_count; ++i) {
    format::RecordOp op;
    std::memcpy(&op, ops.data() + at, sizeof op);
    at += sizeof op;
    f(op.offset.get(), ops.data() + at, op.length.get());
    at += align_up(op.length.get(), 8);
  }
}

}  // namespace udax::journal::record
