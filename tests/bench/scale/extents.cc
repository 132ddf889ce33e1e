// SPDX-License-Identifier: BSD-3-Clause
//
// Files of many extents: every other block of two files, allocated in turn, so that neither file blocks nor device
// blocks merge. They are allocated without being written: a file of 10^6 extents then takes its map, not 4 GiB.
#include <fcntl.h>

#include "tests/bench/scale/scratch.h"

namespace udax::bench {
namespace {

constexpr const char* kSection = "a file of many extents";

struct Scattered {
  Scattered(fs::Filesystem& fs, const std::string& name, uint64_t count)
      : name(name), count(count), file(must(fs.create(kRootIno, name, 0644, O_RDWR, kRoot, &attr), "create")) {}
  std::string name;
  uint64_t count;
  fs::Attr attr;
  fs::OpenFilePtr file;
};

struct Pair {
  Scattered first;
  Scattered second;
};

void resize(fs::Filesystem& fs, Ino ino, uint64_t size) {
  fs::SetAttr changes;
  changes.size = size;
  must(fs.setattr(ino, changes, kRoot), "truncate");
}

std::unique_ptr<Pair> build(fs::Filesystem& fs, uint64_t count, Report& report) {
  const std::string parameter = count_name(count);
  auto pair = std::make_unique<Pair>(Pair{{fs, "first" + parameter, count}, {fs, "second" + parameter, count}});
  Probe probe(fs);
  for (uint64_t i = 0; i < count; ++i) {
    must(fs.fallocate(*pair->first.file, 0, 2 * i * kBlockSize, kBlockSize), "fallocate");
    must(fs.fallocate(*pair->second.file, 0, 2 * i * kBlockSize, kBlockSize), "fallocate");
  }
  probe.report_ns(report, kSection, "allocate one more extent, while growing", parameter, 2 * count);
  return pair;
}

struct Target {
  const Settings& settings;
  fs::Filesystem& fs;
  Scattered& target;
  Random& random;
  Report& report;

  void note(const char* metric, const std::vector<double>& ns) const {
    report.add(kSection, metric, "ns", count_name(target.count), median(ns));
  }
};

template <typename Op>
double timed(Op&& op) {
  const uint64_t start = wall_ns();
  op();
  return static_cast<double>(wall_ns() - start);
}

// What a round adds it takes away again, so that all rounds see the same file.
void round(Target& t) {
  const std::vector<std::byte> block(kBlockSize, std::byte{0x5A});
  const auto sink = [](std::span<const iovec>, uint64_t) { return Status(); };
  const auto any = [&] { return 2 * t.random.below(t.target.count) * kBlockSize; };
  const auto write = [&](uint64_t at) { must(t.fs.write(*t.target.file, at, block, false, false), "write"); };
  const uint64_t size = 2 * t.target.count * kBlockSize;
  std::vector<double> read, fill, punch, append, cut;
  for (uint32_t i = 0; i < t.settings.batch; ++i) {
    const uint64_t at = any();
    read.push_back(timed([&] { must(t.fs.read(*t.target.file, at, kBlockSize, sink), "read"); }));
  }
  for (uint32_t i = 0; i < t.settings.batch; ++i) {
    const uint64_t at = any() + kBlockSize;
    constexpr uint32_t kPunch = fs::kFallocPunchHole | fs::kFallocKeepSize;
    fill.push_back(timed([&] { write(at); }));
    punch.push_back(timed([&] { must(t.fs.fallocate(*t.target.file, kPunch, at, kBlockSize), "punch"); }));
  }
  for (uint32_t i = 0; i < t.settings.batch; ++i) {
    append.push_back(timed([&] { write(size); }));
    cut.push_back(timed([&] { resize(t.fs, t.target.attr.ino, size - kBlockSize); }));
  }
  t.note("read 4 KiB of a random extent", read);
  t.note("write 4 KiB into a random hole", fill);
  t.note("punch it out again", punch);
  t.note("append 4 KiB behind a hole", append);
  t.note("truncate it away again", cut);
}

template <typename Op>
uint64_t cpu_time(Op&& op) {
  const uint64_t start = now_ns();
  op();
  return now_ns() - start;
}

void remove(fs::Filesystem& fs, Pair& pair, Report& report) {
  const uint64_t count = pair.first.count;
  const std::string parameter = count_name(count);
  const auto note = [&](const char* metric, uint64_t ns) {
    report.add(kSection, metric, "ms", parameter, static_cast<double>(ns) / 1e6);
    report.add(kSection, metric, "ns an extent", parameter, static_cast<double>(ns) / static_cast<double>(count));
  };
  note("truncate to nothing", cpu_time([&] { resize(fs, pair.first.attr.ino, 0); }));
  pair.second.file.reset();
  note("unlink", cpu_time([&] { must(fs.unlink(kRootIno, pair.second.name), "unlink"); }));
}

}  // namespace

void measure_extents(const Settings& settings, Report& report) {
  uint64_t blocks = 65536;
  for (const uint64_t count : settings.extents) blocks += 2 * count + count / 32;
  ScratchPool pool(settings, "extents", blocks * kBlockSize);
  pool.mount();
  Random random(settings.seed);
  std::vector<std::unique_ptr<Pair>> pairs;
  for (const uint64_t count : settings.extents) pairs.push_back(build(pool.fs(), count, report));
  for (uint32_t r = 0; r < settings.rounds; ++r) {
    for (const auto& pair : pairs) {
      Target target{settings, pool.fs(), pair->first, random, report};
      round(target);
    }
  }
  for (const auto& pair : pairs) remove(pool.fs(), *pair, report);
  pairs.clear();
  report.print(kSection);
}

}  // namespace udax::bench
