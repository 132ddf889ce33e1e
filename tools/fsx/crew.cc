// SPDX-License-Identifier: BSD-3-Clause
#include "tools/fsx/crew.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>

#include "tools/fsx/crew_area.h"
#include "tools/stress/child.h"

namespace udax::fsx {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kFinishOps = 64;  // what a round adds of its own
constexpr auto kEndAfterStop = std::chrono::seconds(20);

volatile sig_atomic_t interrupted = 0;

class Crew {
 public:
  Crew(const CrewOptions& options, uint64_t log_capacity)
      : options_(options),
        capacity_(log_capacity),
        area_memory_(sizeof(Area)),
        log_memory_(options.setup.processes * log_capacity * sizeof(Op)) {}

  Outcome run(const std::function<void(Worker&)>& work);

 private:
  [[nodiscard]] Area& area() const { return *static_cast<Area*>(area_memory_.bytes()); }
  [[nodiscard]] std::span<Op> log_of(uint8_t process) const {
    return {static_cast<Op*>(log_memory_.bytes()) + process * capacity_, capacity_};
  }
  [[nodiscard]] bool make_file();
  [[nodiscard]] bool start(const std::function<void()>& work);
  void watch();
  void reap(size_t index, int status);
  void look_for_hang(Clock::time_point& since, uint64_t& seen);
  void give_up();
  [[nodiscard]] std::string what_they_do() const;
  [[nodiscard]] std::vector<Op> merged() const;

  const CrewOptions& options_;
  const uint64_t capacity_;
  const stress::SharedMemory area_memory_;
  const stress::SharedMemory log_memory_;
  std::vector<pid_t> children_;  // the workers, then the flipper; 0 once it has ended
};

bool Crew::make_file() {
  remove_files(options_);
  const int fd = ::open(options_.path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return false;
  const auto size = static_cast<off_t>(options_.setup.shared_size);
  const bool good = size == 0 || ::ftruncate(fd, size) == 0;
  return (::close(fd) == 0) && good;
}

bool Crew::start(const std::function<void()>& work) {
  const pid_t child = stress::start_child(work);
  if (child < 0) return false;
  children_.push_back(child);
  return true;
}

void Crew::reap(size_t index, int status) {
  children_[index] = 0;
  if (!WIFSIGNALED(status)) return;
  const std::string who = index < options_.setup.processes ? "process " + std::to_string(index) : "the flipper";
  report_failure(area(), who + " died of signal " + std::to_string(WTERMSIG(status)) + "\n" + what_they_do(),
                 false, 0);
}

std::string Crew::what_they_do() const {
  std::string out;
  for (uint8_t process = 0; process < options_.setup.processes; ++process) {
    const uint64_t count = area().logged[process].load();
    if (count == 0) continue;
    out += "process " + std::to_string(process) + " was at: " + to_text(log_of(process)[count - 1]) + '\n';
  }
  return out;
}

void Crew::give_up() {
  for (pid_t& child : children_) {
    if (child == 0) continue;
    ::kill(child, SIGKILL);
    child = 0;  // one that hangs in the kernel stays; it is not waited for
  }
}

void Crew::look_for_hang(Clock::time_point& since, uint64_t& seen) {
  uint64_t ended = area().turn.load();
  for (const auto& count : area().ended) ended += count.load();
  const auto now = Clock::now();
  if (ended != seen) {
    seen = ended;
    since = now;
  }
  if (area().stop.load() == 0) {
    if (options_.hang_seconds == 0 || now - since < std::chrono::seconds(options_.hang_seconds)) return;
    report_failure(area(),
                   "no operation ended for " + std::to_string(options_.hang_seconds) + " s\n" + what_they_do(),
                   false, 0);
    since = now;
  } else if (now - since >= kEndAfterStop) {
    give_up();
  }
}

// Until all have ended. Short rounds are not to wait for long, long ones not to be looked at often.
void Crew::watch() {
  auto since = Clock::now();
  uint64_t seen = 0;
  useconds_t pause_us = 100;
  for (;;) {
    bool workers = false;
    bool any = false;
    for (size_t i = 0; i < children_.size(); ++i) {
      if (children_[i] == 0) continue;
      int status = 0;
      if (::waitpid(children_[i], &status, WNOHANG) == children_[i]) {
        reap(i, status);
        continue;
      }
      any = true;
      if (i < options_.setup.processes) workers = true;
    }
    if (!any) return;
    if (!workers) area().flipper_stop.store(1);
    if (interrupted != 0) area().stop.store(1);
    look_for_hang(since, seen);
    ::usleep(pause_us);
    pause_us = std::min<useconds_t>(pause_us * 2, 20'000);
  }
}

std::vector<Op> Crew::merged() const {
  std::vector<Op> out;
  for (uint8_t process = 0; process < options_.setup.processes; ++process) {
    for (const Op& op : log_of(process).first(area().logged[process].load())) {
      if (op.process != kAll || process == 0) out.push_back(op);
    }
  }
  std::stable_sort(out.begin(), out.end(), [](const Op& a, const Op& b) { return a.time_ns < b.time_ns; });
  return out;
}

Outcome Crew::run(const std::function<void(Worker&)>& work) {
  Outcome out;
  out.ending = Ending::kEnvironment;
  if (area_memory_.bytes() == nullptr || log_memory_.bytes() == nullptr) {
    out.report = "no memory\n";
    return out;
  }
  if (!make_file()) {
    out.report = options_.path + ": cannot be made: " + std::strerror(errno) + '\n';
    return out;
  }
  bool started = true;
  for (uint8_t process = 0; process < options_.setup.processes && started; ++process) {
    started = start([&] {
      Worker worker(options_, area(), log_of(process), process);
      work(worker);
    });
  }
  if (started && options_.flipper) started = start([&] { run_flipper(options_, area()); });
  if (!started) report_failure(area(), std::string("fork: ") + std::strerror(errno) + '\n', true, 0);
  watch();
  out.ops = merged();
  for (const auto& count : area().ended) out.operations += count.load();
  out.flips = area().flips.load();
  out.flips_refused = area().flips_refused.load();
  out.failed_at = area().failed_at;
  out.report = area().report.data();
  out.ending = Ending::kPassed;
  if (interrupted != 0) out.ending = Ending::kInterrupted;
  // A rename may have been the last of the round.
  if (area().reported.load() == 0) ::rename(other_name(options_.path).c_str(), options_.path.c_str());
  if (area().reported.load() != 0)
    out.ending = area().is_environment != 0 ? Ending::kEnvironment : Ending::kFailed;
  return out;
}

}  // namespace

void interrupt() { interrupted = 1; }

void remove_files(const CrewOptions& options) {
  ::unlink(options.path.c_str());
  ::unlink(other_name(options.path).c_str());
  for (uint32_t process = 0; process < options.setup.processes; ++process) {
    ::unlink(second_path(options, static_cast<uint8_t>(process)).c_str());
  }
}

Outcome run_round(const CrewOptions& options, const Draw& draw) {
  const uint64_t meetings = draw.meet_every == 0 ? 0 : draw.operations / draw.meet_every + 1;
  Crew crew(options, draw.operations + meetings + kFinishOps);
  return crew.run([&draw](Worker& worker) { worker.run_round(draw); });
}

Outcome run_list(const CrewOptions& options, const std::vector<Op>& ops, bool in_step) {
  Crew crew(options, ops.size() + kFinishOps);
  return crew.run([&ops, in_step](Worker& worker) { worker.run_list(ops, in_step); });
}

}  // namespace udax::fsx
