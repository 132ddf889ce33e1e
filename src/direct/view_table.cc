// SPDX-License-Identifier: BSD-3-Clause
#include "direct/view_table.h"

#include <iterator>
#include <new>

namespace udax::direct {
namespace {

View tail_of(const View& view, uint64_t start, uint64_t at) {
  View tail = view;
  if (view.kind == View::Kind::kData) tail.device += at - start;
  return tail;
}

bool continues(uint64_t start, const View& view, const View& next) {
  if (view.kind != next.kind || view.is_writable != next.is_writable) return false;
  return view.kind != View::Kind::kData || view.device + (view.end - start) == next.device;
}

}  // namespace

// Makes `at` a border between views. False: no memory, nothing changed.
bool ViewTable::cut(uint64_t at) noexcept try {
  const auto it = views_.upper_bound(at);
  if (it == views_.begin()) return true;
  const auto before = std::prev(it);
  if (before->first == at || before->second.end <= at) return true;
  views_.emplace_hint(it, at, tail_of(before->second, before->first, at));
  before->second.end = at;
  note(before->second, 1);
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

ViewTable::Map::iterator ViewTable::join(Map::iterator at) {
  if (at != views_.begin()) {
    const auto before = std::prev(at);
    if (before->second.end == at->first && continues(before->first, before->second, at->second)) {
      before->second.end = at->second.end;
      note(at->second, -1);
      views_.erase(at);
      at = before;
    }
  }
  const auto after = std::next(at);
  if (after != views_.end() && at->second.end == after->first && continues(at->first, at->second, after->second)) {
    at->second.end = after->second.end;
    note(after->second, -1);
    views_.erase(after);
  }
  return at;
}

void ViewTable::put(Span span, View view) {
  if (span.empty()) return;
  view.end = span.end;
  Map one;
  one.emplace(span.start, view);
  Map::node_type node = one.extract(one.begin());
  if (!cut(span.start) || !cut(span.end)) throw std::bad_alloc();
  const auto from_it = views_.lower_bound(span.start);
  const auto to_it = views_.lower_bound(span.end);
  for (auto it = from_it; it != to_it; ++it) note(it->second, -1);
  views_.erase(from_it, to_it);
  const auto inserted = views_.insert(std::move(node));
  note(view, 1);
  join(inserted.position);
}

Span ViewTable::erase(Span span) noexcept {
  if (span.empty()) return {};
  // Where there is no memory to cut a view in two, all of it goes: whoever touches the rest faults once more.
  (void)cut(span.start);
  (void)cut(span.end);
  Span gone;
  auto it = views_.upper_bound(span.start);
  if (it != views_.begin() && std::prev(it)->second.end > span.start) --it;
  while (it != views_.end() && it->first < span.end) {
    if (gone.end == 0) gone.start = it->first;
    gone.end = it->second.end;
    note(it->second, -1);
    it = views_.erase(it);
  }
  return gone;
}

bool ViewTable::has_writable(Span span) const {
  for (auto it = from(span.start); it != views_.end() && it->first < span.end; ++it) {
    if (it->second.kind == View::Kind::kData && it->second.is_writable) return true;
  }
  return false;
}

const View* ViewTable::find(uint64_t at) const {
  const auto it = from(at);
  return it != views_.end() && it->first <= at ? &it->second : nullptr;
}

ViewTable::Map::const_iterator ViewTable::from(uint64_t at) const {
  auto it = views_.upper_bound(at);
  if (it != views_.begin() && std::prev(it)->second.end > at) --it;
  return it;
}

}  // namespace udax::direct
