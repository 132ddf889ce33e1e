// SPDX-License-Identifier: BSD-3-Clause
//
// Which blocks of the pool something uses, as the check finds it.
//
// Memory: nothing for groups that are empty or full, 4 KiB for others.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/types.h"
#include "format/format.h"

namespace udax::check {

class BlockSet {
 public:
  static constexpr uint32_t kWords = format::kGroupBlocks / 64;
  using Words = std::array<uint64_t, kWords>;

  /// May throw std::bad_alloc, as add() may.
  explicit BlockSet(uint64_t block_count);

  /// REQUIRES for all: the run lies within the pool.
  [[nodiscard]] bool has(uint64_t block) const { return has_any(block, 1); }
  [[nodiscard]] bool has_any(uint64_t start, uint64_t count) const;
  void add(uint64_t start, uint64_t count);
  void remove(uint64_t block);

  [[nodiscard]] uint64_t total() const { return total_; }
  /// Blocks of the group that are in the set; those behind the pool's end are not.
  [[nodiscard]] uint32_t used_in(uint64_t group) const { return groups_[group].used; }
  /// The group's bits, those behind the pool's end clear.
  void copy_words(uint64_t group, Words* out) const;

 private:
  struct Group {
    std::unique_ptr<Words> words;  // none: empty or full, as `used` says
    uint32_t used = 0;
  };
  [[nodiscard]] Words& words_of(Group& group);

  std::vector<Group> groups_;
  uint64_t total_ = 0;
};

}  // namespace udax::check
