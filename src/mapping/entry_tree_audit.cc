// SPDX-License-Identifier: BSD-3-Clause
//
// The invariants of the tree, checked. For tests.
#include <bit>
#include <sstream>

#include "mapping/entry_node.h"
#include "mapping/entry_tree.h"

namespace udax::mapping {
namespace {

class Auditor {
 public:
  // Everything below `node`, which begins at block `base`.
  void walk(const EntryNode& node, uint64_t base) {
    if (node.maps[kPresent] == 0) fail(base) << "node without entries";
    for (const Mark mark : kMarks) {
      if ((node.maps[map_of(mark)] & ~node.maps[kPresent]) != 0) fail(base) << "mark on a slot without an entry";
    }
    for (uint32_t i = 0; i < kNodeSlots; ++i) {
      const uint64_t start = base + (uint64_t{i} << node.shift);
      const uint64_t value = node.slots[i];
      const bool is_present = is_entry(value) || is_node(value);
      if (is_present != ((node.maps[kPresent] & bit(i)) != 0)) fail(start) << "presence bit is wrong";
      if (value == kSibling) check_sibling(node, i, start);
      if (is_node(value)) check_child(node, i, start);
      if (is_entry(value)) check_entry_in(node, i, start);
    }
  }

  void check_entry(uint64_t value, uint64_t blocks, bool is_dirty, bool is_marked, uint64_t start) {
    ++entries_;
    if (is_dirty) dirty_blocks_ += blocks;
    const Entry entry = entry_of(value);
    if (start % blocks != 0 || start >= kFileBlockEnd) fail(start) << "entry at an impossible block";
    if (entry.kind == Entry::Kind::kEmpty && !is_locked(value)) fail(start) << "placeholder is not locked";
    if (!is_locked(value) && (value & kWaitedBit) != 0) fail(start) << "not locked, but waited for";
    if (entry.kind > Entry::Kind::kData) fail(start) << "unknown kind";
    if (entry.kind != Entry::Kind::kData && entry.device != kNoBlock) fail(start) << "device without data";
    if (entry.kind != Entry::Kind::kData && is_marked) fail(start) << "mark without data";
  }

  std::ostream& fail(uint64_t at) { return out_ << "\nblock " << at << ": "; }
  [[nodiscard]] uint64_t entries() const { return entries_; }
  [[nodiscard]] uint64_t dirty_blocks() const { return dirty_blocks_; }
  [[nodiscard]] std::string text() const { return out_.str(); }

 private:
  void check_sibling(const EntryNode& node, uint32_t i, uint64_t start) {
    if (node.shift != kHugeShift || i % kHugeSlots == 0 || !is_entry(node.slots[i & ~(kHugeSlots - 1)])) {
      fail(start) << "sibling without its entry";
    }
  }

  void check_child(const EntryNode& node, uint32_t i, uint64_t start) {
    const EntryNode& child = *node_of(node.slots[i]);
    if (child.parent != &node || child.offset != i) fail(start) << "child that does not know where it is";
    if (node.shift == 0 || child.shift + kNodeBits != node.shift) {
      fail(start) << "child at a wrong height";
      return;
    }
    for (const Mark mark : kMarks) {
      const bool above = (node.maps[map_of(mark)] & bit(i)) != 0;
      if (above != (child.maps[map_of(mark)] != 0)) fail(start) << "mark is not what the child's marks are";
    }
    walk(child, start);
  }

  void check_entry_in(const EntryNode& node, uint32_t i, uint64_t start) {
    const auto has = [&](Mark mark) { return (node.maps[map_of(mark)] & bit(i)) != 0; };
    const bool is_huge = node.shift == kHugeShift;
    if (node.shift != 0 && !is_huge) fail(start) << "entry at a wrong height";
    check_entry(node.slots[i], is_huge ? kHugeBlocks : 1, has(Mark::kDirty),
                has(Mark::kDirty) || has(Mark::kToWrite), start);
    for (uint32_t j = 1; is_huge && j < kHugeSlots; ++j) {
      if (i % kHugeSlots != 0 || node.slots[i + j] != kSibling)
        fail(start) << "entry of 2 MiB without its siblings";
    }
  }

  std::ostringstream out_;
  uint64_t entries_ = 0;
  uint64_t dirty_blocks_ = 0;
};

}  // namespace

std::string EntryTree::audit() const {
  const LockGuard guard(lock_);
  Auditor auditor;
  if (is_entry(root_)) auditor.check_entry(root_, 1, (root_marks_ & 1) != 0, root_marks_ != 0, 0);
  if (!is_entry(root_) && root_marks_ != 0) auditor.fail(0) << "mark of no entry";
  if (is_node(root_)) {
    const EntryNode& top = *node_of(root_);
    if (top.parent != nullptr || top.shift > kTopShift) auditor.fail(0) << "top is no top";
    if (top.maps[kPresent] == 1 && is_node(top.slots[0])) auditor.fail(0) << "needless top";
    auditor.walk(top, 0);
  }
  if (auditor.entries() != entries()) auditor.fail(0) << entries() << " entries, found " << auditor.entries();
  if (auditor.dirty_blocks() != dirty_blocks()) {
    auditor.fail(0) << dirty_blocks() << " dirty blocks, found " << auditor.dirty_blocks();
  }
  return auditor.text();
}

}  // namespace udax::mapping
