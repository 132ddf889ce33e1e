// SPDX-License-Identifier: BSD-3-Clause
//
// An aged pool: files of all sizes made and removed until three quarters are in use and the pool has been written over
// several times, as WineFS's authors (SOSP 2021, after the Geriatrix profiles) age theirs. What is asked is how much of
// the free space, and of files made then, can still be mapped by 2 MiB, and what writing costs beside a fresh pool.
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>

#include "tests/bench/scale/scratch.h"

namespace udax::bench {
namespace {

constexpr const char* kSection = "a fresh pool, and one after churn at 75 % full";
constexpr uint64_t kPieceBytes = uint64_t{1} << 20;
constexpr uint64_t kHugeBytes = kHugeBlocks * kBlockSize;
constexpr uint64_t kUsedPercent = 75;
constexpr uint32_t kDirectories = 64;

struct Made {
  Ino dir;
  std::string name;
  Ino ino;
  uint64_t bytes;
};

class Churn {
 public:
  Churn(fs::Filesystem& fs, uint64_t seed) : fs_(fs), random_(seed), data_(kPieceBytes, std::byte{0x5A}) {
    for (uint32_t i = 0; i < kDirectories; ++i) dirs_.push_back(make_dir(fs, kRootIno, name_of("aged", i)));
  }

  /// Makes and removes until `bytes` more have been written.
  void write_bytes(uint64_t bytes) {
    for (const uint64_t end = written_ + bytes; written_ < end;) {
      while (used_percent() >= kUsedPercent) remove_one();
      make_one();
    }
  }
  [[nodiscard]] uint64_t written() const { return written_; }
  [[nodiscard]] const std::vector<Made>& files() const { return files_; }

 private:
  [[nodiscard]] uint64_t used_percent() const {
    const fs::StatFs s = fs_.statfs();
    return 100 - s.blocks_free * 100 / s.blocks;
  }
  // Agrawal's shape: most files small, most bytes in large ones; each step doubles, each is half as likely as the one
  // before, with a tail to 64 MiB.
  uint64_t size() {
    uint64_t bytes = uint64_t{2} << 10;
    while (bytes < (uint64_t{32} << 20) && random_.below(100) < 62) bytes *= 2;
    return bytes + random_.below(bytes);
  }
  void make_one() {
    Made file{dirs_[random_.below(dirs_.size())], std::string(name_of("f", made_++)), Ino(), size()};
    fs::Attr attr;
    const fs::OpenFilePtr open = must(fs_.create(file.dir, file.name, 0644, O_RDWR, kRoot, &attr), "create");
    file.ino = attr.ino;
    for (uint64_t at = 0; at < file.bytes; at += kPieceBytes) {
      const auto piece = std::span(data_).first(std::min(kPieceBytes, file.bytes - at));
      must(fs_.write(*open, at, piece, false, false), "write");
    }
    written_ += file.bytes;
    files_.push_back(std::move(file));
  }
  void remove_one() {
    const size_t which = random_.below(files_.size());
    must(fs_.unlink(files_[which].dir, files_[which].name), "unlink");
    std::swap(files_[which], files_.back());
    files_.pop_back();
  }

  fs::Filesystem& fs_;
  Random random_;
  std::vector<std::byte> data_;
  std::vector<Ino> dirs_;
  std::vector<Made> files_;
  uint64_t made_ = 0;
  uint64_t written_ = 0;
};

/// Bytes of the file that a 2 MiB page can map.
uint64_t huge_bytes(fs::Filesystem& fs, Ino ino) {
  uint64_t huge = 0;
  for (uint64_t start = 0;;) {
    const auto extents = must(fs.extents(ino, start, 1000), "extents");
    for (const fs::ExtentInfo& e : extents) {
      start = e.file_offset + e.length;
      if (e.file_offset % kHugeBytes != e.device_offset % kHugeBytes) continue;
      const uint64_t first = align_up(e.file_offset, kHugeBytes);
      const uint64_t end = align_down(start, kHugeBytes);
      if (end > first) huge += end - first;
    }
    if (extents.size() < 1000) return huge;
  }
}

double percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

/// A large file, as a program writes one and as a database allocates one.
void measure_large_files(fs::Filesystem& fs, uint64_t bytes, const std::string& parameter, Report& report) {
  const std::vector<std::byte> data(kPieceBytes, std::byte{0xA5});
  const double mib = static_cast<double>(bytes) / (1 << 20);
  const auto mib_per_s = [&](uint64_t ns) { return mib * 1e9 / static_cast<double>(ns); };
  fs::Attr attr;
  {
    const fs::OpenFilePtr file = must(fs.create(kRootIno, "written", 0644, O_RDWR, kRoot, &attr), "create");
    uint64_t start = now_ns();
    for (uint64_t at = 0; at < bytes; at += kPieceBytes) must(fs.write(*file, at, data, false, false), "write");
    report.add(kSection, "write a large file, 1 MiB a call", "MiB/s", parameter, mib_per_s(now_ns() - start));
    report.add(kSection, "... of it mappable by 2 MiB", "%", parameter, percent(huge_bytes(fs, attr.ino), bytes));
    start = now_ns();
    for (uint64_t at = 0; at < bytes; at += kPieceBytes)
      must(fs.write(*file, at, data, false, false), "overwrite");
    report.add(kSection, "... written again", "MiB/s", parameter, mib_per_s(now_ns() - start));
  }
  must(fs.unlink(kRootIno, "written"), "unlink");
  {
    const fs::OpenFilePtr file = must(fs.create(kRootIno, "allocated", 0644, O_RDWR, kRoot, &attr), "create");
    must(fs.fallocate(*file, 0, 0, bytes), "fallocate");
    report.add(kSection, "a large file allocated, mappable by 2 MiB", "%", parameter,
               percent(huge_bytes(fs, attr.ino), bytes));
  }
  must(fs.unlink(kRootIno, "allocated"), "unlink");
}

void measure_small_files(fs::Filesystem& fs, const Settings& settings, const std::string& parameter,
                         Report& report) {
  const std::vector<std::byte> data(uint64_t{16} << 10, std::byte{0xA5});
  Probe probe(fs);
  for (uint64_t i = 0; i < settings.batch; ++i) {
    fs::Attr attr;
    const auto file = must(fs.create(kRootIno, name_of("small", i), 0644, O_RDWR, kRoot, &attr), "create");
    must(fs.write(*file, 0, data, false, false), "write");
  }
  probe.report_ns(report, kSection, "create + write 16 KiB", parameter, settings.batch);
  for (uint64_t i = 0; i < settings.batch; ++i) must(fs.unlink(kRootIno, name_of("small", i)), "unlink");
}

void measure(const Settings& settings, uint64_t churned, const std::string& parameter, Report& report) {
  ScratchPool pool(settings, "churn" + std::to_string(churned), settings.aged_pool_bytes);
  pool.mount();
  fs::Filesystem& fs = pool.fs();
  media::Medium& medium = fs.medium();
  if (::madvise(const_cast<std::byte*>(medium.at(0)), medium.size(), MADV_POPULATE_WRITE) != 0) {
    throw Failure("the memory for a pool is not to be had");
  }
  Churn churn(fs, settings.seed);
  if (churned != 0) churn.write_bytes(churned * settings.aged_pool_bytes);
  uint64_t mappable = 0;
  uint64_t large = 0;
  for (const Made& file : churn.files()) {
    if (file.bytes < kHugeBytes) continue;
    large += align_down(file.bytes, kHugeBytes);
    mappable += huge_bytes(fs, file.ino);
  }
  if (large != 0)
    report.add(kSection, "files of 2 MiB or more, mappable by 2 MiB", "%", parameter, percent(mappable, large));
  const fs::StatFs space = fs.statfs();
  report.add(kSection, "in use", "%", parameter, percent(space.blocks - space.blocks_free, space.blocks));
  report.add(kSection, "free space that is whole 2 MiB runs", "%", parameter,
             percent(fs.stats().space.huge_free * kHugeBlocks, space.blocks_free));
  for (uint32_t r = 0; r < settings.rounds; ++r) {
    measure_large_files(fs, settings.aged_pool_bytes / 16, parameter, report);
    measure_small_files(fs, settings, parameter, report);
  }
}

}  // namespace

void measure_ageing(const Settings& settings, Report& report) {
  measure(settings, 0, "fresh", report);
  measure(settings, 1, "written 1x", report);
  measure(settings, 10, "written 10x", report);
  report.print(kSection);
}

}  // namespace udax::bench
