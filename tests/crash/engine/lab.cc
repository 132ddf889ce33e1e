// SPDX-License-Identifier: BSD-3-Clause
#include "tests/crash/engine/lab.h"

#include <malloc.h>

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/log.h"
#include "base/sync_point.h"
#include "mkfs/make_pool.h"
#include "tests/crash/engine/clock.h"
#include "tests/crash/engine/turns.h"

namespace udax::crash {
namespace {

constexpr uint64_t kPoolBytes = uint64_t{8} << 20;
constexpr uint64_t kPrepareTicks = 10;
constexpr uint64_t kWorkTicks = 1000;
constexpr uint64_t kRecoverTicks = 5000;
constexpr int kFreePattern = 0xDD;  // what blocks hold that nobody has used

/// Limits that are lowered while a world is at work.
class Limits {
 public:
  explicit Limits(World world) {
    if (limit_of(world) != nullptr && sync_point::kCompiledIn) knob_.emplace(limit_of(world));
  }

 private:
  std::optional<sync_point::ScopedKnob> knob_;
};

std::unique_ptr<fs::Filesystem> mount(CrashMedium& disk, World world) {
  const std::shared_ptr<media::Medium> medium(&disk, [](media::Medium*) {});
  std::string why;
  auto mounted = fs::Filesystem::mount(medium, mount_options_of(world), &why);
  if (!mounted) panic(__FILE__, __LINE__, why.c_str());
  return std::move(*mounted);
}

}  // namespace

struct Lab::Pool {
  Pool(World which, Totals& totals);
  World world;
  CrashMedium disk{kPoolBytes};
  Verifier verifier;
  std::unordered_set<uint64_t> seen;  // images
  CrashMedium::Mark base;
};

Lab::Pool::Pool(World which, Totals& totals) : world(which), verifier(disk, totals) {
  std::memset(disk.raw(), kFreePattern, disk.size());
  mkfs::MakeOptions options;
  options.uuid.fill(7);
  options.hash_key.fill(9);
  options.journal_epoch = 1;
  options.journal_blocks = 256;
  options.time = {1'600'000'000, 0};
  std::string why;
  if (!mkfs::make_pool(disk, options, &why)) panic(__FILE__, __LINE__, why.c_str());
  disk.set_geometry(media::load_superblock(disk)->geometry);
  set_clock(kPrepareTicks);
  auto fs = mount(disk, world);
  {
    Shell shell(*fs, disk);
    prepare(world, shell);
  }
  UDAX_ASSERT(fs->unmount().has_value());
  verifier.set_world(world);
  base = disk.mark();
}

/// A workload's log, with the disk back where the log begins.
struct Lab::Recording {
  Trace trace;
  std::unique_ptr<Oracle> oracle;
  std::string wrong;  // what an operation did that is wrong without any crash
};

Lab::Lab() {
  // Mounting takes and gives back half a megabyte: not by way of the kernel, thousands of times a second.
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

Lab::~Lab() = default;

Lab::Pool& Lab::pool(World world) {
  auto& place = pools_.at(static_cast<size_t>(world));
  if (place == nullptr) place = std::make_unique<Pool>(world, totals_);
  return *place;
}

void Lab::make_pools() {
  for (size_t i = 0; i < kWorlds; ++i) static_cast<void>(pool(static_cast<World>(i)));
}

CrashMedium& Lab::disk(World world) {
  Pool& p = pool(world);
  p.disk.rollback(p.base);
  return p.disk;
}

Lab::Recording Lab::record_serial(Pool& pool, const Workload& workload) {
  CrashMedium& disk = pool.disk;
  disk.rollback(pool.base);
  set_clock(kWorkTicks);
  CrashMedium::Mark start = disk.mark();
  if (workload.with_mount) disk.start_log();
  auto fs = mount(disk, workload.world);
  auto shell = std::make_unique<Shell>(*fs, disk);
  if (!workload.with_mount) {
    warm_up(workload.world, *shell);
    start = disk.mark();
    disk.start_log();
  }
  Recording out;
  auto oracle = std::make_unique<SerialOracle>(read_tree(*fs, true));
  for (size_t i = 0; i < workload.operations.size(); ++i) {
    const Operation& op = workload.operations[i];
    set_clock(kWorkTicks + 1 + i);
    op.run(*shell);
    disk.note(i + 1);
    std::string outcome = shell->take_outcome();
    if (outcome.find(kWrong) != std::string::npos) out.wrong += "  " + op.name + ": " + outcome + "\n";
    oracle->add({op.name, op.rule, std::move(outcome)}, read_tree(*fs, true));
  }
  shell.reset();
  if (workload.with_mount) static_cast<void>(fs->unmount());
  fs.reset();
  out.trace = disk.stop_log();
  out.oracle = std::move(oracle);
  disk.rollback(start);
  return out;
}

Tree Lab::tree_after(Pool& pool, const Workload& workload, const std::vector<size_t>& order) {
  pool.disk.rollback(pool.base);
  set_clock(kWorkTicks);
  const auto fs = mount(pool.disk, workload.world);
  Shell shell(*fs, pool.disk);
  warm_up(workload.world, shell);
  set_clock(kWorkTicks + 1);
  for (const size_t i : order) workload.operations[i].run(shell);
  return read_tree(*fs, true);
}

Lab::Recording Lab::record_threads(Pool& pool, const Workload& workload) {
  const size_t count = workload.operations.size();
  std::vector<Step> steps;
  for (const Operation& op : workload.operations) steps.push_back({op.name, op.rule, ""});
  auto oracle = std::make_unique<ThreadOracle>(std::move(steps));
  for (size_t set = 0; set < (size_t{1} << count); ++set) {
    std::vector<size_t> order;
    for (size_t i = 0; i < count; ++i) {
      if ((set >> i & 1U) != 0) order.push_back(i);
    }
    do {
      oracle->add(order, tree_after(pool, workload, order));
    } while (std::next_permutation(order.begin(), order.end()));
  }
  CrashMedium& disk = pool.disk;
  disk.rollback(pool.base);
  set_clock(kWorkTicks);
  auto fs = mount(disk, workload.world);
  {
    Shell shell(*fs, disk);
    warm_up(workload.world, shell);
  }
  const CrashMedium::Mark start = disk.mark();
  set_clock(kWorkTicks + 1);
  disk.start_log();
  {
    std::vector<std::unique_ptr<Shell>> shells;
    for (size_t i = 0; i < count; ++i) shells.push_back(std::make_unique<Shell>(*fs, disk));
    Turns turns(count, workload.seed);
    disk.set_hook([&turns] { turns.step(); });
    std::vector<std::thread> threads;
    for (size_t i = 0; i < count; ++i) {
      threads.emplace_back([&, i] {
        turns.enter(i);
        disk.note(ThreadOracle::begin_mark(i));
        turns.step();
        workload.operations[i].run(*shells[i]);
        disk.note(ThreadOracle::end_mark(i));
        turns.leave();
      });
    }
    for (std::thread& t : threads) t.join();
    disk.set_hook(nullptr);
    // Closing may evict: after all marks, and still in the log.
  }
  fs.reset();
  Recording out;
  out.trace = disk.stop_log();
  out.oracle = std::move(oracle);
  disk.rollback(start);
  return out;
}

Lab::Recording Lab::record(Pool& pool, const Workload& workload) {
  return workload.threads ? record_threads(pool, workload) : record_serial(pool, workload);
}

std::vector<Violation> Lab::run(const Workload& workload, const Budget& budget, size_t violations_max) {
  const uint64_t begin = monotonic_ns();
  Pool& p = pool(workload.world);
  const Limits limits(workload.world);
  Recording recording = record(p, workload);
  set_clock(kRecoverTicks);
  p.verifier.set_operations(workload.operations);
  Explorer explorer(p.disk, p.verifier, *recording.oracle, recording.trace, workload.name, workload.seed, totals_,
                    p.seen, image_hook_);
  explorer.explore(budget, workload.from, violations_max);
  p.disk.rollback(p.base);
  ++totals_.workloads;
  totals_.seconds += static_cast<double>(monotonic_ns() - begin) / 1e9;
  std::vector<Violation> found = explorer.violations();
  if (recording.wrong.empty()) return found;
  ++totals_.violations;
  found.insert(found.begin(), {workload.name + "@" + std::to_string(workload.seed) + ":0:n", recording.wrong});
  return found;
}

std::string Lab::replay(const Workload& workload, const std::vector<CrashPoint>& points) {
  Pool& p = pool(workload.world);
  const Limits limits(workload.world);
  Recording recording = record(p, workload);
  set_clock(kRecoverTicks);
  p.verifier.set_operations(workload.operations);
  Explorer explorer(p.disk, p.verifier, *recording.oracle, recording.trace, workload.name, workload.seed, totals_,
                    p.seen, image_hook_);
  std::string why = explorer.replay(points);
  p.disk.rollback(p.base);
  return why;
}

}  // namespace udax::crash
