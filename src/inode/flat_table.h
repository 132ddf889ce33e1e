// SPDX-License-Identifier: BSD-3-Clause
//
// A hash table from numbers above 0 to small values: open addressing with linear probing in one array, so that an
// entry costs its size by 4/3... 8 and nothing else. It shrinks when most of it is empty.
//
// Locks: none; the owner's.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

namespace udax::inode {

template <typename V>
class FlatTable {
 public:
  struct Entry {
    uint64_t key = 0;  // 0: empty
    V value{};
  };

  /// nullptr: not there. The pointer holds until the next insert or erase.
  [[nodiscard]] V* find(uint64_t key) {
    if (entries_.empty()) return nullptr;
    for (size_t i = home(key);; i = next(i)) {
      if (entries_[i].key == key) return &entries_[i].value;
      if (entries_[i].key == 0) return nullptr;
    }
  }
  [[nodiscard]] const V* find(uint64_t key) const { return const_cast<FlatTable*>(this)->find(key); }

  /// REQUIRES: key > 0, not there. May throw std::bad_alloc; nothing has changed then.
  V* insert(uint64_t key, V value) {
    grow_for_one();
    ++size_;
    return place(key, std::move(value));
  }

  /// Makes sure of room for one more, to be taken by insert_reserved() or given back. May throw std::bad_alloc.
  void reserve_one() {
    grow_for_one();
    ++reserved_;
  }
  void unreserve_one() noexcept { --reserved_; }
  /// REQUIRES: as insert(), and a reserve_one() that this uses up.
  V* insert_reserved(uint64_t key, V value) noexcept {
    --reserved_;
    ++size_;
    return place(key, std::move(value));
  }

  /// Whatever is not there cannot be erased, and that is no error.
  void erase(uint64_t key) noexcept {
    if (entries_.empty()) return;
    size_t hole = home(key);
    while (entries_[hole].key != key) {
      if (entries_[hole].key == 0) return;
      hole = next(hole);
    }
    // Close the gap: what comes later in the run and may stand at the hole moves there.
    for (size_t i = next(hole); entries_[i].key != 0; i = next(i)) {
      const size_t from_home = (i - home(entries_[i].key)) & mask();
      if (from_home < ((i - hole) & mask())) continue;
      entries_[hole] = std::move(entries_[i]);
      hole = i;
    }
    entries_[hole] = Entry{};
    --size_;
    if (entries_.size() > kSizeMin && (size_ + reserved_) * 8 < entries_.size()) {
      try {
        resize(entries_.size() / 2);
      } catch (const std::bad_alloc&) {  // it stays large
      }
    }
  }

  /// REQUIRES: nothing reserved.
  void clear() noexcept {
    std::vector<Entry>().swap(entries_);
    size_ = 0;
  }

  [[nodiscard]] size_t size() const { return size_; }
  /// The array itself, empty entries among the others.
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }

 private:
  static constexpr size_t kSizeMin = 16;

  [[nodiscard]] size_t mask() const { return entries_.size() - 1; }
  [[nodiscard]] size_t next(size_t i) const { return (i + 1) & mask(); }
  /// The top bits belong to whoever spreads keys over several tables.
  [[nodiscard]] size_t home(uint64_t key) const {
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15ULL) >> 20) & mask();
  }
  void grow_for_one() {
    if ((size_ + reserved_ + 1) * 4 > entries_.size() * 3)
      resize(entries_.empty() ? kSizeMin : entries_.size() * 2);
  }
  V* place(uint64_t key, V value) {
    size_t i = home(key);
    while (entries_[i].key != 0) i = next(i);
    entries_[i].key = key;
    entries_[i].value = std::move(value);
    return &entries_[i].value;
  }
  void resize(size_t size) {
    std::vector<Entry> former(size);
    former.swap(entries_);
    for (Entry& e : former) {
      if (e.key != 0) place(e.key, std::move(e.value));
    }
  }

  std::vector<Entry> entries_;  // a power of two, or none
  size_t size_ = 0;
  size_t reserved_ = 0;  // room that others may not take
};

}  // namespace udax::inode
