// SPDX-License-Identifier: BSD-3-Clause
//
// Goes through a log, and at each moment that matters makes the images that a crash could leave, has each recovered and
// verified, and some of them crashed again during their recovery.
//
// The moments are the drains, the marks and the end: what could be on the medium at any other moment is a subset of what
// could be there at the next drain, and is tried there (see in_flight.h).
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "tests/crash/engine/in_flight.h"
#include "tests/crash/engine/verifier.h"

namespace udax::crash {

/// One crash: before event `event` of the log, with `subset` of what was in flight on the medium.
struct CrashPoint {
  size_t event = 0;
  Subset subset;
};

struct Violation {
  std::string id;
  std::string story;
};

class Explorer {
 public:
  /// `name`: of the workload, for ids. REQUIRES: the disk holds what it held when the log began.
  Explorer(CrashMedium& disk, Verifier& verifier, Oracle& oracle, const Trace& trace, std::string name,
           uint64_t seed, Totals& totals, std::unordered_set<uint64_t>& seen,
           std::function<void(CrashMedium&)> image_hook)
      : disk_(disk),
        verifier_(verifier),
        oracle_(oracle),
        trace_(trace),
        name_(std::move(name)),
        seed_(seed),
        totals_(totals),
        seen_(seen),
        image_hook_(std::move(image_hook)),
        in_flight_(disk, trace) {}

  /// Explores from the mark `from` on, until `violations_max` were found.
  void explore(const Budget& budget, uint64_t from, size_t violations_max);
  /// One image: `points` has one crash, or two (the second in the recovery of the first). Prints the story.
  [[nodiscard]] std::string replay(const std::vector<CrashPoint>& points);

  [[nodiscard]] const std::vector<Violation>& violations() const { return violations_; }

 private:
  [[nodiscard]] bool is_point(size_t event, const Budget& budget) const;
  void visit(size_t event, const Budget& budget);
  void try_image(size_t event, const InFlight::View& view, const Subset& subset, const Budget& budget);
  void crash_recovery(const CrashPoint& outer, const Budget& budget);
  void report(const std::vector<CrashPoint>& points, const std::string& why);
  [[nodiscard]] std::string id(const std::vector<CrashPoint>& points) const;
  [[nodiscard]] std::string events_text(const Trace& trace, size_t event) const;

  CrashMedium& disk_;
  Verifier& verifier_;
  Oracle& oracle_;
  const Trace& trace_;
  const std::string name_;
  const uint64_t seed_;
  Totals& totals_;
  std::unordered_set<uint64_t>& seen_;
  const std::function<void(CrashMedium&)> image_hook_;
  InFlight in_flight_;
  std::vector<Violation> violations_;
};

/// Where in the pool a store went, for people.
[[nodiscard]] std::string place_text(const media::Medium& medium, uint64_t offset);

/// Prints the id of the image at hand if the process aborts or crashes in it.
void announce_crashes();

}  // namespace udax::crash
