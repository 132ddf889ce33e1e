// SPDX-License-Identifier: BSD-3-Clause
#include "tests/crash/crash_images.h"

#include <algorithm>
#include <cstring>

namespace udax::test {

using Event = media::RecordingMedium::Event;
using Kind = media::RecordingMedium::Kind;

CrashImages::CrashImages(const media::RecordingMedium& recording, uint64_t seed)
    : recording_(recording), random_(seed), durable_(recording.size()), image_(recording.size()) {
  durable_.copy_from(recording.start_image());
  image_.copy_from(recording.start_image());
}

void CrashImages::store(const Event& event, bool flushed) {
  const std::byte* source = recording_.data().data() + event.data;
  const auto event_index = static_cast<size_t>(&event - recording_.events().data());
  const uint64_t end = event.offset + event.size;
  for (uint64_t unit = align_down(event.offset, 8); unit < end; unit += 8) {
    Pending& p = pending_[unit];
    uint64_t value = 0;
    if (p.values.empty()) {
      std::memcpy(&value, durable_.at(unit), 8);
    } else {
      value = p.values.back();
    }
    const uint64_t from = std::max(unit, event.offset);
    const uint64_t to = std::min(unit + 8, end);
    std::memcpy(reinterpret_cast<std::byte*>(&value) + (from - unit), source + (from - event.offset), to - from);
    p.values.push_back(value);
    p.events.push_back(event_index);
    if (flushed) {
      p.flushed = p.values.size();
      p.thread = event.thread;
    }
  }
}

void CrashImages::apply(const Event& event) {
  switch (event.kind) {
    case Kind::kStore: store(event, false); break;
    case Kind::kStoreNt: store(event, true); break;
    case Kind::kFlush: {
      const uint64_t end = align_up(event.offset + event.size, kCacheLine);
      auto it = pending_.lower_bound(align_down(event.offset, kCacheLine));
      for (; it != pending_.end() && it->first < end; ++it) {
        it->second.flushed = it->second.values.size();
        it->second.thread = event.thread;
      }
      break;
    }
    case Kind::kDrain:
      for (auto it = pending_.begin(); it != pending_.end();) {
        Pending& p = it->second;
        if (p.flushed == 0 || p.thread != event.thread) {
          ++it;
          continue;
        }
        std::memcpy(durable_.raw() + it->first, &p.values[p.flushed - 1], 8);
        std::memcpy(image_.raw() + it->first, &p.values[p.flushed - 1], 8);
        p.values.erase(p.values.begin(), p.values.begin() + static_cast<long>(p.flushed));
        p.events.erase(p.events.begin(), p.events.begin() + static_cast<long>(p.flushed));
        p.flushed = 0;
        it = p.values.empty() ? pending_.erase(it) : std::next(it);
      }
      break;
    case Kind::kMark: break;
  }
}

bool CrashImages::try_subset(size_t event, uint64_t mark, const char* name, const Choice& chosen,
                             const std::function<bool(media::MemoryMedium&, const Point&)>& visit) {
  size_t index = 0;
  for (const auto& [unit, p] : pending_) {
    const size_t n = chosen(index++, p);
    if (n > 0) std::memcpy(image_.raw() + unit, &p.values[n - 1], 8);
  }
  const bool more = visit(image_, {event, mark, pending_.size(), name});
  image_.copy_from(durable_);
  return more;
}

std::vector<size_t> CrashImages::pending_stores() const {
  std::vector<size_t> stores;
  for (const auto& [unit, p] : pending_) stores.insert(stores.end(), p.events.begin(), p.events.end());
  std::sort(stores.begin(), stores.end());
  stores.erase(std::unique(stores.begin(), stores.end()), stores.end());
  return stores;
}

uint64_t CrashImages::explore(size_t sparse, size_t single_max, size_t samples,
                              const std::function<bool(media::MemoryMedium&, const Point&)>& visit) {
  uint64_t images = 0;
  uint64_t mark = 0;
  const std::vector<Event>& events = recording_.events();
  for (size_t i = 0; i <= events.size(); ++i) {
    const bool last = i == events.size();
    const bool point = last || events[i].kind == Kind::kDrain || events[i].kind == Kind::kMark ||
                       (sparse > 0 && random_.one_in(sparse));
    if (point) {
      const auto go = [&](const char* name, const Choice& chosen) {
        ++images;
        return try_subset(i, mark, name, chosen, visit);
      };
      if (!go("none", [](size_t, const Pending&) { return size_t{0}; })) return images;
      if (!pending_.empty()) {
        if (!go("all", [](size_t, const Pending& p) { return p.values.size(); })) return images;
        for (size_t k = 0; pending_.size() <= single_max && k < pending_.size(); ++k) {
          if (!go("one", [k](size_t n, const Pending& p) { return n == k ? p.values.size() : 0; })) return images;
          if (!go("all but one", [k](size_t n, const Pending& p) { return n == k ? 0 : p.values.size(); }))
            return images;
        }
        std::vector<size_t> stores = pending_stores();
        if (stores.size() > single_max) stores.erase(stores.begin(), stores.end() - static_cast<long>(single_max));
        for (const size_t missing : stores) {
          const auto all_but = [missing](size_t, const Pending& p) {
            return p.values.size() - (p.events.back() == missing ? 1 : 0);
          };
          if (!go("all but one store", all_but)) return images;
        }
        for (size_t k = 0; k < samples; ++k) {
          const auto any = [this](size_t, const Pending& p) {
            return static_cast<size_t>(random_.below(p.values.size() + 1));
          };
          if (!go("random", any)) return images;
        }
      }
    }
    if (last) break;
    if (events[i].kind == Kind::kMark) mark = events[i].offset;
    apply(events[i]);
  }
  return images;
}

}  // namespace udax::test
