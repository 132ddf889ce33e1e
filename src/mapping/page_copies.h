// SPDX-License-Identifier: BSD-3-Clause
//
// Pages of a file of which somebody else (a kernel's page cache) holds copies, and how changes made to such a copy
// are told from changes made to the file meanwhile.
//
// The trouble: a process stores through a shared mapping (into the kernel's copy), another writes to the same page with
// write(2) (into the pool). When the copy comes back whole, its stale bytes would cover what was written.
// The way out: before the file's page changes under a copy, the page as it was handed out is kept, as a *twin*. Of a
// copy that comes back only the bytes that differ from the twin are taken. Twins are made at the first such change,
// not when pages are handed out, so that they are few.
//
// Invariants
// - A page that is handed out and has no twin: the file's page is what was handed out (or came back since).
// - A twin holds what the holder's copy would be if nothing had been stored to it since.
// - A page handed out anew has no twin: its holder asks for a page only when it has no copy of it.
//
// A write through the holder's cache is in the copies before it comes here, unless the holder dropped its copy in between and
// was handed out the page anew, without those bytes. It may: Linux unlocks a page that is up to date before it sends
// what was written to it, and mmap(2) of a file that is accessed directly drops all of a file's pages. A holder's writes to one
// file come one by one, so such a page was handed out since the last that came: may_lack().
//
// A holder may return late (CopyHolder::returns_late): it has dropped a page while a write-back of it is still under way. Then the
// page is *late* until it comes back, which it does once at most, or is handed out anew, which the holder does after that. Twins
// of late pages outlive the recall, and a page that gets into a view has one made first. Of one inode there are kLateMax such twins at
// most, more than can be under way at once by far.
//
// Thread safety and locks: the inode's rwsem, shared for the const members, exclusive for the others. any() needs none, for
// faults: which pages are out is under a lock of its own, a leaf.
#pragma once

#include <array>
#include <atomic>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>

#include "base/error.h"
#include "base/mutex.h"
#include "base/types.h"

namespace udax::mapping {

class PageCopies {
 public:
  using Page = std::array<std::byte, kBlockSize>;

  /// Some page of [from, to) is handed out, or may be. Needs no lock.
  [[nodiscard]] bool any(FileBlock from, FileBlock to) const;
  /// Or is late, and has no twin.
  [[nodiscard]] bool any_or_late(FileBlock from, FileBlock to) const;
  [[nodiscard]] bool empty() const { return is_empty_.load(); }
  [[nodiscard]] size_t twins() const { return twins_.size(); }
  static constexpr size_t kLateMax = 1024;

  /// [from, to) is about to be copied out, as the file has it. kNoMemory: nothing may be copied.
  [[nodiscard]] Status hand_out(FileBlock from, FileBlock to);
  /// If all of [from, to) is handed out and none has a twin: it is about to be copied out once more. The inode's rwsem
  /// shared will do. False: it is not so. Throws std::bad_alloc.
  [[nodiscard]] bool hand_out_again(FileBlock from, FileBlock to);
  /// The holder has made copies of [from, to) by itself: it wrote the whole pages, to the file as well. kNoMemory.
  [[nodiscard]] Status note_out(FileBlock from, FileBlock to);
  /// [from, to) of the file is about to change: keeps twins of what is handed out of it. `current` gives a page of the file
  /// as a reader sees it, zeroes behind the end. kNoMemory, or its error: then nothing may be changed.
  [[nodiscard]] Status keep(FileBlock from, FileBlock to, const std::function<Status(FileBlock, Page&)>& current);
  /// Bytes of a copy come back. Calls `store` for those that its holder changed, in order; stops at an error.
  [[nodiscard]] Status merge(uint64_t offset, std::span<const std::byte> returned,
                             const std::function<Status(uint64_t, std::span<const std::byte>)>& store);
  /// Both the file and the copies change to these bytes (a write through the cache), or to zeroes. Twins stay, changed so too.
  void overlay(uint64_t offset, std::span<const std::byte> data);
  void zero(uint64_t offset, uint64_t size);

  /// Copies of [from, to) may lack what a write through the cache has put there. Then: keep(), the write, settle().
  [[nodiscard]] bool may_lack(FileBlock from, FileBlock to) const;
  /// One to [from, to) has come: what is out now has its bytes, or is known to be in doubt.
  void note_written(FileBlock from, FileBlock to);
  /// Copies that lacked `data` are gone: overlay(), but for pages that have come back since the write.
  void settle(uint64_t offset, std::span<const std::byte> data);

  /// Where a wave of taking copies back begins.
  struct Wave {
    uint64_t twins = 0;
    uint64_t hand_outs = 0;
  };
  [[nodiscard]] Wave begin_wave() const { return {twin_count_, hand_out_count_}; }
  /// Its end: no copy of [from, to) that was there at its beginning is left. What was handed out since is out, and of that nothing
  /// else: whoever takes back one page of many that go in and out gets it. `returns_late`: but what was sent back may still come.
  void end_wave(FileBlock from, FileBlock to, Wave wave, bool returns_late = false);
  /// The holder has dropped its copies of [from, to), whatever was stored to them.
  void forget(FileBlock from, FileBlock to);

  /// Until the matching trust(), any page may be out: pages were handed out untold. What comes back of one that has changed
  /// since suspect() is told from that; at trust() no copy is left but of pages handed out since.
  void suspect();
  void trust() { trust(false, FileBlock(0)); }
  /// `returns_late`: what was out untold, before `end`, is late from now on.
  void trust(bool returns_late, FileBlock end);

 private:
  static constexpr uint64_t kChunkPages = 512;
  struct Twin {
    uint64_t number = 0;     // how many were made before it
    bool came_back = false;  // since the last write through the cache
    bool is_late = false;
    Page page;
  };
  using Chunk = std::bitset<kChunkPages>;
  using Chunks = std::map<uint64_t, Chunk>;  // pages by block / kChunkPages; none is empty
  [[nodiscard]] bool is_known_out(FileBlock at) const UDAX_REQUIRES(out_lock_);
  static void set(Chunks& chunks, FileBlock from, FileBlock to);
  static void reset(Chunks& chunks, FileBlock from, FileBlock to);
  [[nodiscard]] static bool any_of(const Chunks& chunks, FileBlock from, FileBlock to);
  void overlay(uint64_t offset, std::span<const std::byte> data, bool with_came_back);
  using Twins = std::map<uint64_t, std::unique_ptr<Twin>>;  // by block
  struct Range {
    FileBlock from;
    FileBlock to;
  };
  static constexpr size_t kHandOutsKept = 64;
  void log_hand_out(FileBlock from, FileBlock to) UDAX_REQUIRES(out_lock_);
  [[nodiscard]] size_t handed_out_since(Wave wave, FileBlock from, FileBlock to,
                                        std::array<Range, kHandOutsKept>& out);
  void end_wave_of(FileBlock from, FileBlock to, bool returns_late);
  void end_wave_of_older_twins(FileBlock from, FileBlock to, uint64_t number, bool returns_late);
  Twins::iterator let_go(Twins::iterator twin, bool returns_late);
  void shed_late_twins();
  [[nodiscard]] bool make_late(FileBlock from, FileBlock to) UDAX_REQUIRES(out_lock_);
  void set_come(FileBlock from, FileBlock to, bool has_late_twins);
  void update_empty() UDAX_REQUIRES(out_lock_) {
    is_empty_.store(suspicions_ == 0 && out_.empty() && late_.empty() && twins_.empty());
  }

  mutable Mutex out_lock_;
  Chunks out_ UDAX_GUARDED_BY(out_lock_);            // handed out
  Chunks handed_lately_ UDAX_GUARDED_BY(out_lock_);  // since the last write through the cache
  Chunks late_ UDAX_GUARDED_BY(out_lock_);           // those without a twin
  uint32_t suspicions_ UDAX_GUARDED_BY(out_lock_) = 0;
  std::atomic<bool> is_empty_{true};  // nothing is or can be out or late: for those that take no lock
  Twins twins_;
  uint64_t twin_count_ = 0;
  std::atomic<uint64_t> hand_out_count_{0};                                     // changes under out_lock_
  std::array<Range, kHandOutsKept> hand_outs_ UDAX_GUARDED_BY(out_lock_) = {};  // the last, by hand_out_count_
};

}  // namespace udax::mapping
