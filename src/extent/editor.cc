// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>

#include "extent/extent_map.h"
#include "extent/tree_edit.h"

namespace udax::extent {

namespace {

/// kInvalid, or kFileTooBig for what runs over the last block a file can have.
Status check_target(const alloc::BlockTx& tx, FileBlock at, DeviceRun run) {
  if (run.count == 0 || !tx.meta().geometry().is_data(run.start, run.count)) return Error::kInvalid;
  if (at >= kFileBlockEnd || run.count > kFileBlockEnd - at) return Error::kFileTooBig;
  return {};
}

/// Puts one run of at most kExtentBlocksMax blocks into a hole.
Status insert_run(TreeEdit& edit, const Run& run) {
  UDAX_CHECK(edit.seek(run.file));
  if (run.end() > edit.keys().high) {
    UDAX_TRY(const uint64_t next, edit.next_leaf_start());
    if (run.end() > next) return Error::kInvalid;
    UDAX_CHECK(edit.seek(run.file));
    UDAX_CHECK(edit.raise_high(run.end()));
    UDAX_CHECK(edit.seek(run.file));
  }
  const uint32_t slot = edit.upper_bound(run.file);
  if (slot > 0 && edit.run(slot - 1).end() > run.file) return Error::kInvalid;
  if (slot < edit.count() && edit.run(slot).file < run.end()) return Error::kInvalid;
  return edit.splice(slot, slot, {&run, 1});
}

/// The first slot whose extent ends after `at`.
uint32_t first_touched(const TreeEdit& edit, uint64_t at) {
  const uint32_t slot = edit.upper_bound(at);
  return slot > 0 && edit.run(slot - 1).end() > at ? slot - 1 : slot;
}

}  // namespace

Result<Mapping> Editor::lookup(FileBlock at, uint64_t count_max) const {
  return lookup_in(ShadowSource(tx_, inode_.ino), inode_, at, count_max);
}

Status Editor::insert(FileBlock at, DeviceRun run, bool unwritten) {
  UDAX_CHECK(check_target(tx_, at, run));
  TreeEdit edit(tx_, inode_, purpose_);
  for (uint64_t done = 0; done < run.count;) {
    const uint64_t count = std::min<uint64_t>(run.count - done, format::kExtentBlocksMax);
    UDAX_CHECK(insert_run(edit, {at.value + done, run.start.value + done, count, unwritten}));
    done += count;
  }
  inode_.block_count = inode_.block_count + run.count;
  return {};
}

Result<FileBlock> Editor::set_unwritten(FileBlock from, FileBlock to, bool unwritten) {
  if (from > to) return Error::kInvalid;
  const uint64_t end = std::min(to, kFileBlockEnd).value;
  TreeEdit edit(tx_, inode_, purpose_);
  uint64_t at = from.value;
  while (at < end) {
    if (tx_.nearly_full()) return FileBlock(at);
    UDAX_CHECK(edit.seek(at));
    uint32_t slot = first_touched(edit, at);
    while (slot < edit.count() && edit.run(slot).unwritten == unwritten) ++slot;
    if (slot == edit.count()) {
      at = edit.keys().high;
      continue;
    }
    const Run old = edit.run(slot);
    if (old.file >= end) break;
    const uint64_t part_start = std::max(at, old.file);
    const uint64_t part_end = std::min(end, old.end());
    Run pieces[TreeEdit::kPiecesMax];
    uint32_t count = 0;
    if (part_start > old.file) pieces[count++] = old.part(old.file, part_start);
    pieces[count] = old.part(part_start, part_end);
    pieces[count++].unwritten = unwritten;
    if (part_end < old.end()) pieces[count++] = old.part(part_end, old.end());
    UDAX_CHECK(edit.splice(slot, slot + 1, {pieces, count}));
    at = part_end;
  }
  return to;
}

Status Editor::replace(FileBlock at, DeviceRun run, bool unwritten) {
  UDAX_CHECK(check_target(tx_, at, run));
  const FileBlock end = at + run.count;
  TreeEdit edit(tx_, inode_, purpose_);
  UDAX_CHECK(edit.seek(at.value));
  if (end.value > edit.keys().high || run.count > format::kExtentBlocksMax) {
    // Over the border of a leaf: in two steps, which may cost a split more than needed.
    UDAX_TRY(const FileBlock left, remove(at, end));
    if (left != at) return Error::kAgain;
    return insert(at, run, unwritten);
  }
  const uint32_t first = first_touched(edit, at.value);
  uint32_t last = first;
  Run pieces[TreeEdit::kPiecesMax];
  uint32_t count = 0;
  Run rest;
  for (; last < edit.count() && edit.run(last).file < end.value; ++last) {
    const Run old = edit.run(last);
    const Run gone = old.part(std::max(old.file, at.value), std::min(old.end(), end.value));
    if (gone.file > old.file) pieces[count++] = old.part(old.file, gone.file);
    if (gone.end() < old.end()) rest = old.part(gone.end(), old.end());
    UDAX_TRY(const uint64_t freed, edit.free_data(DeviceBlock(gone.device), gone.count));
    if (freed < gone.count) return Error::kAgain;
  }
  pieces[count++] = Run{at.value, run.start.value, run.count, unwritten};
  if (rest.count > 0) pieces[count++] = rest;
  UDAX_CHECK(edit.splice(first, last, {pieces, count}));
  inode_.block_count = inode_.block_count + run.count;
  return {};
}

}  // namespace udax::extent
