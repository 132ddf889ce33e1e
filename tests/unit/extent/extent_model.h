// SPDX-License-Identifier: BSD-3-Clause
//
// What an extent map should say, by the simplest means.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "extent/extent_map.h"

namespace udax::extent {

class Model {
 public:
  void put(uint64_t at, DeviceRun run, bool unwritten) { map_[at] = {run.count, run.start.value, unwritten}; }

  void erase(uint64_t from, uint64_t to) {
    split(from);
    split(to);
    map_.erase(map_.lower_bound(from), map_.lower_bound(to));
  }

  void mark(uint64_t from, uint64_t to, bool unwritten) {
    split(from);
    split(to);
    for (auto it = map_.lower_bound(from); it != map_.lower_bound(to); ++it) it->second.unwritten = unwritten;
  }

  /// Blocks from `at` on that are not mapped.
  [[nodiscard]] uint64_t hole_at(uint64_t at) const {
    auto it = map_.upper_bound(at);
    const uint64_t next = it == map_.end() ? kFileBlockEnd.value : it->first;
    if (it != map_.begin()) {
      --it;
      if (it->first + it->second.count > at) return 0;
    }
    return next - at;
  }

  /// The extents, joined as far as they continue each other.
  [[nodiscard]] std::vector<Mapping> extents() const {
    std::vector<Mapping> out;
    for (const auto& [start, e] : map_)
      append(out, {FileBlock(start), e.count, DeviceBlock(e.device), e.unwritten});
    return out;
  }
  static void append(std::vector<Mapping>& out, const Mapping& m) {
    if (!out.empty() && out.back().end() == m.start && out.back().unwritten == m.unwritten &&
        out.back().device + out.back().count == m.device) {
      out.back().count += m.count;
    } else {
      out.push_back(m);
    }
  }

 private:
  struct Value {
    uint64_t count;
    uint64_t device;
    bool unwritten;
  };

  void split(uint64_t at) {
    auto it = map_.upper_bound(at);
    if (it == map_.begin()) return;
    --it;
    const uint64_t head = at - it->first;
    if (head == 0 || head >= it->second.count) return;
    map_[at] = {it->second.count - head, it->second.device + head, it->second.unwritten};
    it->second.count = head;
  }

  std::map<uint64_t, Value> map_;
};

}  // namespace udax::extent
