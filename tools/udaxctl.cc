// SPDX-License-Identifier: BSD-3-Clause
//
// udaxctl: looks at pools and mounts, and changes how files are accessed.
#include "udaxctl.h"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <array>
#include <cstdio>
#include <ctime>
#include <map>

#include "base/log.h"

namespace udax::ctl {

int fail(const std::string& sentence) {
  std::fprintf(stderr, "udaxctl: %s\n", sentence.c_str());
  return kExitFailed;
}

std::string size_text(uint64_t bytes) {
  static constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  while (unit + 1 < kUnits.size() && bytes >> (10 * (unit + 1)) != 0) ++unit;
  char text[32];
  std::snprintf(text, sizeof text, "%.4g %s",
                static_cast<double>(bytes) / static_cast<double>(1ULL << (10 * unit)), kUnits.at(unit));
  return text;
}

std::string time_text(int64_t seconds, uint32_t nanoseconds) {
  const auto time = static_cast<time_t>(seconds);
  struct tm parts {};
  char text[64];
  char out[96];
  if (::gmtime_r(&time, &parts) == nullptr || std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts) == 0) {
    std::snprintf(out, sizeof out, "%lld s", static_cast<long long>(seconds));
  } else {
    std::snprintf(out, sizeof out, "%s.%09u UTC", text, nanoseconds);
  }
  return out;
}

Fd::Fd(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC)) {}

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

namespace {

void add_dump(CLI::App& app, DumpOptions* o) {
  app.add_option("POOL", o->pool, "The pool, mounted or not")->required();
  app.add_flag("--superblock", o->superblock, "The superblock and its replica");
  app.add_flag("--journal", o->journal, "The journal's control block and the records that wait");
  app.add_flag("--groups", o->groups, "Descriptors of the block groups");
  app.add_option("--inode", o->inode, "An inode, by its number; 0 is the inode table's own file");
  app.add_option("--dir", o->dir, "The entries of a directory, by its inode number");
  app.add_option("--block", o->block, "A block, by its number");
}

void add_dax(CLI::App& app, DaxOptions* o) {
  static const std::map<std::string, DaxAction> kActions{{"show", DaxAction::kShow},
                                                         {"on", DaxAction::kOn},
                                                         {"off", DaxAction::kOff},
                                                         {"inherit", DaxAction::kInherit}};
  app.add_option_function<std::string>(
         "ACTION", [o](const std::string& name) { o->action = kActions.at(name); },
         "show, on, off, or inherit (for what will be made in a directory)")
      ->required()
      ->check(CLI::IsMember({"show", "on", "off", "inherit"}));
  app.add_option("PATH", o->paths, "Files and directories of a mount")->required();
  app.add_flag("-R,--recursive", o->recursive, "And all that is below them");
  app.add_flag("--json", o->json, "As JSON");
}

int run(int argc, char** argv) {
  CLI::App app("Looks at udaxfs pools and mounts; shows and changes how files are accessed.", "udaxctl");
  app.require_subcommand(1);
  app.set_version_flag("-V,--version", "udaxctl " UDAX_VERSION);
  std::string path;
  bool json = false;
  StatOptions stat;
  DumpOptions dump;
  DaxOptions dax;

  CLI::App* const info = app.add_subcommand("info", "What a pool is, mounted or not");
  info->add_option("POOL|MOUNT", path, "A pool, or anything on a mounted one that is a directory")->required();
  info->add_flag("--json", json, "As JSON");
  CLI::App* const list = app.add_subcommand("list", "Persistent memory, what is on it, and the mounted pools");
  list->add_flag("--json", json, "As JSON");
  CLI::App* const extents = app.add_subcommand("extents", "Where a file of a mounted pool lies");
  extents->add_option("PATH", path, "The file")->required();
  extents->add_flag("--json", json, "As JSON");
  CLI::App* const counters = app.add_subcommand("stat", "Live counters of a mount");
  counters->add_option("MOUNT", stat.mount, "Anything on the mount")->required();
  counters->add_flag("--json", stat.json, "As JSON");
  counters->add_flag("--prometheus", stat.prometheus, "In Prometheus' text form");
  counters->add_flag("--watch", stat.watch, "Rates, a line an interval, until interrupted");
  counters->add_option("--interval", stat.interval_s, "Seconds between lines of --watch")
      ->check(CLI::Range(1, 86400));
  counters->add_option("--count", stat.count, "Lines of --watch");
  CLI::App* const sync =
      app.add_subcommand("sync", "Makes durable what has been stored to a mount, for all who use it");
  sync->add_option("MOUNT", path, "Anything on the mount")->required();
  CLI::App* const access =
      app.add_subcommand("dax", "Shows or changes how files are accessed: directly, or cached");
  add_dax(*access, &dax);
  RunOptions program;
  CLI::App* const starter =
      app.add_subcommand("run", "Runs a program with mappings of DAX files that are the pool's memory");
  starter->add_option("--library", program.library, "The shim to preload instead of the installed one");
  starter->add_flag("--reads-and-writes", program.reads_and_writes,
                    "Reads and writes of DAX files are copies from and to the pool, too");
  starter->footer("PROGRAM and its arguments follow, after -- if they could be mistaken.");
  CLI::App* const structures = app.add_subcommand("dump", "Structures of a pool in words");
  add_dump(*structures, &dump);

  try {
    argc = take_command(argc, argv, &program);
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(e);
    std::fprintf(stderr, "udaxctl: %s (--help tells the commands)\n", e.what());
    return kExitUsage;
  }
  if (int{stat.json} + int{stat.prometheus} + int{stat.watch} > 1) {
    std::fprintf(stderr, "udaxctl: --json, --prometheus and --watch exclude each other\n");
    return kExitUsage;
  }
  if (info->parsed()) return run_info(path, json);
  if (list->parsed()) return run_list(json);
  if (extents->parsed()) return run_extents(path, json);
  if (counters->parsed()) return run_stat(stat);
  if (sync->parsed()) return run_sync(path);
  if (access->parsed()) return run_dax(dax);
  if (starter->parsed()) return run_run(program);
  return run_dump(dump);
}

}  // namespace
}  // namespace udax::ctl

int main(int argc, char** argv) try {
  static_cast<void>(udax::log_init(udax::LogLevel::kError, udax::LogTarget::kStderr));
  return udax::ctl::run(argc, argv);
} catch (const std::exception& e) {
  return udax::ctl::fail(e.what());
}
