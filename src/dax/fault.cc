// SPDX-License-Identifier: BSD-3-Clause
//
// Fault resolution.
//
//   access   the entry, else the extents, say   what is done
//   read     data                               map it read-only; a clean entry
//   read     hole, unwritten                    map zeroes; a zero entry; nothing is allocated
//   write    data                               mark DIRTY, then map writable (mkwrite)
//   write    hole, unwritten                    allocate, zero, make durable, commit the extent; drop the zero view in every
//                                               mapper; mark DIRTY, then map writable
//   copy     any                                the mapper copies from the pool or from zeroes; no entry
//   any      behind the end                     kBeyondEnd: looked at under invalidate_lock, and once more after an
//                                               allocation
//   any      a page cache has copies            kCopiesOut: looked at with the entry locked. Who hands out copies notes them
//                                               first, then takes views back entry by entry: one of the two sees the other
//
// 2 MiB: where the window lies within the file, and is one run of data on an aligned place of the device, or a hole
// throughout. A zero entry of 2 MiB of which a page is written goes, with its views; pages come after it.
#include "base/log.h"
#include "base/sync_point.h"
#include "dax/dax.h"
#include "extent/extent_map.h"
#include "inode/times.h"

namespace udax::dax {

using mapping::Entry;
using mapping::EntryTree;
using mapping::kHugeOrder;
using mapping::kPageOrder;

/// One fault at work.
struct Dax::Resolver {
  Dax& dax;
  inode::Inode& inode;
  mapping::AddressSpace& space;
  const FileBlock at;
  const Access access;
  const bool may_store;  // to the file, at all
  const uint32_t order_max;
  const Install& install;

  [[nodiscard]] bool is_store() const { return access == Access::kWrite || access == Access::kWriteTracked; }

  enum class Step : uint8_t { kDone, kBeyondEnd, kAgain, kCopiesOut };

  [[nodiscard]] FileBlock end() const { return FileBlock(blocks_for(inode.snapshot().size)); }

  /// What the extents say of the window of `order` around `at`, if it is one thing throughout; else of `at` alone.
  struct Window {
    extent::Mapping mapping;  // of the window, or of one block
    uint32_t order = kPageOrder;
  };
  [[nodiscard]] Result<Window> look(uint32_t order_max) const {
    const SharedLockGuard guard(inode.extent_lock);
    const extent::Reader map(dax.meta_, inode.image());
    if (order_max >= kHugeOrder) {
      const FileBlock start(align_down(at.value, kHugeBlocks));
      if (start + kHugeBlocks <= end()) {
        UDAX_TRY(const extent::Mapping m, map.lookup(start, kHugeBlocks));
        const bool is_whole = m.count == kHugeBlocks;
        if (is_whole && (!m.is_data() || m.device.value % kHugeBlocks == 0)) return Window{m, kHugeOrder};
      }
    }
    UDAX_TRY(const extent::Mapping m, map.lookup(at, 1));
    return Window{m, kPageOrder};
  }

  [[nodiscard]] Status check_media(DeviceBlock device, uint64_t count) const {
    if (dax.medium_.is_lost(offset_of(device), count * kBlockSize)) return Error::kIo;
    return {};
  }

  [[nodiscard]] Status map_view(const EntryTree::Locked& entry, bool is_writable) const {
    const Entry e = entry.entry();
    const bool is_data = e.kind == Entry::Kind::kData;
    // Another mapper's fault may have made an entry that is larger than what this one can hold.
    const bool is_whole = entry.order() <= order_max;
    const FileBlock start = is_whole ? entry.start() : at;
    const uint64_t blocks = is_whole ? entry.count() : 1;
    const DeviceBlock device = is_data ? e.device + (start - entry.start()) : kNoBlock;
    if (is_data) UDAX_CHECK(check_media(device, blocks));
    if (blocks == kHugeBlocks) count(dax.counters_.huge);
    UDAX_SYNC_POINT("dax.fault.install");
    return install({start, blocks, device, is_writable});
  }

  /// Sets a fresh entry to what the extents say. kAgain: its window is not one thing any more. REQUIRES: it is empty.
  [[nodiscard]] Result<Step> fill_in(EntryTree::Locked& entry) const {
    UDAX_TRY(const Window w, look(entry.order()));
    if (entry.order() != w.order) return Step::kAgain;
    if (w.mapping.is_data()) {
      entry.set({Entry::Kind::kData, w.mapping.device});
    } else {
      entry.set({Entry::Kind::kZero, kNoBlock});
    }
    return Step::kDone;
  }

  /// Makes [start, start + count) written, zeroed blocks, in `map`; `m` is what is there, a hole or unwritten throughout.
  /// The commit drains the zeroes before anything points at them.
  [[nodiscard]] Status fill_blocks(inode::Change& change, extent::Editor& map, const extent::Mapping& m,
                                   DeviceBlock device, FileBlock start, uint64_t count) const {
    UDAX_CHECK(check_media(device, count));
    if (!UDAX_KNOB("dax.fault.skip_zero")) dax.medium_.zero_nt(offset_of(device), count * kBlockSize);
    change.tx().tx().data_pending();
    UDAX_SYNC_POINT("dax.fault.zeroed");
    if (m.is_hole()) return map.insert(start, {device, count}, false);
    UDAX_TRY(const FileBlock done, map.set_unwritten(start, start + count, false));
    return done == start + count ? Status() : Status(Error::kAgain);
  }

  /// Fills the hole or unwritten block at `at`, and gives its device block; what is data already is left alone.
  [[nodiscard]] Result<DeviceBlock> allocate() const {
    inode::Change change(dax.table_);
    UDAX_TRY(format::Inode * image, change.edit(inode));
    extent::Editor map(change.blocks(), *image);
    UDAX_TRY(const extent::Mapping m, map.lookup(at, 1));
    const format::TimeStamp t = inode::now();
    if (m.is_data() && inode::is_touched(*image, t)) return m.device;
    DeviceBlock device = m.device;
    if (m.is_hole()) {
      alloc::Request request;
      request.file_block = at.value;
      if (at.value > 0) {
        UDAX_TRY(const extent::Mapping before, map.lookup(at - 1, 1));
        if (!before.is_hole()) request.goal = before.device + 1;
      }
      UDAX_TRY(const DeviceRun run, change.blocks().allocate(request));
      device = run.start;
    }
    if (!m.is_data()) UDAX_CHECK(fill_blocks(change, map, m, device, at, 1));
    inode::touch_modified(*image, t);
    UDAX_CHECK(commit_untold(inode, change));
    return device;
  }

  /// The same for the 2 MiB window at `start`. kNoBlock: there is no fitting run of blocks, or it is not empty.
  [[nodiscard]] Result<DeviceBlock> allocate_huge(FileBlock start) const {
    inode::Change change(dax.table_);
    UDAX_TRY(format::Inode * image, change.edit(inode));
    extent::Editor map(change.blocks(), *image);
    UDAX_TRY(const extent::Mapping m, map.lookup(start, kHugeBlocks));
    if (m.count != kHugeBlocks || m.is_data()) return kNoBlock;
    DeviceBlock device = m.device;
    if (m.is_hole()) {
      alloc::Request request;
      request.count = kHugeBlocks;
      request.count_min = kHugeBlocks;
      request.file_block = start.value;
      const auto run = change.blocks().allocate(request);
      if (!run) {
        if (run.error() == Error::kNoSpace) return kNoBlock;
        return run.error();
      }
      device = run->start;
    }
    if (device.value % kHugeBlocks != 0) return kNoBlock;
    UDAX_CHECK(fill_blocks(change, map, m, device, start, kHugeBlocks));
    inode::touch_modified(*image, inode::now());
    UDAX_CHECK(commit_untold(inode, change));
    return device;
  }

  [[nodiscard]] bool has_copies(FileBlock from, FileBlock to) const {
    return space.copies.any_or_late(from, to) && !UDAX_KNOB("dax.fault.ignore_copies");
  }

  [[nodiscard]] Result<Step> resolve(EntryTree::Locked& entry) const {
    if (has_copies(entry.start(), entry.end())) return Step::kCopiesOut;
    return is_store() ? write(entry) : read(entry);
  }

  [[nodiscard]] Result<Step> read(EntryTree::Locked& entry) const {
    if (entry.entry().kind == Entry::Kind::kEmpty) {
      UDAX_TRY(const Step step, fill_in(entry));
      if (step != Step::kDone) return step;
    }
    UDAX_SYNC_POINT("dax.fault.read.resolved");
    count(entry.entry().kind == Entry::Kind::kData ? dax.counters_.read_data : dax.counters_.read_zero);
    const bool is_data = entry.entry().kind == Entry::Kind::kData;
    UDAX_CHECK(map_view(entry, is_data && access == Access::kReadTracked && may_store));
    return Step::kDone;
  }

  [[nodiscard]] Result<Step> write(EntryTree::Locked& entry) const {
    const bool has_views = entry.entry().kind == Entry::Kind::kZero;
    if (entry.entry().kind == Entry::Kind::kEmpty) {
      UDAX_TRY(const Step step, fill_in(entry));
      if (step != Step::kDone) return step;
    }
    if (entry.entry().kind == Entry::Kind::kData) {
      UDAX_CHECK(dax.touch(inode));
      count(dax.counters_.write_data);
      return map_writable(entry);
    }
    UDAX_TRY(const DeviceBlock device, entry.order() == kHugeOrder ? allocate_huge(entry.start()) : allocate());
    UDAX_SYNC_POINT("dax.fault.allocated");
    if (device == kNoBlock) {
      // Only a page of the window can be filled: the zero views of the whole go, pages take its place.
      if (has_views) drop_zero_views(entry);
      entry.erase();
      return Step::kAgain;
    }
    if (at >= end()) {
      // Cannot be: whoever cuts the file holds invalidate_lock exclusive. Were it so, the block would be an ordinary
      // one behind the end, which the next truncation takes away; nobody may map it.
      return Step::kBeyondEnd;
    }
    if (has_views) drop_zero_views(entry);
    entry.set({Entry::Kind::kData, device});
    count(dax.counters_.write_filled);
    return map_writable(entry);
  }

  /// Another thread may have mapped the zeroes, in any mapper.
  void drop_zero_views(const EntryTree::Locked& entry) const {
    if (UDAX_KNOB("dax.fault.keep_zero_views")) return;
    count(dax.counters_.zero_views_dropped);
    dax.mappers_.invalidate(inode.ino(), mapping::bytes_of(entry.start(), entry.start() + entry.count()));
  }

  /// DIRTY first: a store may follow as soon as the view is there, and a writeback must find it. Of a view that is tracked the
  /// mapper tells.
  [[nodiscard]] Result<Step> map_writable(EntryTree::Locked& entry) const {
    const bool is_tracked = access == Access::kWriteTracked;
    if (!is_tracked && !UDAX_KNOB("dax.fault.skip_dirty")) entry.set_mark(mapping::Mark::kDirty);
    UDAX_CHECK(map_view(entry, true));
    return Step::kDone;
  }

  [[nodiscard]] Status copy() const {
    const SharedLockGuard guard(inode.extent_lock);
    UDAX_TRY(const extent::Mapping m, extent::Reader(dax.meta_, inode.image()).lookup(at, 1));
    if (m.is_data()) UDAX_CHECK(check_media(m.device, 1));
    UDAX_SYNC_POINT("dax.fault.copy");
    UDAX_CHECK(install({at, 1, m.is_data() ? m.device : kNoBlock, false}));
    count(dax.counters_.copied);
    return {};
  }
};

namespace {

/// Faults against who removes or moves blocks.
class UDAX_SCOPED_CAPABILITY FaultLock {
 public:
  explicit FaultLock(SharedMutex& lock) UDAX_ACQUIRE_SHARED(lock) UDAX_NO_THREAD_SAFETY_ANALYSIS
      : lock_(UDAX_KNOB("dax.fault.skip_invalidate_lock") ? nullptr : &lock) {
    if (lock_ != nullptr) lock_->lock_shared();
  }
  ~FaultLock() UDAX_RELEASE_GENERIC() UDAX_NO_THREAD_SAFETY_ANALYSIS {
    if (lock_ != nullptr) lock_->unlock_shared();
  }
  FaultLock(const FaultLock&) = delete;
  FaultLock& operator=(const FaultLock&) = delete;

 private:
  SharedMutex* const lock_;
};

}  // namespace

Result<FaultResult> Dax::fault(inode::Inode& inode, FileBlock at, Access access, uint32_t order_max,
                               const Install& install) {
  const auto resolve = [&]() -> Result<FaultResult> {
    if (!inode.is_reg()) return Error::kInvalid;
    const bool is_store = access == Access::kWrite || access == Access::kWriteTracked;
    if (is_store && read_only_) return Error::kReadOnly;
    UDAX_TRY(mapping::AddressSpace* const space, inode.make_space());
    UDAX_SYNC_POINT("dax.fault.begin");
    const FaultLock guard(inode.invalidate_lock);
    UDAX_SYNC_POINT("dax.fault.locked");
    // Under the lock: who makes a file immutable write-protects its views first, with faults kept out.
    const bool is_immutable = (inode.snapshot().flags & format::kFlagImmutable) != 0;
    if (is_store && is_immutable) return Error::kPermission;
    const bool may_store = !read_only_ && !is_immutable;
    const Resolver resolver{*this, inode, *space, at, access, may_store, order_max, install};
    for (uint32_t order_limit = order_max;; order_limit = kPageOrder) {
      if (at >= resolver.end()) return FaultResult::kBeyondEnd;
      UDAX_SYNC_POINT("dax.fault.within");
      if (access == Access::kCopy) {
        if (resolver.has_copies(at, at + 1)) return FaultResult::kCopiesOut;
        UDAX_CHECK(resolver.copy());
        return FaultResult::kMapped;
      }
      // The window is looked at again with the entry locked; here it only decides how large an entry to ask for.
      UDAX_TRY(const Resolver::Window window, resolver.look(order_limit));
      UDAX_TRY(EntryTree::Locked entry, space->entries.grab(at, window.order));
      UDAX_SYNC_POINT("dax.fault.entry_locked");
      UDAX_TRY(const Resolver::Step step, resolver.resolve(entry));
      if (step == Resolver::Step::kDone) return FaultResult::kMapped;
      if (step == Resolver::Step::kBeyondEnd) return FaultResult::kBeyondEnd;
      if (step == Resolver::Step::kCopiesOut) return FaultResult::kCopiesOut;
    }
  };
  const auto result = resolve();
  if (!result) {
    count(counters_.failed);
    log::debug("fault at block {} of inode {}: {}", at.value, inode.ino().value, to_string(result.error()));
  } else if (*result == FaultResult::kBeyondEnd) {
    count(counters_.beyond_end);
    inode.space()->touched_behind.store(true);
  }
  return result;
}

}  // namespace udax::dax
