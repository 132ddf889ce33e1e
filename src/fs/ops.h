// SPDX-License-Identifier: BSD-3-Clause
//
// What the files of this folder share: finding inodes, building a change, converting attributes.
#pragma once

#include <array>
#include <optional>

#include "base/sync_point.h"
#include "dir/dir_index.h"
#include "extent/extent_map.h"
#include "fs/filesystem.h"
#include "inode/change.h"
#include "inode/times.h"

namespace udax::fs {

using inode::Change;
using inode::now;
using inode::set_atime;
using inode::set_ctime;
using inode::set_mtime;
using inode::touch_modified;

/// Whether a crash may leave a part of a write.
enum class Tearing : uint8_t { kAllowed, kNever };
inline constexpr uint64_t kAtomicMax = 1U << 20;  // bytes that are written whole

/// Exclusive rwsems of up to four inodes, taken in the order given and released in reverse; null ones are skipped.
class RwsemSet {
 public:
  RwsemSet() = default;
  ~RwsemSet() UDAX_NO_THREAD_SAFETY_ANALYSIS;  // run-time set of locks
  RwsemSet(const RwsemSet&) = delete;
  RwsemSet& operator=(const RwsemSet&) = delete;
  void lock(inode::Inode* inode) UDAX_NO_THREAD_SAFETY_ANALYSIS;

 private:
  std::array<inode::Inode*, 4> held_{};
  size_t count_ = 0;
};

/// To be called before locks are taken, with a `held` that goes after them: views of the range go, if there may be any, and none is
/// made until then.
inline void hold_views(Filesystem& fs, const inode::Inode& inode, mapping::ByteRange range,
                       mapping::Patience patience, mapping::HeldViews& held) {
  const mapping::AddressSpace* const space = inode.space();
  if (space == nullptr || !fs.mappers().has_mappers()) return;
  if (space->entries.empty() && !fs.mappers().may_hold(inode.ino(), range)) return;
  if (!UDAX_KNOB("fs.skip_hold")) held.hold(fs.mappers(), inode.ino(), range, patience);
}

/// The same for what is done to whole blocks with locks held: only of entries that are there, and, but for `all`, show zeroes.
inline void hold_before(Filesystem& fs, inode::Inode& inode, FileBlock from, FileBlock to, bool all,
                        mapping::HeldViews& held) {
  if (!fs.mappers().has_mappers()) return;
  const mapping::ByteRange range = dax::Dax::views_to_take(inode, from, to, all);
  if (range.start < range.end) hold_views(fs, inode, range, mapping::Patience::kShort, held);
}

/// invalidate_lock, exclusive: no fault is at work, and none begins.
class UDAX_SCOPED_CAPABILITY InvalidateLock {
 public:
  explicit InvalidateLock(inode::Inode& inode) UDAX_ACQUIRE(inode.invalidate_lock) UDAX_NO_THREAD_SAFETY_ANALYSIS
      : lock_(UDAX_KNOB("fs.skip_invalidate_lock") ? nullptr : &inode.invalidate_lock) {
    if (lock_ != nullptr) lock_->lock();
  }
  ~InvalidateLock() UDAX_RELEASE() UDAX_NO_THREAD_SAFETY_ANALYSIS {
    if (lock_ != nullptr) lock_->unlock();
  }
  InvalidateLock(const InvalidateLock&) = delete;
  InvalidateLock& operator=(const InvalidateLock&) = delete;

 private:
  SharedMutex* const lock_;
};

[[nodiscard]] Attr to_attr(const format::Inode& image);
[[nodiscard]] Status check_name(std::string_view name);  // for names to be made or removed
[[nodiscard]] inline uint32_t type_of(uint32_t mode) { return mode & 0170000U; }
[[nodiscard]] inline uint8_t dirent_type(uint32_t mode) { return static_cast<uint8_t>((mode >> 12) & 15U); }

/// Memory for an OpenFile, had before the commit that makes its file.
struct FreeOpenFileSpace {
  void operator()(void* memory) const { ::operator delete(memory); }
};
using OpenFileSpace = std::unique_ptr<void, FreeOpenFileSpace>;

/// The internals of Filesystem, for the files of this folder.
struct Ops {
  Filesystem& fs;

  [[nodiscard]] inode::InodeTable& table() const { return *fs.table_; }
  [[nodiscard]] inode::InodeCache& cache() const { return *fs.cache_; }
  [[nodiscard]] journal::MetaStore& meta() const { return *fs.meta_; }
  [[nodiscard]] media::Medium& medium() const { return *fs.medium_; }
  [[nodiscard]] alloc::BlockAllocator& allocator() const { return *fs.allocator_; }
  [[nodiscard]] dax::Dax& dax() const { return *fs.dax_; }
  [[nodiscard]] Mutex& rename_mutex() const { return fs.rename_mutex_; }

  [[nodiscard]] Status check_writable() const;
  /// kStale if there is no such inode.
  [[nodiscard]] Result<inode::InodeRef> get(Ino ino) const;
  /// kNotDirectory if it is none.
  [[nodiscard]] Result<inode::InodeRef> get_dir(Ino ino) const;
  /// The inode that a directory entry names: one that is not there is corruption, not staleness.
  [[nodiscard]] Result<inode::InodeRef> get_child(const inode::Inode& dir, const dir::Dentry& dentry) const;

  /// Counts the lookup if the front door wants that.
  [[nodiscard]] Status count_lookup(Ino ino) const;
  /// Takes that back: the front door never learnt of it.
  void uncount_lookup(Ino ino) const;

  /// May entries of `dir` be made (removing = false) or removed? REQUIRES: its rwsem.
  [[nodiscard]] static Status check_dir_change(const inode::Inode& dir, bool removing);

  /// One subdirectory less in `dir`. kCorrupted: it had none.
  [[nodiscard]] Status drop_subdirectory(format::Inode& dir) const;

  /// Knobs of test builds only: takes the name out of `dir` in a transaction of its own.
  [[nodiscard]] Status remove_name_apart(inode::Inode& dir, std::string_view name) const;

  /// Takes one name of `victim` away within `change`: link count, orphan slot or freeing. REQUIRES: its rwsem
  /// exclusive. Then commit_unlink; then, with the change destroyed, finish_unlink.
  enum class Fate : uint8_t { kStays, kFreed, kOrphaned, kToEvict };
  [[nodiscard]] Result<Fate> drop_link(Change& change, inode::Inode& victim, format::TimeStamp t) const;
  [[nodiscard]] Status commit_unlink(Change& change, inode::Inode& victim, Fate fate) const;
  void finish_unlink(inode::Inode& victim, Fate fate) const;

  /// Removes all an inode owns and the inode itself, in steps. REQUIRES: rwsem exclusive, nlink 0, an orphan, not open.
  [[nodiscard]] Status evict(inode::Inode& inode) const;
  /// Frees what lies behind the end of an orphaned, still linked file, and takes it off the orphans.
  [[nodiscard]] Status finish_truncate(inode::Inode& inode) const;
  /// finish_truncate, if an earlier one was cut short: before the end moves over what that left behind it.
  /// REQUIRES: rwsem exclusive.
  [[nodiscard]] Status resume_truncate(inode::Inode& inode) const;

  /// Within `change`: everything but the inode itself goes. False: not all of it fitted; commit and go on.
  [[nodiscard]] Result<bool> remove_contents(Change& change, format::Inode& image) const;

  /// Attributes of a new inode in `parent`: owner, setgid, umask or default ACL, inherited flags. `acl_*`: what is
  /// to be set as xattrs.
  struct NewInode {
    uint32_t mode = 0;
    uint32_t uid = 0;
    uint32_t gid = 0;
    uint32_t flags = 0;
    uint32_t project_id = 0;
    std::vector<std::byte> access_acl;   // empty: none
    std::vector<std::byte> default_acl;  // empty: none
  };
  [[nodiscard]] Result<NewInode> inherit(const inode::Inode& parent, uint32_t mode, const Caller& caller) const;
  /// Allocates and fills an inode. The image is the shadow.
  [[nodiscard]] Result<inode::InodeTx::Allocated> new_inode(Change& change, const inode::Inode& parent,
                                                            const NewInode& with, format::TimeStamp t) const;

  /// Clears setuid, setgid (if group-executable) when `suidgid`, and file capabilities.
  [[nodiscard]] Status kill_privileges(Change& change, format::Inode& image, bool suidgid) const;
  [[nodiscard]] Result<bool> has_privileges(const format::Inode& image, bool suidgid) const;

  /// Makes the zeroes between `from` and the end of its block, so that growing the file shows no old bytes.
  /// REQUIRES: extent_lock exclusive (a Change edits the inode). Notes data as pending in the transaction.
  [[nodiscard]] Status zero_tail(Change& change, const format::Inode& image, uint64_t from) const;
  /// Zeroes [from, to), within one block, if bytes are there.
  [[nodiscard]] Status zero_partial(Change& change, const format::Inode& image, uint64_t from, uint64_t to) const;

  /// Changes the size (see truncate.cc). `also` makes further changes to the image within the first transaction.
  /// REQUIRES: rwsem exclusive.
  [[nodiscard]] Status resize(inode::Inode& inode, uint64_t size,
                              const std::function<Status(Change&, format::Inode&)>& also) const;

  /// Writes in place if the whole range is mapped, written, and within the file. False: it is not so, and nothing was
  /// written. REQUIRES: rwsem.
  [[nodiscard]] Result<bool> try_overwrite(inode::Inode& inode, uint64_t offset,
                                           std::span<const std::byte> data) const;
  /// write() with rwsem held exclusive.
  [[nodiscard]] Result<uint64_t> write_exclusive(inode::Inode& inode, uint64_t offset,
                                                 std::span<const std::byte> data, bool kill_suidgid,
                                                 Tearing tearing = Tearing::kAllowed) const;
  /// Stores file data in place of what is there. Durable after settle(), or, where the medium makes that dear, after
  /// Dax::writeback() of what is noted with note_stored().
  void store_data(uint64_t device_offset, const std::byte* data, uint64_t size) const;
  [[nodiscard]] Status settle() const;
  /// Whether a page of what [offset, offset + size) maps is lost to a media error. REQUIRES: rwsem; not extent_lock.
  [[nodiscard]] Result<bool> has_lost(inode::Inode& inode, uint64_t offset, uint64_t size) const;
  /// `size` bytes at `offset` were stored in place, to `device_offset`. REQUIRES: rwsem; not extent_lock.
  [[nodiscard]] Status note_stored(inode::Inode& inode, uint64_t offset, uint64_t device_offset,
                                   uint64_t size) const;
  /// Everything that was stored to the file is durable afterwards.
  [[nodiscard]] Status flush_data(inode::Inode& inode) const;
  [[nodiscard]] Status flush_data(inode::Inode& inode, FileBlock from, FileBlock to) const;
  /// The same of every file. The first error. `tell`: of attributes that have changed (Filesystem::tell_attributes()).
  enum class Tell : uint8_t { kNobody, kAll };
  [[nodiscard]] Status flush_all_data(Tell tell) const;

  /// Copies of [from, to) are about to be made: of what the file holds (fresh), or by who writes whole pages. Notes them, and
  /// takes the mappers' views back. kNoMemory. REQUIRES: rwsem exclusive.
  [[nodiscard]] Status copies_go_out(inode::Inode& inode, FileBlock from, FileBlock to, bool is_fresh) const;
  /// A write through the cache of copies, of a file that is tracked. REQUIRES: rwsem exclusive.
  [[nodiscard]] Result<uint64_t> write_beside_copies(inode::Inode& inode, uint64_t offset,
                                                     std::span<const std::byte> data, bool kill_suidgid,
                                                     Tearing tearing, DoubtfulCopies* doubtful) const;
  /// Copies of [offset, offset + size) are out, and the bytes are about to change: see mapping/page_copies.h. REQUIRES: rwsem
  /// exclusive.
  [[nodiscard]] Status keep_copies(inode::Inode& inode, uint64_t offset, uint64_t size) const;
  /// The file has been cut to `size`, and the holder of copies knows. REQUIRES: rwsem exclusive.
  static void copies_cut(inode::Inode& inode, uint64_t size);
  /// A punch or a zeroing has been done, and the holder clears what it has of the pages at its edges as well; whole
  /// pages it drops. REQUIRES: rwsem exclusive.
  static void copies_zeroed_at_edges(inode::Inode& inode, uint64_t offset, uint64_t end);
  /// Whether who fills a page cache from it must be remembered: others access it directly. REQUIRES: rwsem.
  [[nodiscard]] bool tracks_copies(const inode::Inode& inode) const;

  /// read() with rwsem held. `is_whole`: kIo rather than a short read before a page that is lost.
  [[nodiscard]] Status read_held(inode::Inode& inode, uint64_t offset, uint64_t size, const ReadSink& sink,
                                 bool is_whole = false) const;
  void update_atime(inode::Inode& inode) const;
  /// Flag and mount option together. `of_children`: for a directory, what files made in it get.
  [[nodiscard]] bool effective_dax(const format::Inode& image, bool of_children = false) const;
  [[nodiscard]] static Result<OpenFileSpace> open_file_space();
  [[nodiscard]] OpenFilePtr make_open_file(OpenFileSpace space, inode::InodeRef ref, uint32_t flags) const;
  [[nodiscard]] Result<OpenFilePtr> make_open_file(inode::InodeRef ref, uint32_t flags) const;
};

}  // namespace udax::fs
