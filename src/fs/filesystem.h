// SPDX-License-Identifier: BSD-3-Clause
//
// The filesystem: every operation of the front doors, each one transaction or a chain of consistent ones.
//
// Persistence: when an operation that changes metadata returns, the change is durable and was atomic. File data
// that new extents point at was durable before them; overwritten data is durable after fsync (at once when the
// medium's granularity is a cache line or finer).
//
// Permissions: mode bits and ACLs are checked by the kernel (the mount always has default_permissions); what is
// checked here is what the kernel leaves to the filesystem: flags (append-only, immutable), read-only mounts,
// setuid/setgid and capability clearing, setgid inheritance, sticky renames are the kernel's.
//
// Lookup counts: with MountOptions::count_lookups, each successful lookup, make, create, tmpfile, symlink and link
// counts one lookup of the inode it gives, under the locks that keep it alive; the front door calls forget() for
// what could not be delivered. readdirplus: remember() from within the sink, for each entry that has attributes.
//
// Locks: see docs/locking.md. Every operation takes what it needs; callers hold nothing.
//
// Files: one a family of operations. lookup.cc make.cc link.cc unlink.cc rename.cc readdir.cc (names), attr.cc
// xattr.cc acl.cc (attributes), open.cc read.cc write.cc truncate.cc fallocate.cc copy_range.cc seek.cc sync.cc
// (bytes), evict.cc (last reference gone), mount.cc.
#pragma once

#include <sys/uio.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/block_allocator.h"
#include "base/error.h"
#include "dax/dax.h"
#include "fs/types.h"
#include "inode/inode_cache.h"
#include "inode/inode_table.h"
#include "journal/journal.h"
#include "mapping/mapper.h"
#include "media/medium.h"

namespace udax::fs {

class Filesystem;

/// An open file or directory. Destroying it (release) may remove an unlinked file.
class OpenFile {
 public:
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  [[nodiscard]] inode::Inode& inode() const { return *ref_; }
  [[nodiscard]] Ino ino() const { return ref_->ino(); }
  /// open(2) flags as given.
  [[nodiscard]] uint32_t flags() const { return flags_; }
  /// Opened for direct access (effective DAX state at open).
  [[nodiscard]] bool dax() const { return dax_; }

 private:
  friend class Filesystem;
  friend struct Ops;
  OpenFile(Filesystem& fs, inode::InodeRef ref, uint32_t flags, bool dax);
  Filesystem& fs_;
  inode::InodeRef ref_;
  const uint32_t flags_;
  const bool dax_;
  std::atomic<uint32_t> errors_seen_;  // of Inode::write_errors: each is told to each handle once
};

using OpenFilePtr = std::unique_ptr<OpenFile>;

/// Where read() delivers: called once, with locks held, with pieces that point into the pool (or at zeroes) and add
/// up to what is read. What it returns is what read() returns. Must not call back into the filesystem.
using ReadSink = std::function<Status(std::span<const iovec> pieces, uint64_t bytes)>;

/// Copies of pages that a write has made stale.
struct StaleCopies {
  FileBlock from;
  FileBlock to;  // none: from
  mapping::PageCopies::Wave wave;
  [[nodiscard]] bool any() const { return from < to; }
};

/// Copies that may lack what was written through the cache: handed out again since it was put there. See page_copies.h.
struct DoubtfulCopies {
  uint64_t offset = 0;
  std::vector<std::byte> bytes;  // that were written; none: no copy is in doubt
  uint64_t size_before = 0;      // of the file, as their holder still knows it
  [[nodiscard]] bool any() const { return !bytes.empty(); }
  /// How many of the bytes are within that size.
  [[nodiscard]] uint64_t shown() const {
    return size_before <= offset ? 0 : std::min<uint64_t>(bytes.size(), size_before - offset);
  }
};

/// How a file is accessed, for those who ask.
struct DaxState {
  bool flag = false;      // stored in the inode
  bool is_dax = false;    // what the next open gets; of a directory: that of a file made in it
  uint32_t open_dax = 0;  // handles, by how they were opened
  uint32_t open_cached = 0;
};

/// A directory entry as readdir delivers it.
struct DirEntry {
  std::string_view name;  // valid during the call
  Ino ino;
  uint8_t type = 0;     // DT_...
  uint64_t cookie = 0;  // where to go on behind it
};
/// False: does not fit, stop before this entry.
using DirSink = std::function<bool(const DirEntry&)>;

struct Stats {
  alloc::SpaceStats space;
  inode::InodeStats inodes;
  inode::CacheStats cache;
  journal::JournalStats journal;
  media::Counters media;
  dax::CounterValues dax;
  uint64_t lost_pages = 0;             // to media errors
  std::vector<media::LostRange> lost;  // the first of them
  uint64_t corruptions = 0;
  uint64_t evicted_orphans = 0;
  journal::ReplayResult replay;
};

class Filesystem {
 public:
  /// Recovers and mounts the pool on `medium`. On failure `why` gets one sentence for the user. kReadOnly: the
  /// journal needs replay and the medium or the mount is read-only.
  [[nodiscard]] static Result<std::unique_ptr<Filesystem>> mount(std::shared_ptr<media::Medium> medium,
                                                                 const MountOptions& options, std::string* why);
  ~Filesystem();
  Filesystem(const Filesystem&) = delete;
  Filesystem& operator=(const Filesystem&) = delete;

  /// Finishes: removes what only lookups kept, flushes, marks the journal clean. REQUIRES: no OpenFile left, no other
  /// call in progress or to come.
  [[nodiscard]] Status unmount();

  // --- names -------------------------------------------------------------------------------------------------
  // REQUIRES for names: any bytes; checked here (kNameTooLong, kInvalid).

  /// "." and ".." are understood (export). kNotFound, kNotDirectory, kStale.
  [[nodiscard]] Result<Attr> lookup(Ino parent, std::string_view name);
  /// mknod, mkdir and the name half of create. `mode`: type and permission bits before the umask.
  [[nodiscard]] Result<Attr> make(Ino parent, std::string_view name, uint32_t mode, uint32_t rdev_major,
                                  uint32_t rdev_minor, const Caller& caller);
  /// make + open, as one. `flags`: open(2)'s.
  [[nodiscard]] Result<OpenFilePtr> create(Ino parent, std::string_view name, uint32_t mode, uint32_t flags,
                                           const Caller& caller, Attr* attr);
  /// O_TMPFILE.
  [[nodiscard]] Result<OpenFilePtr> tmpfile(Ino parent, uint32_t mode, uint32_t flags, const Caller& caller,
                                            Attr* attr);
  [[nodiscard]] Result<Attr> symlink(Ino parent, std::string_view name, std::string_view target,
                                     const Caller& caller);
  [[nodiscard]] Result<std::string> readlink(Ino ino);
  [[nodiscard]] Result<Attr> link(Ino ino, Ino new_parent, std::string_view new_name);
  [[nodiscard]] Status unlink(Ino parent, std::string_view name);
  [[nodiscard]] Status rmdir(Ino parent, std::string_view name);
  /// `flags`: kRenameNoReplace or kRenameExchange; others kInvalid.
  [[nodiscard]] Status rename(Ino parent, std::string_view name, Ino new_parent, std::string_view new_name,
                              uint32_t flags);
  /// Delivers entries behind `cookie` (0: from the start, "." and ".." first).
  [[nodiscard]] Status readdir(OpenFile& directory, uint64_t cookie, const DirSink& sink);

  // --- attributes --------------------------------------------------------------------------------------------
  [[nodiscard]] Result<Attr> getattr(Ino ino);
  [[nodiscard]] Result<Attr> setattr(Ino ino, const SetAttr& changes, const Caller& caller);
  /// Sets the inode flags of `mask` to `flags`' (format::kFlag...), and the project id if given. Only the owner or
  /// root: kPermission; append and immutable only root. A change of kFlagDax takes effect at once, also on open and
  /// mapped files: see fs/flags.cc. It then takes copies back, as recall() does, with what that requires.
  [[nodiscard]] Status set_flags(Ino ino, uint32_t flags, uint32_t mask, std::optional<uint32_t> project_id,
                                 const Caller& caller);
  [[nodiscard]] Result<DaxState> dax_state(Ino ino);
  /// DaxState::is_dax of a file that is at hand. It stays as it is while the invalidate_lock is held. Takes no lock but a leaf.
  [[nodiscard]] bool is_dax(const inode::Inode& inode);
  [[nodiscard]] Result<std::vector<std::byte>> getxattr(Ino ino, std::string_view name);
  /// Names with their prefixes, each ended by NUL. trusted.* only for root.
  [[nodiscard]] Result<std::string> listxattr(Ino ino, const Caller& caller);
  /// `flags`: XATTR_CREATE 1, XATTR_REPLACE 2. `kill_sgid`: setting an access ACL by one outside the group.
  [[nodiscard]] Status setxattr(Ino ino, std::string_view name, std::span<const std::byte> value, uint32_t flags,
                                bool kill_sgid, const Caller& caller);
  [[nodiscard]] Status removexattr(Ino ino, std::string_view name, const Caller& caller);

  // --- bytes -------------------------------------------------------------------------------------------------
  /// `flags`: open(2)'s. O_TRUNC is done here; `kill_suidgid` goes with it. For directories too.
  [[nodiscard]] Result<OpenFilePtr> open(Ino ino, uint32_t flags, bool kill_suidgid);
  /// Up to `size` bytes from `offset`; less only at the end of the file.
  [[nodiscard]] Status read(OpenFile& file, uint64_t offset, uint64_t size, const ReadSink& sink);
  /// Bytes written; less than asked only when space ran out after some were. `append`: at the end of the file,
  /// whatever `offset` says. `stale`: what is to be done about copies, if any; null where nobody holds copies.
  [[nodiscard]] Result<uint64_t> write(OpenFile& file, uint64_t offset, std::span<const std::byte> data,
                                       bool append, bool kill_suidgid, StaleCopies* stale = nullptr);

  // For a front door whose other side caches pages (a kernel), see mapping/page_copies.h:
  /// read() to fill pages of the cache: of files that are accessed directly, too, it is noted what is handed out.
  [[nodiscard]] Status fill(OpenFile& file, uint64_t offset, uint64_t size, const ReadSink& sink);
  /// Pages come back. What their holder did not change is left alone; the size stays.
  [[nodiscard]] Status write_back(OpenFile& file, uint64_t offset, std::span<const std::byte> data);
  /// write() of bytes that are in the cache's pages, too. If it says that some copies are in `doubtful`: mend_copies() next.
  [[nodiscard]] Result<uint64_t> write_through(OpenFile& file, uint64_t offset, std::span<const std::byte> data,
                                               bool kill_suidgid, DoubtfulCopies* doubtful);
  /// Drops the copies that lack the bytes, and only those: of others the holder may keep a page locked until it is told that the
  /// write is done. REQUIRES: as recall(), and that whoever wrote is not told yet. False: what lies beyond the file's end as the
  /// holder knows it cannot be looked at; once it is told, mend_copies_at_end() is to follow.
  [[nodiscard]] bool mend_copies(OpenFile& file, const DoubtfulCopies& doubtful);
  void mend_copies_at_end(OpenFile& file, const DoubtfulCopies& doubtful);
  /// Takes back the copies that a write() has made stale. REQUIRES: no lock, and a thread that the holder of the copies
  /// does not wait for. To be called before whoever wrote is told so.
  void recall(OpenFile& file, const StaleCopies& stale);
  /// Takes back all copies, so that holes to which somebody has stored are none. REQUIRES: as recall().
  void recall_holes(OpenFile& file);
  /// Takes back the copies of the pages of which [offset, end) is a part only, of files of any kind. REQUIRES: as recall().
  void recall_edges(OpenFile& file, uint64_t offset, uint64_t end);

  /// Holders of copies are told, if the file's attributes were changed by faults, or by what was stored to mappings. REQUIRES: as
  /// CopyHolder::drop_attributes().
  void tell_attributes(inode::Inode& inode);
  /// A mapper's fault: dax::Dax::fault(), with copies of the page taken back first. REQUIRES: as recall(). Never kCopiesOut.
  [[nodiscard]] Result<dax::FaultResult> fault(inode::Inode& inode, FileBlock at, dax::Access access,
                                               uint32_t order_max, const dax::Install& install);

  /// `mode`: kFalloc...
  [[nodiscard]] Status fallocate(OpenFile& file, uint32_t mode, uint64_t offset, uint64_t length);
  /// `whole_pages`: kNotSupported rather than a copy to part of a page; or, of a long one, its whole pages only.
  [[nodiscard]] Result<uint64_t> copy_range(OpenFile& from, uint64_t from_offset, OpenFile& to, uint64_t to_offset,
                                            uint64_t length, bool whole_pages = false);
  /// `data`: SEEK_DATA, else SEEK_HOLE. kNoDevice.
  /// `in_doubt`, if given, is set where a hole was met and a page cache may have stores to it that did not come back yet: after
  /// recall_holes() it can be told.
  [[nodiscard]] Result<uint64_t> seek(OpenFile& file, uint64_t offset, bool data, bool* in_doubt = nullptr);
  [[nodiscard]] Status fsync(OpenFile& file, bool data_only);
  /// The same of bytes [from, to): msync(2).
  [[nodiscard]] Status fsync_range(OpenFile& file, uint64_t from, uint64_t to);
  /// syncfs(2).
  [[nodiscard]] Status sync();
  /// Flushes what waits for an fsync, in all files. To be called now and then; who stored it is told of errors.
  void flush_dirty();
  /// Extents of a file from `offset` on, at most `count_max`.
  [[nodiscard]] Result<std::vector<ExtentInfo>> extents(Ino ino, uint64_t offset, size_t count_max);

  // --- the kernel's references -------------------------------------------------------------------------------
  /// One more lookup of `ino`. To be called where the inode cannot go away: in a DirSink.
  [[nodiscard]] Status remember(Ino ino);
  void forget(Ino ino, uint64_t count);

  /// While `hold`: blocks that are freed are not used again. For a mapper that cannot take its views back.
  void hold_frees(bool hold) { allocator_->hold_frees(hold); }

  [[nodiscard]] StatFs statfs();
  [[nodiscard]] Stats stats();
  /// Faults, and the registry of mappers.
  [[nodiscard]] dax::Dax& dax() { return *dax_; }
  [[nodiscard]] mapping::MapperRegistry& mappers() { return dax_->mappers(); }
  [[nodiscard]] media::Medium& medium() { return *medium_; }
  [[nodiscard]] const media::Geometry& geometry() const { return meta_->geometry(); }
  [[nodiscard]] bool read_only() const { return options_.read_only || medium_->read_only(); }
  [[nodiscard]] const MountOptions& options() const { return options_; }

 private:
  friend class OpenFile;
  friend struct Ops;  // fs/ops.h: what the files of this folder share
  Filesystem(std::shared_ptr<media::Medium> medium, const MountOptions& options);
  void release(OpenFile& file);
  [[nodiscard]] Status flush_all();
  void recall(inode::Inode& inode, const StaleCopies& stale);
  static void settle_copies(inode::Inode& inode, const DoubtfulCopies& doubtful);
  /// Whose bytes a write's are: its caller's alone, or in the pages of a cache as well.
  enum class Bytes : uint8_t { kApart, kCached };
  void hold_for_write(Bytes bytes, inode::Inode& inode, uint64_t offset, uint64_t size, mapping::HeldViews& held);
  [[nodiscard]] Result<uint64_t> write_as(Bytes bytes, OpenFile& file, uint64_t offset,
                                          std::span<const std::byte> data, bool append, bool kill_suidgid,
                                          StaleCopies* stale, DoubtfulCopies* doubtful);

  std::shared_ptr<media::Medium> medium_;
  MountOptions options_;
  std::unique_ptr<journal::MetaStore> meta_;
  std::unique_ptr<journal::Journal> journal_;
  std::unique_ptr<alloc::BlockAllocator> allocator_;
  std::unique_ptr<inode::InodeTable> table_;
  std::unique_ptr<inode::InodeCache> cache_;
  std::unique_ptr<dax::Dax> dax_;
  Mutex rename_mutex_;  // directory moves across directories, one at a time
  std::atomic<uint64_t> evicted_orphans_{0};
  journal::ReplayResult replay_;
  bool mounted_ = false;
};

}  // namespace udax::fs
