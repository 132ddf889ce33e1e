// SPDX-License-Identifier: BSD-3-Clause
#include "client/views.h"

#include <algorithm>

namespace udax::client {

void ViewTable::split_at(uint64_t address) {
  auto after = views_.upper_bound(address);
  if (after == views_.begin()) return;
  auto& [begin, view] = *std::prev(after);
  if (begin == address || view.end <= address) return;
  View tail = view;
  tail.file_offset += address - begin;
  views_.emplace_hint(after, address, std::move(tail));
  view.end = address;
}

void ViewTable::set_prot(uint64_t begin, uint64_t end, int prot) {
  for (auto it = views_.lower_bound(begin); it != views_.end() && it->first < end; ++it) it->second.prot = prot;
}

void ViewTable::set_end(uint64_t begin, uint64_t end, uint64_t new_end) {
  const auto head = views_.find(begin);
  views_.erase(std::next(head), views_.lower_bound(end));
  head->second.end = new_end;
}

const View* ViewTable::find(uint64_t address, uint64_t* begin) const {
  const auto after = views_.upper_bound(address);
  if (after == views_.begin()) return nullptr;
  const auto it = std::prev(after);
  if (it->second.end <= address) return nullptr;
  *begin = it->first;
  return &it->second;
}

bool ViewTable::overlaps(uint64_t begin, uint64_t end) const {
  uint64_t first = 0;
  return begin < end && (find(begin, &first) != nullptr || next(begin) < end);
}

uint64_t ViewTable::next(uint64_t from) const {
  const auto it = views_.lower_bound(from);
  return it == views_.end() ? UINT64_MAX : it->first;
}

bool ViewTable::covers(uint64_t begin, uint64_t end) const {
  for (uint64_t at = begin; at < end;) {
    uint64_t first = 0;
    const View* const view = find(at, &first);
    if (view == nullptr) return false;
    at = view->end;
  }
  return true;
}

bool ViewTable::is_one(uint64_t begin, uint64_t end) const {
  uint64_t first = 0;
  const View* const head = find(begin, &first);
  if (head == nullptr) return false;
  const uint64_t origin = head->file_offset - first;  // modulo 2^64: the same for all pieces of one mapping
  for (uint64_t at = begin; at < end;) {
    uint64_t at_first = 0;
    const View* const view = find(at, &at_first);
    if (view == nullptr || view->file != head->file || view->prot != head->prot ||
        view->file_offset - at_first != origin) {
      return false;
    }
    at = view->end;
  }
  return true;
}

}  // namespace udax::client
