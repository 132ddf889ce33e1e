// SPDX-License-Identifier: BSD-3-Clause
//
// A set of addresses, as ranges. Not thread-safe.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>

namespace udax::client {

class Ranges {
 public:
  /// Throws std::bad_alloc; adding the same again does no harm.
  void add(uint64_t begin, uint64_t end) {
    remove(begin, end);
    const auto after = ranges_.lower_bound(begin);
    if (after != ranges_.begin() && std::prev(after)->second == begin) {
      std::prev(after)->second = end;
    } else {
      ranges_.emplace_hint(after, begin, end);
    }
  }
  /// Throws std::bad_alloc, and has changed nothing then.
  void remove(uint64_t begin, uint64_t end) {
    auto it = ranges_.upper_bound(begin);
    if (it != ranges_.begin() && std::prev(it)->second > begin) --it;
    while (it != ranges_.end() && it->first < end) {
      const uint64_t old_end = it->second;
      if (old_end > end) ranges_.emplace(end, old_end);
      if (it->first < begin) {
        it->second = begin;
        ++it;
      } else {
        it = ranges_.erase(it);
      }
      if (old_end > end) return;
    }
  }
  /// True if `address` is in it; `*end`, at most what it was: where that ends.
  [[nodiscard]] bool find(uint64_t address, uint64_t* end) const {
    const auto after = ranges_.upper_bound(address);
    if (after == ranges_.begin() || std::prev(after)->second <= address) return false;
    if (std::prev(after)->second < *end) *end = std::prev(after)->second;
    return true;
  }

 private:
  std::map<uint64_t, uint64_t> ranges_;  // end by begin
};

}  // namespace udax::client
