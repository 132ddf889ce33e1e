// SPDX-License-Identifier: BSD-3-Clause
//
// Finding entries, and their marks.
#include <algorithm>
#include <bit>

#include "mapping/entry_node.h"
#include "mapping/entry_tree.h"

namespace udax::mapping {

uint64_t EntryTree::slot(const Place& place) const {
  return place.node == nullptr ? root_ : place.node->slots[place.offset];
}

void EntryTree::set_slot(const Place& place, uint64_t value) {
  (place.node == nullptr ? root_ : place.node->slots[place.offset]) = value;
}

std::optional<EntryTree::Place> EntryTree::find(uint64_t at) const {
  if (!is_node(root_)) return is_entry(root_) && at == 0 ? std::optional(Place{}) : std::nullopt;
  EntryNode* node = node_of(root_);
  uint32_t shift = node->shift;
  if (at >> shift >= kNodeSlots) return std::nullopt;
  for (;;) {
    const uint32_t offset = offset_in(at, shift);
    const uint64_t value = node->slots[offset];
    if (value == kNoSlot) return std::nullopt;
    if (value == kSibling || is_entry(value)) {
      if (shift == 0) return Place{node, at, offset, kPageOrder};
      return Place{node, align_down(at, kHugeBlocks), offset & ~(kHugeSlots - 1), kHugeOrder};
    }
    node = node_of(value);
    shift -= kNodeBits;
  }
}

// The first entry that ends after `from` and begins before `to`, of those that have a bit in `map`. The maps are exact,
// so the walk goes down in vain along the left edge of the range only.
std::optional<EntryTree::Place> EntryTree::next(uint64_t from, uint64_t to, uint32_t map) const {
  if (from >= to || root_ == kNoSlot) return std::nullopt;
  if (is_entry(root_)) {
    const bool has = map == kPresent || (root_marks_ & bit(map)) != 0;
    return from == 0 && has ? std::optional(Place{}) : std::nullopt;
  }
  EntryNode* node = node_of(root_);
  if (from >> node->shift >= kNodeSlots) return std::nullopt;
  uint64_t base = 0;  // of node
  uint32_t offset = offset_in(from, node->shift);
  for (;;) {
    if (offset < kNodeSlots && node->slots[offset] == kSibling) offset &= ~(kHugeSlots - 1);
    const uint64_t left = offset < kNodeSlots ? node->maps[map] & (~uint64_t{0} << offset) : 0;
    if (left == 0) {
      if (node->parent == nullptr) return std::nullopt;
      offset = node->offset + 1;
      node = node->parent;
      base = align_down(base, uint64_t{kNodeSlots} << node->shift);
      continue;
    }
    offset = static_cast<uint32_t>(std::countr_zero(left));
    const uint64_t start = base + (uint64_t{offset} << node->shift);
    if (start >= to) return std::nullopt;
    const uint64_t value = node->slots[offset];
    if (is_entry(value)) return Place{node, start, offset, node->shift == 0 ? kPageOrder : kHugeOrder};
    node = node_of(value);
    base = start;
    offset = start >= from ? 0 : offset_in(from, node->shift);
  }
}

bool EntryTree::any_in(FileBlock from, FileBlock to, uint32_t map) const {
  const LockGuard guard(lock_);
  return next(from.value, std::min(to.value, kFileBlockEnd), map).has_value();
}

bool EntryTree::any(FileBlock from, FileBlock to) const { return !empty() && any_in(from, to, kPresent); }

bool EntryTree::any(FileBlock from, FileBlock to, Mark mark) const { return any_in(from, to, map_of(mark)); }

bool EntryTree::has_mark(const Place& place, Mark mark) const {
  if (place.node == nullptr) return (root_marks_ & bit(map_of(mark))) != 0;
  return (place.node->maps[map_of(mark)] & bit(place.offset)) != 0;
}

void EntryTree::set_mark(const Place& place, Mark mark) {
  if (has_mark(place, mark)) return;
  if (place.node == nullptr) {
    root_marks_ = static_cast<uint8_t>(root_marks_ | bit(map_of(mark)));
  } else {
    raise_bits(place.node, bit(place.offset), map_of(mark));
  }
  if (mark == Mark::kDirty) add_dirty(place.count());
}

void EntryTree::clear_mark(const Place& place, Mark mark) {
  if (!has_mark(place, mark)) return;
  if (place.node == nullptr) {
    root_marks_ = static_cast<uint8_t>(root_marks_ & ~bit(map_of(mark)));
  } else {
    lower_bits(place.node, bit(place.offset), map_of(mark));
  }
  if (mark == Mark::kDirty) sub_dirty(place.count());
}

// tag() for the entry at `place` and, if it lies in a leaf, for all that follow there and begin before `to`.
uint64_t EntryTree::tag_node(const Place& place, uint64_t to, Mark have, Mark set) {
  EntryNode* const node = place.node;
  if (node == nullptr || place.order != kPageOrder) {
    set_mark(place, set);
    return 1;
  }
  const uint64_t count = std::min<uint64_t>(kNodeSlots - place.offset, to - place.start);
  const uint64_t carry = node->maps[map_of(have)] & bits(place.offset, static_cast<uint32_t>(count));
  if (set == Mark::kDirty) {
    add_dirty(static_cast<uint64_t>(std::popcount(carry & ~node->maps[map_of(Mark::kDirty)])));
  }
  raise_bits(node, carry, map_of(set));
  return static_cast<uint64_t>(std::popcount(carry));
}

uint64_t EntryTree::tag(FileBlock from, FileBlock to, Mark have, Mark set) {
  constexpr uint32_t kBatch = 256;  // nodes
  const uint64_t end = std::min(to.value, kFileBlockEnd);
  uint64_t tagged = 0;
  uint64_t at = from.value;
  for (;;) {
    const LockGuard guard(lock_);
    for (uint32_t i = 0; i < kBatch; ++i) {
      const std::optional<Place> place = next(at, end, map_of(have));
      if (!place) return tagged;
      tagged += tag_node(*place, end, have, set);
      at = place->order == kPageOrder ? align_up(place->start + 1, kNodeSlots) : place->start + place->count();
    }
  }
}

}  // namespace udax::mapping
