// SPDX-License-Identifier: BSD-3-Clause
//
// udax-storm: makes, moves, links, changes and removes files of all kinds, compares the tree with a model of it, and
// shortens what led to a difference.
//
// Exit codes: 0 no difference (or, with --shrink, none again); 1 a difference, or an error that the operation may not
// give; 2 wrong usage; 3 the environment: no such directory, no space, no memory; 130 interrupted.
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>

#include "tools/storm/crew.h"
#include "tools/storm/shrink.h"
#include "tools/storm/snapshot.h"
#include "tools/stress/program.h"

namespace udax::storm {
namespace {

using Clock = std::chrono::steady_clock;
using stress::kExitEnvironment;
using stress::kExitFailed;
using stress::kExitInterrupted;
using stress::kExitPassed;
using stress::kExitUsage;

constexpr size_t kDifferencesShown = 10;

struct Arguments {
  std::string path;
  uint64_t seed = 0;
  uint64_t operations = 0;  // 0: no limit
  uint64_t seconds = 0;     // 0: no limit
  uint64_t round = 5000;
  uint32_t processes = 2;
  uint64_t entries = 300;
  uint64_t file_size = 16384;
  uint64_t xattr_size = 200;
  uint64_t check_every = 1000;
  uint32_t shared = 20;
  uint64_t hang = 300;
  std::vector<std::string> weights;
  std::string log;
  std::string save = ".";
  std::string save_model;
  std::string verify;
  std::string replay;
  std::string shrink;
  uint64_t shrink_seconds = 600;
  bool dax_flip = false;
  bool force = false;
  bool keep = false;
  bool quiet = false;
};

int fail(int code, const std::string& sentence) { return stress::fail("udax-storm", code, sentence); }

void add_options(CLI::App& app, Arguments& a) {
  const CLI::AsSizeValue size(false);
  app.add_option("directory", a.path, "Where to work: made if it is not there, else empty (or -f)")->required();
  app.add_option("-s,--seed", a.seed, "Seed of the random numbers (default: a new one, printed)");
  app.add_option("-n,--operations", a.operations, "Operations of each process, then stop");
  app.add_option("-d,--duration", a.seconds, "Seconds, then stop (default 10 if there is no -n either)");
  app.add_option("--round", a.round, "Operations after which the trees are made anew")
      ->check(CLI::Range(1, 10'000'000));
  app.add_option("-j,--processes", a.processes, "Processes")->check(CLI::Range(1, 64));
  app.add_option("--entries", a.entries, "Names that a process's tree grows to")->check(CLI::Range(1, 1'000'000));
  app.add_option("--file-size", a.file_size, "Longest file")->transform(size);
  app.add_option("--xattr-size", a.xattr_size, "Longest value of an extended attribute")->transform(size);
  app.add_option("-c,--check-every", a.check_every,
                 "Operations between checks of the whole tree; 0: at the end only");
  app.add_option("--shared", a.shared, "Percentage of the operations that are in the shared tree")
      ->check(CLI::Range(0, 100));
  app.add_option("--hang", a.hang, "Seconds without an operation's end that are a failure; 0: never");
  app.add_option("-w,--weight", a.weights, "KIND=N: how often, in relation to the others; 0: never");
  app.add_option("-o,--log", a.log, "Write each operation to this file (and .p0, .p1, ...) before it begins");
  app.add_option("--save", a.save, "Where the log goes after a failure (default: here)");
  app.add_option("--save-model", a.save_model, "Leave the trees there, and write what they are to this file");
  auto* const verify = app.add_option("--verify", a.verify, "Compare the trees that are there with such a file");
  auto* const replay = app.add_option("--replay", a.replay, "Do the operations of this log")->excludes(verify);
  app.add_option("--shrink", a.shrink, "Shorten this log of a failure")->excludes(replay)->excludes(verify);
  app.add_option("--shrink-time", a.shrink_seconds, "Seconds after which --shrink is content");
  app.add_flag("--dax-flip", a.dax_flip, "Flip the DAX flag of files and directories among the operations");
  app.add_flag("-f,--force", a.force, "Take a directory that is not empty; p0, p1, ... and shared in it are lost");
  app.add_flag("-k,--keep", a.keep, "Leave the trees there at the end");
  app.add_flag("-q,--quiet", a.quiet, "Say nothing but what is wrong");
  app.set_version_flag("-V,--version", std::string("udax-storm ") + UDAX_VERSION);
}

class Program {
 public:
  explicit Program(Arguments arguments) : a_(std::move(arguments)) {}
  int run();

 private:
  [[nodiscard]] int make_directory() const;
  [[nodiscard]] int prepare();
  int run_rounds();
  int finish(const Outcome& sum, Clock::time_point begin);
  int failed(const Outcome& outcome);
  int verify();
  int replay();
  int shrink();
  int save_model();
  [[nodiscard]] bool load(const std::string& path, std::vector<Op>& ops, int& code);
  [[nodiscard]] std::string saved(const char* suffix) const;
  void say(const std::string& line) const {
    if (a_.quiet) return;
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
  }

  Arguments a_;
  CrewOptions crew_;
  std::set<Kind> left_out_;
};

int Program::make_directory() const {
  std::error_code error;
  if (::mkdir(a_.path.c_str(), 0755) == 0) return kExitPassed;
  if (errno != EEXIST) return fail(kExitEnvironment, a_.path + ": " + std::strerror(errno));
  if (!std::filesystem::is_directory(a_.path, error))
    return fail(kExitUsage, a_.path + " is there, and no directory");
  if (a_.force || std::filesystem::is_empty(a_.path, error)) return kExitPassed;
  return fail(kExitUsage, a_.path + " is not empty (-f: what p0, p1, ... and shared in it hold is lost)");
}

int Program::prepare() {
  crew_.path = a_.path;
  crew_.processes = a_.processes;
  crew_.seed = a_.seed;
  crew_.check_every = a_.check_every;
  crew_.hang_seconds = a_.hang;
  crew_.live_log = a_.log;
  crew_.choice = Choice::usual();
  crew_.choice.entries_max = a_.entries;
  crew_.choice.file_size_max = std::max<uint64_t>(a_.file_size, 1);
  crew_.choice.xattr_size_max = a_.xattr_size;
  crew_.choice.shared_percent = a_.shared;
  crew_.choice.as_root = ::geteuid() == 0;
  if (!a_.dax_flip) crew_.choice.weights[static_cast<size_t>(Kind::kFlip)] = 0;
  for (const std::string& text : a_.weights) {
    const size_t equals = text.find('=');
    const std::optional<Kind> kind = kind_of(text.substr(0, equals));
    const std::string number = equals == std::string::npos ? "" : text.substr(equals + 1);
    const bool digits =
        !number.empty() && number.size() < 7 && number.find_first_not_of("0123456789") == std::string::npos;
    if (!kind || !digits) return fail(kExitUsage, "--weight " + text + ": KIND=N with N to 999999");
    crew_.choice.weights[static_cast<size_t>(*kind)] = static_cast<uint32_t>(std::stoul(number));
  }
  crew_.traits = probe(a_.path + "/probe");
  if (!crew_.traits.error.empty()) return fail(kExitEnvironment, crew_.traits.error);
  crew_.choice.devices = crew_.traits.devices;
  for (const Traits::LeftOut& out : crew_.traits.left_out) {
    uint32_t& weight = crew_.choice.weights[static_cast<size_t>(out.kind)];
    if (weight != 0) say("left out: " + std::string(info(out.kind).name) + " (" + out.reason + ")");
    weight = 0;
    left_out_.insert(out.kind);
  }
  const auto& weights = crew_.choice.weights;
  if (std::ranges::all_of(weights, [](uint32_t weight) { return weight == 0; })) {
    return fail(kExitUsage, "--weight leaves no operation");
  }
  return kExitPassed;
}

std::string Program::saved(const char* suffix) const {
  std::string path = a_.path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return a_.save + '/' + path.substr(path.rfind('/') + 1) + suffix;
}

int Program::failed(const Outcome& outcome) {
  if (outcome.ending == Ending::kInterrupted) return kExitInterrupted;
  const int code = outcome.ending == Ending::kFailed ? kExitFailed : kExitEnvironment;
  std::printf("%s: seed %llu, round %llu, process %llu: %s", code == kExitFailed ? "FAILED" : "STOPPED",
              static_cast<unsigned long long>(crew_.seed), static_cast<unsigned long long>(crew_.round),
              static_cast<unsigned long long>(outcome.process), outcome.report.c_str());
  if (outcome.ops.empty()) return code;
  const std::string log = saved(".stormlog");
  if (!write_log(log, {crew_.seed, crew_.round, outcome.process}, outcome.ops, outcome.report)) {
    std::printf("%s could not be written: %s\n", log.c_str(), std::strerror(errno));
    return code;
  }
  std::printf(
      "operations: %s\nagain:      udax-storm -f --replay %s %s\nshorter:    udax-storm -f --shrink %s %s\n",
      log.c_str(), log.c_str(), a_.path.c_str(), log.c_str(), a_.path.c_str());
  return code;
}

int Program::run_rounds() {
  const auto begin = Clock::now();
  if (a_.seconds != 0) crew_.deadline = begin + std::chrono::seconds(a_.seconds);
  Outcome sum;
  for (uint64_t done = 0; a_.operations == 0 || done < a_.operations; done += a_.round, ++crew_.round) {
    if (crew_.round > 0 && Clock::now() >= crew_.deadline) break;
    crew_.operations = a_.operations == 0 ? a_.round : std::min(a_.round, a_.operations - done);
    const Outcome outcome = run_round(crew_);
    sum.operations += outcome.operations;
    sum.refused += outcome.refused;
    sum.flips += outcome.flips;
    if (outcome.ending != Ending::kPassed) return failed(outcome);
  }
  return finish(sum, begin);
}

int Program::finish(const Outcome& sum, Clock::time_point begin) {
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin).count();
  say(std::to_string(sum.operations) + " operations (" + std::to_string(sum.refused) +
      " refused as they must be, " + std::to_string(sum.flips) + " flips of the DAX flag) in " +
      std::to_string(crew_.round) + " rounds and " + std::to_string(took / 1000) + "." +
      std::to_string(took % 1000 / 100) + " s: no difference");
  if (!a_.save_model.empty()) return save_model();
  if (a_.keep) return kExitPassed;
  const std::string wrong = remove_trees(crew_);
  return wrong.empty() ? kExitPassed : fail(kExitFailed, wrong);
}

int Program::save_model() {
  Snapshot snapshot;
  snapshot.with_dax = crew_.traits.dax;
  for (const std::string& name : tree_names(a_.processes)) {
    Directory tree(a_.path + '/' + name);
    std::string error;
    if (!describe(tree, snapshot.with_dax, snapshot.trees[name], error))
      return fail(kExitFailed, error.insert(0, name + '/'));
  }
  if (write_snapshot(a_.save_model, snapshot)) return kExitPassed;
  return fail(kExitEnvironment, a_.save_model + ": " + std::strerror(errno));
}

int Program::verify() {
  Snapshot wanted;
  std::string error;
  if (!read_snapshot(a_.verify, wanted, error)) return fail(kExitUsage, error);
  size_t different = 0;
  size_t names = 0;
  for (const auto& [name, lines] : wanted.trees) {
    Directory tree(a_.path + '/' + name);
    std::vector<std::string> found;
    if (!describe(tree, wanted.with_dax, found, error)) {
      std::printf("FAILED: %s/%s\n", name.c_str(), error.c_str());
      ++different;
    }
    names += lines.size();
    std::vector<std::string> missing;
    std::vector<std::string> extra;
    const std::multiset<std::string> a(lines.begin(), lines.end());
    const std::multiset<std::string> b(found.begin(), found.end());
    std::ranges::set_difference(a, b, std::back_inserter(missing));
    std::ranges::set_difference(b, a, std::back_inserter(extra));
    different += missing.size() + extra.size();
    for (size_t i = 0; i < std::min(missing.size(), kDifferencesShown); ++i)
      std::printf("was %s/%s\n", name.c_str(), missing[i].c_str());
    for (size_t i = 0; i < std::min(extra.size(), kDifferencesShown); ++i)
      std::printf("is  %s/%s\n", name.c_str(), extra[i].c_str());
  }
  if (different > 0) {
    std::printf("FAILED: %zu lines differ\n", different);
    return kExitFailed;
  }
  say(std::to_string(names) + " names: no difference");
  return kExitPassed;
}

// Without what this filesystem cannot do: a log may come from another.
bool Program::load(const std::string& path, std::vector<Op>& ops, int& code) {
  Setup setup;
  std::string error;
  if (!read_log(path, setup, ops, error)) {
    code = fail(kExitUsage, error);
    return false;
  }
  crew_.seed = setup.seed;
  crew_.round = setup.round;
  crew_.processes = 1;
  crew_.acts_as = setup.process;
  crew_.set_aside = true;
  crew_.live_log.clear();
  std::erase_if(ops, [this](const Op& op) { return left_out_.contains(op.kind); });
  return true;
}

int Program::replay() {
  std::vector<Op> ops;
  int code = kExitPassed;
  if (!load(a_.replay, ops, code)) return code;
  const Outcome outcome = run_list(crew_, ops);
  if (outcome.ending == Ending::kInterrupted) return kExitInterrupted;
  if (outcome.ending != Ending::kPassed) {
    std::printf("FAILED: %s", outcome.report.c_str());
    return outcome.ending == Ending::kFailed ? kExitFailed : kExitEnvironment;
  }
  say(std::to_string(outcome.operations) + " operations: no difference");
  if (a_.keep) return kExitPassed;
  const std::string wrong = remove_trees(crew_);
  return wrong.empty() ? kExitPassed : fail(kExitFailed, wrong);
}

int Program::shrink() {
  std::vector<Op> ops;
  int code = kExitPassed;
  if (!load(a_.shrink, ops, code)) return code;
  Outcome outcome;
  uint64_t trials = 0;
  const stress::Trial<Op> trial = [&](const std::vector<Op>& some) -> std::optional<size_t> {
    ++trials;
    Outcome now = run_list(crew_, some);
    if (now.ending != Ending::kFailed) return std::nullopt;
    outcome = std::move(now);
    return static_cast<size_t>(outcome.failed_at);
  };
  const std::optional<size_t> failed_at = trial(ops);
  if (!failed_at) {
    say("the " + std::to_string(ops.size()) + " operations do not fail again");
    return kExitPassed;
  }
  ops.resize(std::min(ops.size(), *failed_at + 1));
  say("failed again at operation " + std::to_string(ops.size()));
  const std::vector<Op> shortest = storm::shrink(ops, trial, std::chrono::seconds(a_.shrink_seconds));
  const std::string path = saved(".stormshort");
  std::printf("%zu operations, after %llu trials:\n", shortest.size(), static_cast<unsigned long long>(trials));
  for (const Op& op : shortest) std::printf("  %s\n", to_text(op).c_str());
  std::printf("%s", outcome.report.c_str());
  if (!write_log(path, {crew_.seed, crew_.round, 0}, shortest, outcome.report)) {
    return fail(kExitEnvironment, path + ": " + std::strerror(errno));
  }
  std::printf("again: udax-storm -f --replay %s %s\n", path.c_str(), a_.path.c_str());
  return kExitFailed;
}

int Program::run() {
  if (!a_.verify.empty()) return verify();
  int code = make_directory();
  if (code == kExitPassed) code = prepare();
  if (code != kExitPassed) return code;
  if (!a_.replay.empty()) return replay();
  if (!a_.shrink.empty()) return shrink();
  say("seed " + std::to_string(a_.seed));
  return run_rounds();
}

int run(Arguments arguments) { return Program(std::move(arguments)).run(); }

}  // namespace
}  // namespace udax::storm

int main(int argc, char** argv) {
  namespace tool = udax::storm;
  const udax::stress::Program<tool::Arguments> program{
      "udax-storm", "Makes, moves, changes and removes files, and compares the tree with a model of it",
      tool::add_options, tool::interrupt, tool::run};
  return udax::stress::run_program(program, argc, argv);
}
