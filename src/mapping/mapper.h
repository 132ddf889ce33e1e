// SPDX-License-Identifier: BSD-3-Clause
//
// The mapper seam: all who may hold a view of a file's bytes, and the registry through which the filesystem takes
// views back.
//
// Two kinds, since they differ in what taking back needs:
//   Mapper       holds *views*: pages of the pool itself, or zeroes (a direct-mapping client, a guest, the model of the
//                tests). Taking a view back ends in the holder's page table and never comes back to the filesystem.
//   CopyHolder   holds *copies*: the kernel's page cache behind a FUSE mount. Before it drops a copy that was
//                stored to it writes it back, through the filesystem.
//
// What is stored to through a view is learned in one of two ways. A mapper that cannot tell has its writable views counted
// as stored to, from before they are made until write_protect(). One that *tracks* says so when it faults (dax::Access), keeps its
// views writable, and tells in collect() which pages were stored to.
//
// Blocks are freed, moved or made unwritten only after every mapper has let go of the range.
//
// Locks: a Mapper is called with locks of the inode held (invalidate_lock, an entry's lock) and must take none of the
// filesystem's. A CopyHolder is called with no lock held at all. The registry's own locks are held shared during calls.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "base/types.h"

namespace udax::mapping {

/// Bytes [start, end) of a file; end ~0 is "to the end and beyond".
struct ByteRange {
  uint64_t start = 0;
  uint64_t end = ~uint64_t{0};
};

/// The bytes of blocks [from, to); a `to` that a file cannot reach is "to the end and beyond".
[[nodiscard]] constexpr ByteRange bytes_of(FileBlock from, FileBlock to) {
  constexpr uint64_t kEnd = ~uint64_t{0} >> kBlockShift;
  return {from.value << kBlockShift, to.value >= kEnd ? ~uint64_t{0} : to.value << kBlockShift};
}

/// How long hold() waits for a holder that does not answer.
enum class Patience {
  kShort,  // the kernel sends nothing back from its page cache until the caller is done (truncation): the holder may wait for that
  kLong,   // it does: only what waits in turn for a view of this range is kept waiting
};

/// What was stored through tracked views.
struct Stored {
  std::vector<ByteRange> ranges;
  /// The file's times do not tell of it. (Who stores for a write(2) sees to that himself.)
  bool is_untimed = false;
};

class Mapper {
 public:
  virtual ~Mapper() = default;
  /// Drops every view of the range. On return no thread can load or store through one, but for those of may_hold().
  virtual void invalidate(Ino ino, ByteRange range) = 0;
  /// Makes every view of the range read-only; the next store faults. On return no store through an old view is left.
  /// Views that are tracked stay.
  virtual void write_protect(Ino ino, ByteRange range) = 0;
  /// Adds to `stored` what of the range has been stored to through tracked views since they were made, or since it was last told;
  /// too much does no harm. What it gives up of its own accord it tells here, or to Dax::note_stored(); what invalidate() takes is
  /// its caller's to care for. Stores that come after are told the next time. Throws std::bad_alloc: all of it is told again.
  virtual void collect(Ino ino, ByteRange range, Stored& stored) {
    static_cast<void>(ino);
    static_cast<void>(range);
    static_cast<void>(stored);
  }
  /// Before somebody takes locks to change the range: its views go, and none is made until release(), which is called as often; who
  /// touches the range waits. Waits for views of may_hold(), too. Called with no lock held, so that whoever must be waited for can
  /// be served meanwhile. It may fail in silence: invalidate() is called all the same.
  virtual void hold(Ino ino, ByteRange range, Patience patience) {
    static_cast<void>(ino);
    static_cast<void>(range);
    static_cast<void>(patience);
  }
  virtual void release(Ino ino, ByteRange range) {
    static_cast<void>(ino);
    static_cast<void>(range);
  }
  /// Views of the range that invalidate() or write_protect() was to take may be there still: their holder has not answered in time.
  /// Blocks are not freed meanwhile. When it has answered, what it may have stored is noted (Dax::note_stored()), and copies of the
  /// range are dropped.
  [[nodiscard]] virtual bool may_hold(Ino ino, ByteRange range) {
    static_cast<void>(ino);
    static_cast<void>(range);
    return false;
  }
};

class CopyHolder {
 public:
  virtual ~CopyHolder() = default;
  /// Writes back what was stored to copies of the range, and drops them. REQUIRES: no lock, and not a thread that the
  /// holder waits for.
  virtual void drop_copies(Ino ino, ByteRange range) = 0;
  /// The same, of those pages at `offset` whose copies do not hold `bytes`. Of the others the holder may wait for its caller.
  virtual void drop_copies_unlike(Ino ino, uint64_t offset, std::span<const std::byte> bytes) = 0;
  /// What the holder knows of size, blocks and times is old. REQUIRES: as drop_copies(); or the holder's own request for that file, but
  /// one that the file's end in its cache may wait for (a write-back).
  virtual void drop_attributes(Ino ino) { static_cast<void>(ino); }
  /// drop_copies() does not wait for what is being written back already: it may still come, before the page is handed out anew.
  /// Stays as it is while the holder is registered.
  [[nodiscard]] virtual bool returns_late() const { return false; }
};

/// The mappers of a filesystem.
class MapperRegistry {
 public:
  void add(Mapper* mapper);
  void remove(Mapper* mapper);
  void add(CopyHolder* holder);
  void remove(CopyHolder* holder);

  void invalidate(Ino ino, ByteRange range);
  void write_protect(Ino ino, ByteRange range);
  void collect(Ino ino, ByteRange range, Stored& stored);
  void hold(Ino ino, ByteRange range, Patience patience);
  void release(Ino ino, ByteRange range);
  [[nodiscard]] bool may_hold(Ino ino, ByteRange range);
  void drop_copies(Ino ino, ByteRange range);
  void drop_attributes(Ino ino);
  void drop_copies_unlike(Ino ino, uint64_t offset, std::span<const std::byte> bytes);
  /// Some holder returns late. Takes no lock: asked with an inode's, which a holder that is called may wait for.
  [[nodiscard]] bool return_late() const { return late_holder_count_.load() > 0; }
  /// Whether somebody may hold views.
  [[nodiscard]] bool has_mappers() const { return mapper_count_.load() > 0; }

 private:
  // Two, since a CopyHolder comes back to the filesystem, which may then call a Mapper.
  SharedMutex mappers_lock_;
  SharedMutex holders_lock_;
  std::vector<Mapper*> mappers_ UDAX_GUARDED_BY(mappers_lock_);
  std::vector<CopyHolder*> holders_ UDAX_GUARDED_BY(holders_lock_);
  std::atomic<size_t> mapper_count_{0};
  std::atomic<size_t> late_holder_count_{0};
};

/// Views of a range are held back from hold() on for as long as this is there. REQUIRES: no lock of the filesystem, neither there nor
/// at the end.
class HeldViews {
 public:
  HeldViews() = default;
  ~HeldViews() {
    if (mappers_ != nullptr) mappers_->release(ino_, range_);
  }
  HeldViews(const HeldViews&) = delete;
  HeldViews& operator=(const HeldViews&) = delete;
  /// Once.
  void hold(MapperRegistry& mappers, Ino ino, ByteRange range, Patience patience) {
    mappers_ = &mappers;
    ino_ = ino;
    range_ = range;
    mappers.hold(ino, range, patience);
  }

 private:
  MapperRegistry* mappers_ = nullptr;
  Ino ino_{};
  ByteRange range_;
};

}  // namespace udax::mapping
