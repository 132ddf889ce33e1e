// SPDX-License-Identifier: BSD-3-Clause
//
// fsck.udaxfs: checks a pool, and repairs it if asked to. Exit codes are those of fsck(8).
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "check/check.h"
#include "format/format.h"
#include "media/pool_access.h"
#include "media/pool_medium.h"
#include "media/pool_name.h"
#include "media/superblock.h"
#include "output.h"

namespace {

using udax::check::CheckOptions;
using udax::check::Report;
using udax::media::PoolMedium;

constexpr int kExitClean = 0;
constexpr int kExitRepaired = 1;
constexpr int kExitLeft = 4;
constexpr int kExitFailed = 8;
constexpr int kExitUsage = 16;

struct Arguments {
  std::string pool;
  CheckOptions::Mode mode = CheckOptions::kReportOnly;
  bool asked_report = false;  // -n was given
  bool force = false;
  bool verbose = false;
  bool json = false;
  bool progress = false;
  bool scrub = false;
};

int fail(int code, const std::string& sentence) {
  std::fprintf(stderr, "fsck.udaxfs: %s\n", sentence.c_str());
  return code;
}

/// fsck(8) passes -C with the number of a descriptor right behind it; progress goes to the terminal all the same.
std::vector<std::string> arguments_of(int argc, char** argv) {
  std::vector<std::string> out;
  for (int i = argc - 1; i > 0; --i) {  // CLI11 takes them from the back
    std::string text = argv[i];
    const bool is_c = text.size() > 2 && text.starts_with("-C") &&
                      std::all_of(text.begin() + 2, text.end(), [](char c) { return c >= '0' && c <= '9'; });
    out.push_back(is_c ? std::string("-C") : std::move(text));
  }
  return out;
}

/// Fills `a`. An exit code if there is nothing more to do.
std::optional<int> parse(int argc, char** argv, Arguments* a) {
  CLI::App app("Checks a udaxfs pool, and repairs it.", "fsck.udaxfs");
  bool preen = false;
  bool automatic = false;
  bool yes = false;
  app.add_option("POOL", a->pool, "/dev/daxX.Y, namespaceX.Y, LABEL=..., UUID=..., or a file")->required();
  app.add_flag("-n", a->asked_report, "Change nothing (the default)");
  app.add_flag("-p", preen, "Repair what loses nothing");
  app.add_flag("-a", automatic, "The same as -p");
  app.add_flag("-y", yes, "Repair everything");
  app.add_flag("-f,--force", a->force, "With -p: check even a pool that was unmounted cleanly");
  app.add_flag("--scrub", a->scrub,
               "Read everything, contents of files too, and name the files that have lost some");
  app.add_flag("-v,--verbose", a->verbose, "Tell what is in the pool");
  app.add_flag("--json", a->json, "Print the outcome as JSON");
  app.add_flag("-C", a->progress, "Show progress, even where that is no terminal");
  app.set_version_flag("-V,--version", "fsck.udaxfs " UDAX_VERSION " (format " +
                                           std::to_string(udax::format::kVersionMajor) + "." +
                                           std::to_string(udax::format::kVersionMinor) + ")");
  try {
    app.parse(arguments_of(argc, argv));
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(e);
    return fail(kExitUsage, std::string(e.what()) + " (--help tells the options)");
  }
  preen = preen || automatic;
  if (int{a->asked_report} + int{preen} + int{yes} > 1)
    return fail(kExitUsage, "-n, -p and -y exclude each other");
  if (a->scrub && (preen || yes)) return fail(kExitUsage, "--scrub repairs nothing: it goes with -n");
  if (yes) a->mode = CheckOptions::kRepairAll;
  if (preen) a->mode = CheckOptions::kPreen;
  return std::nullopt;
}

/// A line on standard error that is written over and over; nothing in the first second.
class Progress {
 public:
  explicit Progress(bool wanted) : on_(wanted) {}
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(const char* phase, uint64_t done, uint64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (!on_ || now < next_) return;
    next_ = now + std::chrono::milliseconds(100);
    const uint64_t percent = total == 0 ? 0 : std::min<uint64_t>(100, done * 100 / total);
    std::fprintf(stderr, "\r\033[K%s: %" PRIu64 "%%", phase, percent);
    shown_ = true;
  }
  void clear() {
    if (shown_) std::fprintf(stderr, "\r\033[K");
    shown_ = false;
  }

 private:
  const bool on_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + std::chrono::seconds(1);
};

const char* outcome_of(const Report& report) {
  if (report.clean()) return "clean";
  return report.all_repaired() ? "repaired" : "damaged";
}

int exit_code_of(const Report& report) {
  if (report.clean()) return kExitClean;
  return report.all_repaired() ? kExitRepaired : kExitLeft;
}

void print_json(const std::string& pool, const Report& r) {
  nlohmann::json problems = nlohmann::json::array();
  for (const udax::check::Problem& p : r.problems) {
    nlohmann::json one = {{"code", udax::check::to_string(p.code)}, {"what", p.what}, {"repaired", p.repaired}};
    if (p.ino != 0) one["ino"] = p.ino;
    if (p.block != 0) one["block"] = p.block;
    problems.push_back(std::move(one));
  }
  const nlohmann::json all = {{"pool", pool},
                              {"outcome", outcome_of(r)},
                              {"unmounted_cleanly", r.was_clean},
                              {"replayed_records", r.replayed_records},
                              {"rounds", r.rounds},
                              {"inodes", r.inodes},
                              {"files", r.files},
                              {"directories", r.directories},
                              {"symlinks", r.symlinks},
                              {"specials", r.specials},
                              {"names", r.names},
                              {"orphans", r.orphans},
                              {"extents", r.extents},
                              {"blocks",
                               {{"total", r.blocks_total},
                                {"used", r.blocks_used},
                                {"free", r.blocks_free()},
                                {"data", r.blocks_data},
                                {"extent_nodes", r.blocks_tree},
                                {"directories", r.blocks_directory},
                                {"xattrs", r.blocks_xattr},
                                {"inodes", r.blocks_inode}}},
                              {"scrub",
                               {{"blocks_read", r.blocks_scrubbed},
                                {"blocks_lost", r.blocks_lost},
                                {"blocks_lost_idle", r.blocks_lost_idle}}},
                              {"problem_count", r.problem_count},
                              {"unrepaired_count", r.unrepaired_count},
                              {"problems", std::move(problems)}};
  udax::tools::print(all);
}

void print_counts(const Report& r) {
  std::printf("  %" PRIu64 " inodes: %" PRIu64 " files, %" PRIu64 " directories, %" PRIu64
              " symbolic links, %" PRIu64 " special files; %" PRIu64 " of them orphans\n",
              r.inodes, r.files, r.directories, r.symlinks, r.specials, r.orphans);
  std::printf("  %" PRIu64 " names, %" PRIu64 " extents\n", r.names, r.extents);
  std::printf("  %" PRIu64 " blocks: %" PRIu64 " free, %" PRIu64 " data, %" PRIu64 " extent nodes, %" PRIu64
              " directories, %" PRIu64 " xattrs, %" PRIu64 " inodes\n",
              r.blocks_total, r.blocks_free(), r.blocks_data, r.blocks_tree, r.blocks_directory, r.blocks_xattr,
              r.blocks_inode);
}

void print_scrub(const std::string& pool, const Report& r) {
  std::printf("%s: %" PRIu64 " blocks read, %" PRIu64 " of them lost to media errors", pool.c_str(),
              r.blocks_scrubbed, r.blocks_lost);
  if (r.blocks_lost_idle != 0)
    std::printf("; %" PRIu64 " more that are not known to be in use", r.blocks_lost_idle);
  std::printf("\n");
}

void print_text(const Arguments& a, const Report& r) {
  const bool repairing = a.mode != CheckOptions::kReportOnly;
  for (const udax::check::Problem& p : r.problems) {
    const char* const end = !repairing ? "" : p.repaired ? " - repaired" : " - LEFT";
    std::printf("%s%s\n", udax::tools::printable(p.what).c_str(), end);
  }
  if (r.problem_count > r.problems.size()) {
    std::printf("... and %" PRIu64 " more problems\n", r.problem_count - r.problems.size());
  }
  if (r.replayed_records != 0) {
    std::printf("%s: was not unmounted cleanly; %" PRIu64 " journal records %s\n", a.pool.c_str(),
                r.replayed_records, repairing ? "replayed" : "wait for replay, and were looked past");
  }
  std::printf("%s: %s, %" PRIu64 " inodes, %" PRIu64 "/%" PRIu64 " blocks in use\n", a.pool.c_str(), outcome_of(r),
              r.inodes, r.blocks_used, r.blocks_total);
  if (a.scrub) print_scrub(a.pool, r);
  if (a.verbose) print_counts(r);
  if (r.clean() || r.all_repaired()) return;
  if (r.blocks_lost != 0) {
    std::printf(
        "%s: what is lost is lost; a write over it, or the removal of the file, puts an end to the errors\n",
        a.pool.c_str());
  }
  const auto is_lost_data = [](const udax::check::Problem& p) { return p.code == udax::check::Code::kLostData; };
  if (std::all_of(r.problems.begin(), r.problems.end(), is_lost_data)) return;  // nothing for -y to do
  if (a.mode == CheckOptions::kRepairAll) {
    std::printf("%s: %" PRIu64 " problems could not be repaired\n", a.pool.c_str(), r.unrepaired_count);
  } else {
    std::printf("%s: %" PRIu64 " problems. \"fsck.udaxfs -y %s\" repairs them; what cannot be read is lost then\n",
                a.pool.c_str(), r.unrepaired_count, a.pool.c_str());
  }
}

int run(Arguments a) {
  const bool repairing = a.mode != CheckOptions::kReportOnly;
  std::string why;
  auto path = udax::media::resolve_pool(a.pool, &why);
  if (!path) return fail(kExitFailed, why.empty() ? std::string(udax::to_string(path.error())) : why);
  a.pool = *path;
  const auto open_mode = repairing ? udax::media::OpenMode::kExclusive : udax::media::OpenMode::kReadOnlyExclusive;
  auto opened = udax::media::open_when_free(a.pool, open_mode, &why);
  if (!opened) return fail(kExitFailed, why.empty() ? std::string(udax::to_string(opened.error())) : why);
  PoolMedium& medium = *opened.value();
  if (a.mode == CheckOptions::kPreen && !a.force && udax::check::is_unmounted_cleanly(medium)) {
    if (a.json) {
      udax::tools::print({{"pool", a.pool}, {"outcome", "clean"}, {"skipped", true}});
    } else {
      std::printf("%s: clean (unmounted cleanly; -f checks it all the same)\n", a.pool.c_str());
    }
    return kExitClean;
  }

  Progress progress(a.progress || ::isatty(STDERR_FILENO) == 1);
  CheckOptions options;
  options.mode = a.mode;
  options.scrub = a.scrub;
  options.progress = [&progress](const char* phase, uint64_t done, uint64_t total) {
    progress.show(phase, done, total);
  };
  // Not before it is known to be a pool: what it is else must not be written to.
  if (repairing && udax::media::load_superblock(medium)) medium.announce_holder("fsck.udaxfs", "");
  const auto report = udax::check::check_pool(medium, options, &why);
  if (repairing && report) medium.clear_holder();
  progress.clear();
  if (!report) {
    return fail(kExitFailed, a.pool + ": " + (why.empty() ? std::string(udax::to_string(report.error())) : why));
  }
  if (a.json) {
    print_json(a.pool, *report);
  } else {
    print_text(a, *report);
  }
  return exit_code_of(*report);
}

}  // namespace

int main(int argc, char** argv) try {
  Arguments arguments;
  if (const auto done = parse(argc, argv, &arguments)) return *done;
  static_cast<void>(udax::log_init(udax::LogLevel::kError, udax::LogTarget::kStderr));
  return run(std::move(arguments));
} catch (const std::exception& e) {
  return fail(kExitFailed, e.what());
}
