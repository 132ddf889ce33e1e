// SPDX-License-Identifier: BSD-3-Clause
#include "alloc/group_set.h"

#include <bit>

namespace udax::alloc {

void GroupSet::reset(uint64_t size) {
  levels_.clear();
  size_ = size;
  uint64_t words = size;
  do {
    words = (words + 63) / 64;
    levels_.emplace_back(words);
  } while (words > 1);
}

void GroupSet::insert(uint64_t member) {
  for (Level& level : levels_) {
    level[member / 64].fetch_or(uint64_t{1} << (member % 64));
    member /= 64;
  }
}

void GroupSet::erase(uint64_t member) {
  for (size_t i = 0; i < levels_.size(); ++i) {
    const uint64_t bit = uint64_t{1} << (member % 64);
    levels_[i][member / 64].fetch_and(~bit);
    // An insert() of a neighbour may have come between the look at the word below and the store here: it set the
    // word below first, so a second look sees it.
    if (i > 0 && levels_[i - 1][member].load() != 0) {
      levels_[i][member / 64].fetch_or(bit);
      return;
    }
    if (levels_[i][member / 64].load() != 0) return;
    member /= 64;
  }
}

uint64_t GroupSet::next(uint64_t from) const {
  while (from < size_) {
    size_t level = 0;
    uint64_t at = from;
    uint64_t word = 0;
    for (;;) {  // up, until something lies at or behind `at`
      if (at / 64 >= levels_[level].size()) return size_;
      word = levels_[level][at / 64].load() >> (at % 64);
      if (word != 0) break;
      at = at / 64 + 1;
      if (++level == levels_.size()) return size_;
    }
    at += static_cast<uint64_t>(std::countr_zero(word));
    while (level > 0) {  // down, along the least
      word = levels_[level - 1][at].load();
      if (word == 0) break;
      at = at * 64 + static_cast<uint64_t>(std::countr_zero(word));
      --level;
    }
    if (level == 0) return at;
    from = (at + 1) << (6 * level);  // emptied under our eyes: go on behind it
  }
  return size_;
}

}  // namespace udax::alloc
