// SPDX-License-Identifier: BSD-3-Clause
#include "alloc/group_bitmap.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/endian.h"

namespace udax::alloc {
namespace {

constexpr uint32_t kRegionWords = kRegionBlocks / 64;

// The bits of `span` that fall into word `index`.
constexpr uint64_t mask_in_word(Span span, uint32_t index) {
  const uint32_t base = index * 64;
  const uint32_t from = std::max(span.start, base) - base;
  const uint32_t end = std::min(span.start + span.count, base + 64) - base;
  const uint64_t low = ~uint64_t{0} << from;
  return end == 64 ? low : low & ((uint64_t{1} << end) - 1);
}

uint64_t load_word(const std::byte* image, uint32_t index) {
  le64 word;
  std::memcpy(&word, image + index * sizeof word, sizeof word);
  return word.get();
}

void store_word(std::byte* image, uint32_t index, uint64_t value) {
  const le64 word = value;
  std::memcpy(image + index * sizeof word, &word, sizeof word);
}

}  // namespace

GroupBitmap::GroupBitmap() : whole_(~uint64_t{0}), room_(~uint64_t{0}) { region_free_.fill(kRegionBlocks); }

void GroupBitmap::assign(const std::byte* image) {
  for (uint32_t i = 0; i < words_.size(); ++i) words_[i] = load_word(image, i);
  for (uint32_t r = 0; r < kRegions; ++r) recount(r);
}

void GroupBitmap::recount(uint32_t region) {
  uint32_t used = 0;
  for (uint32_t i = 0; i < kRegionWords; ++i) {
    used += static_cast<uint32_t>(std::popcount(words_[region * kRegionWords + i]));
  }
  const uint32_t free = kRegionBlocks - used;
  const uint64_t bit = uint64_t{1} << region;
  region_free_[region] = static_cast<uint16_t>(free);
  whole_ = free == kRegionBlocks ? whole_ | bit : whole_ & ~bit;
  room_ = free != 0 ? room_ | bit : room_ & ~bit;
}

template <typename Change>
void GroupBitmap::change(Span span, Change&& op) {
  if (span.count == 0) return;
  const uint32_t last = span.start + span.count - 1;
  for (uint32_t i = span.start / 64; i <= last / 64; ++i) op(words_[i], mask_in_word(span, i));
  for (uint32_t r = span.start / kRegionBlocks; r <= last / kRegionBlocks; ++r) recount(r);
}

void GroupBitmap::set(Span span) {
  change(span, [](uint64_t& word, uint64_t mask) { word |= mask; });
}

void GroupBitmap::clear(Span span) {
  change(span, [](uint64_t& word, uint64_t mask) { word &= ~mask; });
}

uint32_t GroupBitmap::free_count() const {
  uint32_t sum = 0;
  for (const uint16_t free : region_free_) sum += free;
  return sum;
}

// First bit of [from, end) that is used / free; `end` if none.
uint32_t GroupBitmap::scan(uint32_t from, uint32_t end, bool used) const {
  while (from < end) {
    const uint64_t word = (used ? words_[from / 64] : ~words_[from / 64]) >> (from % 64);
    if (word != 0) return std::min(from + static_cast<uint32_t>(std::countr_zero(word)), end);
    from = (from / 64 + 1) * 64;
  }
  return end;
}

uint32_t GroupBitmap::free_from(uint32_t bit, uint32_t limit) const {
  if (bit >= format::kGroupBlocks) return 0;
  const uint32_t end = std::min(format::kGroupBlocks - bit, limit) + bit;
  return scan(bit, end, true) - bit;
}

Span GroupBitmap::find_in(uint64_t regions, uint32_t start, uint32_t count) const {
  Span best;
  const uint32_t first = start / kRegionBlocks % kRegions;
  // The first region is seen from `start` on, then, at the end of the round, once more in full: a run that begins
  // before `start` is the last choice.
  for (uint32_t i = 0; i <= kRegions; ++i) {
    const uint32_t region = (first + i) % kRegions;
    if ((regions >> region & 1) == 0 || region_free_[region] <= best.count) continue;
    uint32_t at = i == 0 ? start : region * kRegionBlocks;
    const uint32_t end = (region + 1) * kRegionBlocks;
    for (at = scan(at, end, false); at < end; at = scan(at, end, false)) {
      const uint32_t stop = scan(at, std::min(end, at + count), true);
      if (stop - at > best.count) best = {at, stop - at};
      if (best.count == count) return best;
      at = stop;
    }
  }
  return best;
}

Span GroupBitmap::find_whole(uint32_t start, uint32_t count) const {
  if (whole_ == 0) return {};
  const uint32_t first = start / kRegionBlocks % kRegions;
  const auto turned = std::rotr(whole_, static_cast<int>(first));
  const uint32_t region = (first + static_cast<uint32_t>(std::countr_zero(turned))) % kRegions;
  return {region * kRegionBlocks, free_from(region * kRegionBlocks, count)};
}

Span GroupBitmap::find_aligned(uint32_t count, uint32_t lead, bool break_for_lead) const {
  const uint32_t body = (count - lead) / kRegionBlocks;
  const uint32_t tail = (count - lead) % kRegionBlocks;
  Span best;
  uint32_t best_left = kRegions;
  for (uint32_t r = 0; r < kRegions;) {
    const uint64_t rest = whole_ >> r;
    if (rest == 0) break;
    r += static_cast<uint32_t>(std::countr_zero(rest));
    const uint32_t end = r + static_cast<uint32_t>(std::countr_one(whole_ >> r));
    uint32_t first = r;
    r = end;
    if (lead != 0 && (first == 0 || !all_free({first * kRegionBlocks - lead, lead}))) {
      if (!break_for_lead || end - first < 2) continue;
      ++first;
    }
    const uint32_t regions = std::min(end - first, body);
    uint32_t got = lead + regions * kRegionBlocks;
    if (regions == body) got += free_from((first + regions) * kRegionBlocks, tail);
    const uint32_t left = end - first - regions;
    if (got > best.count || (got == best.count && left < best_left)) {
      best = {first * kRegionBlocks - lead, got};
      best_left = left;
    }
  }
  return best;
}

Span GroupBitmap::find_any(uint32_t count) const {
  Span best;
  uint32_t at = scan(0, format::kGroupBlocks, false);
  while (at < format::kGroupBlocks) {
    const uint32_t run = free_from(at, count);
    if (run > best.count) best = {at, run};
    if (best.count == count) break;
    at = scan(at + run, format::kGroupBlocks, false);
  }
  return best;
}

bool flip_image(std::byte* image, Span span, bool used) {
  if (span.count == 0) return true;
  const uint32_t first = span.start / 64;
  const uint32_t last = (span.start + span.count - 1) / 64;
  for (uint32_t i = first; i <= last; ++i) {
    const uint64_t mask = mask_in_word(span, i);
    if ((load_word(image, i) & mask) != (used ? 0 : mask)) return false;
  }
  for (uint32_t i = first; i <= last; ++i) store_word(image, i, load_word(image, i) ^ mask_in_word(span, i));
  return true;
}

}  // namespace udax::alloc
