// SPDX-License-Identifier: BSD-3-Clause
//
// Where workloads are run: a pool of each World, made once; a workload's recording; its exploration.
//
// The name of a workload says all there is to know of it, together with its seed:
//   plain/create+unlink      operations one after another, on the pool `plain`
//   plain/create+unlink!     the same, with the mount before and the unmount after
//   plain/create|unlink      operations at once, a thread each; the seed draws the schedule
//   random/plain             thirty operations, drawn by the seed
//   reuse/recycle            blocks that were metadata are freed and become data
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "tests/crash/engine/explorer.h"
#include "tests/crash/engine/operation.h"

namespace udax::crash {

struct Workload {
  std::string name;
  World world = World::kPlain;
  std::vector<Operation> operations;
  bool threads = false;     // all at once
  bool with_mount = false;  // the mount and the unmount are recorded, too
  uint64_t seed = 1;
  uint64_t from = 0;  // operations whose crashes have been explored elsewhere: the first ones

  /// kInvalid: no such workload.
  [[nodiscard]] static Result<Workload> parse(std::string_view name, uint64_t seed);
};

/// What an id names.
struct ImageId {
  std::string workload;
  uint64_t seed = 0;
  std::vector<CrashPoint> points;
  [[nodiscard]] static std::optional<ImageId> parse(std::string_view text);
};

class Lab {
 public:
  Lab();
  ~Lab();

  /// Explores one workload. The violations found, `violations_max` at most.
  [[nodiscard]] std::vector<Violation> run(const Workload& workload, const Budget& budget, size_t violations_max);
  /// Makes one image again and tells all about it. What is wrong with it; empty: nothing.
  [[nodiscard]] std::string replay(const Workload& workload, const std::vector<CrashPoint>& points);

  [[nodiscard]] Totals& totals() { return totals_; }
  /// What is done to each image before it is recovered: damage.
  void set_image_hook(std::function<void(CrashMedium&)> hook) { image_hook_ = std::move(hook); }
  /// Makes the pools of all worlds now.
  void make_pools();
  /// The disk of a world, with its pool as it was made: unmounted. To be left so.
  [[nodiscard]] CrashMedium& disk(World world);

 private:
  struct Pool;
  struct Recording;
  [[nodiscard]] Pool& pool(World world);
  [[nodiscard]] Recording record(Pool& pool, const Workload& workload);
  [[nodiscard]] Recording record_serial(Pool& pool, const Workload& workload);
  [[nodiscard]] Recording record_threads(Pool& pool, const Workload& workload);
  [[nodiscard]] Tree tree_after(Pool& pool, const Workload& workload, const std::vector<size_t>& order);

  Totals totals_;
  std::function<void(CrashMedium&)> image_hook_;
  std::array<std::unique_ptr<Pool>, kWorlds> pools_;
};

}  // namespace udax::crash
