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
// Thread safety and locks: the inode's rwsem, shared for the const members, exclusive for the others.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>

#include "base/error.h"
#include "base/types.h"

namespace udax::mapping {

class PageCopies {
 public:
  using Page = std::array<std::byte, kBlockSize>;

  /// Some page of [from, to) is handed out.
  [[nodiscard]] bool any(FileBlock from, FileBlock to) const;
  /// All are, and have no twin: handing them out again changes nothing.
  [[nodiscard]] bool all_fresh(FileBlock from, FileBlock to) const;
  [[nodiscard]] bool empty() const { return chunks_.empty(); }
  [[nodiscard]] size_t twins() const { return twins_.size(); }

  /// [from, to) is about to be copied out, as the file has it. kNoMemory: nothing may be copied.
  [[nodiscard]] Status hand_out(FileBlock from, FileBlock to);
  /// The holder has made copies of [from, to) by itself: it wrote the whole pages, to the file as well. kNoMemory.
  [[nodiscard]] Status note_out(FileBlock from, FileBlock to);
  /// [from, to) of the file is about to change: keeps twins of what is handed out of it. `current` gives a page of the file
  /// as a reader sees it, zeroes behind the end. kNoMemory, or its error: then nothing may be changed.
  [[nodiscard]] Status keep(FileBlock from, FileBlock to, const std::function<Status(FileBlock, Page&)>& current);
  /// Bytes of a copy come back. Calls `store` for those that its holder changed, in order; stops at an error.
  [[nodiscard]] Status merge(uint64_t offset, std::span<const std::byte> returned,
                             const std::function<Status(uint64_t, std::span<const std::byte>)>& store);
  /// Both the file and the copies change to these bytes (a write through the cache), or to zeroes.
  void overlay(uint64_t offset, std::span<const std::byte> data);
  void zero(uint64_t offset, uint64_t size);

  /// Where a wave of taking copies back begins.
  struct Wave {
    uint64_t twins = 0;
    uint64_t hand_outs = 0;
  };
  [[nodiscard]] Wave begin_wave() const { return {twin_count_, hand_out_count_}; }
  /// Its end: no copy of [from, to) that was there at its beginning is left.
  void end_wave(FileBlock from, FileBlock to, Wave wave);
  /// The holder has dropped its copies of [from, to), whatever was stored to them.
  void forget(FileBlock from, FileBlock to);

 private:
  static constexpr uint64_t kChunkPages = 512;
  struct Twin {
    uint64_t number = 0;  // how many were made before it
    Page page;
  };
  using Chunk = std::bitset<kChunkPages>;
  [[nodiscard]] bool is_out(FileBlock at) const;

  std::map<uint64_t, Chunk> chunks_;                 // pages handed out, by block / kChunkPages; none is empty
  std::map<uint64_t, std::unique_ptr<Twin>> twins_;  // by block
  uint64_t twin_count_ = 0;
  uint64_t hand_out_count_ = 0;
};

}  // namespace udax::mapping
