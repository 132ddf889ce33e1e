// SPDX-License-Identifier: BSD-3-Clause
#include "tests/crash/engine/in_flight.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/random.h"

namespace udax::crash {

std::string Subset::text() const {
  if (kind == 'n' || kind == 'a') return std::string(1, kind);
  return std::string(1, kind) + std::to_string(number);
}

std::optional<Subset> Subset::parse(std::string_view text) {
  if (text.empty() || std::string_view("nauUlLsSpxyr").find(text.front()) == std::string_view::npos)
    return std::nullopt;
  Subset s{text.front(), 0};
  if (text.size() == 1) return s;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + 1, end, s.number);
  if (error != std::errc() || stop != end) return std::nullopt;
  return s;
}

void InFlight::store(size_t event, bool flushed) {
  const Event& e = trace_.events[event];
  const std::byte* source = trace_.data.data() + e.data;
  const uint64_t end = e.offset + e.size;
  for (uint64_t at = align_down(e.offset, 8); at < end; at += 8) {
    Unit& unit = units_[at];
    uint64_t value = 0;
    if (unit.values.empty()) {
      std::memcpy(&value, disk_.at(at), sizeof value);
    } else {
      value = unit.values.back().value;
    }
    const uint64_t from = std::max(at, e.offset);
    const uint64_t to = std::min(at + 8, end);
    std::memcpy(reinterpret_cast<std::byte*>(&value) + (from - at), source + (from - e.offset), to - from);
    unit.values.push_back({value, static_cast<uint32_t>(event)});
    if (flushed) unit.flushes.push_back({static_cast<uint32_t>(unit.values.size()), e.thread});
  }
}

void InFlight::flush(const Event& event) {
  const uint64_t end = align_up(event.offset + event.size, kCacheLine);
  for (auto it = units_.lower_bound(align_down(event.offset, kCacheLine)); it != units_.end() && it->first < end;
       ++it) {
    it->second.flushes.push_back({static_cast<uint32_t>(it->second.values.size()), event.thread});
  }
}

void InFlight::drain(uint32_t thread) {
  for (auto it = units_.begin(); it != units_.end();) {
    Unit& unit = it->second;
    uint32_t certain = 0;
    for (const Flush& f : unit.flushes) {
      if (f.thread == thread) certain = std::max(certain, f.count);
    }
    if (certain == 0) {
      ++it;
      continue;
    }
    disk_.poke(it->first, &unit.values[certain - 1].value, 8);
    if (certain == unit.values.size()) {
      it = units_.erase(it);
      continue;
    }
    unit.values.erase(unit.values.begin(), unit.values.begin() + certain);
    std::erase_if(unit.flushes, [certain](const Flush& f) { return f.count <= certain; });
    for (Flush& f : unit.flushes) f.count -= certain;
    ++it;
  }
}

void InFlight::apply(size_t event) {
  const Event& e = trace_.events[event];
  switch (e.kind) {
    case Kind::kStore: store(event, false); break;
    case Kind::kStoreNt: store(event, true); break;
    case Kind::kFlush: flush(e); break;
    case Kind::kDrain: drain(e.thread); break;
    case Kind::kMark: break;
  }
}

InFlight::View InFlight::view() const {
  View v;
  v.units.reserve(units_.size());
  uint64_t last_line = ~uint64_t{0};
  for (const auto& [offset, unit] : units_) {
    if (offset / kCacheLine != last_line) {
      last_line = offset / kCacheLine;
      ++v.lines;
    }
    v.units.push_back({offset, &unit, v.lines - 1});
    for (const Value& value : unit.values) v.stores.push_back(value.event);
    if (v.combinations < (uint64_t{1} << 40)) v.combinations *= unit.values.size() + 1;
  }
  std::sort(v.stores.begin(), v.stores.end());
  v.stores.erase(std::unique(v.stores.begin(), v.stores.end()), v.stores.end());
  return v;
}

namespace {

/// `count` numbers below `size`, all if they are no more; else the first, the last, and a seeded sample.
std::vector<uint64_t> pick(uint64_t size, uint32_t count, Random& random) {
  std::vector<uint64_t> out;
  if (size <= count) {
    for (uint64_t i = 0; i < size; ++i) out.push_back(i);
    return out;
  }
  if (count == 0) return out;
  out = {0, size - 1};
  while (out.size() < count) out.push_back(random.below(size));
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace

std::vector<Subset> InFlight::choose(const View& view, const Budget& budget, uint64_t seed) {
  std::vector<Subset> out;
  out.push_back({'n', 0});
  if (view.units.empty()) return out;
  out.push_back({'a', 0});
  if (view.combinations <= budget.exhaustive_max) {
    for (uint64_t i = 1; i + 1 < view.combinations; ++i) out.push_back({'x', i});
    return out;
  }
  Random random(seed);
  for (const uint64_t i : pick(view.units.size(), budget.single_max, random)) {
    out.push_back({'U', i});
    out.push_back({'u', i});
  }
  if (view.lines <= budget.lines_exhaustive) {
    for (uint64_t i = 1; i + 1 < (uint64_t{1} << view.lines); ++i) out.push_back({'y', i});
  } else {
    for (const uint64_t i : pick(view.lines, budget.single_max, random)) {
      out.push_back({'L', i});
      out.push_back({'l', i});
    }
  }
  for (const uint64_t i : pick(view.stores.size(), budget.single_max, random)) {
    out.push_back({'S', i});
    out.push_back({'s', i});
    out.push_back({'p', i});
  }
  for (uint32_t i = 0; i < budget.sample_count; ++i) out.push_back({'r', i});
  return out;
}

namespace {

using View = InFlight::View;

uint32_t all_of(const View::Entry& e) { return static_cast<uint32_t>(e.unit->values.size()); }

/// How many of a unit's values are of stores before `event`.
uint32_t before(const View::Entry& e, uint32_t event) {
  uint32_t n = 0;
  for (const InFlight::Value& v : e.unit->values) n += v.event < event ? 1 : 0;
  return n;
}

void random_counts(const View& view, uint64_t number, uint64_t seed, std::vector<uint32_t>& out) {
  Random random(seed * 0x9E3779B97F4A7C15ULL + number);
  const uint64_t style = number % 4;
  std::vector<bool> coins(std::max<size_t>(view.lines, view.stores.size()));
  for (size_t i = 0; i < coins.size(); ++i) coins[i] = random.one_in(2);
  for (size_t i = 0; i < view.units.size(); ++i) {
    const View::Entry& e = view.units[i];
    if (style == 0) {
      out[i] = static_cast<uint32_t>(random.below(all_of(e) + 1));
    } else if (style == 1) {
      out[i] = coins[e.line] ? all_of(e) : 0;
    } else if (style == 2) {
      for (uint32_t k = 0; k < all_of(e); ++k) {
        const auto at = std::lower_bound(view.stores.begin(), view.stores.end(), e.unit->values[k].event);
        if (coins[static_cast<size_t>(at - view.stores.begin())]) out[i] = k + 1;
      }
    } else {
      out[i] = random.one_in(8) ? 0 : all_of(e);
    }
  }
}

}  // namespace

std::vector<uint32_t> InFlight::counts(const View& view, const Subset& subset, uint64_t seed) {
  std::vector<uint32_t> out(view.units.size(), 0);
  if (subset.kind == 'r') {
    random_counts(view, subset.number, seed, out);
    return out;
  }
  uint64_t rest = subset.number;
  const uint32_t store = subset.number < view.stores.size() ? view.stores[subset.number] : 0;
  for (size_t i = 0; i < view.units.size(); ++i) {
    const View::Entry& e = view.units[i];
    const uint32_t all = all_of(e);
    switch (subset.kind) {
      case 'a': out[i] = all; break;
      case 'u': out[i] = i == subset.number ? all : 0; break;
      case 'U': out[i] = i == subset.number ? 0 : all; break;
      case 'l': out[i] = e.line == subset.number ? all : 0; break;
      case 'L': out[i] = e.line == subset.number ? 0 : all; break;
      case 's':  // up to its value in what it wrote to, nothing else
        for (uint32_t k = 0; k < all; ++k) {
          if (e.unit->values[k].event == store) out[i] = k + 1;
        }
        break;
      case 'S': out[i] = e.unit->values.back().event == store ? all - 1 : all; break;
      case 'p': out[i] = before(e, store); break;
      case 'x':
        out[i] = static_cast<uint32_t>(rest % (all + 1));
        rest /= all + 1;
        break;
      case 'y': out[i] = e.line < 64 && (subset.number >> e.line & 1U) != 0 ? all : 0; break;
      default: break;
    }
  }
  return out;
}

void InFlight::poke(const View& view, const std::vector<uint32_t>& counts) {
  for (size_t i = 0; i < view.units.size(); ++i) {
    if (counts[i] > 0) disk_.poke(view.units[i].offset, &view.units[i].unit->values[counts[i] - 1].value, 8);
  }
}

}  // namespace udax::crash
