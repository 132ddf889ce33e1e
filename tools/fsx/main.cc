// SPDX-License-Identifier: BSD-3-Clause
//
// udax-fsx: changes one file in every way there is, compares it with a copy in memory at each step, and shortens what
// led to a difference.
//
// Exit codes: 0 no difference (or, with --shrink, none again); 1 a difference, or an error that the operation may not
// give; 2 wrong usage; 3 the environment: no such directory, no space, no memory; 130 interrupted.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "tools/fsx/crew.h"
#include "tools/fsx/op_log.h"
#include "tools/fsx/probe.h"
#include "tools/stress/ddmin.h"
#include "tools/stress/program.h"

namespace udax::fsx {
namespace {

using Clock = std::chrono::steady_clock;
using stress::kExitEnvironment;
using stress::kExitFailed;
using stress::kExitInterrupted;
using stress::kExitPassed;
using stress::kExitUsage;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMaxSizeLimit = uint64_t{1} << 34;
constexpr int kTriesInStep = 2;

struct Arguments {
  std::string path;
  uint64_t seed = 0;
  uint64_t operations = 0;  // 0: no limit
  uint64_t seconds = 0;     // 0: no limit
  uint64_t round = 20'000;
  uint64_t max_size = uint64_t{1} << 20;
  uint64_t length_min = 1;
  uint64_t length_max = 65536;
  uint64_t check_every = 500;
  uint64_t meet_every = 250;
  uint64_t direct_align = 4096;
  uint64_t hang = 300;
  uint32_t share = 1;
  uint64_t unit = 64;
  bool dax_flip = false;
  bool flipper = false;
  bool past_end = false;
  bool msync_seek = false;
  bool force = false;
  bool keep = false;
  bool quiet = false;
  std::array<bool, kGroups> without{};
  std::vector<std::string> weights;
  std::string log;
  std::string save = ".";
  std::string replay;
  std::string shrink;
  uint32_t tries = 10;
  uint64_t shrink_seconds = 600;
};

int fail(int code, const std::string& sentence) { return stress::fail("udax-fsx", code, sentence); }

void add_options(CLI::App& app, Arguments& a) {
  const CLI::AsSizeValue size(false);
  app.add_option("file", a.path, "The file: made for this, and removed at the end")->required();
  app.add_option("-s,--seed", a.seed, "Seed of the random numbers (default: a new one, printed)");
  app.add_option("-n,--operations", a.operations, "Operations of each process, then stop");
  app.add_option("-d,--duration", a.seconds, "Seconds, then stop (default 10 if there is no -n either)");
  app.add_option("--round", a.round, "Operations after which the file is made anew")
      ->check(CLI::Range(1, 100'000'000));
  app.add_option("-l,--max-size", a.max_size, "Longest file")->transform(size);
  app.add_option("--min-op", a.length_min, "Least bytes of one operation")->transform(size);
  app.add_option("--max-op", a.length_max, "Most bytes of one operation")->transform(size);
  app.add_option("-c,--check-every", a.check_every,
                 "Operations between checks of the whole file; 0: at the end only");
  app.add_option("--direct-align", a.direct_align, "Alignment of O_DIRECT")->transform(size);
  app.add_option("-j,--share", a.share, "Processes on the file")->check(CLI::Range(1, 64));
  app.add_option("--unit", a.unit, "With --share: bytes that belong to one process in a row")->transform(size);
  app.add_option("--meet-every", a.meet_every, "With --share: operations between what all wait for")
      ->check(CLI::Range(1, 1'000'000));
  app.add_flag("--dax-flip", a.dax_flip, "Flip the DAX flag among the operations");
  app.add_flag("--flipper", a.flipper, "Flip the DAX flag all the while, in one more process");
  app.add_flag("--past-eof", a.past_end, "Store past the end in the last page: no longer file may show it");
  app.add_flag("--msync-seek", a.msync_seek, "msync(2) before SEEK_DATA and SEEK_HOLE");
  for (size_t i = 0; i < kGroups; ++i) {
    const std::string name(name_of(static_cast<Group>(i)));
    if (!name.empty()) app.add_flag("--no-" + name, a.without[i], "Leave these operations out");
  }
  app.add_option("-w,--weight", a.weights, "KIND=N: how often, in relation to the others; 0: never");
  app.add_option("-o,--log", a.log, "Write each operation to this file before it begins");
  app.add_option("--save", a.save, "Where the log and a copy of the file go after a failure (default: here)");
  app.add_option("--hang", a.hang, "Seconds without an operation's end that are a failure; 0: never");
  auto* const replay = app.add_option("--replay", a.replay, "Do the operations of this log");
  app.add_option("--shrink", a.shrink, "Shorten this log of a failure")->excludes(replay);
  app.add_option("--tries", a.tries, "With --share, --replay and --shrink: runs until it passes for good")
      ->check(CLI::Range(1, 10'000));
  app.add_option("--shrink-time", a.shrink_seconds, "Seconds after which --shrink is content");
  app.add_flag("-f,--force", a.force, "Take a file that is there already; its contents are lost");
  app.add_flag("-k,--keep", a.keep, "Leave the file there at the end");
  app.add_flag("-q,--quiet", a.quiet, "Say nothing but what is wrong");
  app.set_version_flag("-V,--version", std::string("udax-fsx ") + UDAX_VERSION);
}

// Empty, or what is wrong.
std::string check(const Arguments& a) {
  if (a.max_size < 4 * kPage || a.max_size > kMaxSizeLimit) return "--max-size must be 16K to 16G";
  if (a.length_min == 0 || a.length_min > a.length_max) return "--min-op must be 1 to --max-op";
  if (a.length_max > a.max_size) return "--max-op is over --max-size";
  if (a.direct_align == 0 || a.direct_align > kPage || (a.direct_align & (a.direct_align - 1)) != 0) {
    return "--direct-align must be a power of 2, to 4096";
  }
  if (a.share > 1 && (a.unit == 0 || a.unit * a.share > a.max_size / 2)) {
    return "--unit times --share must be 1 byte to half of --max-size";
  }
  struct stat info {};
  if (::lstat(a.path.c_str(), &info) != 0) return {};
  if (!S_ISREG(info.st_mode)) return a.path + " is there, and not a regular file";
  if (info.st_size > 0 && !a.force) return a.path + " is there (-f takes it, and its contents are lost)";
  return {};
}

// Empty, or what is wrong.
std::string make_choice(const Arguments& a, Choice& out) {
  out = Choice::usual();
  for (size_t i = 0; i < kGroups; ++i) {
    if (a.without[i]) out.leave_out(static_cast<Group>(i));
  }
  const auto weight = [&out](Kind kind) -> uint32_t& { return out.weights[static_cast<size_t>(kind)]; };
  if (a.dax_flip) weight(Kind::kFlip) = info(Kind::kFlip).weight;
  if (a.past_end && !a.without[static_cast<size_t>(Group::kMmap)]) {
    weight(Kind::kHoldPollute) = info(Kind::kHoldPollute).weight;
  }
  if (a.without[static_cast<size_t>(Group::kMmap)]) weight(Kind::kMsync) = 0;
  for (const std::string& text : a.weights) {
    const size_t equals = text.find('=');
    const std::optional<Kind> kind = kind_of(text.substr(0, equals));
    char* end = nullptr;
    const unsigned long value = equals == std::string::npos || equals + 1 == text.size()
                                    ? 1'000'001
                                    : std::strtoul(&text[equals + 1], &end, 10);
    if (!kind || value > 1'000'000 || *end != '\0') return "--weight " + text + ": KIND=N with N to 1000000";
    weight(*kind) = static_cast<uint32_t>(value);
  }
  out.length_min = a.length_min;
  out.length_max = a.length_max;
  return {};
}

class Program {
 public:
  explicit Program(Arguments arguments) : a_(std::move(arguments)) {}
  int run();

 private:
  int prepare(Choice& choice);
  int run_rounds(const Choice& choice);
  int replay();
  int shrink();
  bool load(const std::string& path, OpLog& log, int& code);
  int failed(const Outcome& outcome);
  std::optional<size_t> fails(const std::vector<Op>& ops, Outcome& outcome);
  void say(const std::string& line) const {
    if (a_.quiet) return;
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
  }
  [[nodiscard]] std::string saved(const char* suffix) const;
  void copy_file(const std::string& to) const;

  Arguments a_;
  CrewOptions crew_;
  std::vector<Kind> left_out_;
  bool in_step_ = false;
};

// Finds out what the filesystem can do. 0, or an exit code.
int Program::prepare(Choice& choice) {
  crew_.path = a_.path;
  crew_.hang_seconds = a_.hang;
  crew_.flipper = a_.flipper;
  const Probed probed = probe(a_.path + ".probe", true);
  if (!probed.error.empty()) return fail(kExitEnvironment, probed.error);
  crew_.dax_states = probed.dax_states;
  for (const LeftOut& out : probed.left_out) {
    left_out_.push_back(out.kind);
    uint32_t& weight = choice.weights[static_cast<size_t>(out.kind)];
    if (weight != 0) say("left out: " + std::string(info(out.kind).name) + " (" + out.reason + ")");
    weight = 0;
    if (out.kind != Kind::kFlip || !a_.flipper) continue;
    say("left out: --flipper (" + out.reason + ")");
    crew_.flipper = false;
  }
  return kExitPassed;
}

std::string Program::saved(const char* suffix) const {
  const size_t slash = a_.path.rfind('/');
  return a_.save + "/" + (slash == std::string::npos ? a_.path : a_.path.substr(slash + 1)) + suffix;
}

void Program::copy_file(const std::string& to) const {
  int in = ::open(a_.path.c_str(), O_RDONLY | O_CLOEXEC);
  if (in < 0) in = ::open((a_.path + ".renamed").c_str(), O_RDONLY | O_CLOEXEC);
  const int out = ::open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  std::vector<char> buffer(1 << 16);
  ssize_t got = 0;
  bool good = in >= 0 && out >= 0;
  while (good && (got = ::read(in, buffer.data(), buffer.size())) > 0) {
    good = ::write(out, buffer.data(), static_cast<size_t>(got)) == got;
  }
  if (in >= 0) ::close(in);
  if (out >= 0) ::close(out);
  if (good && got == 0) {
    std::printf("the file as it is now: %s\n", to.c_str());
  } else {
    std::printf("the file could not be copied: %s\n", std::strerror(errno));
  }
}

int Program::failed(const Outcome& outcome) {
  if (outcome.ending == Ending::kInterrupted) return kExitInterrupted;
  const bool is_failure = outcome.ending == Ending::kFailed;
  std::printf("%s: seed %llu, round %llu: %s", is_failure ? "FAILED" : "STOPPED",
              static_cast<unsigned long long>(crew_.setup.seed),
              static_cast<unsigned long long>(crew_.setup.round), outcome.report.c_str());
  if (outcome.ops.empty()) return is_failure ? kExitFailed : kExitEnvironment;
  const std::string log = saved(".fsxlog");
  if (write_log(log, crew_.setup, outcome.ops, outcome.report)) {
    const std::string flags = crew_.flipper ? " --flipper" : "";
    std::printf(
        "operations: %s\nagain:      udax-fsx -f%s --replay %s %s\nshorter:    udax-fsx -f%s --shrink %s %s\n",
        log.c_str(), flags.c_str(), log.c_str(), a_.path.c_str(), flags.c_str(), log.c_str(), a_.path.c_str());
  } else {
    std::printf("%s could not be written: %s\n", log.c_str(), std::strerror(errno));
  }
  copy_file(saved(".fsxbad"));
  return is_failure ? kExitFailed : kExitEnvironment;
}

int Program::run_rounds(const Choice& choice) {
  Setup& setup = crew_.setup;
  setup.seed = a_.seed;
  setup.max_size = a_.max_size;
  setup.direct_align = a_.direct_align;
  setup.processes = a_.share;
  setup.mmap = choice.weights[static_cast<size_t>(Kind::kHoldRead)] != 0;
  setup.past_end = choice.weights[static_cast<size_t>(Kind::kHoldPollute)] != 0;
  setup.msync_seek = a_.msync_seek;
  if (a_.share > 1) {
    setup.unit = a_.unit;
    setup.shared_size = a_.max_size / 2 / (a_.unit * a_.share) * a_.unit * a_.share;
  }
  crew_.op_flips = choice.weights[static_cast<size_t>(Kind::kFlip)] != 0;
  crew_.live_log = a_.log;
  const auto begin = Clock::now();
  Draw draw{.check_every = a_.check_every, .meet_every = a_.share > 1 ? a_.meet_every : 0, .choice = choice};
  if (a_.seconds != 0) draw.deadline = begin + std::chrono::seconds(a_.seconds);
  uint64_t operations = 0;
  uint64_t flips = 0;
  uint64_t refused = 0;
  for (uint64_t done = 0; a_.operations == 0 || done < a_.operations; done += a_.round, ++setup.round) {
    if (Clock::now() >= draw.deadline) break;
    draw.operations = a_.operations == 0 ? a_.round : std::min(a_.round, a_.operations - done);
    if (!a_.log.empty() && !write_log(a_.log, setup, {}, "")) {
      return fail(kExitEnvironment, a_.log + ": " + std::strerror(errno));
    }
    const Outcome outcome = run_round(crew_, draw);
    operations += outcome.operations;
    flips += outcome.flips;
    refused += outcome.flips_refused;
    if (outcome.ending != Ending::kPassed) return failed(outcome);
  }
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin).count();
  say(std::to_string(operations) + " operations in " + std::to_string(setup.round) + " rounds and " +
      std::to_string(took / 1000) + "." + std::to_string(took % 1000 / 100) + " s, " + std::to_string(flips) +
      " flips of the DAX flag" + (refused > 0 ? " and " + std::to_string(refused) + " refused" : "") +
      ": no wrong byte");
  if (!a_.keep) remove_files(crew_);
  return kExitPassed;
}

// Also leaves out what this filesystem cannot do: a log may come from another.
bool Program::load(const std::string& path, OpLog& log, int& code) {
  std::string error;
  if (!read_log(path, log, error)) {
    code = fail(kExitUsage, error);
    return false;
  }
  crew_.setup = log.setup;
  std::erase_if(log.ops,
                [this](const Op& op) { return std::ranges::find(left_out_, op.kind) != left_out_.end(); });
  for (const Op& op : log.ops) crew_.op_flips = crew_.op_flips || op.kind == Kind::kFlip;
  return true;
}

int Program::replay() {
  OpLog log;
  int code = kExitPassed;
  if (!load(a_.replay, log, code)) return code;
  const bool races = crew_.setup.processes > 1 || crew_.flipper;
  for (uint32_t n = 0; n < (races ? a_.tries : 1); ++n) {
    const Outcome outcome = run_list(crew_, log.ops, false);
    if (outcome.ending == Ending::kPassed) continue;
    if (outcome.ending == Ending::kInterrupted) return kExitInterrupted;
    std::printf("FAILED: %s", outcome.report.c_str());
    return outcome.ending == Ending::kFailed ? kExitFailed : kExitEnvironment;
  }
  say(std::to_string(log.ops.size()) + " operations: no wrong byte");
  if (!a_.keep) remove_files(crew_);
  return kExitPassed;
}

// What races is tried several times.
std::optional<size_t> Program::fails(const std::vector<Op>& ops, Outcome& outcome) {
  const bool races = (crew_.setup.processes > 1 && !in_step_) || crew_.flipper;
  for (uint32_t n = 0; n < (races ? a_.tries : 1); ++n) {
    Outcome now = run_list(crew_, ops, in_step_);
    if (now.ending == Ending::kPassed) continue;
    if (now.ending != Ending::kFailed) return std::nullopt;
    outcome = std::move(now);
    // Where several run beside each other, the others' later operations may have mattered.
    return races ? ops.size() - 1 : static_cast<size_t>(outcome.failed_at);
  }
  return std::nullopt;
}

int Program::shrink() {
  OpLog log;
  int code = kExitPassed;
  if (!load(a_.shrink, log, code)) return code;
  Outcome outcome;
  std::optional<size_t> failed_at;
  // First one at a time, if that fails too: it is the same each time.
  for (int n = 0; n < kTriesInStep && !failed_at && crew_.setup.processes > 1 && !crew_.flipper; ++n) {
    in_step_ = true;
    failed_at = fails(log.ops, outcome);
  }
  if (!failed_at) {
    in_step_ = false;
    failed_at = fails(log.ops, outcome);
  }
  if (!failed_at) {
    say("the " + std::to_string(log.ops.size()) + " operations do not fail again");
    return kExitPassed;
  }
  log.ops.resize(std::min(log.ops.size(), *failed_at + 1));
  say("failed again at operation " + std::to_string(log.ops.size()) + (in_step_ ? ", one at a time" : ""));
  uint64_t trials = 0;
  const stress::Trial<Op> trial = [&](const std::vector<Op>& ops) {
    ++trials;
    return fails(ops, outcome);
  };
  const std::vector<Op> shortest = stress::ddmin(log.ops, trial, std::chrono::seconds(a_.shrink_seconds));
  const std::string path = saved(".fsxshort");
  std::printf("%zu operations, after %llu trials:\n", shortest.size(), static_cast<unsigned long long>(trials));
  for (const Op& op : shortest) std::printf("  %s\n", to_text(op).c_str());
  std::printf("%s", outcome.report.c_str());
  if (!write_log(path, crew_.setup, shortest, outcome.report)) {
    return fail(kExitEnvironment, path + ": " + std::strerror(errno));
  }
  std::printf("again: udax-fsx -f%s --replay %s %s\n", crew_.flipper ? " --flipper" : "", path.c_str(),
              a_.path.c_str());
  return kExitFailed;
}

int Program::run() {
  std::string wrong = check(a_);
  Choice choice;
  if (wrong.empty()) wrong = make_choice(a_, choice);
  if (!wrong.empty()) return fail(kExitUsage, wrong);
  const int prepared = prepare(choice);
  if (prepared != kExitPassed) return prepared;
  if (!a_.replay.empty()) return replay();
  if (!a_.shrink.empty()) return shrink();
  say("seed " + std::to_string(a_.seed));
  return run_rounds(choice);
}

int run(Arguments arguments) { return Program(std::move(arguments)).run(); }

}  // namespace
}  // namespace udax::fsx

int main(int argc, char** argv) {
  namespace tool = udax::fsx;
  const udax::stress::Program<tool::Arguments> program{
      "udax-fsx", "Changes a file in every way and compares it with a copy in memory", tool::add_options,
      tool::interrupt, tool::run};
  return udax::stress::run_program(program, argc, argv);
}
