// SPDX-License-Identifier: BSD-3-Clause
//
// What an operation costs the medium: drains (fences), cache lines, bytes of journal. These do not depend on the
// machine.
#include <fcntl.h>

#include "tests/bench/scale/scratch.h"

namespace udax::bench {
namespace {

constexpr uint64_t kOverwrittenBlocks = 1024;

struct Costs {
  const Settings& settings;
  fs::Filesystem& fs;
  Report& report;
  std::string parameter;

  template <typename Op>
  void run(const std::string& metric, Op&& op) {
    Probe probe(fs);
    for (uint64_t i = 0; i < settings.batch; ++i) op(i);
    probe.report_media(report, "cost of one", metric, parameter, settings.batch);
  }
};

void of_names(Costs& c, const Population::Layout& layout) {
  const Ino dir = layout.dirs[0];
  c.run("create", [&](uint64_t i) { make_file(c.fs, dir, name_of("new", i)); });
  c.run("rename", [&](uint64_t i) {
    const std::string from(name_of("new", i));
    must(c.fs.rename(dir, from, dir, name_of("moved", i), 0), "rename");
  });
  c.run("chmod", [&](uint64_t i) {
    fs::SetAttr changes;
    changes.mode = 0600U + static_cast<uint32_t>(i % 2);
    must(c.fs.setattr(layout.files[i % layout.files.size()], changes, kRoot), "setattr");
  });
  c.run("unlink", [&](uint64_t i) { must(c.fs.unlink(dir, name_of("moved", i)), "unlink"); });
  c.run("mkdir", [&](uint64_t i) { static_cast<void>(make_dir(c.fs, dir, name_of("sub", i))); });
  c.run("rmdir", [&](uint64_t i) { must(c.fs.rmdir(dir, name_of("sub", i)), "rmdir"); });
}

void of_bytes(Costs& c) {
  fs::Attr attr;
  const fs::OpenFilePtr file = must(c.fs.create(kRootIno, "bytes", 0644, O_RDWR, kRoot, &attr), "create");
  const std::vector<std::byte> block(kBlockSize, std::byte{0x5A});
  const auto write = [&](uint64_t offset) { must(c.fs.write(*file, offset, block, false, false), "write"); };
  c.run("4 KiB append", [&](uint64_t i) { write(i * kBlockSize); });
  c.run("4 KiB overwrite", [&](uint64_t i) { write(i % c.settings.batch * kBlockSize); });
  c.run("4 KiB append, scattered", [&](uint64_t i) { write((kOverwrittenBlocks + 2 * i) * kBlockSize); });
  c.run("fsync", [&](uint64_t) { must(c.fs.fsync(*file, false), "fsync"); });
  c.run("truncate by 8 KiB", [&](uint64_t i) {
    fs::SetAttr changes;
    changes.size = (kOverwrittenBlocks + 2 * (c.settings.batch - i) - 2) * kBlockSize;
    must(c.fs.setattr(attr.ino, changes, kRoot), "truncate");
  });
  must(c.fs.unlink(kRootIno, "bytes"), "unlink");
}

}  // namespace

void measure_costs(const Settings& settings, Populations& populations, Report& report) {
  for (const auto& population : populations) {
    Costs costs{settings, population->pool().fs(), report, count_name(population->count())};
    of_names(costs, population->layouts()[0]);
    of_bytes(costs);
  }
  report.print("cost of one");
}

}  // namespace udax::bench
