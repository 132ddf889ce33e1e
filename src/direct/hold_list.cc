// SPDX-License-Identifier: BSD-3-Clause
#include "direct/hold_list.h"

#include <algorithm>

namespace udax::direct {

void HoldList::add(Ino ino, mapping::ByteRange range) {
  const LockGuard guard(mutex_);
  holds_.push_back({ino, range});
  count_.store(holds_.size());
}

void HoldList::remove(Ino ino, mapping::ByteRange range) {
  const LockGuard guard(mutex_);
  const auto found = std::find_if(holds_.begin(), holds_.end(), [&](const Hold& h) {
    return h.ino == ino && h.range.start == range.start && h.range.end == range.end;
  });
  if (found != holds_.end()) holds_.erase(found);
  count_.store(holds_.size());
}

bool HoldList::covers(Ino ino, uint64_t offset) const {
  if (count_.load() == 0) return false;
  const LockGuard guard(mutex_);
  return std::any_of(holds_.begin(), holds_.end(), [&](const Hold& h) {
    return h.ino == ino && offset >= h.range.start && offset < h.range.end;
  });
}

}  // namespace udax::direct
