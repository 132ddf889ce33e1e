// SPDX-License-Identifier: BSD-3-Clause
//
// A pool that fills up. An aged one: everything is taken first, then random runs of 4 to 64 KiB are given back, until
// as much is in use as wanted. So the fuller the pool, the more scattered what is free.
#include <fcntl.h>
#include <sys/mman.h>

#include "tests/bench/scale/scratch.h"

namespace udax::bench {
namespace {

constexpr const char* kSection = "an aged pool, by how full it is";
constexpr uint64_t kPieceBytes = uint64_t{64} << 20;
constexpr uint64_t kFileBytes = uint64_t{64} << 20;  // the file that is overwritten

struct Aged {
  Aged(const Settings& settings, uint64_t percent)
      : parameter(std::to_string(percent) + " %"),
        pool(settings, "aged" + std::to_string(percent), settings.aged_pool_bytes) {}
  std::string parameter;
  ScratchPool pool;
  fs::OpenFilePtr ballast;
  fs::OpenFilePtr file;
  uint64_t file_bytes = 0;
};

uint64_t used_percent(fs::Filesystem& fs) {
  const fs::StatFs s = fs.statfs();
  return 100 - s.blocks_free * 100 / s.blocks;
}

void age(Aged& aged, uint64_t percent, uint64_t seed) {
  fs::Filesystem& fs = aged.pool.fs();
  fs::Attr attr;
  aged.file = must(fs.create(kRootIno, "data", 0644, O_RDWR, kRoot, &attr), "create");
  const std::vector<std::byte> data(uint64_t{1} << 20, std::byte{0x5A});
  for (; aged.file_bytes < kFileBytes; aged.file_bytes += data.size()) {
    must(fs.write(*aged.file, aged.file_bytes, data, false, false), "write");
  }
  aged.ballast = must(fs.create(kRootIno, "ballast", 0644, O_RDWR, kRoot, &attr), "create");
  uint64_t size = 0;
  for (; used_percent(fs) < 97; size += kPieceBytes)
    must(fs.fallocate(*aged.ballast, 0, size, kPieceBytes), "fill");
  Random random(seed);
  if (percent <= 1) {
    fs::SetAttr changes;
    changes.size = 0;
    must(fs.setattr(attr.ino, changes, kRoot), "truncate");
  }
  while (used_percent(fs) > percent && percent > 1) {
    for (int i = 0; i < 64; ++i) {
      const uint64_t at = random.below(size / kBlockSize) * kBlockSize;
      const uint64_t length = random.between(1, 16) * kBlockSize;
      const uint32_t punch = fs::kFallocPunchHole | fs::kFallocKeepSize;
      must(fs.fallocate(*aged.ballast, punch, at, length), "punch");
    }
  }
}

/// Every page of the pool there and mapped: on a tmpfs the first touch of one costs more than what is measured.
void touch_all(fs::Filesystem& fs) {
  media::Medium& medium = fs.medium();
  if (::madvise(const_cast<std::byte*>(medium.at(0)), medium.size(), MADV_POPULATE_WRITE) != 0) {
    throw Failure("the memory for a pool is not to be had");
  }
}

void round(const Settings& settings, Aged& aged, Random& random, Report& report) {
  fs::Filesystem& fs = aged.pool.fs();
  const std::vector<std::byte> data(uint64_t{64} << 10, std::byte{0x5A});
  const std::span<const std::byte> block = std::span(data).first(kBlockSize);
  const auto run = [&](const char* metric, auto&& op) {
    Probe probe(fs);
    for (uint64_t i = 0; i < settings.batch; ++i) op(i);
    probe.report_ns(report, kSection, metric, aged.parameter, settings.batch);
  };
  run("create + close", [&](uint64_t i) { make_file(fs, kRootIno, name_of("new", i)); });
  std::vector<fs::OpenFilePtr> files;
  for (uint64_t i = 0; i < settings.batch; ++i) {
    const Ino ino = must(fs.lookup(kRootIno, name_of("new", i)), "lookup").ino;
    files.push_back(must(fs.open(ino, O_RDWR, false), "open"));
  }
  run("first 4 KiB of a file", [&](uint64_t i) { must(fs.write(*files[i], 0, block, false, false), "write"); });
  run("next 4 KiB", [&](uint64_t i) { must(fs.write(*files[i], kBlockSize, block, false, false), "write"); });
  run("next 64 KiB", [&](uint64_t i) { must(fs.write(*files[i], 2 * kBlockSize, data, false, false), "write"); });
  run("overwrite 4 KiB, random", [&](uint64_t) {
    const uint64_t at = random.below(aged.file_bytes / kBlockSize) * kBlockSize;
    must(fs.write(*aged.file, at, block, false, false), "write");
  });
  run("overwrite 4 KiB + fsync", [&](uint64_t) {
    const uint64_t at = random.below(aged.file_bytes / kBlockSize) * kBlockSize;
    must(fs.write(*aged.file, at, block, false, false), "write");
    must(fs.fsync(*aged.file, true), "fsync");
  });
  run("fsync, nothing to do", [&](uint64_t) { must(fs.fsync(*aged.file, false), "fsync"); });
  files.clear();
  run("unlink of 72 KiB", [&](uint64_t i) { must(fs.unlink(kRootIno, name_of("new", i)), "unlink"); });
}

}  // namespace

void measure_space(const Settings& settings, Report& report) {
  Random random(settings.seed);
  std::vector<std::unique_ptr<Aged>> pools;
  for (const uint64_t percent : {uint64_t{1}, uint64_t{50}, uint64_t{90}}) {
    pools.push_back(std::make_unique<Aged>(settings, percent));
    pools.back()->pool.mount();
    touch_all(pools.back()->pool.fs());
    age(*pools.back(), percent, settings.seed);
  }
  for (uint32_t r = 0; r < settings.rounds; ++r) {
    for (const auto& aged : pools) round(settings, *aged, random, report);
  }
  for (const auto& aged : pools) {
    aged->file.reset();
    aged->ballast.reset();
  }
  report.print(kSection);
}

}  // namespace udax::bench
