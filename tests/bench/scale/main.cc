// SPDX-License-Identifier: BSD-3-Clause
//
// How costs grow with files, extents and used space: in process, over fs::Filesystem, without FUSE. tools/scale.sh
// runs it; docs/benchmarks.md explains what comes out.
//
// The pools are files on a tmpfs. Without more they would be of page granularity, where flushing is nothing; here
// libpmem2 is told that they are of cache lines, so that each flush and fence is what it is on persistent memory but
// for the medium's own latency.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>

#include "base/log.h"
#include "tests/bench/scale/scratch.h"

namespace udax::bench {
namespace {

constexpr const char* kUsage =
    "Usage: bench_scale [options] [SECTION...]\n"
    "  --short             a tenth of everything\n"
    "  --folder DIR        where the pools are made (default: /dev/shm)\n"
    "  --csv FILE          the results, a line each\n"
    "  --files N,N,...     files in a pool, for names, costs, mounts, memory, empty, recovery\n"
    "  --extents N,N,...   extents of a file\n"
    "  --rounds N          the median of how many\n"
    "  --batch N           operations a round (costs takes 1024 at most)\n"
    "  --seed N            of what is random\n"
    "  --granularity G     CACHE_LINE (default), BYTE or PAGE\n"
    "Sections: names costs mounts memory empty extents space ageing huge recovery (all, unless some are given)\n";

struct Arguments {
  Settings settings;
  std::string csv;
  std::string granularity = "CACHE_LINE";
  std::set<std::string> sections;
  [[nodiscard]] bool wants(const char* section) const { return sections.empty() || sections.contains(section); }
};

std::vector<uint64_t> parse_counts(const std::string& list) {
  std::vector<uint64_t> counts;
  for (const char* at = list.c_str(); *at != 0;) {
    char* end = nullptr;
    counts.push_back(std::strtoull(at, &end, 0));
    if (end == at || counts.back() == 0 || (*end != ',' && *end != 0)) return {};
    at = *end == ',' ? end + 1 : end;
  }
  return counts;
}

bool parse(int argc, char** argv, Arguments& out) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--short") {
      out.settings.rounds = 5;
      out.settings.batch = 500;
      out.settings.files = {1000, 10'000, 100'000};
      out.settings.extents = {100, 1000, 10'000};
      out.settings.aged_pool_bytes = uint64_t{1} << 30;
    } else if (word.starts_with("--")) {
      if (i + 1 == argc) return false;
      const std::string value = argv[++i];
      if (word == "--folder") {
        out.settings.folder = value;
      } else if (word == "--csv") {
        out.csv = value;
      } else if (word == "--granularity") {
        out.granularity = value;
      } else if (word == "--files") {
        out.settings.files = parse_counts(value);
        if (out.settings.files.empty()) return false;
      } else if (word == "--extents") {
        out.settings.extents = parse_counts(value);
        if (out.settings.extents.empty()) return false;
      } else if (word == "--rounds") {
        out.settings.rounds = static_cast<uint32_t>(std::strtoul(value.c_str(), nullptr, 0));
        if (out.settings.rounds == 0) return false;
      } else if (word == "--batch") {
        out.settings.batch = static_cast<uint32_t>(std::strtoul(value.c_str(), nullptr, 0));
        if (out.settings.batch == 0) return false;
      } else if (word == "--seed") {
        out.settings.seed = std::strtoull(value.c_str(), nullptr, 0);
      } else {
        return false;
      }
    } else {
      out.sections.insert(word);
    }
  }
  return true;
}

void run(const Arguments& arguments, Report& report) {
  const Settings& settings = arguments.settings;
  if (arguments.wants("huge")) measure_huge_pool(settings, report);
  if (arguments.wants("extents")) measure_extents(settings, report);
  if (arguments.wants("space")) measure_space(settings, report);
  if (arguments.wants("ageing")) measure_ageing(settings, report);
  if (arguments.wants("recovery")) measure_recovery(settings, report);
  bool populated = false;
  for (const char* section : {"names", "costs", "mounts", "memory", "empty"}) {
    populated = populated || arguments.wants(section);
  }
  if (!populated) return;
  Populations populations;
  for (const uint64_t count : settings.files) {
    populations.push_back(std::make_unique<Population>(settings, count, report));
  }
  if (arguments.wants("names")) measure_names(settings, populations, report);
  if (arguments.wants("costs")) measure_costs(settings, populations, report);
  if (arguments.wants("mounts")) measure_mounts(settings, populations, report);
  if (arguments.wants("memory")) measure_memory(populations, report);
  if (arguments.wants("empty")) empty_populations(populations, report);
}

}  // namespace
}  // namespace udax::bench

int main(int argc, char** argv) {
  using namespace udax::bench;
  Arguments arguments;
  if (!parse(argc, argv, arguments)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  ::setenv("PMEM2_FORCE_GRANULARITY", arguments.granularity.c_str(), 1);
  // Each of some hundred mounts would say what it replayed.
  static_cast<void>(udax::log_init(udax::LogLevel::kWarning, udax::LogTarget::kStderr));
  Report report;
  std::printf("granularity %s, seed %llu, median of %u rounds, or of as many as the CSV says\n",
              arguments.granularity.c_str(), static_cast<unsigned long long>(arguments.settings.seed),
              arguments.settings.rounds);
  try {
    run(arguments, report);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "bench_scale: %s\n", failure.what());
    return 1;
  }
  if (!arguments.csv.empty() && !report.write_csv(arguments.csv)) {
    std::fprintf(stderr, "bench_scale: %s cannot be written\n", arguments.csv.c_str());
    return 1;
  }
  return 0;
}
