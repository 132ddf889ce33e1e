// SPDX-License-Identifier: BSD-3-Clause
#include "tests/bench/scale/scratch.h"

#include <fcntl.h>
#include <unistd.h>

#include <cinttypes>
#include <fstream>

#include "media/pool_medium.h"
#include "mkfs/make_pool.h"

namespace udax::bench {
namespace {

std::shared_ptr<media::PoolMedium> open_medium(const std::string& path) {
  std::string why;
  auto medium = media::PoolMedium::open(path, {media::OpenMode::kExclusive, {}}, &why);
  if (!medium) throw Failure(why);
  return std::move(*medium);
}

}  // namespace

uint64_t rss_anon_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    uint64_t kib = 0;
    if (word == "RssAnon:" && status >> kib) return kib;
  }
  return 0;
}

ScratchPool::ScratchPool(const Settings& settings, const std::string& name, uint64_t size, uint64_t journal_blocks)
    : path_(settings.folder + "/udax-scale-" + std::to_string(::getpid()) + "-" + name + ".pool") {
  std::string why;
  if (!media::PoolMedium::create_file(path_, size, &why)) throw Failure(why);
  try {
    const auto medium = open_medium(path_);
    const uint64_t start = now_ns();
    mkfs::MakeOptions options;
    options.journal_blocks = journal_blocks;
    if (!mkfs::make_pool(*medium, options, &why)) throw Failure(why);
    make_ns_ = now_ns() - start;
  } catch (...) {
    ::unlink(path_.c_str());
    throw;
  }
}

ScratchPool::~ScratchPool() {
  kill();
  ::unlink(path_.c_str());
}

void ScratchPool::mount(const fs::MountOptions& options) {
  std::string why;
  auto mounted = fs::Filesystem::mount(open_medium(path_), options, &why);
  if (!mounted) throw Failure(why);
  fs_ = std::move(*mounted);
}

void ScratchPool::unmount() {
  must(fs_->unmount(), "unmount");
  fs_.reset();
}

void ScratchPool::kill() { fs_.reset(); }

void Probe::report_ns(Report& report, const std::string& section, const std::string& metric,
                      const std::string& parameter, uint64_t count) {
  const uint64_t spent = now_ns() - start_;
  report.add(section, metric, "ns", parameter, static_cast<double>(spent) / static_cast<double>(count));
}

void Probe::report_media(Report& report, const std::string& section, const std::string& metric,
                         const std::string& parameter, uint64_t count) {
  const fs::Stats now = fs_.stats();
  const auto each = [&](const char* unit, uint64_t before, uint64_t after) {
    report.add(section, metric, unit, parameter, static_cast<double>(after - before) / static_cast<double>(count));
  };
  each("drains", media_.drains, now.media.drains);
  each("lines flushed", media_.flushed_lines, now.media.flushed_lines);
  each("journal bytes", journal_.bytes, now.journal.bytes);
}

std::string_view name_of(const char* prefix, uint64_t index) {
  thread_local char text[64];
  const int length = std::snprintf(text, sizeof text, "%s-%08" PRIu64 ".dat", prefix, index);
  return {text, static_cast<size_t>(length)};
}

Ino make_dir(fs::Filesystem& fs, Ino parent, std::string_view name) {
  return must(fs.make(parent, name, 0040755U, 0, 0, kRoot), "mkdir").ino;
}

Ino make_file(fs::Filesystem& fs, Ino parent, std::string_view name) {
  fs::Attr attr;
  must(fs.create(parent, name, 0644, O_RDWR, kRoot, &attr), "create");
  return attr.ino;
}

Population::Population(const Settings& settings, uint64_t count, Report& report)
    : count_(count),
      // Two layouts, at some 500 bytes a file with its name, and room for a directory that is split at random.
      pool_(settings, "files" + std::to_string(count), (uint64_t{256} << 20) + count * 2048) {
  pool_.mount();
  layouts_[0].name = "one directory";
  layouts_[1].name = "1000 directories";
  for (Layout& layout : layouts_) {
    const Ino top = make_dir(pool_.fs(), kRootIno, layout.name);
    if (&layout == &layouts_[0]) {
      layout.dirs = {top};
    } else {
      for (uint64_t i = 0; i < 1000; ++i) layout.dirs.push_back(make_dir(pool_.fs(), top, name_of("dir", i)));
    }
    layout.files.reserve(count);
    Probe probe(pool_.fs());
    for (uint64_t i = 0; i < count; ++i) {
      layout.files.push_back(make_file(pool_.fs(), layout.dir_of(i), name_of("file", i)));
    }
    probe.report_ns(report, "filling and emptying", "create all; " + layout.name, count_name(count), count);
  }
}

}  // namespace udax::bench
