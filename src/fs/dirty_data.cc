// SPDX-License-Identifier: BSD-3-Clause
#include "fs/dirty_data.h"

#include <algorithm>
#include <new>

namespace udax::fs {
namespace {

/// Sorts, merges what touches; then, while there are too many, merges over the smaller half of the gaps.
void compact(std::vector<DirtyData::Range>& ranges, size_t most) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.start < b.start; });
  const auto merge = [&ranges](uint64_t gap_max) {
    size_t out = 0;
    for (size_t i = 1; i < ranges.size(); ++i) {
      if (ranges[i].start <= ranges[out].end || ranges[i].start - ranges[out].end <= gap_max) {
        ranges[out].end = std::max(ranges[out].end, ranges[i].end);
      } else {
        ranges[++out] = ranges[i];
      }
    }
    ranges.resize(out + 1);
  };
  merge(0);
  for (uint64_t gap = kBlockSize; ranges.size() > most; gap *= 8) merge(gap);
}

}  // namespace

bool DirtyData::add(Ino ino, Range range) try {
  Shard& s = shard(ino);
  const LockGuard guard(s.mutex);
  auto& ranges = s.ranges[ino];
  if (!ranges.empty() && range.start <= ranges.back().end && range.end >= ranges.back().start) {
    ranges.back().start = std::min(ranges.back().start, range.start);
    ranges.back().end = std::max(ranges.back().end, range.end);
    return true;
  }
  ranges.push_back(range);
  if (ranges.size() >= 2 * kRangesMax) compact(ranges, kRangesMax);
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

std::vector<DirtyData::Range> DirtyData::take(Ino ino) {
  Shard& s = shard(ino);
  const LockGuard guard(s.mutex);
  const auto it = s.ranges.find(ino);
  if (it == s.ranges.end()) return {};
  std::vector<Range> ranges = std::move(it->second);
  s.ranges.erase(it);
  if (!ranges.empty()) compact(ranges, ranges.size());
  return ranges;
}

void DirtyData::forget(Ino ino) {
  Shard& s = shard(ino);
  const LockGuard guard(s.mutex);
  s.ranges.erase(ino);
}

}  // namespace udax::fs
