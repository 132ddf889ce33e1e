// SPDX-License-Identifier: BSD-3-Clause
//
// What a client has in its reservation, as the daemon knows it: regions (its mappings of files), and in them views (what is, or
// is about to be, in its page tables). A data structure: knows no socket and no filesystem.
//
// Invariants
// - Regions do not overlap; a view lies within regions. Views do not overlap; two that could be one are one.
// - A view is noted before the op that makes it is sent, and goes before the op that takes it back is. So what the stream
//   carries leads from what the client has to what is noted here.
//
// Offsets are bytes in the reservation, whole pages.
//
// Thread safety: none; the client's mutex.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/types.h"
#include "mapping/mapper.h"

namespace udax::direct {

struct Span {
  uint64_t start = 0;
  uint64_t end = 0;
  [[nodiscard]] bool empty() const { return start >= end; }
  [[nodiscard]] uint64_t length() const { return end - start; }
};

inline Span clipped(Span span, uint64_t start, uint64_t end) {
  return {std::max(span.start, start), std::min(span.end, end)};
}

/// `Handle`: what keeps the file open.
template <typename Handle>
struct BasicRegion {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t file_offset = 0;  // of start
  uint32_t prot = 0;         // kProt...
  uint64_t id = 0;           // never used twice in a table
  Ino ino;
  std::shared_ptr<Handle> handle;
  [[nodiscard]] uint64_t file_offset_of(uint64_t at) const { return file_offset + (at - start); }
  /// What `span`, a part of it, shows.
  [[nodiscard]] mapping::ByteRange file_range_of(Span span) const {
    return {file_offset_of(span.start), file_offset_of(span.start) + span.length()};
  }
};

struct View {
  enum class Kind : uint8_t {
    kData,  // the pool, from `device` on
    kZero,  // zero pages
    kBus,   // touching it is SIGBUS
  };
  uint64_t end = 0;
  uint64_t device = 0;  // bytes; kData only, else 0
  Kind kind = Kind::kZero;
  bool is_writable = false;
};

/// The views of a client.
class ViewTable {
 public:
  using Map = std::map<uint64_t, View>;  // by start

  /// Notes that [span) is `view` from now on (`view.end` is not looked at); what was there is forgotten. Throws std::bad_alloc, and
  /// has changed nothing then.
  void put(Span span, View view);
  /// Forgets what is in [span), or, where memory is short, more: gives the range from the first to the last that has been
  /// forgotten; nothing in it is noted any more. Empty: there was nothing.
  [[nodiscard]] Span erase(Span span) noexcept;
  /// There is data in [span) that is mapped writable.
  [[nodiscard]] bool has_writable(Span span) const;
  /// The view at `at`, if any.
  [[nodiscard]] const View* find(uint64_t at) const;
  /// The first view that ends behind `at`.
  [[nodiscard]] Map::const_iterator from(uint64_t at) const;
  [[nodiscard]] const Map& all() const { return views_; }
  /// Views of data and kBus: each is a mapping of its own for the kernel.
  [[nodiscard]] uint64_t mappings() const { return mappings_; }

 private:
  void note(const View& view, int sign) {
    if (view.kind != View::Kind::kZero) mappings_ += static_cast<uint64_t>(sign);
  }
  [[nodiscard]] bool cut(uint64_t at) noexcept;
  Map::iterator join(Map::iterator at);

  Map views_;
  uint64_t mappings_ = 0;
};

/// The regions of a client.
template <typename Handle>
class BasicRegionTable {
 public:
  using Region = BasicRegion<Handle>;
  using Handles = std::vector<std::shared_ptr<Handle>>;
  using Map = std::map<uint64_t, Region>;  // by start

  /// kExists: overlaps one. Throws std::bad_alloc.
  [[nodiscard]] Status add(Region region) {
    if (overlaps({region.start, region.end})) return Error::kExists;
    region.id = ++last_id_;
    const uint64_t start = region.start;
    regions_.emplace(start, std::move(region));
    return {};
  }
  [[nodiscard]] bool overlaps(Span span) const {
    const auto it = first_behind(span.start);
    return it != regions_.end() && it->second.start < span.end;
  }
  /// The region that holds `at`.
  [[nodiscard]] const Region* find(uint64_t at) const {
    const auto it = first_behind(at);
    return it != regions_.end() && it->second.start <= at ? &it->second : nullptr;
  }
  /// Every page of [span) is in some region.
  [[nodiscard]] bool covers(Span span) const {
    uint64_t at = span.start;
    for (auto it = first_behind(at); at < span.end; ++it) {
      if (it == regions_.end() || it->second.start > at) return false;
      at = it->second.end;
    }
    return true;
  }
  /// Cuts regions at both ends of [span), so that it is whole regions. Throws std::bad_alloc; cutting changes nothing that shows.
  void cut(Span span) {
    cut_at(span.start);
    cut_at(span.end);
  }
  /// Joins regions around and in [span) that are one mapping. Who has noted the id of one that goes finds it no more.
  void join(Span span) {
    auto it = first_behind(span.start == 0 ? 0 : span.start - 1);
    while (it != regions_.end() && it->second.start <= span.end) {
      const auto next = std::next(it);
      if (next == regions_.end()) return;
      const Region& a = it->second;
      const Region& b = next->second;
      if (a.end == b.start && a.handle == b.handle && a.prot == b.prot &&
          a.file_offset_of(a.end) == b.file_offset) {
        it->second.end = b.end;
        regions_.erase(next);
      } else {
        it = next;
      }
    }
  }
  /// Removes what is in [span), which cut() was called for. The handles go to `out`, whose room is reserved before: to be let go of
  /// without locks. Throws std::bad_alloc, and has changed nothing then.
  void remove(Span span, Handles& out) {
    const auto all = in(span);
    out.reserve(out.size() + static_cast<size_t>(std::distance(all.begin(), all.end())));
    auto it = first_behind(span.start);
    while (it != regions_.end() && it->second.start < span.end) {
      out.push_back(std::move(it->second.handle));
      it = regions_.erase(it);
    }
  }
  /// Removes everything. Where memory is short, files are let go of at once.
  void clear(Handles& out) noexcept {
    try {
      remove({0, ~uint64_t{0}}, out);
    } catch (const std::bad_alloc&) {
      regions_.clear();
    }
  }
  template <typename Iterator>
  struct Range {
    Iterator first;
    Iterator last;
    [[nodiscard]] Iterator begin() const { return first; }
    [[nodiscard]] Iterator end() const { return last; }
  };
  /// All that touch [span), in order, as (start, region).
  [[nodiscard]] auto in(Span span) {
    return Range<typename Map::iterator>{first_behind(span.start), end_of(span)};
  }
  [[nodiscard]] auto in(Span span) const {
    return Range<typename Map::const_iterator>{first_behind(span.start), end_of(span)};
  }
  [[nodiscard]] size_t size() const { return regions_.size(); }

 private:
  [[nodiscard]] typename Map::const_iterator first_behind(uint64_t at) const {
    auto it = regions_.upper_bound(at);
    if (it != regions_.begin() && std::prev(it)->second.end > at) --it;
    return it;
  }
  [[nodiscard]] typename Map::iterator first_behind(uint64_t at) {
    auto it = regions_.upper_bound(at);
    if (it != regions_.begin() && std::prev(it)->second.end > at) --it;
    return it;
  }
  [[nodiscard]] typename Map::const_iterator end_of(Span span) const { return regions_.lower_bound(span.end); }
  [[nodiscard]] typename Map::iterator end_of(Span span) { return regions_.lower_bound(span.end); }
  void cut_at(uint64_t at) {
    const auto it = first_behind(at);
    if (it == regions_.end() || it->second.start >= at) return;
    Region upper = it->second;
    upper.file_offset = upper.file_offset_of(at);
    upper.start = at;
    upper.id = ++last_id_;
    regions_.emplace(at, std::move(upper));
    it->second.end = at;
  }

  Map regions_;
  uint64_t last_id_ = 0;
};

/// What of `region` shows bytes of [range).
template <typename Handle>
[[nodiscard]] Span part_showing(const BasicRegion<Handle>& region, mapping::ByteRange range) {
  const uint64_t file_end = region.file_offset + (region.end - region.start);
  const uint64_t from = range.start > region.file_offset ? range.start : region.file_offset;
  const uint64_t to = range.end < file_end ? range.end : file_end;
  if (from >= to) return {};
  return {region.start + align_down(from - region.file_offset, kBlockSize),
          region.start + align_up(to - region.file_offset, kBlockSize)};
}

}  // namespace udax::direct
