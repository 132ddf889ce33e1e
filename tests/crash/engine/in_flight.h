// SPDX-License-Identifier: BSD-3-Clause
//
// What a crash may leave of the stores that are under way, and the ways to choose from it.
//
// A unit is 8 aligned bytes: the most that is stored atomically. A store is certain once a drain of its thread follows
// its flush (or, non-temporal, the store itself); before that its line may have been evicted or not, at any moment, in
// any combination with others. Of several pending values of one unit any may be the last that got there, none
// included. So every state that a crash between two drains could leave is some choice just before the later one.
//
// A Subset is such a choice, written in a few characters: n none, a all; u5 the sixth unit alone, U5 all but it; l5, L5
// the same of 64-byte lines; s5, S5 of stores; p5 the first five stores; x19 the 19th of all choices, by unit; y19 the
// 19th by line; r7 the eighth random sample.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/crash/engine/crash_medium.h"

namespace udax::crash {

struct Subset {
  char kind = 'n';
  uint64_t number = 0;
  [[nodiscard]] std::string text() const;
  [[nodiscard]] static std::optional<Subset> parse(std::string_view text);
};

/// How many subsets of what is in flight are tried at a drain.
struct Budget {
  uint64_t exhaustive_max = 4096;  // all of them, if no more than this
  uint32_t lines_exhaustive = 8;   // all combinations of whole lines, if no more lines than this
  uint32_t single_max = 64;        // units, lines and stores of which each alone and all but it are tried
  uint32_t sample_count = 16;
  uint32_t nested_every = 64;   // one image in so many is also crashed during its recovery
  uint32_t nested_samples = 2;  // there
  uint32_t point_every = 1;     // one drain in so many is looked at
};

class InFlight {
 public:
  /// `disk` holds what is durable at the start of `trace`.
  InFlight(CrashMedium& disk, const Trace& trace) : disk_(disk), trace_(trace) {}

  struct Value {
    uint64_t value = 0;
    uint32_t event = 0;  // the store
  };
  struct Flush {
    uint32_t count = 0;  // of the values
    uint32_t thread = 0;
  };
  struct Unit {
    std::vector<Value> values;  // oldest first
    std::vector<Flush> flushes;
  };

  /// Goes past one event. What a drain makes certain is stored to the disk.
  void apply(size_t event);

  /// What is in flight, in the order of places. Valid until the next apply().
  struct View {
    struct Entry {
      uint64_t offset = 0;
      const Unit* unit = nullptr;
      uint32_t line = 0;  // index
    };
    std::vector<Entry> units;
    std::vector<uint32_t> stores;  // events
    uint32_t lines = 0;
    uint64_t combinations = 1;  // of units; saturates
  };
  [[nodiscard]] View view() const;

  /// The subsets to try.
  [[nodiscard]] static std::vector<Subset> choose(const View& view, const Budget& budget, uint64_t seed);
  /// How many values of each unit got there.
  [[nodiscard]] static std::vector<uint32_t> counts(const View& view, const Subset& subset, uint64_t seed);
  /// Stores that choice to the disk.
  void poke(const View& view, const std::vector<uint32_t>& counts);

 private:
  void store(size_t event, bool flushed);
  void flush(const Event& event);
  void drain(uint32_t thread);

  CrashMedium& disk_;
  const Trace& trace_;
  std::map<uint64_t, Unit> units_;  // by offset
};

}  // namespace udax::crash
