// SPDX-License-Identifier: BSD-3-Clause
//
// What the holder of an entry's lock may do.
#include <utility>

#include "mapping/entry_node.h"
#include "mapping/entry_tree.h"
#include "mapping/entry_tree_wait.h"

namespace udax::mapping {

EntryTree::Locked::Locked(Locked&& other) noexcept
    : tree_(std::exchange(other.tree_, nullptr)), place_(other.place_), entry_(other.entry_) {}

EntryTree::Locked& EntryTree::Locked::operator=(Locked&& other) noexcept {
  if (this == &other) return *this;
  if (held()) unlock();
  tree_ = std::exchange(other.tree_, nullptr);
  place_ = other.place_;
  entry_ = other.entry_;
  return *this;
}

EntryTree::Locked::~Locked() {
  if (held()) unlock();
}

const EntryTree::Place& EntryTree::Locked::place() const {
  if (place_.node == nullptr && is_node(tree_->root_)) place_ = *tree_->find(0);
  return place_;
}

void EntryTree::Locked::set(Entry entry) {
  UDAX_ASSERT(held());
  UDAX_ASSERT(entry.device.value < kFileBlockEnd);
  UDAX_ASSERT(entry.kind == Entry::Kind::kData || entry.device == kNoBlock);
  const LockGuard guard(tree_->lock_);
  const Place& at = place();
  if (entry.kind != Entry::Kind::kData) {
    for (const Mark mark : kMarks) tree_->clear_mark(at, mark);
  }
  tree_->set_slot(at, slot_of(entry) | kLockBit | (tree_->slot(at) & kWaitedBit));
  entry_ = entry;
}

bool EntryTree::Locked::marked(Mark mark) const {
  UDAX_ASSERT(held());
  const LockGuard guard(tree_->lock_);
  return tree_->has_mark(place(), mark);
}

void EntryTree::Locked::set_mark(Mark mark) {
  UDAX_ASSERT(held());
  UDAX_ASSERT(entry_.kind == Entry::Kind::kData);
  const LockGuard guard(tree_->lock_);
  tree_->set_mark(place(), mark);
}

void EntryTree::Locked::clear_mark(Mark mark) {
  UDAX_ASSERT(held());
  const LockGuard guard(tree_->lock_);
  tree_->clear_mark(place(), mark);
}

void EntryTree::Locked::unlock() {
  UDAX_ASSERT(held());
  if (entry_.kind == Entry::Kind::kEmpty) {
    erase();
    return;
  }
  bool is_waited_for = false;
  {
    const LockGuard guard(tree_->lock_);
    const Place& at = place();
    is_waited_for = (tree_->slot(at) & kWaitedBit) != 0;
    tree_->set_slot(at, slot_of(entry_));
  }
  const EntryTree* const tree = std::exchange(tree_, nullptr);
  if (is_waited_for) EntryWait::wake_all(tree, place_.start);
}

void EntryTree::Locked::erase() {
  UDAX_ASSERT(held());
  bool is_waited_for = false;
  NodeStash freed;
  {
    const LockGuard guard(tree_->lock_);
    const Place& at = place();
    is_waited_for = (tree_->slot(at) & kWaitedBit) != 0;
    tree_->remove(at, freed);
  }
  const EntryTree* const tree = std::exchange(tree_, nullptr);
  if (is_waited_for) EntryWait::wake_all(tree, place_.start);
}

Status EntryTree::Locked::split(FileBlock keep) {
  UDAX_ASSERT(held());
  UDAX_ASSERT(place_.order == kHugeOrder && keep >= start() && keep < end());
  const bool is_empty = entry_.kind == Entry::Kind::kEmpty;
  NodeStash nodes;
  UDAX_CHECK(nodes.reserve(is_empty ? 1 : kHugeSlots));
  const uint64_t whole = place_.start;
  {
    const LockGuard guard(tree_->lock_);
    place_ =
        is_empty ? tree_->narrow_empty(place_, keep.value, nodes) : tree_->split_entry(place_, keep.value, nodes);
  }
  entry_ = advanced(entry_, keep.value - whole);
  // All who wait queue up at the whole entry's start; those of the kept block find it locked, and queue up at it.
  EntryWait::wake_all(tree_, whole);
  return {};
}

}  // namespace udax::mapping
