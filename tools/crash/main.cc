// SPDX-License-Identifier: BSD-3-Clause
//
// udax-crash: explores the states that crashes could leave (tests/crash/engine), tells about one of them, or takes the
// safeguards away one by one to see that the exploration notices.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/sync_point.h"
#include "tests/crash/engine/damage.h"
#include "tests/crash/engine/mutation.h"
#include "tests/crash/engine/suites.h"

namespace udax::crash {
namespace {

struct Options {
  bool quick = false;
  bool list = false;
  bool verbose = false;
  bool mutate = false;
  bool stories = false;
  bool damage = false;
  std::vector<std::string> knobs;
  uint64_t seed = 1;
  size_t jobs = 1;
  std::vector<std::string> only;
  std::vector<std::string> workloads;
  std::string replay;
};

void print(const Violation& v) {
  std::printf("VIOLATION %s\n%s\n", v.id.c_str(), v.story.c_str());
  std::fflush(stdout);
}

int replay(const std::string& text) {
  const auto id = ImageId::parse(text);
  if (!id) {
    std::fprintf(stderr, "udax-crash: %s is no id of an image\n", text.c_str());
    return 2;
  }
  const auto workload = Workload::parse(id->workload, id->seed);
  if (!workload) {
    std::fprintf(stderr, "udax-crash: there is no workload %s\n", id->workload.c_str());
    return 2;
  }
  Lab lab;
  const std::string why = lab.replay(*workload, id->points);
  std::printf("%s", why.empty() ? "nothing is wrong with it\n" : ("VIOLATION\n" + why).c_str());
  return why.empty() ? 0 : 1;
}

int run_workloads(const Options& options) {
  Lab lab;
  for (const std::string& name : options.workloads) {
    const auto workload = Workload::parse(name, options.seed);
    if (!workload) {
      std::fprintf(stderr, "udax-crash: there is no workload %s\n", name.c_str());
      return 2;
    }
    for (const Violation& v : lab.run(*workload, Budget{}, 10)) print(v);
  }
  std::printf("%s%s", table_head().c_str(), table_row("given", lab.totals()).c_str());
  return lab.totals().violations == 0 ? 0 : 1;
}

/// A part of a suite in a process of its own, that tells its totals through a pipe.
struct Job {
  pid_t pid = -1;
  int out = -1;
};

Job start(const Suite& suite, size_t part, size_t parts) {
  int ends[2];
  UDAX_ASSERT(::pipe(ends) == 0);
  std::fflush(stdout);
  const pid_t pid = ::fork();
  UDAX_ASSERT(pid >= 0);
  if (pid == 0) {
    ::close(ends[0]);
    const SuiteResult result = run_suite(suite, part, parts, print);
    const bool told = ::write(ends[1], &result.totals, sizeof result.totals) == sizeof result.totals;
    std::fflush(stdout);
    ::_exit(told ? 0 : 1);
  }
  ::close(ends[1]);
  return {pid, ends[0]};
}

bool finish(const Job& job, Totals& totals) {
  Totals part;
  const bool told = ::read(job.out, &part, sizeof part) == sizeof part;
  ::close(job.out);
  int status = 0;
  while (::waitpid(job.pid, &status, 0) < 0) {
  }
  if (told) totals.add(part);
  return told && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int run_suites(const Options& options) {
  std::printf("seed %lu\n%s", static_cast<unsigned long>(options.seed), table_head().c_str());
  Totals all;
  bool whole = true;
  for (const Suite& suite : suites(options.quick ? Scale::kQuick : Scale::kFull, options.seed)) {
    const auto& only = options.only;
    if (!only.empty() && std::find(only.begin(), only.end(), suite.name) == only.end()) continue;
    std::vector<Job> jobs;
    for (size_t i = 0; i < options.jobs; ++i) jobs.push_back(start(suite, i, options.jobs));
    Totals totals;
    for (const Job& job : jobs) {
      if (!finish(job, totals)) {
        whole = false;
        std::printf("a process of suite %s died\n", suite.name);
      }
    }
    totals.seconds /= static_cast<double>(options.jobs);
    std::printf("%s", table_row(suite.name, totals).c_str());
    std::fflush(stdout);
    all.add(totals);
  }
  std::printf("%s", table_row("all", all).c_str());
  return all.violations == 0 && whole ? 0 : 1;
}

int mutate(const Options& options) {
  if (!sync_point::kCompiledIn) {
    std::printf("nothing can be taken away in this build: configure it with UDAX_SYNC_POINTS=ON\n");
    return 2;
  }
  std::vector<Mutation> some;
  for (const Mutation& m : mutations()) {
    const auto& k = options.knobs;
    if (k.empty() || std::find(k.begin(), k.end(), m.knob) != k.end()) some.push_back(m);
  }
  bool as_expected = true;
  const auto tell = [&](const MutationResult& r) {
    const bool may_survive = r.mutation->survives_because != nullptr;
    as_expected = as_expected && (r.killed || may_survive);
    std::printf("%-8s %-9s %-32s %5.1f s  %s\n", r.killed ? "killed" : "SURVIVED", to_string(r.mutation->kind),
                r.mutation->knob, r.seconds, r.mutation->what);
    std::printf("         %s\n", r.killed      ? r.how.c_str()
                                 : may_survive ? r.mutation->survives_because
                                               : "unexplained");
    if (options.stories) std::printf("%s\n", r.story.c_str());
    std::fflush(stdout);
  };
  const auto results = run_mutations(some, options.seed, options.jobs, tell);
  std::printf("%s", mutation_table(results).c_str());
  return as_expected ? 0 : 1;
}

int damage() {
  Lab lab;
  const auto found = run_damage(lab, 10);
  for (const Violation& v : found) print(v);
  return found.empty() ? 0 : 1;
}

int list() {
  for (const auto* all : {&operations(), &special_operations()}) {
    for (const Operation& op : *all) std::printf("%s\n", op.name.c_str());
  }
  return 0;
}

int run(int argc, char** argv) {
  CLI::App app("Explores what crashes could leave of a udaxfs pool");
  Options options;
  app.add_flag("--quick", options.quick, "A sample, as in each run of the tests");
  app.add_option("--seed", options.seed, "Of what is drawn");
  app.add_option("--jobs,-j", options.jobs, "Processes at once")->check(CLI::Range(1, 64));
  app.add_option("--suite", options.only,
                 "Only these suites: single, whole, mapped, steps, ring, full, threads, random, pair");
  app.add_option("--run", options.workloads,
                 "These workloads, such as plain/create+unlink or plain/create|unlink");
  app.add_option("--replay", options.replay, "One image, by its id: tells its story");
  app.add_flag("--mutate", options.mutate, "Takes the safeguards away one by one: each must be noticed");
  app.add_option("--knob", options.knobs, "Only these");
  app.add_flag("--stories", options.stories, "With what was found wrong, in full");
  app.add_flag("--damage", options.damage, "Turns single bits of metadata over: each must be noticed");
  app.add_flag("--list", options.list, "The operations");
  app.add_flag("--verbose,-v", options.verbose, "With what the filesystem logs");
  CLI11_PARSE(app, argc, argv);
  static_cast<void>(log_init(LogLevel::kError, LogTarget::kStderr));
  if (options.list) return list();
  if (!options.verbose) {  // a broken image is told about once, by the explorer
    const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    const int kept = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    static_cast<void>(kept);
    ::dup2(null, STDERR_FILENO);
  }
  announce_crashes();
  if (options.mutate) return mutate(options);
  if (options.damage) return damage();
  if (!options.replay.empty()) return replay(options.replay);
  if (!options.workloads.empty()) return run_workloads(options);
  return run_suites(options);
}

}  // namespace
}  // namespace udax::crash

int main(int argc, char** argv) { return udax::crash::run(argc, argv); }
