// SPDX-License-Identifier: BSD-3-Clause
//
// What a crash could leave of a recorded run. The model: each 8-byte unit of the pool holds, after a crash, the
// value it had at some moment since it was last known durable, chosen for each unit by itself (lines are evicted
// whenever they like). A unit is durable with the value it had when it was flushed, or stored non-temporally, by a
// thread that has drained since.
#pragma once

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "media/recording_medium.h"
#include "tests/unit/journal/pool.h"

namespace udax::journal::testing {

/// Which of the values open to each unit a crash leaves.
enum class Choice : uint8_t {
  kLeast,         // the oldest
  kMost,          // the newest
  kRandomUnits,   // each its own
  kRandomLines,   // each line as it was at some moment
  kAllButOne,     // the newest, but one unit the oldest
  kOnlyOne,       // the oldest, but one unit the newest
  kJournalFirst,  // the journal newest, the rest oldest
  kJournalLast,   // the journal oldest, the rest random
};
inline constexpr Choice kChoices[] = {Choice::kLeast,        Choice::kMost,       Choice::kRandomUnits,
                                      Choice::kRandomLines,  Choice::kAllButOne,  Choice::kOnlyOne,
                                      Choice::kJournalFirst, Choice::kJournalLast};

class CrashWalk {
 public:
  using Medium = media::RecordingMedium;

  /// REQUIRES: `recorded` is stopped, and outlives this. `drop_drains`: as if the medium ignored them.
  explicit CrashWalk(const Medium& recorded, bool drop_drains = false)
      : recorded_(recorded), drop_drains_(drop_drains), durable_(kPoolBytes) {
    durable_.copy_from(recorded.start_image());
  }

  [[nodiscard]] size_t event_count() const { return recorded_.events().size(); }
  /// The greatest mark so far of each series (a mark's upper half).
  [[nodiscard]] uint64_t marked(uint64_t series) const {
    const auto found = marks_.find(series);
    return found == marks_.end() ? 0 : found->second;
  }

  /// Goes on to the moment before event `index`.
  void advance(size_t index) {
    for (; next_ < index; ++next_) step(recorded_.events()[next_]);
  }

  /// Makes `image` what a crash now could leave.
  void build(media::MemoryMedium& image, Choice choice, Random& random) const {
    image.copy_from(durable_);
    const uint64_t chosen = pending_.empty() ? 0 : random.below(pending_.size());
    const uint64_t line_salt = random.next();
    uint64_t n = 0;
    for (const auto& [unit, versions] : pending_) {
      const uint64_t take = pick(choice, unit, versions, n++ == chosen, line_salt, random);
      if (take > 0) image.store(unit * 8, &versions[take - 1].value, 8);
    }
  }

 private:
  struct Version {
    uint64_t number = 0;  // of all stores to any unit
    uint64_t value = 0;
  };

  /// How many of the versions have reached the medium.
  uint64_t pick(Choice choice, uint64_t unit, const std::vector<Version>& versions, bool is_chosen,
                uint64_t line_salt, Random& random) const {
    const uint64_t all = versions.size();
    switch (choice) {
      case Choice::kLeast: return 0;
      case Choice::kMost: return all;
      case Choice::kRandomUnits: return random.below(all + 1);
      case Choice::kRandomLines: {
        Random of_line(line_salt ^ (unit / 8));
        const uint64_t moment = of_line.below(4) == 0 ? 0 : version_ - of_line.below(200);
        const auto after =
            std::find_if(versions.begin(), versions.end(), [&](const Version& v) { return v.number > moment; });
        return static_cast<uint64_t>(after - versions.begin());
      }
      case Choice::kAllButOne: return is_chosen ? 0 : all;
      case Choice::kOnlyOne: return is_chosen ? all : 0;
      case Choice::kJournalFirst: return is_journal(unit) ? all : 0;
      case Choice::kJournalLast: return is_journal(unit) ? 0 : random.below(all + 1);
    }
    return 0;
  }

  static bool is_journal(uint64_t unit) {
    const uint64_t block = unit * 8 / kBlockSize;
    const uint64_t start = geometry().journal_start.value;
    return block == format::kJournalControlBlock.value || (block >= start && block < start + kRingBlocks);
  }

  void step(const Medium::Event& e) {
    switch (e.kind) {
      case Medium::Kind::kStore: store(e); break;
      case Medium::Kind::kStoreNt:
        store(e);
        flush(e.thread, e.offset, e.size);
        break;
      case Medium::Kind::kFlush: {
        const uint64_t start = align_down(e.offset, kCacheLine);
        flush(e.thread, start, align_up(e.offset + e.size, kCacheLine) - start);
        break;
      }
      case Medium::Kind::kDrain: drain(e.thread); break;
      case Medium::Kind::kMark: {
        uint64_t& mark = marks_[e.offset >> 32];
        mark = std::max(mark, e.offset & 0xFFFFFFFF);
        break;
      }
    }
  }

  void store(const Medium::Event& e) {
    UDAX_ASSERT(e.offset % 8 == 0 && e.size % 8 == 0);
    for (uint64_t at = 0; at < e.size; at += 8) {
      uint64_t value = 0;
      std::memcpy(&value, recorded_.data().data() + e.data + at, 8);
      pending_[(e.offset + at) / 8].push_back({++version_, value});
    }
  }

  void flush(uint32_t thread, uint64_t offset, uint64_t size) {
    for (uint64_t unit = offset / 8; unit < (offset + size) / 8; ++unit) {
      const auto found = pending_.find(unit);
      if (found != pending_.end()) on_the_way_[thread].emplace_back(unit, found->second.back().number);
    }
  }

  void drain(uint32_t thread) {
    if (drop_drains_) return;
    for (const auto& [unit, number] : on_the_way_[thread]) {
      const auto found = pending_.find(unit);
      if (found == pending_.end()) continue;
      std::vector<Version>& versions = found->second;
      const auto later =
          std::find_if(versions.begin(), versions.end(), [n = number](const Version& v) { return v.number > n; });
      if (later == versions.begin()) continue;
      durable_.store(unit * 8, &std::prev(later)->value, 8);
      versions.erase(versions.begin(), later);
      if (versions.empty()) pending_.erase(found);
    }
    on_the_way_[thread].clear();
  }

  const Medium& recorded_;
  const bool drop_drains_;
  media::MemoryMedium durable_;
  size_t next_ = 0;
  uint64_t version_ = 0;
  std::unordered_map<uint64_t, std::vector<Version>> pending_;  // stores not known durable, by unit, oldest first
  std::map<uint32_t, std::vector<std::pair<uint64_t, uint64_t>>> on_the_way_;  // by thread: unit, version
  std::map<uint64_t, uint64_t> marks_;
};

}  // namespace udax::journal::testing
