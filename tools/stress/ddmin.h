// SPDX-License-Identifier: BSD-3-Clause
//
// Shortens a list of operations that fails to one that still does: delta debugging (after "ddmin", A. Zeller and
// R. Hildebrandt, 2002), by taking ever smaller pieces out, each size from the beginning to the end. The result is 1-minimal
// unless the time ran out: with any one item less it does not fail.
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
  size_t piece = std::max<size_t>(items.size() / 2, 1);
  for (bool shorter = true; piece > 1 || shorter; piece = std::max<size_t>(piece / 2, 1)) {
    shorter = false;
    for (size_t begin = 0; begin < items.size() && items.size() > 1;) {
      if (std::chrono::steady_clock::now() >= deadline) return items;
      const size_t end = std::min(begin + piece, items.size());
      std::vector<Item> rest(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(begin));
      rest.insert(rest.end(), items.begin() + static_cast<std::ptrdiff_t>(end), items.end());
      const std::optional<size_t> failed_at = rest.empty() ? std::nullopt : trial(rest);
      if (!failed_at) {
        begin = end;
        continue;
      }
      // What comes after the failure goes as well. The next piece is now where this one was.
      rest.resize(std::min(rest.size(), *failed_at + 1));
      items = std::move(rest);
      shorter = true;
    }
  }
  return items;
}

}  // namespace udax::stress
