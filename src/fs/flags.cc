// SPDX-License-Identifier: BSD-3-Clause
//
// Inode flags, and the DAX flag above all, which takes effect at once on open and mapped files.
//
// A flip, in this order:
//   recall    mappers' views go, and what the kernel's page cache holds of the file is written back and dropped. No lock is held.
//   stop      rwsem and invalidate_lock exclusive: no write, no fault is at work, and none begins
//   drop      every view, in every mapper, after what is dirty was made durable; if that fails the flag stays
//   change    one transaction, durable when it commits
//   go        locks are let go; faults and opens go the new way
//   recall    once more: pages that came in between, filled the old way. Of these nobody has taken note, so until they are
//             back any page is treated as if a copy of it were out
// It cannot fail half-way: before the transaction nothing has changed but where bytes are cached, and after it nothing
// can fail. Handles that were opened the old way stay so (a limit of the kernel's), are counted, and stay coherent: see
// copies.cc.
//
// Locks: the inode's rwsem, then invalidate_lock, exclusive.
#include "base/sync_point.h"
#include "fs/ops.h"

namespace udax::fs {
namespace {

struct Wanted {
  uint32_t flags = 0;  // of all the inode's
  bool new_project = false;
};

/// Who may, and what goes together. Gives what the inode's flags are to be.
Result<Wanted> check(const format::Inode& current, uint32_t flags, uint32_t mask,
                     std::optional<uint32_t> project_id, const Caller& caller) {
  if (!caller.is_root() && caller.uid != current.uid) return Error::kPermission;
  const Wanted wanted{(current.flags & ~mask) | flags, project_id && *project_id != current.project_id};
  const uint32_t changed = wanted.flags ^ current.flags;
  if ((changed & (format::kFlagAppend | format::kFlagImmutable)) != 0 && !caller.is_root()) {
    return Error::kPermission;
  }
  const uint32_t type = type_of(current.mode);
  if (type != 0100000U && type != 0040000U && changed != 0) return Error::kNotSupported;
  if (type != 0040000U && (flags & (format::kFlagDirSync | format::kFlagProjInherit)) != 0) {
    return Error::kNotSupported;
  }
  if (wanted.new_project && !caller.is_root()) return Error::kPermission;
  // As the kernel's: whoever cannot write to it cannot change how it is treated either.
  const bool stays_immutable = (current.flags & wanted.flags & format::kFlagImmutable) != 0;
  if ((changed != 0 || wanted.new_project) && stays_immutable) return Error::kPermission;
  return wanted;
}

/// REQUIRES: rwsem exclusive.
Status store(const Ops& ops, inode::Inode& inode, const Wanted& wanted, std::optional<uint32_t> project_id) {
  Change change(ops.table());
  UDAX_TRY(format::Inode * image, change.edit(inode));
  image->flags = wanted.flags;
  if (wanted.new_project) image->project_id = *project_id;
  set_ctime(*image, now());
  return change.commit();
}

/// Whether pages are handed out of which no note is taken, and will be missed once the flags are `flags`.
bool has_untold_copies(const Ops& ops, const inode::Inode& inode, uint32_t flags) {
  format::Inode after = inode.snapshot();
  after.flags = flags;
  return !ops.tracks_copies(inode) && ops.effective_dax(after) && !UDAX_KNOB("fs.flip.no_suspicion");
}

/// Views go, the flags change. `is_untold`: copies are out of which no note was taken; they are suspected from then on.
/// REQUIRES: rwsem exclusive, and that there is an address space.
Status flip(const Ops& ops, inode::Inode& inode, const Wanted& wanted, std::optional<uint32_t> project_id,
            bool is_untold) {
  const InvalidateLock guard(inode);
  UDAX_SYNC_POINT("fs.flip.locked");
  UDAX_CHECK(ops.dax().stop_stores(inode));
  UDAX_CHECK(ops.flush_data(inode));
  UDAX_CHECK(ops.dax().drop(inode, FileBlock(0), extent::kFileBlockEnd));
  UDAX_CHECK(store(ops, inode, wanted, project_id));
  if (is_untold) inode.space()->copies.suspect();
  dax::count(ops.dax().counters().flips);
  UDAX_SYNC_POINT("fs.flip.done");
  return {};
}

/// No store comes through a view any more once the flags have changed. REQUIRES: rwsem exclusive.
Status make_immutable(const Ops& ops, inode::Inode& inode, const Wanted& wanted,
                      std::optional<uint32_t> project_id) {
  const InvalidateLock guard(inode);
  UDAX_CHECK(ops.dax().stop_stores(inode));
  UDAX_CHECK(ops.flush_data(inode));
  return store(ops, inode, wanted, project_id);
}

}  // namespace

Status Filesystem::set_flags(Ino ino, uint32_t flags, uint32_t mask, std::optional<uint32_t> project_id,
                             const Caller& caller) {
  const Ops ops{*this};
  UDAX_CHECK(ops.check_writable());
  if ((mask & ~format::kFlagsKnown) != 0 || (flags & ~mask) != 0) return Error::kNotSupported;
  UDAX_TRY(const inode::InodeRef ref, ops.get(ino));
  inode::Inode& inode = *ref;
  bool is_untold = false;
  mapping::PageCopies::Wave wave;
  bool recalled = false;
  mapping::HeldViews held;
  for (;; recalled = true) {
    if (recalled) {
      hold_views(*this, inode, {}, mapping::Patience::kShort, held);
      mappers().drop_copies(ino, {});
    }
    const LockGuard guard(inode.rwsem);
    if (inode.dead) return Error::kStale;
    UDAX_TRY(const Wanted wanted, check(inode.image(), flags, mask, project_id, caller));
    const uint32_t changed = wanted.flags ^ inode.image().flags;
    if (changed == 0 && !wanted.new_project) return {};
    const bool is_flip = inode.is_reg() && (changed & format::kFlagDax) != 0;
    const bool becomes_immutable = (changed & wanted.flags & format::kFlagImmutable) != 0;
    const bool stops_stores = inode.is_reg() && becomes_immutable;
    if (!is_flip && !stops_stores) return store(ops, inode, wanted, project_id);
    if (!recalled) continue;  // without the lock
    if (!is_flip) return make_immutable(ops, inode, wanted, project_id);
    UDAX_TRY(mapping::AddressSpace* const space, inode.make_space());
    is_untold = has_untold_copies(ops, inode, wanted.flags);
    wave = space->copies.begin_wave();
    UDAX_CHECK(flip(ops, inode, wanted, project_id, is_untold));
    break;
  }
  mappers().drop_copies(ino, {});
  const LockGuard guard(inode.rwsem);
  mapping::PageCopies& copies = inode.space()->copies;
  const bool returns_late = mappers().return_late();
  copies.end_wave(FileBlock(0), extent::kFileBlockEnd, wave, returns_late);
  if (is_untold) copies.trust(returns_late, FileBlock(blocks_for(inode.image().size)));
  return {};
}

bool Filesystem::is_dax(const inode::Inode& inode) {
  const Ops ops{*this};
  return ops.effective_dax(inode.snapshot());
}

Result<DaxState> Filesystem::dax_state(Ino ino) {
  const Ops ops{*this};
  UDAX_TRY(const inode::InodeRef ref, ops.get(ino));
  const format::Inode image = ref->snapshot();
  DaxState state;
  state.flag = (image.flags & format::kFlagDax) != 0;
  state.is_dax = ops.effective_dax(image, ref->is_dir());
  state.open_dax = ref->open_dax.load();
  state.open_cached = ref->open_cached.load();
  return state;
}

}  // namespace udax::fs
