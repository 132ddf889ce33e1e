// SPDX-License-Identifier: BSD-3-Clause
#include "check/block_set.h"

#include <algorithm>
#include <bit>

namespace udax::check {
namespace {

using format::kGroupBlocks;

/// Calls f(group, first bit, bits) for the parts of a run. Stops when f gives false.
template <typename F>
bool for_each_part(uint64_t start, uint64_t count, F&& f) {
  while (count > 0) {
    const auto bit = static_cast<uint32_t>(start % kGroupBlocks);
    const auto part = static_cast<uint32_t>(std::min<uint64_t>(count, kGroupBlocks - bit));
    if (!f(start / kGroupBlocks, bit, part)) return false;
    start += part;
    count -= part;
  }
  return true;
}

/// Calls f(word index, mask) for the words of bits [bit, bit + count). Stops when f gives false.
template <typename F>
bool for_each_word(uint32_t bit, uint32_t count, F&& f) {
  while (count > 0) {
    const uint32_t shift = bit % 64;
    const uint32_t n = std::min(count, 64 - shift);
    const uint64_t mask = (n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1) << shift;
    if (!f(bit / 64, mask)) return false;
    bit += n;
    count -= n;
  }
  return true;
}

}  // namespace

BlockSet::BlockSet(uint64_t block_count) : groups_((block_count + kGroupBlocks - 1) / kGroupBlocks) {}

BlockSet::Words& BlockSet::words_of(Group& group) {
  if (group.words == nullptr) {
    group.words = std::make_unique<Words>();
    group.words->fill(group.used == 0 ? 0 : ~uint64_t{0});
  }
  return *group.words;
}

bool BlockSet::has_any(uint64_t start, uint64_t count) const {
  return !for_each_part(start, count, [this](uint64_t g, uint32_t bit, uint32_t n) {
    const Group& group = groups_[g];
    if (group.words == nullptr) return group.used == 0;
    return for_each_word(bit, n, [&](uint32_t w, uint64_t mask) { return ((*group.words)[w] & mask) == 0; });
  });
}

void BlockSet::add(uint64_t start, uint64_t count) {
  for_each_part(start, count, [this](uint64_t g, uint32_t bit, uint32_t n) {
    Group& group = groups_[g];
    uint32_t added = 0;
    if (n == kGroupBlocks) {
      added = kGroupBlocks - group.used;
    } else if (group.words != nullptr || group.used == 0) {
      Words& words = words_of(group);
      for_each_word(bit, n, [&](uint32_t w, uint64_t mask) {
        added += static_cast<uint32_t>(std::popcount(mask & ~words[w]));
        words[w] |= mask;
        return true;
      });
    }
    group.used += added;
    total_ += added;
    if (group.used == kGroupBlocks) group.words.reset();
    return true;
  });
}

void BlockSet::remove(uint64_t block) {
  Group& group = groups_[block / kGroupBlocks];
  if (group.used == 0 || !has(block)) return;
  const uint64_t bit = block % kGroupBlocks;
  words_of(group)[bit / 64] &= ~(uint64_t{1} << (bit % 64));
  --total_;
  if (--group.used == 0) group.words.reset();
}

void BlockSet::copy_words(uint64_t group, Words* out) const {
  const Group& g = groups_[group];
  if (g.words != nullptr) {
    *out = *g.words;
  } else {
    out->fill(g.used == 0 ? 0 : ~uint64_t{0});
  }
}

}  // namespace udax::check
