// SPDX-License-Identifier: BSD-3-Clause
//
// Operations on names where there are many: a batch of each, round by round over all populations, so that a busy
// moment of the machine falls on all of them.
#include <fcntl.h>

#include "tests/bench/scale/scratch.h"

namespace udax::bench {
namespace {

constexpr uint64_t kListedMax = 10'000;  // entries a round

struct Target {
  const Settings& settings;
  fs::Filesystem& fs;
  const Population::Layout& layout;
  Random& random;
  Report& report;
  std::string parameter;

  [[nodiscard]] std::string section() const { return "names; " + layout.name; }
  template <typename Op>
  void run(const char* metric, Op&& op) {
    Probe probe(fs);
    for (uint64_t i = 0; i < settings.batch; ++i) op(i);
    probe.report_ns(report, section(), metric, parameter, settings.batch);
  }
};

uint64_t list_from(fs::Filesystem& fs, Ino dir, uint64_t cookie, uint64_t entries_max) {
  const fs::OpenFilePtr file = must(fs.open(dir, O_RDONLY, false), "opendir");
  uint64_t listed = 0;
  const auto sink = [&](const fs::DirEntry&) { return ++listed < entries_max; };
  must(fs.readdir(*file, cookie, sink), "readdir");
  return listed;
}

void list(Target& t) {
  uint64_t listed = 0;
  Probe probe(t.fs);
  // A cookie is a name's place in the order of names: a random one is a random place in the directory.
  while (listed < kListedMax) {
    const Ino dir = t.layout.dir_of(t.random.next());
    const uint64_t cookie = t.layout.dirs.size() == 1 ? t.random.next() >> 1 : 0;
    listed += list_from(t.fs, dir, cookie, kListedMax);
  }
  probe.report_ns(t.report, t.section(), "readdir, an entry", t.parameter, listed);
}

void round(Target& t) {
  const uint64_t files = t.layout.files.size();
  const auto any = [&] { return t.random.below(files); };
  t.run("create + close", [&](uint64_t i) { make_file(t.fs, t.layout.dir_of(i), name_of("new", i)); });
  t.run("lookup, random", [&](uint64_t) {
    const uint64_t i = any();
    must(t.fs.lookup(t.layout.dir_of(i), name_of("file", i)), "lookup");
  });
  t.run("lookup, not there", [&](uint64_t i) {
    if (t.fs.lookup(t.layout.dir_of(i), name_of("none", i))) throw Failure("a name that was never made is there");
  });
  t.run("stat, random", [&](uint64_t) { must(t.fs.getattr(t.layout.files[any()]), "getattr"); });
  t.run("open + close, random",
        [&](uint64_t) { must(t.fs.open(t.layout.files[any()], O_RDONLY, false), "open"); });
  list(t);
  t.run("rename", [&](uint64_t i) {
    const std::string from(name_of("new", i));
    must(t.fs.rename(t.layout.dir_of(i), from, t.layout.dir_of(i), name_of("moved", i), 0), "rename");
  });
  t.run("unlink", [&](uint64_t i) { must(t.fs.unlink(t.layout.dir_of(i), name_of("moved", i)), "unlink"); });
}

}  // namespace

void measure_names(const Settings& settings, Populations& populations, Report& report) {
  Random random(settings.seed);
  for (uint32_t r = 0; r < settings.rounds; ++r) {
    for (const auto& population : populations) {
      for (const Population::Layout& layout : population->layouts()) {
        Target target{settings, population->pool().fs(), layout, random, report, count_name(population->count())};
        round(target);
      }
    }
  }
  report.print("names; one directory");
  report.print("names; 1000 directories");
}

void empty_populations(Populations& populations, Report& report) {
  for (const auto& population : populations) {
    fs::Filesystem& fs = population->pool().fs();
    for (const Population::Layout& layout : population->layouts()) {
      Probe probe(fs);
      std::vector<std::string> names;
      for (const Ino dir : layout.dirs) {  // as rm -r: in the directory's order
        names.clear();
        const fs::OpenFilePtr file = must(fs.open(dir, O_RDONLY, false), "opendir");
        must(fs.readdir(*file, 2,
                        [&names](const fs::DirEntry& entry) {
                          names.emplace_back(entry.name);
                          return true;
                        }),
             "readdir");
        for (const std::string& name : names) must(fs.unlink(dir, name), "unlink");
      }
      probe.report_ns(report, "filling and emptying", "unlink all; " + layout.name,
                      count_name(population->count()), population->count());
    }
  }
  report.print("filling and emptying");
}

}  // namespace udax::bench
