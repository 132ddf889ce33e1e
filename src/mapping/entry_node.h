// SPDX-License-Identifier: BSD-3-Clause
//
// The inside of the entry tree: slots, nodes, and spare nodes. For entry_tree*.cc only.
//
// A slot is a word: 0 is nothing; with bit 0 set an entry; kSibling says that the entry of order 9 in the slot at the
// offset rounded down to 8 covers this one, too; any other value is a pointer to a node.
//
// A node at shift s has slots of 2^s blocks each: 0 for leaves, 6 above them, and so on to 48. Entries of order 0 lie
// in leaves, those of order 9 in nodes at shift 6, in 8 slots each.
//
// Locks: all of a node is guarded by the lock of the tree that it is in.
#pragma once

#include <array>
#include <cstdint>
#include <new>

#include "base/error.h"
#include "base/types.h"
#include "mapping/entry_tree.h"

namespace udax::mapping {

inline constexpr uint32_t kNodeBits = 6;
inline constexpr uint32_t kNodeSlots = 1U << kNodeBits;
inline constexpr uint32_t kHugeShift = kNodeBits;                            // of nodes with order 9 entries
inline constexpr uint32_t kHugeSlots = uint32_t{kHugeBlocks >> kHugeShift};  // 8
inline constexpr uint32_t kTopShift = 48;                                    // 51 bits of file block
static_assert(kHugeSlots == 8 && uint64_t{1} << kHugeOrder == kHugeBlocks);
static_assert((kFileBlockEnd - 1) >> kTopShift < kNodeSlots && kTopShift % kNodeBits == 0);

inline constexpr uint64_t kNoSlot = 0;
inline constexpr uint64_t kEntryBit = 1;
inline constexpr uint64_t kLockBit = 2;     // of entries
inline constexpr uint64_t kWaitedBit = 16;  // of locked entries: somebody sleeps until it is unlocked
inline constexpr uint64_t kSibling = 2;
inline constexpr uint32_t kKindShift = 2;
inline constexpr uint64_t kKindMask = 3;
inline constexpr uint32_t kDeviceShift = 8;

// The bitmaps of a node. The first two are the marks.
inline constexpr uint32_t kPresent = 2;  // slots with an entry or a node; siblings have no bit in any map
inline constexpr uint32_t kMaps = 3;
[[nodiscard]] constexpr uint32_t map_of(Mark mark) { return static_cast<uint32_t>(mark); }
inline constexpr std::array kMarks{Mark::kDirty, Mark::kToWrite};

struct EntryNode {
  EntryNode* parent = nullptr;  // null: the top. In a stash: the next one
  uint32_t offset = 0;          // within parent
  uint32_t shift = 0;
  std::array<uint64_t, kMaps> maps{};
  std::array<uint64_t, kNodeSlots> slots{};
};
static_assert(sizeof(EntryNode) == 552);

[[nodiscard]] constexpr bool is_entry(uint64_t slot) { return (slot & kEntryBit) != 0; }
[[nodiscard]] constexpr bool is_node(uint64_t slot) { return slot != kNoSlot && (slot & 3) == 0; }
[[nodiscard]] constexpr bool is_locked(uint64_t slot) { return (slot & 3) == (kEntryBit | kLockBit); }
[[nodiscard]] inline EntryNode* node_of(uint64_t slot) { return reinterpret_cast<EntryNode*>(slot); }
[[nodiscard]] inline uint64_t slot_of(EntryNode* node) { return reinterpret_cast<uint64_t>(node); }

[[nodiscard]] constexpr uint64_t slot_of(Entry entry) {
  return entry.device.value << kDeviceShift | static_cast<uint64_t>(entry.kind) << kKindShift | kEntryBit;
}
[[nodiscard]] constexpr Entry entry_of(uint64_t slot) {
  return {static_cast<Entry::Kind>(slot >> kKindShift & kKindMask), DeviceBlock(slot >> kDeviceShift)};
}
/// What is `blocks` further on in `entry`.
[[nodiscard]] constexpr Entry advanced(Entry entry, uint64_t blocks) {
  return entry.kind == Entry::Kind::kData ? Entry{entry.kind, entry.device + blocks} : entry;
}

[[nodiscard]] constexpr uint64_t bit(uint32_t offset) { return uint64_t{1} << offset; }
/// Bits [first, first + count). REQUIRES: count >= 1, first + count <= 64.
[[nodiscard]] constexpr uint64_t bits(uint32_t first, uint32_t count) {
  return (~uint64_t{0} >> (kNodeSlots - count)) << first;
}
[[nodiscard]] constexpr uint32_t offset_in(uint64_t at, uint32_t shift) {
  return static_cast<uint32_t>(at >> shift) & (kNodeSlots - 1);
}

/// Sets bits in a map of a node, and the node's own bit in the nodes above.
inline void raise_bits(EntryNode* node, uint64_t mask, uint32_t map) {
  for (;;) {
    const uint64_t old = node->maps[map];
    node->maps[map] = old | mask;
    if (old != 0 || node->parent == nullptr) return;  // what is above says so already
    mask = bit(node->offset);
    node = node->parent;
  }
}
/// Clears bits, and the node's own bit above where none is left.
inline void lower_bits(EntryNode* node, uint64_t mask, uint32_t map) {
  for (;;) {
    node->maps[map] &= ~mask;
    if (node->maps[map] != 0 || node->parent == nullptr) return;
    mask = bit(node->offset);
    node = node->parent;
  }
}

/// Nodes that are in no tree: made before the tree lock is taken and used under it, or taken out of a tree under it
/// and freed after. Used by one thread.
class NodeStash {
 public:
  NodeStash() = default;
  ~NodeStash() {
    while (head_ != nullptr) delete take();
  }
  NodeStash(const NodeStash&) = delete;
  NodeStash& operator=(const NodeStash&) = delete;

  [[nodiscard]] uint32_t size() const { return size_; }
  /// Makes nodes until there are `count`. REQUIRES: no tree lock is held.
  [[nodiscard]] Status reserve(uint32_t count) {
    while (size_ < count) {
      auto* const node = new (std::nothrow) EntryNode;
      if (node == nullptr) return Error::kNoMemory;
      put(node);
    }
    return {};
  }
  /// REQUIRES: size() > 0. The node is empty but for the fields that the caller sets: shift, parent, offset.
  [[nodiscard]] EntryNode* take() {
    EntryNode* const node = head_;
    UDAX_ASSERT(node != nullptr);
    head_ = node->parent;
    --size_;
    node->parent = nullptr;
    node->offset = 0;
    return node;
  }
  /// REQUIRES: all slots and maps of the node are 0.
  void put(EntryNode* node) {
    node->parent = head_;
    head_ = node;
    ++size_;
  }

 private:
  EntryNode* head_ = nullptr;
  uint32_t size_ = 0;
};

}  // namespace udax::mapping
