// SPDX-License-Identifier: BSD-3-Clause
//
// Operations on the tree. Each is a loop: one step under the tree lock; outside of it, what the step found lacking:
// make nodes, or sleep until an entry is unlocked. Then the step begins anew and trusts nothing that it saw before.
#include "mapping/entry_tree.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/sync_point.h"
#include "mapping/entry_node.h"
#include "mapping/entry_tree_wait.h"

namespace udax::mapping {
namespace {

// Only the holder of the tree lock writes: no read-modify-write instruction is needed.
void add(std::atomic<uint64_t>& counter, uint64_t n) {
  counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

}  // namespace

// What a step could not do under the tree lock, for mark_dirty_run() and erase_range().
struct EntryTree::DirtyStep {
  uint64_t done = 0;              // blocks
  uint32_t nodes = 0;             // this many are needed, in all
  std::optional<EntryWait> wait;  // for this entry
  std::optional<Locked> split;    // this one first
};

struct EntryTree::EraseStep {
  bool finished = false;
  std::optional<EntryWait> wait;
  std::optional<Locked> split;
};

EntryTree::~EntryTree() { clear(); }

void EntryTree::add_entries(uint64_t n) { add(entries_, n); }
void EntryTree::add_dirty(uint64_t blocks) { add(dirty_blocks_, blocks); }
void EntryTree::sub_entries(uint64_t n) { add(entries_, ~n + 1); }
void EntryTree::sub_dirty(uint64_t blocks) { add(dirty_blocks_, ~blocks + 1); }

// Takes the entry's lock, or enters the queue of those who wait for it. (The knob is for negative controls: two then
// hold one entry, and may do no more than look at it and change its value.)
bool EntryTree::try_lock(const Place& place, std::optional<EntryWait>& wait) {
  const uint64_t value = slot(place);
  if (is_locked(value) && !UDAX_KNOB("entry.ignore_lock")) {
    enter_queue(place, wait);
    return false;
  }
  set_slot(place, value | kLockBit);
  return true;
}

// Joins those who wait for a locked entry. The bit tells its holder to wake them.
void EntryTree::enter_queue(const Place& place, std::optional<EntryWait>& wait) {
  set_slot(place, slot(place) | kWaitedBit);
  wait.emplace(this, place.start);
}

EntryTree::Locked EntryTree::hold(const Place& place) { return {this, place, entry_of(slot(place))}; }

Result<EntryTree::Locked> EntryTree::grab(FileBlock at, uint32_t order) {
  UDAX_ASSERT(order == kPageOrder || order == kHugeOrder);
  if (at.value >= kFileBlockEnd) return Error::kFileTooBig;
  NodeStash nodes;
  for (;;) {
    std::optional<EntryWait> wait;
    uint32_t needed = 0;
    {
      const LockGuard guard(lock_);
      if (const std::optional<Place> found = find(at.value)) {
        if (try_lock(*found, wait)) return hold(*found);
      } else {
        const uint64_t first = align_down(at.value, kHugeBlocks);
        const bool huge = order == kHugeOrder && !next(first, first + kHugeBlocks, kPresent);
        const uint64_t start = huge ? first : at.value;
        const uint32_t fitting = huge ? kHugeOrder : kPageOrder;
        needed = nodes_needed(start, fitting);
        if (nodes.size() >= needed) {
          const Place place = make_place(start, fitting, nodes);
          fill(place, slot_of(Entry{}) | kLockBit);
          return hold(place);
        }
      }
    }
    if (wait) {
      wait->sleep();
    } else {
      UDAX_CHECK(nodes.reserve(needed));
    }
  }
}

std::optional<EntryTree::Locked> EntryTree::grab_existing(FileBlock at) {
  for (;;) {
    std::optional<EntryWait> wait;
    {
      const LockGuard guard(lock_);
      const std::optional<Place> found = find(at.value);
      if (!found) return std::nullopt;
      if (try_lock(*found, wait)) return hold(*found);
    }
    wait->sleep();
  }
}

std::optional<EntryTree::Locked> EntryTree::grab_in(FileBlock from, FileBlock to, uint32_t map) {
  const uint64_t end = std::min(to.value, kFileBlockEnd);
  for (;;) {
    std::optional<EntryWait> wait;
    {
      const LockGuard guard(lock_);
      const std::optional<Place> found = next(from.value, end, map);
      if (!found) return std::nullopt;
      if (try_lock(*found, wait)) return hold(*found);
    }
    wait->sleep();
  }
}

std::optional<EntryTree::Locked> EntryTree::grab_next(FileBlock from, FileBlock to) {
  return grab_in(from, to, kPresent);
}

std::optional<EntryTree::Locked> EntryTree::grab_next_marked(FileBlock from, FileBlock to, Mark mark) {
  return grab_in(from, to, map_of(mark));
}

// Makes the slots from `place` on dirty data, up to the end of its leaf or the first locked one, which `place` is
// not. Returns how many.
uint32_t EntryTree::dirty_slots(const Place& place, DeviceBlock device, uint64_t count) {
  const auto value = [&](uint32_t i) { return slot_of(Entry{Entry::Kind::kData, device + i}); };
  if (place.node == nullptr) {
    if (root_ == kNoSlot) add_entries(1);
    root_ = value(0);
    set_mark(place, Mark::kDirty);
    return 1;
  }
  EntryNode* const leaf = place.node;
  const uint32_t limit = static_cast<uint32_t>(std::min<uint64_t>(count, kNodeSlots - place.offset));
  uint32_t n = 0;
  for (; n < limit && !is_locked(leaf->slots[place.offset + n]); ++n) leaf->slots[place.offset + n] = value(n);
  UDAX_ASSERT(n > 0);
  const uint64_t mask = bits(place.offset, n);
  const auto fresh = [&](uint32_t map) { return static_cast<uint64_t>(std::popcount(mask & ~leaf->maps[map])); };
  add_entries(fresh(kPresent));
  add_dirty(fresh(map_of(Mark::kDirty)));
  leaf->maps[kPresent] |= mask;
  raise_bits(leaf, mask, map_of(Mark::kDirty));
  return n;
}

void EntryTree::dirty_some(uint64_t at, DeviceBlock device, uint64_t count, NodeStash& nodes, DirtyStep& step) {
  std::optional<Place> place = find(at);
  if (place && is_locked(slot(*place))) {
    enter_queue(*place, step.wait);
    return;
  }
  if (place && place->order != kPageOrder) {
    const uint64_t within = at - place->start;
    const Entry wanted{Entry::Kind::kData, device};
    const Entry entry = entry_of(slot(*place));
    if (entry.kind == Entry::Kind::kData && advanced(entry, within) == wanted) {
      set_mark(*place, Mark::kDirty);
      step.done = std::min(count, place->count() - within);
    } else if (try_lock(*place, step.wait)) {
      step.split.emplace(hold(*place));
    }
    return;
  }
  if (!place) {
    step.nodes = nodes_needed(at, kPageOrder);
    if (nodes.size() < step.nodes) return;
    place = make_place(at, kPageOrder, nodes);
  }
  step.done = dirty_slots(*place, device, count);
}

Status EntryTree::mark_dirty_run(FileBlock at, DeviceBlock device, uint64_t count) {
  if (at.value > kFileBlockEnd || count > kFileBlockEnd - at.value) return Error::kFileTooBig;
  UDAX_ASSERT(device.value < kFileBlockEnd && count <= kFileBlockEnd - device.value);
  NodeStash nodes;
  for (uint64_t done = 0; done < count;) {
    DirtyStep step;
    {
      const LockGuard guard(lock_);
      dirty_some(at.value + done, device + done, count - done, nodes, step);
    }
    done += step.done;
    if (step.wait) {
      step.wait->sleep();
    } else if (step.split) {
      UDAX_CHECK(step.split->split(at + done));
    } else if (step.done == 0) {
      UDAX_CHECK(nodes.reserve(step.nodes));
    }
  }
  return {};
}

// Splits the 2 MiB entry that covers `block`, if there is one and [from, to) covers a part of it only.
Status EntryTree::split_across(uint64_t block, uint64_t from, uint64_t to) {
  if (from % kHugeBlocks == 0 && to % kHugeBlocks == 0) return {};
  std::optional<Locked> entry = grab_existing(FileBlock(block));
  if (!entry || entry->order() == kPageOrder) return {};
  if (entry->start().value >= from && entry->end().value <= to) return {};
  return entry->split(FileBlock(block));
}

// Removes entries until one must be waited for or split, or a batch is done.
void EntryTree::erase_some(uint64_t from, uint64_t to, NodeStash& freed, EraseStep& step) {
  constexpr uint32_t kBatch = 128;
  for (uint32_t i = 0; i < kBatch; ++i) {
    const std::optional<Place> place = next(from, to, kPresent);
    if (!place) {
      step.finished = true;
      return;
    }
    if (!try_lock(*place, step.wait)) return;
    if (place->start < from || place->start + place->count() > to) {
      step.split.emplace(hold(*place));
      return;
    }
    remove(*place, freed);
  }
}

Status EntryTree::erase_range(FileBlock from, FileBlock to) {
  const uint64_t end = std::min(to.value, kFileBlockEnd);
  if (from.value >= end) return {};
  UDAX_CHECK(split_across(from.value, from.value, end));
  UDAX_CHECK(split_across(end - 1, from.value, end));
  for (;;) {
    NodeStash freed;
    EraseStep step;
    {
      const LockGuard guard(lock_);
      erase_some(from.value, end, freed, step);
    }
    if (step.wait) {
      step.wait->sleep();
    } else if (step.split) {
      const FileBlock keep = std::max(step.split->start(), from);
      UDAX_CHECK(step.split->split(keep));
    } else if (step.finished) {
      return {};
    }
  }
}

void EntryTree::clear() {
  uint64_t root = kNoSlot;
  {
    const LockGuard guard(lock_);
    root = std::exchange(root_, kNoSlot);
    root_marks_ = 0;
    entries_.store(0, std::memory_order_relaxed);
    dirty_blocks_.store(0, std::memory_order_relaxed);
  }
  UDAX_ASSERT(!is_locked(root));
  EntryNode* node = is_node(root) ? node_of(root) : nullptr;
  while (node != nullptr) {  // down as long as there is a child left, else free and up
    EntryNode* child = nullptr;
    while (child == nullptr && node->maps[kPresent] != 0) {
      const auto offset = static_cast<uint32_t>(std::countr_zero(node->maps[kPresent]));
      node->maps[kPresent] &= ~bit(offset);
      UDAX_ASSERT(!is_locked(node->slots[offset]));
      if (is_node(node->slots[offset])) child = node_of(node->slots[offset]);
    }
    if (child == nullptr) {
      child = node->parent;
      delete node;
    }
    node = child;
  }
}

}  // namespace udax::mapping
