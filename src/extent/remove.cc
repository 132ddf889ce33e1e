// SPDX-License-Identifier: BSD-3-Clause
//
// Unmapping, leaf by leaf from the end of the range: whatever has been done when the transaction is full, what is
// left is the same job with a smaller range.
#include <algorithm>

#include "base/sync_point.h"
#include "extent/extent_map.h"
#include "extent/tree_edit.h"

namespace udax::extent {

namespace {

/// A leaf that goes as a whole costs the journal nothing, so that a transaction would take any number of them; but it
/// looks through all of them at each step, and whoever waits for the inode waits for the commit.
constexpr int kLeavesMax = 64;

struct Step {
  uint64_t to = 0;       // all from here on is unmapped
  bool stopped = false;  // the transaction takes no more
};

/// Unmaps what the leaf at to - 1 has of [from, to), from its end.
Result<Step> remove_in_leaf(TreeEdit& edit, uint64_t from, uint64_t to) {
  UDAX_CHECK(edit.seek(to - 1));
  const uint64_t low = edit.keys().low;
  const uint32_t last = edit.upper_bound(to - 1);
  uint32_t first = last;
  Step step{to, false};
  Run before;  // what remains of the extents at the two ends
  Run after;
  while (first > 0 && !step.stopped) {
    const Run run = edit.run(first - 1);
    if (run.end() <= from) break;
    const Run gone = run.part(std::max(run.file, from), std::min(run.end(), to));
    UDAX_TRY(const uint64_t freed, edit.free_data(DeviceBlock(gone.device), gone.count));
    step.stopped = freed < gone.count;
    if (freed == 0) break;
    step.to = gone.end() - freed;
    if (run.file < step.to) before = run.part(run.file, step.to);
    if (gone.end() < run.end()) after = run.part(gone.end(), run.end());
    --first;
  }
  if (first < last) {
    Run pieces[2];
    uint32_t count = 0;
    if (before.count > 0) pieces[count++] = before;
    if (after.count > 0) pieces[count++] = after;
    UDAX_CHECK(edit.splice(first, last, {pieces, count}));
  }
  if (!step.stopped) step.to = std::max(low, from);
  return step;
}

}  // namespace

Result<FileBlock> Editor::remove(FileBlock from, FileBlock to) {
  if (from > to) return Error::kInvalid;
  TreeEdit edit(tx_, inode_, purpose_);
  uint64_t left = std::min(to, kFileBlockEnd).value;
  for (int leaves = 0; left > from.value; ++leaves) {
    const int leaves_max = UDAX_KNOB("extent.one_leaf_a_step") ? 1 : kLeavesMax;
    if (leaves == leaves_max || tx_.nearly_full() || !edit.groups().has_room()) return FileBlock(left);
    UDAX_TRY(const Step step, remove_in_leaf(edit, from.value, left));
    left = step.to;
    if (step.stopped) return FileBlock(left);
  }
  return from;
}

}  // namespace udax::extent
