// SPDX-License-Identifier: BSD-3-Clause
//
// Recovers what is on the disk, and finds out whether it is what it may be.
//
// Each image is mounted. Images that recovery brings to the same bytes (all but the journal's) under the same oracle are
// looked at once: the check of src/check, the tree against the oracle, a second recovery that must change nothing; then
// one of the operations under way is done again, and must be there after another crash; then it is used - in every directory a file
// is made, written, renamed and removed - and unmounted, and checked again.
#pragma once

#include <memory>
#include <string>
#include <unordered_set>

#include "tests/crash/engine/crash_medium.h"
#include "tests/crash/engine/operation.h"
#include "tests/crash/engine/oracle.h"

namespace udax::crash {

struct Totals {
  uint64_t workloads = 0;
  uint64_t points = 0;    // moments looked at
  uint64_t images = 0;    // recovered
  uint64_t repeated = 0;  // of the same bytes as an earlier one: not recovered again, not in `images`
  uint64_t nested = 0;    // of `images`: crashed during recovery
  uint64_t examined = 0;  // of `images`: recovered to bytes not seen before
  uint64_t violations = 0;
  double seconds = 0;
  void add(const Totals& other);
};

class Verifier {
 public:
  Verifier(CrashMedium& disk, Totals& totals) : disk_(disk), totals_(totals) {}

  /// A pool that is nearly full is given room before it is used.
  void set_world(World world) {
    options_ = mount_options_of(world);
    scarce_ = world == World::kFull || world == World::kRecycle;
  }

  /// Those of the workload, by the oracle's indexes.
  void set_operations(std::vector<Operation> operations) { operations_ = std::move(operations); }

  /// Recovers and judges. Changes the disk. Empty: nothing is wrong.
  [[nodiscard]] std::string verify(const Oracle& oracle);
  /// Mounts and lets go, as if the power failed right after.
  [[nodiscard]] std::string recover();

 private:
  [[nodiscard]] std::unique_ptr<fs::Filesystem> mount(std::string* why);
  [[nodiscard]] std::string examine(std::unique_ptr<fs::Filesystem> fs, const Oracle& oracle);
  [[nodiscard]] std::string check() const;
  [[nodiscard]] std::string retry(std::unique_ptr<fs::Filesystem>& fs, const Oracle& oracle);
  [[nodiscard]] std::string use(fs::Filesystem& fs, const Tree& tree) const;
  [[nodiscard]] std::string use_directory(fs::Filesystem& fs, Ino dir, const std::string& path) const;

  CrashMedium& disk_;
  Totals& totals_;
  fs::MountOptions options_;
  bool scarce_ = false;
  std::vector<Operation> operations_;
  std::unordered_set<uint64_t> verified_;
  std::unordered_set<uint64_t> retried_;
};

}  // namespace udax::crash
