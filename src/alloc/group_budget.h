// SPDX-License-Identifier: BSD-3-Clause
//
// The groups that one transaction touches: kGroupsPerTx at most, which bounds its record.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "journal/limits.h"

namespace udax::alloc {

class GroupBudget {
 public:
  struct Entry {
    uint64_t group = 0;
    uint64_t pieces = 0;  // runs of the transaction that lie in it
  };

  [[nodiscard]] std::span<const Entry> groups() const { return {entries_.data(), count_}; }  // ascending
  [[nodiscard]] bool full() const { return count_ == entries_.size(); }
  [[nodiscard]] size_t left() const { return entries_.size() - count_; }
  [[nodiscard]] bool has(uint64_t group) const {
    const size_t at = place(group);
    return at < count_ && entries_[at].group == group;
  }

  /// REQUIRES: has(group) or !full().
  void add(uint64_t group) {
    const size_t at = place(group);
    if (at == count_ || entries_[at].group != group) {
      std::copy_backward(entries_.begin() + static_cast<ptrdiff_t>(at),
                         entries_.begin() + static_cast<ptrdiff_t>(count_),
                         entries_.begin() + static_cast<ptrdiff_t>(count_ + 1));
      entries_[at] = {group, 0};
      ++count_;
    }
    ++entries_[at].pieces;
  }
  /// Takes back one add().
  void remove(uint64_t group) {
    const size_t at = place(group);
    if (--entries_[at].pieces != 0) return;
    std::copy(entries_.begin() + static_cast<ptrdiff_t>(at + 1), entries_.begin() + static_cast<ptrdiff_t>(count_),
              entries_.begin() + static_cast<ptrdiff_t>(at));
    --count_;
  }
  void reset() { count_ = 0; }

 private:
  [[nodiscard]] size_t place(uint64_t group) const {
    size_t at = 0;
    while (at < count_ && entries_[at].group < group) ++at;
    return at;
  }

  std::array<Entry, journal::kGroupsPerTx> entries_{};
  size_t count_ = 0;
};

}  // namespace udax::alloc
