// SPDX-License-Identifier: BSD-3-Clause
//
// The shape of the tree: how nodes come and go with entries. Everything here runs under the tree lock with nodes that
// were made before, and cannot fail: nodes_needed() tells beforehand how many it takes.
#include "mapping/entry_node.h"
#include "mapping/entry_tree.h"

namespace udax::mapping {
namespace {

// The shift of the smallest top node that reaches `at`, and is no lower than `shift`.
uint32_t reaching_shift(uint64_t at, uint32_t shift) {
  while (at >> shift >= kNodeSlots) shift += kNodeBits;
  return shift;
}

uint32_t shift_of_order(uint32_t order) { return order == kPageOrder ? 0 : kHugeShift; }

void attach(EntryNode* parent, uint32_t offset, EntryNode* child) {
  child->parent = parent;
  child->offset = offset;
  child->shift = parent->shift - kNodeBits;
  parent->slots[offset] = slot_of(child);
  parent->maps[kPresent] |= bit(offset);
}

}  // namespace

// How many nodes make_place() takes for an entry of `order` at `at`, where there is none.
uint32_t EntryTree::nodes_needed(uint64_t at, uint32_t order) const {
  const uint32_t target = shift_of_order(order);
  if (root_ == kNoSlot) {
    if (at == 0 && target == 0) return 0;
    return (reaching_shift(at, target) - target) / kNodeBits + 1;
  }
  uint32_t needed = is_node(root_) ? 0 : 1;  // an entry in root_ moves into a leaf
  const uint32_t have = is_node(root_) ? node_of(root_)->shift : 0;
  const uint32_t top = reaching_shift(at, have < target ? target : have);
  if (top > have || needed > 0) {
    // The old top gets slot 0 of the new one; the path to `at` leaves it there, or ends there.
    return needed + (top - have) / kNodeBits + (top - target) / kNodeBits;
  }
  const EntryNode* node = node_of(root_);
  while (node->shift > target) {
    const uint64_t value = node->slots[offset_in(at, node->shift)];
    if (value == kNoSlot) return (node->shift - target) / kNodeBits;
    node = node_of(value);
  }
  return 0;
}

// Makes the tree as high as it takes for a slot of block `at` in a node at shift `target`.
void EntryTree::grow(uint64_t at, uint32_t target, NodeStash& nodes) {
  if (root_ == kNoSlot) {
    EntryNode* const top = nodes.take();
    top->shift = reaching_shift(at, target);
    root_ = slot_of(top);
    return;
  }
  if (is_entry(root_)) {
    EntryNode* const leaf = nodes.take();
    leaf->shift = 0;
    leaf->slots[0] = root_;
    leaf->maps[kPresent] = 1;
    for (const Mark mark : kMarks) leaf->maps[map_of(mark)] = root_marks_ >> map_of(mark) & 1;
    root_ = slot_of(leaf);
    root_marks_ = 0;
  }
  EntryNode* top = node_of(root_);
  while (at >> top->shift >= kNodeSlots || top->shift < target) {
    EntryNode* const above = nodes.take();
    above->shift = top->shift + kNodeBits;
    for (const Mark mark : kMarks) above->maps[map_of(mark)] = top->maps[map_of(mark)] != 0 ? 1 : 0;
    attach(above, 0, top);
    top = above;
  }
  root_ = slot_of(top);
}

// The place of an entry to be: the slot is empty (its siblings, too), or holds an entry of order 0 at `at` already.
// REQUIRES: nodes_needed() nodes. Whoever calls this must fill the slot before it drops the tree lock.
EntryTree::Place EntryTree::make_place(uint64_t at, uint32_t order, NodeStash& nodes) {
  if (at == 0 && order == kPageOrder && !is_node(root_)) return Place{};
  const uint32_t target = shift_of_order(order);
  grow(at, target, nodes);
  EntryNode* node = node_of(root_);
  while (node->shift > target) {
    const uint32_t offset = offset_in(at, node->shift);
    if (node->slots[offset] == kNoSlot) attach(node, offset, nodes.take());
    node = node_of(node->slots[offset]);
  }
  return Place{node, at, offset_in(at, target), order};
}

// Puts a new entry into an empty place.
void EntryTree::fill(const Place& place, uint64_t value) {
  add_entries(1);
  set_slot(place, value);
  if (place.node == nullptr) return;
  place.node->maps[kPresent] |= bit(place.offset);
  if (place.order == kPageOrder) return;
  for (uint32_t i = 1; i < kHugeSlots; ++i) place.node->slots[place.offset + i] = kSibling;
}

// Takes the entry out, and the nodes that it leaves empty or needless.
void EntryTree::remove(const Place& place, NodeStash& freed) {
  for (const Mark mark : kMarks) clear_mark(place, mark);
  sub_entries(1);
  set_slot(place, kNoSlot);
  EntryNode* node = place.node;
  if (node == nullptr) return;
  if (place.order != kPageOrder) {
    for (uint32_t i = 1; i < kHugeSlots; ++i) node->slots[place.offset + i] = kNoSlot;
  }
  node->maps[kPresent] &= ~bit(place.offset);
  while (node->maps[kPresent] == 0) {
    EntryNode* const parent = node->parent;
    if (parent == nullptr) {
      root_ = kNoSlot;
      freed.put(node);
      return;
    }
    parent->slots[node->offset] = kNoSlot;
    parent->maps[kPresent] &= ~bit(node->offset);
    freed.put(node);
    node = parent;
  }
  // A top that has its first child only is needless. An entry stays in its leaf, though, even the one at block 0:
  // whoever holds it knows where it is.
  for (EntryNode* top = node_of(root_); top->maps[kPresent] == 1 && is_node(top->slots[0]);) {
    EntryNode* const child = node_of(top->slots[0]);
    child->parent = nullptr;
    root_ = slot_of(child);
    top->slots[0] = kNoSlot;
    top->maps = {};
    freed.put(top);
    top = child;
  }
}

// Makes 512 entries of one of order 9; takes 8 nodes. Only the one at `keep` is locked, and returned.
EntryTree::Place EntryTree::split_entry(const Place& place, uint64_t keep, NodeStash& nodes) {
  EntryNode* const node = place.node;
  const Entry entry = entry_of(slot(place));
  Place kept;
  for (uint32_t i = 0; i < kHugeSlots; ++i) {
    EntryNode* const leaf = nodes.take();
    attach(node, place.offset + i, leaf);
    const uint64_t first = uint64_t{i} * kNodeSlots;
    for (uint32_t j = 0; j < kNodeSlots; ++j) leaf->slots[j] = slot_of(advanced(entry, first + j));
    leaf->maps[kPresent] = ~uint64_t{0};
    for (const Mark mark : kMarks) {
      if ((node->maps[map_of(mark)] & bit(place.offset)) == 0) continue;  // the first one's bit stays as it is
      leaf->maps[map_of(mark)] = ~uint64_t{0};
      node->maps[map_of(mark)] |= bit(place.offset + i);
    }
    if (keep - place.start - first < kNodeSlots) kept = Place{leaf, keep, offset_in(keep, 0), kPageOrder};
  }
  kept.node->slots[kept.offset] |= kLockBit;
  add_entries(kHugeBlocks - 1);
  return kept;
}

// Makes a locked kEmpty entry of order 0 at `keep` of one of order 9; takes one node.
EntryTree::Place EntryTree::narrow_empty(const Place& place, uint64_t keep, NodeStash& nodes) {
  EntryNode* const node = place.node;
  for (uint32_t i = 0; i < kHugeSlots; ++i) node->slots[place.offset + i] = kNoSlot;
  node->maps[kPresent] &= ~bit(place.offset);
  const uint32_t offset = offset_in(keep, node->shift);
  attach(node, offset, nodes.take());
  EntryNode* const leaf = node_of(node->slots[offset]);
  const Place kept{leaf, keep, offset_in(keep, 0), kPageOrder};
  leaf->slots[kept.offset] = slot_of(Entry{}) | kLockBit;
  leaf->maps[kPresent] = bit(kept.offset);
  return kept;
}

}  // namespace udax::mapping
