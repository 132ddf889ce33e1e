// SPDX-License-Identifier: BSD-3-Clause
//
// The entry tree: which blocks of a file are in use by faults, mapped writes and writeback, and which of them are
// dirty. A radix tree over file blocks, one a file; what the page cache's XArray (i_pages) with "exceptional" value
// entries is to fs/dax.c in Linux.
//
// An entry says what views of its blocks show: data at a device block, or zeroes (a hole that was read). It is of
// order 0 (one 4 KiB block) or order 9 (2 MiB: 512 blocks, aligned to 512). No two entries overlap. While somebody
// works on a block (fault, write to a hole, writeback, removal) its entry is locked by a bit in the entry itself;
// others who want it sleep. This, and not a lock of the file, is what keeps two faults on one block apart.
//
// Invariants
//  1. Value: kind and device of a locked entry change only by its holder, of one that is not locked by anyone under the
//     tree lock, in one step. So what a holder has read stays true until it unlocks. (dax_lock_entry in Linux.)
//  2. Existence: an entry that is locked is removed or split by its holder only, one that is not locked by anyone
//     under the tree lock. So after a wait nothing is known: the tree is walked anew, and the entry may be gone, be
//     another, or have another order (get_unlocked_entry in Linux reloads likewise).
//  3. kEmpty exists only while locked: a placeholder for what its holder will put there. Unlocking erases it.
//  4. Marks change under the tree lock. A locked entry's are cleared by its holder only; they are set by anyone: fsync
//     tags dirty entries for writeback while faults hold them (tag_pages_for_writeback in Linux). Only kData entries
//     carry marks.
//  5. A walk by mark that began after a mark was set finds it; one that was under way may miss it.
//  6. A node's mark bit for a child node is set exactly if a mark bit within the child is. No node is without
//     entries. dirty_blocks() is the sum over the entries marked kDirty; entries() counts placeholders, too.
//
// Writeback by these rules: tag(kDirty -> kToWrite); then for each grab_next_marked(kToWrite): clear kToWrite,
// write-protect, flush, clear kDirty, unlock. Who dirties the block in between waits for the entry lock or finds the
// views write-protected; who tags it again in between makes it be written again (dax_writeback_one in Linux).
//
// Locks: entry lock -> tree lock; the tree lock (a spinlock) is a leaf, held for a few steps down the tree or a
// bounded batch, never while memory is allocated or freed and never while sleeping. A thread holds one entry of a
// tree at a time, or takes several in ascending order; to grab an entry that it already holds is a deadlock.
//
// Memory: 32 bytes a tree; an entry at block 0 alone lies in the tree itself, others in nodes of 64 slots (about 9
// bytes a 4 KiB entry where a file is densely used). Nodes are freed with their last entry. Functions that need
// nodes return kNoMemory and say what holds then; the others cannot fail.
//
// Thread safety: everything, unless it says otherwise.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/mutex.h"
#include "base/types.h"

namespace udax::mapping {

struct EntryNode;
class NodeStash;
class EntryWait;

enum class Mark : uint8_t {
  kDirty,    // stored to through a view, or written and not flushed
  kToWrite,  // dirty when a writeback began that has not come to it yet
};

inline constexpr uint32_t kPageOrder = 0;
inline constexpr uint32_t kHugeOrder = 9;
/// File blocks are below this: files reach to 2^63-1 bytes.
inline constexpr uint64_t kFileBlockEnd = uint64_t{1} << 51;

struct Entry {
  enum class Kind : uint8_t {
    kEmpty,  // nothing yet: a placeholder, only while locked
    kZero,   // views show zeroes; no block is allocated
    kData,   // views show the blocks from `device` on
  };
  Kind kind = Kind::kEmpty;
  DeviceBlock device;  // of the entry's first block; kData only, else 0
  bool operator==(const Entry&) const = default;
};

class EntryTree {
 public:
  class Locked;

  EntryTree() = default;
  /// REQUIRES: as clear().
  ~EntryTree();
  EntryTree(const EntryTree&) = delete;
  EntryTree& operator=(const EntryTree&) = delete;

  /// The entry that covers `at`, locked; waits while another holds it. If there is none: a new kEmpty one, locked;
  /// of `order` kHugeOrder if asked for and no block of its 2 MiB has an entry, else of kPageOrder. The entry found
  /// may have another order than the one asked for, so look.
  /// kFileTooBig: `at` is not below kFileBlockEnd. kNoMemory: nothing changed.
  [[nodiscard]] Result<Locked> grab(FileBlock at, uint32_t order);
  /// The same, but none if there is no entry.
  [[nodiscard]] std::optional<Locked> grab_existing(FileBlock at);
  /// The first entry that touches [from, to), locked. It may begin before `from`. Waits while another holds it, and
  /// looks again from `from` then. To go on: from the end of what came.
  [[nodiscard]] std::optional<Locked> grab_next(FileBlock from, FileBlock to);
  /// The same for entries that carry `mark` at the moment of locking; parts of the tree without it cost nothing.
  [[nodiscard]] std::optional<Locked> grab_next_marked(FileBlock from, FileBlock to, Mark mark);

  /// Every entry that touches [from, to) and carries `have` also gets `set`, locked or not. In ascending batches, the
  /// tree lock dropped in between. Returns how many entries carried `have`.
  uint64_t tag(FileBlock from, FileBlock to, Mark have, Mark set);
  /// Is there an entry (with that mark) that touches [from, to)? Placeholders count.
  [[nodiscard]] bool any(FileBlock from, FileBlock to) const;
  [[nodiscard]] bool any(FileBlock from, FileBlock to, Mark mark) const;

  /// Counters; no lock, so only a hint unless changes are kept out otherwise. Dirty blocks are of 4 KiB.
  [[nodiscard]] bool empty() const { return entries() == 0; }
  [[nodiscard]] uint64_t entries() const { return entries_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t dirty_blocks() const { return dirty_blocks_.load(std::memory_order_relaxed); }

  /// Makes every one of `count` blocks from `at` on kData and kDirty, mapped to `device` and on; other marks stay.
  /// For write(2) where flushing is left to fsync. Waits for entries that others hold. A 2 MiB kData entry whose
  /// blocks are these stays whole and becomes dirty as a whole; any other 2 MiB entry is split. Whoever turns zero
  /// entries into data this way has taken back the views of the zeroes.
  /// kFileTooBig: nothing changed. kNoMemory: done for blocks at the beginning of the run, not for the rest; nothing is
  /// removed, and to call again does no harm.
  [[nodiscard]] Status mark_dirty_run(FileBlock at, DeviceBlock device, uint64_t count);
  /// Removes every entry in [from, to), dirty or not; waits for those that others hold. A 2 MiB entry that is partly
  /// in the range is split first, and its blocks outside stay with their marks.
  /// kNoMemory comes before anything is removed (unless others insert 2 MiB entries across an end of the range
  /// meanwhile: then entries at the beginning of the range are gone, the rest is there, and to call again is right).
  [[nodiscard]] Status erase_range(FileBlock from, FileBlock to);
  /// Removes everything. REQUIRES: no entry is locked and nobody else uses the tree (its end).
  void clear();

  /// For tests: walks all of it, under the tree lock. Empty if the invariants hold, else what is wrong.
  [[nodiscard]] std::string audit() const;

 private:
  // Where an entry is, or is to be. The slot stays where it is as long as the entry exists and is locked, but for
  // an entry in the tree itself (node null), which moves into a node when the tree grows.
  struct Place {
    EntryNode* node = nullptr;
    uint64_t start = 0;   // first file block
    uint32_t offset = 0;  // the slot within node
    uint32_t order = kPageOrder;
    [[nodiscard]] uint64_t count() const { return uint64_t{1} << order; }
  };
  struct DirtyStep;
  struct EraseStep;

  // entry_tree_walk.cc: finding.
  [[nodiscard]] uint64_t slot(const Place& place) const UDAX_REQUIRES(lock_);
  void set_slot(const Place& place, uint64_t value) UDAX_REQUIRES(lock_);
  [[nodiscard]] std::optional<Place> find(uint64_t at) const UDAX_REQUIRES(lock_);
  [[nodiscard]] std::optional<Place> next(uint64_t from, uint64_t to, uint32_t map) const UDAX_REQUIRES(lock_);
  [[nodiscard]] bool any_in(FileBlock from, FileBlock to, uint32_t map) const;
  [[nodiscard]] bool has_mark(const Place& place, Mark mark) const UDAX_REQUIRES(lock_);
  void set_mark(const Place& place, Mark mark) UDAX_REQUIRES(lock_);
  void clear_mark(const Place& place, Mark mark) UDAX_REQUIRES(lock_);
  uint64_t tag_node(const Place& place, uint64_t to, Mark have, Mark set) UDAX_REQUIRES(lock_);

  // entry_tree_shape.cc: nodes that come and go.
  [[nodiscard]] uint32_t nodes_needed(uint64_t at, uint32_t order) const UDAX_REQUIRES(lock_);
  [[nodiscard]] Place make_place(uint64_t at, uint32_t order, NodeStash& nodes) UDAX_REQUIRES(lock_);
  void grow(uint64_t at, uint32_t target, NodeStash& nodes) UDAX_REQUIRES(lock_);
  void fill(const Place& place, uint64_t value) UDAX_REQUIRES(lock_);
  void remove(const Place& place, NodeStash& freed) UDAX_REQUIRES(lock_);
  [[nodiscard]] Place split_entry(const Place& place, uint64_t keep, NodeStash& nodes) UDAX_REQUIRES(lock_);
  [[nodiscard]] Place narrow_empty(const Place& place, uint64_t keep, NodeStash& nodes) UDAX_REQUIRES(lock_);

  // entry_tree.cc: operations.
  [[nodiscard]] bool try_lock(const Place& place, std::optional<EntryWait>& wait) UDAX_REQUIRES(lock_);
  void enter_queue(const Place& place, std::optional<EntryWait>& wait) UDAX_REQUIRES(lock_);
  [[nodiscard]] Locked hold(const Place& place) UDAX_REQUIRES(lock_);
  [[nodiscard]] std::optional<Locked> grab_in(FileBlock from, FileBlock to, uint32_t map);
  void dirty_some(uint64_t at, DeviceBlock device, uint64_t count, NodeStash& nodes, DirtyStep& step)
      UDAX_REQUIRES(lock_);
  [[nodiscard]] uint32_t dirty_slots(const Place& place, DeviceBlock device, uint64_t count) UDAX_REQUIRES(lock_);
  [[nodiscard]] Status split_across(uint64_t block, uint64_t from, uint64_t to);
  void erase_some(uint64_t from, uint64_t to, NodeStash& freed, EraseStep& step) UDAX_REQUIRES(lock_);
  void add_entries(uint64_t n) UDAX_REQUIRES(lock_);
  void add_dirty(uint64_t blocks) UDAX_REQUIRES(lock_);
  void sub_entries(uint64_t n) UDAX_REQUIRES(lock_);
  void sub_dirty(uint64_t blocks) UDAX_REQUIRES(lock_);

  // A slot as in a node (entry_node.h): nothing, the top node, or the entry of block 0, of order 0.
  uint64_t root_ UDAX_GUARDED_BY(lock_) = 0;
  // Written under lock_, read without.
  std::atomic<uint64_t> entries_{0};
  std::atomic<uint64_t> dirty_blocks_{0};
  mutable SpinLock lock_;
  uint8_t root_marks_ UDAX_GUARDED_BY(lock_) = 0;  // marks of an entry in root_, a bit each; 0 if there is none
};
static_assert(sizeof(EntryTree) <= 32, "one lies in every cached inode");

/// A locked entry. Its destruction unlocks it, and erases it if it is still kEmpty. Belongs to one thread at a time
/// (it may be handed on); must not outlive the tree. After unlock(), erase() or a move from it, held() is false and
/// nothing else may be called.
class EntryTree::Locked {
 public:
  Locked(Locked&& other) noexcept;
  Locked& operator=(Locked&& other) noexcept;
  ~Locked();

  [[nodiscard]] bool held() const { return tree_ != nullptr; }
  [[nodiscard]] FileBlock start() const { return FileBlock(place_.start); }
  [[nodiscard]] FileBlock end() const { return FileBlock(place_.start + place_.count()); }
  [[nodiscard]] uint32_t order() const { return place_.order; }
  [[nodiscard]] uint64_t count() const { return place_.count(); }  // blocks
  [[nodiscard]] Entry entry() const { return entry_; }

  /// Changes the value. Marks stay if it is kData before and after, else they are cleared. What views still show the
  /// old value is the caller's business.
  void set(Entry entry);
  [[nodiscard]] bool marked(Mark mark) const;
  /// REQUIRES: kData.
  void set_mark(Mark mark);
  void clear_mark(Mark mark);

  void unlock();
  /// Removes the entry, marked or not, and unlocks it.
  void erase();
  /// REQUIRES: order 9, and `keep` within. Makes it 512 entries of order 0 that inherit kind, device and marks; the one
  /// at `keep` stays locked and is this handle's from now on, the others are unlocked. A kEmpty one becomes a single
  /// kEmpty entry at `keep`: a fault that fell back to 4 KiB. kNoMemory: it stays whole, and locked.
  [[nodiscard]] Status split(FileBlock keep);

 private:
  friend class EntryTree;
  Locked(EntryTree* tree, const Place& place, Entry entry) : tree_(tree), place_(place), entry_(entry) {}
  // The place, put right if the entry was moved out of the tree's own slot.
  const Place& place() const UDAX_REQUIRES(tree_->lock_);

  EntryTree* tree_;
  mutable Place place_;
  Entry entry_;  // what the slot says: nobody else changes it
};

}  // namespace udax::mapping
