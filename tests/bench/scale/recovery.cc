// SPDX-License-Identifier: BSD-3-Clause
//
// What a mount after a crash takes: by how full the journal's ring is, and then, with as much in the ring, by the size of
// the pool and by the number of files in it.
//
// A daemon moves the tail when half of the ring is in use, so that half is what one thread leaves behind. More can be had
// only in a build with knobs (UDAX_SYNC_POINTS); in others those columns are missing.
#include <optional>

#include "base/sync_point.h"
#include "tests/bench/scale/scratch.h"

namespace udax::bench {
namespace {

constexpr uint64_t kRingBlocks = 4096;  // 16 MiB, in each pool
constexpr uint32_t kRoundsMax = 7;
constexpr uint32_t kNoisePerMille = 5;  // of the ring, that a fill may be off

/// Changes that need not wait for one another: attributes of files drawn at random, names that come and go.
class Changes {
 public:
  Changes(fs::Filesystem& fs, const std::vector<Ino>& files, uint64_t seed)
      : fs_(fs), files_(files), random_(seed) {}
  void next() {
    if (++count_ % 8 != 0) {
      fs::SetAttr change;
      change.mode = 0600 + static_cast<uint32_t>(random_.below(64));
      must(fs_.setattr(files_[random_.below(files_.size())], change, kRoot), "chmod");
    } else {
      make_file(fs_, kRootIno, name_of("brief", count_));
      must(fs_.unlink(kRootIno, name_of("brief", count_)), "unlink");
    }
  }

 private:
  fs::Filesystem& fs_;
  const std::vector<Ino>& files_;
  Random random_;
  uint64_t count_ = 0;
};

/// Mounted as it was closed, changed until the ring is as full, and killed. False: the tail does not let it get so full.
bool fill(ScratchPool& pool, const std::vector<Ino>& files, uint64_t percent, uint64_t seed) {
  pool.mount();
  Changes changes(pool.fs(), files, seed);
  for (;;) {
    const journal::JournalStats stats = pool->stats().journal;
    const uint64_t most = stats.ring_bytes - stats.ring_bytes * kNoisePerMille / 1000;
    const uint64_t wanted = std::min(most, stats.ring_bytes * percent / 100);
    if (stats.used_bytes >= wanted) break;
    if (stats.tail_updates > 0 && stats.bytes >= stats.ring_bytes) return false;
    const uint32_t step = wanted - stats.used_bytes > 64 * 1024 ? 16 : 1;
    for (uint32_t i = 0; i < step; ++i) changes.next();
  }
  pool.kill();
  return true;
}

/// A crash and a recovery.
void recover(ScratchPool& pool, const std::vector<Ino>& files, uint64_t percent, uint64_t seed, Report& report,
             const std::string& section, const std::string& parameter) {
  if (!fill(pool, files, percent, seed)) throw Failure("the journal does not get as full as that");
  const uint64_t start = now_ns();
  pool.mount();
  const uint64_t took = now_ns() - start;
  const journal::ReplayResult replay = pool->stats().replay;
  report.add(section, "records replayed", "count", parameter, static_cast<double>(replay.records));
  report.add(section, "of the journal", "KiB", parameter, static_cast<double>(replay.bytes) / 1024);
  report.add(section, "mount", "ms", parameter, static_cast<double>(took) / 1e6);
  if (replay.records > 0) {
    report.add(section, "mount, a record", "ns", parameter,
               static_cast<double>(took) / static_cast<double>(replay.records));
  }
  pool.unmount();
}

std::vector<Ino> populate(ScratchPool& pool, uint64_t count) {
  pool.mount();
  const Ino dir = make_dir(pool.fs(), kRootIno, "files");
  std::vector<Ino> files;
  files.reserve(count);
  for (uint64_t i = 0; i < count; ++i) files.push_back(make_file(pool.fs(), dir, name_of("file", i)));
  pool.unmount();
  return files;
}

}  // namespace

void measure_recovery(const Settings& settings, Report& report) {
  const uint32_t rounds = std::min(settings.rounds, kRoundsMax);
  const std::string by_fill = "recovery, by how full the ring is";
  {
    ScratchPool pool(settings, "fill", uint64_t{1} << 30, kRingBlocks);
    const std::vector<Ino> files = populate(pool, 10'000);
    std::optional<sync_point::ScopedKnob> lazy;
    if (sync_point::kCompiledIn) lazy.emplace("journal.lazy_tail");
    for (uint32_t r = 0; r < rounds; ++r) {
      for (const uint64_t percent : {0U, 10U, 25U, 50U, 75U, 100U}) {
        if (percent > 50 && !sync_point::kCompiledIn) continue;
        recover(pool, files, percent, settings.seed + r, report, by_fill, std::to_string(percent) + " %");
      }
    }
  }
  report.print(by_fill);

  const std::string by_size = "recovery, half a ring, by the size of the pool";
  for (const uint64_t gib : {1U, 16U, 256U, 1024U}) {
    ScratchPool pool(settings, "size", gib << 30, kRingBlocks);
    const std::vector<Ino> files = populate(pool, 10'000);
    for (uint32_t r = 0; r < rounds; ++r) {
      recover(pool, files, 49, settings.seed + r, report, by_size, std::to_string(gib) + " GiB");
    }
  }
  report.print(by_size);

  // With changes to as many files, all near each other; and to any: each record is a page of its own then, to be mapped.
  const std::string by_files = "recovery, half a ring, by files; a thousand change";
  const std::string anywhere = "recovery, half a ring, by files; any of them change";
  for (const uint64_t count : settings.files) {
    ScratchPool pool(settings, "files", uint64_t{16} << 30, kRingBlocks);
    const std::vector<Ino> files = populate(pool, count);
    const std::vector<Ino> few(files.end() - static_cast<ptrdiff_t>(std::min<uint64_t>(1000, count)), files.end());
    for (uint32_t r = 0; r < rounds; ++r) {
      recover(pool, few, 49, settings.seed + r, report, by_files, count_name(count));
      recover(pool, files, 49, settings.seed + r, report, anywhere, count_name(count));
    }
  }
  report.print(by_files);
  report.print(anywhere);
}

}  // namespace udax::bench
