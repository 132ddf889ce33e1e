// SPDX-License-Identifier: BSD-3-Clause
//
// What the sections of the scale benchmark share: pools that are there for a while, clocks and counters, and a
// population of files that is made once and measured by several sections.
//
// A failure is thrown, and ends the program: figures of an operation that failed would mean nothing.
#pragma once

#include <time.h>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/random.h"
#include "fs/filesystem.h"
#include "tests/bench/scale/report.h"

namespace udax::bench {

struct Settings {
  std::string folder = "/dev/shm";  // for pools
  uint64_t seed = 1;
  uint32_t rounds = 11;
  uint32_t batch = 1000;  // operations a round
  std::vector<uint64_t> files{1000, 100'000, 1'000'000};
  std::vector<uint64_t> extents{100, 10'000, 1'000'000};
  uint64_t aged_pool_bytes = uint64_t{2} << 30;  // three of them, all in memory
};

class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline void must(const Status& status, const char* what) {
  if (!status) throw Failure(std::string(what) + ": " + std::string(to_string(status.error())));
}
template <typename T>
T must(Result<T> result, const char* what) {
  if (!result) throw Failure(std::string(what) + ": " + std::string(to_string(result.error())));
  return std::move(*result);
}

inline const fs::Caller kRoot{0, 0, 1, 022};

/// Of this thread's time on a processor: what others take away in the middle of a batch does not count. Nothing that
/// is measured here waits for anything else.
[[nodiscard]] inline uint64_t now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(t.tv_nsec);
}

/// By the wall, for single operations: reading it is cheap, and the median leaves out what was interrupted.
[[nodiscard]] inline uint64_t wall_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(t.tv_nsec);
}

/// KiB of this process by /proc/self/status; pool pages, being shared memory, are not in RssAnon.
[[nodiscard]] uint64_t rss_anon_kib();

/// A pool in a sparse file, gone with the object.
class ScratchPool {
 public:
  /// `journal_blocks`: 0: as many as mkfs takes for the size.
  ScratchPool(const Settings& settings, const std::string& name, uint64_t size, uint64_t journal_blocks = 0);
  ~ScratchPool();
  ScratchPool(const ScratchPool&) = delete;
  ScratchPool& operator=(const ScratchPool&) = delete;

  /// Opens the file and mounts.
  void mount(const fs::MountOptions& options = {});
  void unmount();
  /// As if the process had been killed: nothing is written any more.
  void kill();
  [[nodiscard]] fs::Filesystem& fs() { return *fs_; }
  fs::Filesystem* operator->() { return fs_.get(); }
  [[nodiscard]] uint64_t make_ns() const { return make_ns_; }

 private:
  std::string path_;
  uint64_t make_ns_ = 0;
  std::unique_ptr<fs::Filesystem> fs_;
};

/// What a row of operations took: time, and what went to the medium.
class Probe {
 public:
  explicit Probe(fs::Filesystem& fs)
      : fs_(fs), media_(fs.stats().media), journal_(fs.stats().journal), start_(now_ns()) {}
  /// Of `count` operations since.
  void report_ns(Report& report, const std::string& section, const std::string& metric,
                 const std::string& parameter, uint64_t count);
  void report_media(Report& report, const std::string& section, const std::string& metric,
                    const std::string& parameter, uint64_t count);

 private:
  fs::Filesystem& fs_;
  media::Counters media_;
  journal::JournalStats journal_;
  uint64_t start_;
};

/// A pool with `count` files in one directory and as many over up to 1,000 directories.
class Population {
 public:
  Population(const Settings& settings, uint64_t count, Report& report);

  struct Layout {
    std::string name;
    std::vector<Ino> dirs;
    std::vector<Ino> files;
    [[nodiscard]] Ino dir_of(uint64_t index) const { return dirs[index % dirs.size()]; }
  };
  [[nodiscard]] uint64_t count() const { return count_; }
  [[nodiscard]] ScratchPool& pool() { return pool_; }
  [[nodiscard]] std::array<Layout, 2>& layouts() { return layouts_; }

 private:
  uint64_t count_;
  ScratchPool pool_;
  std::array<Layout, 2> layouts_;
};
using Populations = std::vector<std::unique_ptr<Population>>;

/// A name of usual length, in a buffer of the thread.
[[nodiscard]] std::string_view name_of(const char* prefix, uint64_t index);
[[nodiscard]] Ino make_dir(fs::Filesystem& fs, Ino parent, std::string_view name);
/// create(2) and close(2).
Ino make_file(fs::Filesystem& fs, Ino parent, std::string_view name);

// The sections.
void measure_names(const Settings& settings, Populations& populations, Report& report);
void empty_populations(Populations& populations, Report& report);
void measure_costs(const Settings& settings, Populations& populations, Report& report);
void measure_mounts(const Settings& settings, Populations& populations, Report& report);
void measure_memory(Populations& populations, Report& report);
void measure_extents(const Settings& settings, Report& report);
void measure_space(const Settings& settings, Report& report);
void measure_ageing(const Settings& settings, Report& report);
void measure_recovery(const Settings& settings, Report& report);
void measure_huge_pool(const Settings& settings, Report& report);

}  // namespace udax::bench
