// SPDX-License-Identifier: BSD-3-Clause
//
// A set of group numbers in which the next member is found in a few steps, however large the pool: bits, 64 of
// which are summed up by one bit of the level above, up to a single word.
//
// Invariant: a bit above is set whenever a bit of the word below it is, once the insert() that set it has
// returned. It may stay set a moment too long.
//
// Locks: none. Changes of one member are serialised by its group's lock; of others they may happen at once.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace udax::alloc {

class GroupSet {
 public:
  /// Empties it, for members below `size`. Throws std::bad_alloc.
  void reset(uint64_t size);

  void insert(uint64_t member);
  void erase(uint64_t member);
  [[nodiscard]] bool contains(uint64_t member) const {
    return (levels_[0][member / 64].load(std::memory_order_relaxed) >> (member % 64) & 1) != 0;
  }
  /// The least member that is not below `from`; size() if there is none.
  [[nodiscard]] uint64_t next(uint64_t from) const;
  [[nodiscard]] uint64_t size() const { return size_; }

 private:
  using Level = std::vector<std::atomic<uint64_t>>;
  std::vector<Level> levels_;  // [0] has a bit for each member
  uint64_t size_ = 0;
};

}  // namespace udax::alloc
