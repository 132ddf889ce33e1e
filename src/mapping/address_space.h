// SPDX-License-Identifier: BSD-3-Clause
//
// What is known of a file's bytes beyond its extents: which parts are mapped and dirty (entries), and of which pages
// others hold copies, and who is told of its state. Made when a file is first mapped, or first has something to flush.
#pragma once

#include <atomic>
#include <cstdint>

#include "mapping/entry_tree.h"
#include "mapping/page_copies.h"
#include "mapping/state_watch.h"
#include "mapping/writeback_gate.h"

namespace udax::mapping {

struct AddressSpace {
  EntryTree entries;
  PageCopies copies;  // guarded by the inode's rwsem
  WritebackGate writeback;
  // Who may have tracked views: what was stored through them is not in the marks, and has to be asked for.
  std::atomic<uint32_t> trackers{0};
  // Somebody has touched what lies behind the end, and may have something there that gives SIGBUS.
  std::atomic<bool> touched_behind{false};
  // Attributes were changed for nobody's request, and holders of copies have not been told (Filesystem::tell_attributes()).
  std::atomic<bool> has_untold_attributes{false};
  // Who read and write the file on their own.
  StateWatchers watchers;
};

}  // namespace udax::mapping
