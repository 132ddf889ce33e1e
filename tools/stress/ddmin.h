// SPDX-License-Identifier: BSD-3-Clause
//
// Shortens a list of operations that fails to one that still does: delta debugging ("ddmin", A. Zeller and
// R. Hildebrandt, 2002), by taking ever smaller pieces out. The result is 1-minimal unless the time ran out: with any
// one item less it does not fail.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

namespace udax::stress {

/// Runs the items from a fresh start. The index of the item at which it failed (later ones had no part in it), or
/// nullopt if it did not fail.
template <typename Item>
using Trial = std::function<std::optional<size_t>(const std::vector<Item>&)>;

/// REQUIRES: `items` fails; the caller has tried. Ends after `limit` with what it has by then.
template <typename Item>
std::vector<Item> ddmin(std::vector<Item> items, const Trial<Item>& trial, std::chrono::seconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  size_t pieces = 2;
  while (items.size() > 1) {
    const size_t piece = (items.size() + pieces - 1) / pieces;
    bool shorter = false;
    for (size_t begin = 0; begin < items.size() && !shorter; begin += piece) {
      if (std::chrono::steady_clock::now() >= deadline) return items;
      const size_t end = std::min(begin + piece, items.size());
      std::vector<Item> rest(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(begin));
      rest.insert(rest.end(), items.begin() + static_cast<std::ptrdiff_t>(end), items.end());
      if (rest.empty()) continue;
      const std::optional<size_t> failed_at = trial(rest);
      if (!failed_at) continue;
      rest.resize(std::min(rest.size(), *failed_at + 1));
      items = std::move(rest);
      shorter = true;
    }
    if (shorter) {
      pieces = std::max<size_t>(pieces - 1, 2);
    } else if (piece == 1) {
      break;
    } else {
      pieces = std::min(pieces * 2, items.size());
    }
  }
  return items;
}

}  // namespace udax::stress
