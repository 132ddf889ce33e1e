// SPDX-License-Identifier: BSD-3-Clause
#include "tests/crash/engine/verifier.h"

#include <fcntl.h>

#include "check/check.h"
#include "tests/crash/engine/operation.h"

namespace udax::crash {
namespace {

constexpr uint64_t kMix = 0x9E3779B97F4A7C15ULL;
constexpr uint64_t kRepeatEvery = 8;  // a second recovery of images that were looked at before

std::string failed(const char* what, const std::string& path, Error error) {
  return "  use after recovery: " + std::string(what) + " in " + (path.empty() ? "/" : path) + ": " +
         std::string(to_string(error)) + "\n";
}

}  // namespace

void Totals::add(const Totals& other) {
  workloads += other.workloads;
  points += other.points;
  images += other.images;
  repeated += other.repeated;
  nested += other.nested;
  examined += other.examined;
  violations += other.violations;
  seconds += other.seconds;
}

std::unique_ptr<fs::Filesystem> Verifier::mount(std::string* why) {
  // The disk outlives the filesystem; nobody owns it here.
  const std::shared_ptr<media::Medium> medium(&disk_, [](media::Medium*) {});
  auto mounted = fs::Filesystem::mount(medium, options_, why);
  if (mounted) return std::move(*mounted);
  *why = "  cannot be mounted: " + *why + "\n";
  return nullptr;
}

std::string Verifier::recover() {
  std::string why;
  const auto fs = mount(&why);
  return fs != nullptr ? std::string() : why;
}

std::string Verifier::verify(const Oracle& oracle) {
  std::string why;
  const uint64_t image = disk_.log_hash() * kMix + disk_.state_hash();
  auto fs = mount(&why);
  if (fs == nullptr) return why;
  const uint64_t state = disk_.state_hash();
  const uint64_t key = state * kMix + oracle.window();
  const bool is_new = !verified_.contains(key);
  if (is_new || ((disk_.log_hash() * kMix) >> 32) % kRepeatEvery == 0) {
    fs.reset();
    fs = mount(&why);
    if (fs == nullptr) return "  a second recovery:\n" + why;
    if (disk_.state_hash() != state) return "  a second recovery changes what the first one left\n";
  }
  // Several records may be whole that were never committed: what each of them does to later ones depends on all of them.
  const bool may_leave_records = oracle.under_way().size() > 1 && retried_.insert(image).second;
  if (!is_new) return may_leave_records ? retry(fs, oracle) : std::string();
  ++totals_.examined;
  why = examine(std::move(fs), oracle);
  if (why.empty()) verified_.insert(key);
  return why;
}

std::string Verifier::check() const {
  check::CheckOptions options;
  options.problems_max = 10;
  std::string why;
  const auto report = check::check_pool(static_cast<const media::Medium&>(disk_), options, &why);
  if (!report) return "  cannot be checked: " + why + "\n";
  std::string out;
  for (const check::Problem& p : report->problems) {
    out += "  check: [" + std::string(check::to_string(p.code)) + "] " + p.what + "\n";
  }
  return out;
}

std::string Verifier::examine(std::unique_ptr<fs::Filesystem> fs, const Oracle& oracle) {
  Tree tree = read_tree(*fs, false);
  std::string why = oracle.judge(tree, [&fs] { return read_tree(*fs, true); });
  if (!why.empty()) return why;
  why = check();
  if (!why.empty()) return why;
  why = retry(fs, oracle);
  if (!why.empty()) return why;
  tree = read_tree(*fs, false);
  why = use(*fs, tree);
  if (!why.empty()) return why;
  if (const Status done = fs->unmount(); !done) {
    return "  unmounting after use: " + std::string(to_string(done.error())) + "\n";
  }
  fs.reset();
  why = check();
  return why.empty() ? why : "  after use:\n" + why;
}

/// One of those under way is done again, and the power fails once more.
std::string Verifier::retry(std::unique_ptr<fs::Filesystem>& fs, const Oracle& oracle) {
  const std::vector<size_t> again = oracle.under_way();
  if (again.empty()) return {};
  {
    Shell shell(*fs, disk_);
    operations_.at(again[(disk_.log_hash() >> 20) % again.size()]).run(shell);
  }
  const Tree done = read_tree(*fs, false);
  fs.reset();
  std::string why;
  fs = mount(&why);
  if (fs == nullptr) return "  after an operation was done again, and another crash:\n" + why;
  const Tree found = read_tree(*fs, false);
  if (found.digest() == done.digest()) return {};
  return "  another crash changes what was done again after this one\n" + difference(found, done);
}

std::string Verifier::use(fs::Filesystem& fs, const Tree& tree) const {
  constexpr uint32_t kPinned = format::kFlagAppend | format::kFlagImmutable;
  if (scarce_) {
    const Status gone = fs.unlink(kRootIno, "fill");
    if (!gone && gone.error() != Error::kNotFound) return failed("unlink", "", gone.error());
  }
  Shell shell(fs, disk_);
  for (const Node& node : tree.nodes) {
    if (!node.is_dir() || (node.flags & kPinned) != 0) continue;
    std::string why = use_directory(fs, shell.find(node.path), node.path);
    if (!why.empty()) return why;
  }
  Tree expected = tree;
  if (scarce_) {
    // Links are numbered by node.
    std::erase_if(expected.nodes, [](const Node& n) { return n.path == "/fill"; });
    for (Node& n : expected.nodes) n.link = 0;
  }
  Tree after = read_tree(fs, false);
  if (scarce_) {
    for (Node& n : after.nodes) n.link = 0;
  }
  if (after.digest(Look::kNoDirTimes) == expected.digest(Look::kNoDirTimes)) return {};
  return "  use after recovery changes other files:\n" + difference(after, expected, Look::kNoDirTimes);
}

std::string Verifier::use_directory(fs::Filesystem& fs, Ino dir, const std::string& path) const {
  const std::string content = pattern_bytes('~', 5000);
  fs::Attr attr;
  auto file = fs.create(dir, "~made", 0644, O_RDWR, kRoot, &attr);
  if (!file) return failed("create", path, file.error());
  const auto written =
      fs.write(**file, 0, {reinterpret_cast<const std::byte*>(content.data()), content.size()}, false, false);
  if (!written) return failed("write", path, written.error());
  std::string back;
  const Status read =
      fs.read(**file, 0, content.size(), [&back](std::span<const iovec> pieces, uint64_t) -> Status {
        for (const iovec& p : pieces) back.append(static_cast<const char*>(p.iov_base), p.iov_len);
        return {};
      });
  if (!read) return failed("read", path, read.error());
  if (back != content) return "  use after recovery: other bytes than written, in " + path + "\n";
  file->reset();
  if (const Status done = fs.rename(dir, "~made", dir, "~moved", 0); !done)
    return failed("rename", path, done.error());
  if (const Status done = fs.unlink(dir, "~moved"); !done) return failed("unlink", path, done.error());
  const auto made = fs.make(dir, "~made", 0040755, 0, 0, kRoot);
  if (!made) return failed("mkdir", path, made.error());
  if (const Status done = fs.rmdir(dir, "~made"); !done) return failed("rmdir", path, done.error());
  return {};
}

}  // namespace udax::crash
