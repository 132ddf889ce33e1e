// SPDX-License-Identifier: BSD-3-Clause
//
// The inside of a directory leaf (format::DirSlot): finding, adding and removing names in one 4 KiB image.
//
// Invariants of a good leaf
// - kDirLeafFixed + count slots <= heap_start <= 4096, heap_start a multiple of 8.
// - Every slot's DirName lies in [heap_start, 4096), has the length that its name asks for, and no byte is part
//   of two. What the DirNames leave of the heap is dead: heap_free bytes.
// - Hashes are within the range that the tree gives the leaf.
//
// Changes are small on purpose: adding a name touches the header, one slot and one DirName; removing one touches
// the header and one slot. The journal logs only the words that differ.
//
// Nothing here trusts the image: header_holds() makes the arithmetic on the header safe, slot_holds() that on one
// slot, holds() is both for all and the accounting as well. Each function says which it needs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "dir/dir_index.h"
#include "dir/name.h"
#include "format/format.h"

namespace udax::dir {

/// Bytes for slots and names.
inline constexpr uint32_t kLeafSpace = kBlockSize - format::kDirLeafFixed;
/// The most slots that a leaf can hold: each with the shortest name.
inline constexpr uint32_t kLeafSlotsMax = kLeafSpace / entry_bytes(1);

struct HashedSlot {
  uint64_t hash = 0;
  uint32_t index = 0;
};

/// The slots of a leaf in the order of their hashes.
struct SortedSlots {
  std::array<HashedSlot, kLeafSlotsMax> items;
  uint32_t count = 0;
};

class LeafView {
 public:
  static constexpr int kAbsent = -1;
  static constexpr int kBroken = -2;

  explicit LeafView(const std::byte* image) : image_(image) {}

  [[nodiscard]] const std::byte* image() const { return image_; }
  [[nodiscard]] uint32_t count() const { return header().count; }
  [[nodiscard]] bool header_holds() const;

  // REQUIRES for all below: header_holds().

  /// Bytes between the slots and the heap.
  [[nodiscard]] uint32_t gap() const { return leaf_header().heap_start - slots_end(); }
  /// Bytes that a name may take once the heap is compacted.
  [[nodiscard]] uint32_t room() const { return gap() + leaf_header().heap_free; }
  /// Bytes of slots and names in use.
  [[nodiscard]] uint32_t live_bytes() const { return kLeafSpace - room(); }

  /// A copy of slot i. REQUIRES: i < count().
  [[nodiscard]] format::DirSlot slot(uint32_t i) const { return slots()[i]; }
  [[nodiscard]] bool slot_holds(const format::DirSlot& slot) const;
  [[nodiscard]] bool holds(HashRange range) const;

  /// The index of `name`'s slot, kAbsent, or kBroken: a slot of this hash is not what it must be. `found`, if
  /// given, gets a copy of the slot, for which slot_holds().
  [[nodiscard]] int find(uint64_t hash, std::string_view name, format::DirSlot* found = nullptr) const;

  // REQUIRES: slot_holds(slot).
  [[nodiscard]] std::string_view name(const format::DirSlot& slot) const;
  [[nodiscard]] Dentry dentry(const format::DirSlot& slot) const;

  /// The slots with a hash of `from` or above.
  void sort_into(SortedSlots& sorted, uint64_t from) const;

 protected:
  [[nodiscard]] const format::BlockHeader& header() const {
    return *reinterpret_cast<const format::BlockHeader*>(image_);
  }
  [[nodiscard]] const format::DirLeafHeader& leaf_header() const {
    return *reinterpret_cast<const format::DirLeafHeader*>(image_ + sizeof(format::BlockHeader));
  }
  [[nodiscard]] const format::DirSlot* slots() const {
    return reinterpret_cast<const format::DirSlot*>(image_ + format::kDirLeafFixed);
  }
  [[nodiscard]] uint32_t slots_end() const {
    return format::kDirLeafFixed + count() * static_cast<uint32_t>(sizeof(format::DirSlot));
  }
  [[nodiscard]] const format::DirName& record(const format::DirSlot& slot) const {
    return *reinterpret_cast<const format::DirName*>(image_ + slot.offset);
  }

 private:
  const std::byte* image_;
};

/// A leaf that may be changed: a transaction's shadow.
class LeafEdit : public LeafView {
 public:
  explicit LeafEdit(std::byte* image) : LeafView(image), image_(image) {}

  /// Makes it a leaf without names. The block header stays.
  void clear();
  /// REQUIRES: gap() >= entry_bytes(name.size()).
  void append(uint64_t hash, std::string_view name, Dentry dentry);
  /// Adds all names of `other`. REQUIRES: other.holds(), gap() >= other.live_bytes().
  void append_all(const LeafView& other);
  /// Takes slot i out; the last slot moves into its place. False: the slot or the heap's accounting is broken
  /// (nothing was changed).
  [[nodiscard]] bool remove(uint32_t i);
  /// False: the slot is broken.
  [[nodiscard]] bool replace(uint32_t i, Dentry dentry);
  /// Makes all dead bytes part of the gap. REQUIRES: holds().
  void compact();

 private:
  [[nodiscard]] format::BlockHeader& mutable_header() { return *reinterpret_cast<format::BlockHeader*>(image_); }
  [[nodiscard]] format::DirLeafHeader& mutable_leaf_header() {
    return *reinterpret_cast<format::DirLeafHeader*>(image_ + sizeof(format::BlockHeader));
  }
  [[nodiscard]] format::DirSlot* mutable_slots() {
    return reinterpret_cast<format::DirSlot*>(image_ + format::kDirLeafFixed);
  }

  std::byte* image_;
};

/// A private copy of a block, for what rebuilds the block it reads.
struct BlockCopy {
  explicit BlockCopy(const std::byte* image);
  alignas(8) std::array<std::byte, kBlockSize> bytes;
};

}  // namespace udax::dir
