// SPDX-License-Identifier: BSD-3-Clause
#include "tests/crash/engine/explorer.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace udax::crash {
namespace {

constexpr uint64_t kMix = 0x9E3779B97F4A7C15ULL;

// What a signal handler may look at.
char current_id[400];

void set_current(const std::string& id) {
  const size_t n = std::min(id.size(), sizeof current_id - 2);
  std::memcpy(current_id, id.data(), n);
  current_id[n] = '\n';
  current_id[n + 1] = '\0';
}

extern "C" void tell_and_die(int signal) {
  constexpr char kText[] = "VIOLATION: the process dies at ";
  if (current_id[0] != '\0') {
    static_cast<void>(!::write(STDOUT_FILENO, kText, sizeof kText - 1));
    static_cast<void>(!::write(STDOUT_FILENO, current_id, std::strlen(current_id)));
  }
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

/// The subsets that are also crashed again: the whole, and one in so many.
bool is_nested(const Subset& subset, uint64_t image, uint64_t every) {
  return subset.kind == 'a' || (every > 0 && ((image * kMix) >> 32) % every == 0);
}

}  // namespace

void announce_crashes() {
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE}) std::signal(signal, tell_and_die);
}

std::string place_text(const media::Medium& medium, uint64_t offset) {
  const auto super = media::load_superblock(medium);
  if (!super) return std::to_string(offset);
  const media::Geometry& g = super->geometry;
  const DeviceBlock b(offset >> kBlockShift);
  const std::string in = "+" + std::to_string(offset & (kBlockSize - 1));
  if (b == format::kSuperblockBlock) return "superblock" + in;
  if (b == format::kJournalControlBlock) return "journal control" + in;
  if (b == format::kRootBlock) return "root block" + in;
  if (b < g.bitmap_start) return "group descriptor" + in;
  if (b < g.journal_start) return "bitmap" + in;
  if (b < g.data_start) return "ring+" + std::to_string(offset - offset_of(g.journal_start));
  return "block " + std::to_string(b.value) + in;
}

std::string Explorer::id(const std::vector<CrashPoint>& points) const {
  std::string out = name_ + "@" + std::to_string(seed_);
  for (size_t i = 0; i < points.size(); ++i) {
    out += (i == 0 ? ":" : "/") + std::to_string(points[i].event) + ":" + points[i].subset.text();
  }
  return out;
}

std::string Explorer::events_text(const Trace& trace, size_t event) const {
  constexpr size_t kShown = 12;
  std::string out;
  for (size_t i = event > kShown ? event - kShown : 0; i < std::min(event + 2, trace.events.size()); ++i) {
    const Event& e = trace.events[i];
    out += i == event ? "  --- crash ---\n" : "";
    out += "  " + std::to_string(i) + " [" + std::to_string(e.thread) + "] ";
    switch (e.kind) {
      case Kind::kStore: out += "store "; break;
      case Kind::kStoreNt: out += "store nt "; break;
      case Kind::kFlush: out += "flush "; break;
      case Kind::kDrain: out += "drain\n"; continue;
      case Kind::kMark: out += "mark " + std::to_string(e.offset) + "\n"; continue;
    }
    out += place_text(disk_, e.offset) + " " + std::to_string(e.size) + " bytes\n";
  }
  return out;
}

void Explorer::report(const std::vector<CrashPoint>& points, const std::string& why) {
  ++totals_.violations;
  std::string story = why + "operations:\n" + oracle_.situation();
  story += "log before the crash:\n" + events_text(trace_, points.front().event);
  violations_.push_back({id(points), std::move(story)});
}

bool Explorer::is_point(size_t event, const Budget& budget) const {
  if (event == trace_.events.size()) return true;
  const Kind kind = trace_.events[event].kind;
  if (kind != Kind::kDrain && kind != Kind::kMark) return false;
  return budget.point_every <= 1 || ((event * kMix + seed_) >> 32) % budget.point_every == 0;
}

void Explorer::explore(const Budget& budget, uint64_t from, size_t violations_max) {
  bool begun = from == 0;
  for (size_t i = 0; i <= trace_.events.size() && violations_.size() < violations_max; ++i) {
    if (begun && is_point(i, budget)) visit(i, budget);
    if (i == trace_.events.size()) break;
    const Event& e = trace_.events[i];
    if (e.kind == Kind::kMark) {
      oracle_.pass(e.offset);
      begun = begun || e.offset >= from;
    }
    in_flight_.apply(i);
  }
}

void Explorer::visit(size_t event, const Budget& budget) {
  ++totals_.points;
  const InFlight::View view = in_flight_.view();
  const size_t found = violations_.size();
  for (const Subset& subset : InFlight::choose(view, budget, seed_ + event)) {
    try_image(event, view, subset, budget);
    if (violations_.size() > found) return;  // one of a moment is enough
  }
}

void Explorer::try_image(size_t event, const InFlight::View& view, const Subset& subset, const Budget& budget) {
  const CrashMedium::Mark durable = disk_.mark();
  in_flight_.poke(view, InFlight::counts(view, subset, seed_ + event));
  if (image_hook_) image_hook_(disk_);
  const uint64_t image = (disk_.state_hash() * kMix + disk_.log_hash()) * kMix + oracle_.window();
  if (!seen_.insert(image).second) {
    ++totals_.repeated;
    disk_.rollback(durable);
    return;
  }
  const CrashPoint point{event, subset};
  set_current(id({point}));
  ++totals_.images;
  const CrashMedium::Mark poked = disk_.mark();
  const std::string why = verifier_.verify(oracle_);
  disk_.rollback(poked);
  if (!why.empty()) {
    report({point}, why);
  } else if (budget.nested_every > 0 && is_nested(subset, image, budget.nested_every)) {
    crash_recovery(point, budget);
  }
  current_id[0] = '\0';
  disk_.rollback(durable);
}

/// The image is on the disk: records its recovery, and crashes that.
void Explorer::crash_recovery(const CrashPoint& outer, const Budget& budget) {
  const CrashMedium::Mark image = disk_.mark();
  disk_.start_log();
  std::string why = verifier_.recover();
  const Trace recovery = disk_.stop_log();
  disk_.rollback(image);
  InFlight in_flight(disk_, recovery);
  Budget less = budget;
  less.exhaustive_max = 16;
  less.lines_exhaustive = 0;
  less.single_max = budget.nested_samples;
  less.sample_count = budget.nested_samples;
  for (size_t i = 0; i < recovery.events.size() && why.empty(); ++i) {
    if (recovery.events[i].kind == Kind::kDrain) {
      const InFlight::View view = in_flight.view();
      for (const Subset& subset : InFlight::choose(view, less, seed_ + i)) {
        const CrashMedium::Mark durable = disk_.mark();
        set_current(id({outer, {i, subset}}));
        in_flight.poke(view, InFlight::counts(view, subset, seed_ + i));
        ++totals_.images;
        ++totals_.nested;
        why = verifier_.verify(oracle_);
        disk_.rollback(durable);
        if (why.empty()) continue;
        report({outer, {i, subset}}, "  crashed again while recovering:\n" + why);
        break;
      }
    }
    in_flight.apply(i);
  }
  disk_.rollback(image);
}

std::string Explorer::replay(const std::vector<CrashPoint>& points) {
  if (points.empty() || points.front().event > trace_.events.size()) return "  there is no such event\n";
  for (size_t i = 0; i < points.front().event; ++i) {
    if (trace_.events[i].kind == Kind::kMark) oracle_.pass(trace_.events[i].offset);
    in_flight_.apply(i);
  }
  const auto poke = [this](InFlight& in_flight, const CrashPoint& p) {
    const InFlight::View view = in_flight.view();
    const auto counts = InFlight::counts(view, p.subset, seed_ + p.event);
    for (size_t i = 0; i < view.units.size(); ++i) {
      std::printf("  %s %s: %u of %zu values\n", counts[i] > 0 ? "+" : "-",
                  place_text(disk_, view.units[i].offset).c_str(), counts[i], view.units[i].unit->values.size());
    }
    in_flight.poke(view, counts);
  };
  std::printf("operations:\n%slog before the crash:\n%swhat was in flight, and got there (+) or not (-):\n",
              oracle_.situation().c_str(), events_text(trace_, points.front().event).c_str());
  poke(in_flight_, points.front());
  if (points.size() > 1) {
    const CrashMedium::Mark image = disk_.mark();
    disk_.start_log();
    const std::string why = verifier_.recover();
    const Trace recovery = disk_.stop_log();
    disk_.rollback(image);
    if (!why.empty() || points[1].event > recovery.events.size())
      return "  the recovery is another: " + why + "\n";
    std::printf("crashed again while recovering:\n%s", events_text(recovery, points[1].event).c_str());
    InFlight in_flight(disk_, recovery);
    for (size_t i = 0; i < points[1].event; ++i) in_flight.apply(i);
    poke(in_flight, points[1]);
  }
  return verifier_.verify(oracle_);
}

}  // namespace udax::crash
