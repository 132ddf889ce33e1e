// SPDX-License-Identifier: BSD-3-Clause
//
// The DAX core: what happens when a mapped page is touched, when a range is flushed, and when views must go.
//
// docs/dax.md has the states of an entry as a diagram, the lock order with its call sites, and the races.
//
// Invariants
// - A view that a mapper holds is either of zeroes (its entry is kZero, or gone) or of the device block that the entry
//   names; the entry is inserted before the view and goes after it.
// - A writable view that is not tracked: its entry is DIRTY from before the view is made until a writeback has write-protected it.
// - A tracked one: what was stored to through it since a writeback last asked is told by its mapper when asked; or, once the view
//   has gone otherwise than with its entry, the entry is DIRTY, or the mapper tells. The address space counts who may track.
// - No view of a block is left, in any mapper, when the block is freed, moved or made unwritten.
// - A block that a fault has allocated is zeroed, and the zeroes are durable, before an extent points at it.
//
// Locks: invalidate_lock -> entry lock -> extent_lock -> allocator, journal. Mappers are called with the first two held. A
// fault holds invalidate_lock shared: what removes blocks (exclusive) waits for it, other faults do not.
// rwsem is never taken here.
//
// Thread safety: everything.
#pragma once

#include <functional>

#include "base/error.h"
#include "base/types.h"
#include "dax/counters.h"
#include "inode/change.h"
#include "inode/inode.h"
#include "inode/inode_table.h"
#include "journal/meta_store.h"
#include "mapping/mapper.h"
#include "media/medium.h"

namespace udax::dax {

enum class Access : uint8_t {
  kRead,
  kWrite,
  kCopy,  // a store to a private mapping: the page is copied
  // By a mapper that tracks stores (mapping::Mapper::collect):
  kReadTracked,   // data is mapped writable, where the file may be stored to
  kWriteTracked,  // the entry is not marked
};

/// What a fault gives its mapper to map, or to copy.
struct View {
  FileBlock start;
  uint64_t count = 0;  // blocks: 1, or 512 (2 MiB, aligned in the file and on the device)
  DeviceBlock device;  // kNoBlock: zeroes
  bool is_writable = false;
  [[nodiscard]] bool is_zero() const { return device == kNoBlock; }
};

/// Puts the view into the mapper's page table. Called with the entry locked, so that whoever takes the view back comes
/// after it. Must take no lock of the filesystem. An error is given to whoever faulted.
using Install = std::function<Status(const View&)>;

enum class FaultResult : uint8_t {
  kMapped,
  kBeyondEnd,  // the page lies wholly behind the end of the file: SIGBUS
  kCopiesOut,  // nothing is mapped: others hold copies of it, which must be taken back first
};

class Dax {
 public:
  /// All must outlive this. `read_only`: stores fault, whatever the medium would allow.
  Dax(inode::InodeTable& table, journal::MetaStore& meta, media::Medium& medium, bool read_only)
      : table_(table), meta_(meta), medium_(medium), read_only_(read_only) {}
  Dax(const Dax&) = delete;
  Dax& operator=(const Dax&) = delete;

  [[nodiscard]] mapping::MapperRegistry& mappers() { return mappers_; }
  [[nodiscard]] Counters& counters() { return counters_; }

  /// A touch of block `at` of a regular file. `order_max`: kHugeOrder where the mapper can hold 2 MiB views. See the
  /// table in docs/dax.md. kNoSpace, kReadOnly (a store), kPermission (a store; immutable), kIo, kCorrupted (all of them
  /// SIGBUS for a mapper), kNoMemory. Filesystem::fault() takes copies back as well.
  [[nodiscard]] Result<FaultResult> fault(inode::Inode& inode, FileBlock at, Access access, uint32_t order_max,
                                          const Install& install);

  /// Makes everything durable that was stored to [from, to) before the call, by whatever way: write-protects and
  /// flushes what is dirty, and waits for others who are at it. kIo: some of it may not be.
  [[nodiscard]] Status writeback(inode::Inode& inode, FileBlock from, FileBlock to);

  /// [from, to) was stored to through tracked views that have gone: what is data there is DIRTY from now on. REQUIRES: no lock of the
  /// inode but rwsem, invalidate_lock.
  void note_stored(inode::Inode& inode, FileBlock from, FileBlock to);
  /// mtime and ctime of what was stored so, and that holders of copies know old ones. REQUIRES: as note_stored().
  void touch_stored(inode::Inode& inode);

  /// Takes every view of the file back, then makes durable what was stored: after it no store comes until a fault makes a view.
  /// REQUIRES: invalidate_lock exclusive. Errors: as writeback().
  [[nodiscard]] Status stop_stores(inode::Inode& inode);

  /// Takes every view of [from, to) back, and forgets its entries, dirty or not. REQUIRES: invalidate_lock exclusive.
  /// kNoMemory: the views are gone, but some 2 MiB entry that is partly in the range is not; nothing may be removed.
  [[nodiscard]] Status drop(inode::Inode& inode, FileBlock from, FileBlock to);

  /// Holes or unwritten blocks of [from, to) have been filled by others than a fault (committed): zero views go, in every
  /// mapper, so that who touches the range next sees what was written. REQUIRES: rwsem, so that blocks stay.
  void filled(inode::Inode& inode, FileBlock from, FileBlock to);

  /// The file has grown (committed): who has met its end behind `old_size` bytes faults anew there. REQUIRES: rwsem.
  void grown(inode::Inode& inode, uint64_t old_size);

  /// What filled() of [from, to), or with `all` revoke() and drop(), would take views of: whole entries. Empty: nothing. It is so at this
  /// moment, for those who take views before they take locks.
  [[nodiscard]] static mapping::ByteRange views_to_take(inode::Inode& inode, FileBlock from, FileBlock to,
                                                        bool all);

  /// Copies of [from, to) are about to be made, and have been noted as out: the mappers' views of the pages go, so that who
  /// touches them finds the copies. What is dirty stays so. REQUIRES: rwsem exclusive.
  void revoke(inode::Inode& inode, FileBlock from, FileBlock to);

  /// A page as a reader sees it: zeroes in holes and behind the end. REQUIRES: rwsem; not extent_lock. kIo: it is lost.
  [[nodiscard]] Status read_page(inode::Inode& inode, FileBlock at, mapping::PageCopies::Page& page) const;

  /// Notes that `device`... holds bytes of [at, at + count) that only writeback() makes durable. REQUIRES: rwsem; not
  /// extent_lock. Where memory is short they are made durable at once: kIo.
  [[nodiscard]] Status note_dirty(inode::Inode& inode, FileBlock at, DeviceBlock device, uint64_t count);

 private:
  struct Resolver;  // fault.cc
  [[nodiscard]] Status flush_entry(inode::Inode& inode, mapping::EntryTree::Locked& entry);
  enum class Views : uint8_t { kStay, kGo };
  [[nodiscard]] Status write_back(inode::Inode& inode, FileBlock from, FileBlock to, Views views);
  [[nodiscard]] Status keep_beside_views(inode::Inode& inode, FileBlock from, FileBlock to);
  void withdraw(inode::Inode& inode, FileBlock from, FileBlock to);
  /// mtime and ctime, of a store.
  [[nodiscard]] Status touch(inode::Inode& inode);
  /// Of what nobody has asked for: holders of copies are to be told.
  [[nodiscard]] static Status commit_untold(const inode::Inode& inode, inode::Change& change);
  [[nodiscard]] bool flush_collected(inode::Inode& inode, FileBlock from, FileBlock to);

  inode::InodeTable& table_;
  journal::MetaStore& meta_;
  media::Medium& medium_;
  const bool read_only_;
  mapping::MapperRegistry mappers_;
  Counters counters_;
};

}  // namespace udax::dax
