// SPDX-License-Identifier: BSD-3-Clause
//
// Mounting: clean, after a kill with some and with many records in the journal; with few and many files. And
// the memory that a walk over all files takes, and gives back.
#include <malloc.h>

#include "media/pool_medium.h"
#include "tests/bench/scale/scratch.h"

namespace udax::bench {
namespace {

constexpr uint32_t kMounts = 7;

double timed_mount(ScratchPool& pool) {
  const uint64_t start = now_ns();
  pool.mount();
  return static_cast<double>(now_ns() - start) / 1e6;
}

/// `count` changes of metadata.
void change(fs::Filesystem& fs, uint64_t count) {
  for (uint64_t i = 0; i < count / 2; ++i) {
    make_file(fs, kRootIno, name_of("brief", i));
    must(fs.unlink(kRootIno, name_of("brief", i)), "unlink");
  }
}

void mounts_of(ScratchPool& pool, Report& report, const std::string& parameter) {
  const std::string section = "mount";
  change(pool.fs(), 100);
  const uint64_t start = now_ns();
  pool.unmount();
  report.add(section, "unmount", "ms", parameter, static_cast<double>(now_ns() - start) / 1e6);
  report.add(section, "mount, clean", "ms", parameter, timed_mount(pool));
  for (const uint64_t changes : {uint64_t{100}, uint64_t{100'000}}) {
    change(pool.fs(), changes);
    pool.kill();
    const std::string metric = "mount after a kill and " + count_name(changes) + " changes";
    report.add(section, metric, "ms", parameter, timed_mount(pool));
    report.add(section, metric, "records replayed", parameter, static_cast<double>(pool->stats().replay.records));
  }
}

}  // namespace

void measure_mounts(const Settings& settings, Populations& populations, Report& report) {
  ScratchPool small(settings, "ten-files", uint64_t{2304} << 20);
  small.mount();
  for (uint64_t i = 0; i < 10; ++i) make_file(small.fs(), kRootIno, name_of("file", i));
  for (uint32_t r = 0; r < kMounts; ++r) {
    mounts_of(small, report, "10 files");
    for (const auto& p : populations) mounts_of(p->pool(), report, count_name(2 * p->count()) + " files");
  }
  report.print("mount");
}

void measure_memory(Populations& populations, Report& report) {
  for (const auto& population : populations) {
    ScratchPool& pool = population->pool();
    const Population::Layout& layout = population->layouts()[0];
    const std::string parameter = count_name(population->count());
    const std::string section = "memory, a walk over all files";
    pool.unmount();
    ::malloc_trim(0);
    const uint64_t before = rss_anon_kib();
    fs::MountOptions options;
    options.count_lookups = true;
    pool.mount(options);
    const auto note = [&](const char* metric) {
      const uint64_t now = rss_anon_kib();
      report.add(section, metric, "KiB", parameter, now < before ? 0 : static_cast<double>(now - before));
    };
    note("mounted");
    for (uint64_t i = 0; i < layout.files.size(); ++i) {
      must(pool->lookup(layout.dirs[0], name_of("file", i)), "lookup");
    }
    note("all looked up");
    const inode::CacheStats cache = pool->stats().cache;
    report.add(section, "inodes in memory", "count", parameter, static_cast<double>(cache.inodes));
    report.add(section, "lookups counted", "count", parameter, static_cast<double>(cache.lookups));
    for (const Ino ino : layout.files) pool->forget(ino, 1);
    note("all forgotten");
    ::malloc_trim(0);
    note("all forgotten, heap trimmed");
    pool.unmount();
    ::malloc_trim(0);
    note("unmounted");
    pool.mount();
  }
  report.print("memory, a walk over all files");
}

void measure_huge_pool(const Settings& settings, Report& report) {
  const std::string section = "an empty pool";
  for (const uint64_t gib : {uint64_t{1}, uint64_t{64}, uint64_t{1024}}) {
    const std::string parameter = std::to_string(gib) + " GiB";
    for (uint32_t r = 0; r < 3; ++r) {
      ScratchPool pool(settings, "huge", gib << 30);
      const auto note = [&](const char* metric, uint64_t ns) {
        report.add(section, metric, "ms", parameter, static_cast<double>(ns) / 1e6);
      };
      note("mkfs", pool.make_ns());
      const uint64_t before = rss_anon_kib();
      report.add(section, "mount", "ms", parameter, timed_mount(pool));
      report.add(section, "memory when mounted", "KiB", parameter,
                 static_cast<double>(rss_anon_kib() - std::min(before, rss_anon_kib())));
      const uint64_t start = now_ns();
      const Ino ino = make_file(pool.fs(), kRootIno, "first");
      const uint64_t made = now_ns();
      {
        const fs::OpenFilePtr file = must(pool->open(ino, 2, false), "open");
        const std::vector<std::byte> data(kBlockSize, std::byte{1});
        must(pool->write(*file, 0, data, false, false), "write");
      }
      note("first create", made - start);
      note("first block of data", now_ns() - made);
      pool.kill();
      report.add(section, "mount after a kill", "ms", parameter, timed_mount(pool));
      const uint64_t end = now_ns();
      pool.unmount();
      note("unmount", now_ns() - end);
    }
  }
  report.print(section);
}

}  // namespace udax::bench
