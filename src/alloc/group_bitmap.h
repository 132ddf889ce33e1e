// SPDX-License-Identifier: BSD-3-Clause
//
// The bits of one group, and the searches in them. Knows nothing of media images' checksums, of locks or of other
// groups.
//
// In memory a set bit means "not to be handed out": in use on the medium, reserved by a transaction, freed but
// still pending, or no block for files at all. A region is an aligned 2 MiB (512 blocks); it is whole when all
// of it is free, broken when only some is.
//
// Invariant: region_free_, whole_ and room_ always tell what words_ holds.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/types.h"
#include "format/format.h"

namespace udax::alloc {

inline constexpr uint32_t kRegionBlocks = static_cast<uint32_t>(kHugeBlocks);  // 512
inline constexpr uint32_t kRegions = format::kGroupBlocks / kRegionBlocks;     // 64: a mask fits a word
static_assert(kRegions == 64);

/// Blocks [start, start + count) of a group.
struct Span {
  uint32_t start = 0;
  uint32_t count = 0;
};

class GroupBitmap {
 public:
  GroupBitmap();  // all free

  /// Takes over a bitmap block as the medium has it (little-endian, bit set = in use).
  void assign(const std::byte* image);
  /// REQUIRES for both: the span lies within the group.
  void set(Span span);
  void clear(Span span);

  [[nodiscard]] bool is_free(uint32_t bit) const { return (words_[bit / 64] >> (bit % 64) & 1) == 0; }
  [[nodiscard]] bool all_free(Span span) const { return free_from(span.start, span.count) == span.count; }
  [[nodiscard]] uint32_t free_count() const;
  [[nodiscard]] uint32_t region_free(uint32_t region) const { return region_free_[region]; }
  /// Masks of regions: whole; broken.
  [[nodiscard]] uint64_t whole() const { return whole_; }
  [[nodiscard]] uint64_t broken() const { return room_ & ~whole_; }

  /// Free blocks from `bit` on, `limit` at most.
  [[nodiscard]] uint32_t free_from(uint32_t bit, uint32_t limit) const;

  /// A run within one of `regions`: the first of `count` at or after `start` (going round), else the longest.
  [[nodiscard]] Span find_in(uint64_t regions, uint32_t start, uint32_t count) const;
  /// A run from the start of a whole region, the first at or after `start`'s (going round), `count` at most.
  [[nodiscard]] Span find_whole(uint32_t start, uint32_t count) const;
  /// A run whose first `lead` (< 512) blocks end at a region's border, and that holds whole regions from there:
  /// as much of `count` as there is in one piece, from the tightest place. A whole region gives way to the lead
  /// only with `break_for_lead`. REQUIRES: count >= lead + 512.
  [[nodiscard]] Span find_aligned(uint32_t count, uint32_t lead, bool break_for_lead) const;
  /// The first run of `count`, else the longest.
  [[nodiscard]] Span find_any(uint32_t count) const;

 private:
  [[nodiscard]] uint32_t scan(uint32_t from, uint32_t end, bool used) const;
  void recount(uint32_t region);
  template <typename Change>
  void change(Span span, Change&& op);

  std::array<uint64_t, format::kGroupBlocks / 64> words_{};
  std::array<uint16_t, kRegions> region_free_{};
  uint64_t whole_ = 0;
  uint64_t room_ = 0;  // regions with any free block
};

/// Flips a span of a bitmap block as it is for the medium. False, and nothing done, if any bit of it is
/// already `used`.
[[nodiscard]] bool flip_image(std::byte* image, Span span, bool used);

}  // namespace udax::alloc
