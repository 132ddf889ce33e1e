// SPDX-License-Identifier: BSD-3-Clause
//
// The map from file blocks to device blocks: extents inline in the inode while few, then a B+tree.
//
// The map has no state of its own in memory: readers work on the committed inode and the checked blocks of the
// medium, an editor works on a transaction's shadows. format::Inode::payload is the root either way, block_count
// is kept.
//
// Invariants
// - Extents of a file are sorted, do not overlap, lie within the data area and below 2^51 file blocks.
// - Neighbours that continue each other (file block, device block, unwritten alike) are merged when an editor
//   touches them, up to kExtentBlocksMax.
// - A leaf or node is never empty; a tree whose root would fit inline goes back inline.
//
// Locks: readers hold the inode's extent lock shared, editors exclusive, until commit has returned.
#pragma once

#include <cstdint>
#include <functional>

#include "alloc/block_allocator.h"
#include "base/error.h"
#include "format/format.h"

namespace udax::extent {

/// What a run of file blocks is.
struct Mapping {
  FileBlock start;
  uint64_t count = 0;  // blocks, never 0 in what a lookup gives
  DeviceBlock device;  // kNoBlock: a hole
  bool unwritten = false;
  [[nodiscard]] bool is_hole() const { return device == kNoBlock; }
  /// Holds bytes of its own: neither hole nor unwritten.
  [[nodiscard]] bool is_data() const { return !is_hole() && !unwritten; }
  [[nodiscard]] FileBlock end() const { return start + count; }
};

inline constexpr FileBlock kFileBlockEnd{uint64_t{1} << 51};

/// Reads the map of a committed inode. Cheap to make; holds no state.
class Reader {
 public:
  Reader(const journal::MetaStore& meta, const format::Inode& inode) : meta_(meta), inode_(inode) {}

  /// The mapping that holds `at`, starting at `at`, at most `count_max` blocks long. Holes reach to the next
  /// extent or to kFileBlockEnd. kCorrupted; kInvalid: count_max is 0, or `at` is not below kFileBlockEnd.
  [[nodiscard]] Result<Mapping> lookup(FileBlock at, uint64_t count_max) const;

  /// Calls `visit` for each extent (no holes) that touches [from, to), clipped to it, in order; stops when it
  /// returns false.
  [[nodiscard]] Status for_each(FileBlock from, FileBlock to,
                                const std::function<bool(const Mapping&)>& visit) const;

  /// Extents in all (walks the leaves' headers only).
  [[nodiscard]] Result<uint64_t> count() const;

 private:
  const journal::MetaStore& meta_;
  const format::Inode& inode_;
};

/// Changes the map of the inode shadow `inode` within `tx`. On any error the transaction must be aborted.
class Editor {
 public:
  /// `inode`: the shadow from Tx::edit_unit; valid as long as the transaction.
  Editor(alloc::BlockTx& tx, format::Inode& inode, alloc::Purpose purpose = alloc::Purpose::kMetadata)
      : tx_(tx), inode_(inode), purpose_(purpose) {}

  /// As Reader::lookup, through the shadows.
  [[nodiscard]] Result<Mapping> lookup(FileBlock at, uint64_t count_max) const;

  /// Maps [at, at + run.count) to `run`. REQUIRES: the range is a hole. Merges with neighbours.
  /// kInvalid: it is no hole, or the run is not in the data area; kFileTooBig: it ends past kFileBlockEnd; kNoSpace;
  /// kAgain: the transaction takes no more groups; kNoMemory; kCorrupted.
  [[nodiscard]] Status insert(FileBlock at, DeviceRun run, bool unwritten);

  /// Unmaps what is mapped in [from, to) and frees the blocks. Works from the end of the range towards its start and
  /// stops when the transaction is nearly full: gives the block from which on everything is unmapped
  /// (`from` when all is done). Commit and call again with that as `to`; a fresh
  /// transaction always gets somewhere. Cutting a tail off needs no new block. kInvalid: from > to; else as insert.
  [[nodiscard]] Result<FileBlock> remove(FileBlock from, FileBlock to);

  /// Marks what is mapped in [from, to) written (or unwritten). Holes stay. Stops like remove, working from the
  /// start: gives the block up to which it is done (`to` when all). Errors as remove.
  [[nodiscard]] Result<FileBlock> set_unwritten(FileBlock from, FileBlock to, bool unwritten);

  /// Maps [at, at + run.count) to `run` in place of what is mapped there now, whose blocks are freed
  /// (copy-on-write). kAgain when that does not fit one transaction; else as insert.
  [[nodiscard]] Status replace(FileBlock at, DeviceRun run, bool unwritten);

 private:
  alloc::BlockTx& tx_;
  format::Inode& inode_;
  alloc::Purpose purpose_;
};

}  // namespace udax::extent
