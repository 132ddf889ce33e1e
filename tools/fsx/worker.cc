// SPDX-License-Identifier: BSD-3-Clause
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tools/fsx/crew_area.h"
#include "tools/fsx/report.h"

namespace udax::fsx {
namespace {

constexpr uint64_t kFlipsPerOpen = 64;
constexpr uint64_t kClockEvery = 16;  // operations between looks at the clock

uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void nap() { ::usleep(20); }

FileOptions file_options(const CrewOptions& options, uint8_t me) {
  FileOptions out;
  out.max_size = options.setup.max_size;
  out.second_path = second_path(options, me);
  out.verify_flips = options.setup.processes == 1 && !options.flipper;
  out.dax_states = options.dax_states;
  return out;
}

}  // namespace

std::string second_path(const CrewOptions& options, uint8_t process) {
  return options.path + ".second" + (process == 0 ? "" : "." + std::to_string(process));
}

void report_failure(Area& area, const std::string& text, bool is_environment, uint64_t failed_at) {
  if (area.reported.exchange(1) == 0) {
    const size_t length = std::min(text.size(), area.report.size() - 1);
    std::memcpy(area.report.data(), text.data(), length);
    area.is_environment = is_environment ? 1 : 0;
    area.failed_at = failed_at;
  }
  area.stop.store(1);
}

Worker::Worker(const CrewOptions& options, Area& area, std::span<Op> log, uint8_t me)
    : options_(options),
      area_(area),
      log_(log),
      me_(me),
      target_(options.path, file_options(options, me)),
      session_(target_, options.setup, me) {
  if (!options.live_log.empty()) {
    live_log_ = ::open(options.live_log.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  }
  if (target_.error() != 0) {
    report_failure(area_, options.path + ": cannot be opened: " + std::strerror(target_.error()) + "\n", true, 0);
  }
}

Worker::~Worker() {
  area_.flips += session_.flips();
  area_.flips_refused += session_.flips_refused();
  if (live_log_ >= 0) ::close(live_log_);
}

// One write(2) a line: the lines of several processes do not mix.
void Worker::note(const Op& op) {
  log_[count_] = op;
  area_.logged[me_].store(++count_);
  if (live_log_ < 0 || (op.process == kAll && me_ != 0)) return;
  const std::string line = to_text(op) + '\n';
  static_cast<void>(!::write(live_log_, line.data(), line.size()));
}

bool Worker::step(Op op) {
  if (stopped() || count_ == log_.size()) return false;
  if (op.process != kAll) op.time_ns = now_ns();
  note(op);
  const std::optional<Failure> failure = session_.run(op);
  area_.ended[me_].fetch_add(1);
  if (!failure) return true;
  std::string text = options_.setup.processes > 1 ? "process " + std::to_string(me_) + ": " : "";
  text += describe(*failure, session_, log_.first(count_));
  report_failure(area_, text, is_environment(*failure), index_);
  return false;
}

bool Worker::meet() {
  const uint32_t generation = area_.generation.load();
  if (area_.arrived.fetch_add(1) + 1 == options_.setup.processes) {
    area_.arrived.store(0);
    area_.generation.fetch_add(1);
    return !stopped();
  }
  while (area_.generation.load() == generation) {
    if (stopped()) return false;
    nap();
  }
  return !stopped();
}

// Process 0 does it between two meetings, the others only take note of what it did. Its time is one at which
// all had ended what came before.
bool Worker::step_all(Op op) {
  if (!meet()) return false;
  // Process 0 says it before a first meeting only, so that here all see it, or none.
  if (area_.over.load() != 0) {
    over_ = true;
    op = Op{.kind = Kind::kAllStop, .process = kAll};
  }
  op.time_ns = now_ns();
  if (me_ == 0 && !step(op)) return false;
  if (!meet()) return false;
  return me_ == 0 || step(op);
}

void Worker::run_round(const Draw& draw) {
  const Setup& setup = options_.setup;
  const uint64_t seed = derive_seed(setup.seed, setup.round);
  Generator own(derive_seed(seed, me_ + uint64_t{1}), setup, draw.choice, me_);
  Generator together(derive_seed(seed, 0), setup, draw.choice, 0);
  for (uint64_t n = 0; n < draw.operations; ++n) {
    const bool asks_clock = me_ == 0 && n % (setup.processes > 1 ? draw.meet_every : kClockEvery) == 0;
    if (asks_clock && std::chrono::steady_clock::now() >= draw.deadline) {
      area_.over.store(1);
      over_ = setup.processes == 1;
    }
    if (setup.processes > 1 && n % draw.meet_every == 0) {
      if (!step_all(together.next_for_all())) return;
    }
    if (over_) break;
    const bool checks = draw.check_every != 0 && n % draw.check_every == draw.check_every - 1;
    Op op = checks ? Op{.kind = Kind::kCheck, .process = me_} : own.next(session_.size());
    if (!step(op)) return;
  }
  finish_round();
}

void Worker::finish_round() {
  if (options_.setup.processes > 1 && !step_all(Op{.kind = Kind::kAllStop, .process = kAll})) return;
  bool good = step(Op{.kind = Kind::kCheck, .process = me_});
  for (uint8_t fd = 0; good && fd < kPlainFds; ++fd)
    good = step(Op{.kind = Kind::kReopen, .process = me_, .fd = fd});
  if (good) good = step(Op{.kind = Kind::kFsync, .process = me_});
  if (good) good = step(Op{.kind = Kind::kDrop, .process = me_});
  if (good) static_cast<void>(step(Op{.kind = Kind::kCheck, .process = me_, .fd = 1}));
}

bool Worker::wait_turn(uint64_t index) {
  while (area_.turn.load() != index) {
    if (stopped()) return false;
    nap();
  }
  return true;
}

void Worker::run_list(const std::vector<Op>& ops, bool in_step) {
  for (index_ = 0; index_ < ops.size(); ++index_) {
    const Op& op = ops[index_];
    if (op.process == kAll) {
      if (!step_all(op)) return;
      if (me_ == 0) area_.turn.store(index_ + 1);
      continue;
    }
    if (op.process != me_) continue;
    if (in_step && !wait_turn(index_)) return;
    if (!step(op)) return;
    area_.turn.store(index_ + 1);
  }
}

// A fresh descriptor now and then: opening takes part in what a flip does. The file has one of two names.
void run_flipper(const CrewOptions& options, Area& area) {
  const bool verify = !options.op_flips;
  bool dax = true;
  while (area.flipper_stop.load() == 0 && area.stop.load() == 0) {
    int fd = ::open(options.path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) fd = ::open(other_name(options.path).c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) continue;  // renamed in between
    for (uint64_t n = 0; n < kFlipsPerOpen && area.flipper_stop.load() == 0; ++n, dax = !dax) {
      const int64_t done = set_dax_flag(fd, dax);
      if (done == -EBUSY) {
        ++area.flips_refused;
        continue;
      }
      std::string wrong = done < 0 ? std::strerror(static_cast<int>(-done)) : "";
      if (done == 0 && verify) wrong = check_flip(fd, dax, options.dax_states);
      if (!wrong.empty()) {
        report_failure(area, "the flipper, setting the DAX flag to " + std::to_string(dax) + ": " + wrong + '\n',
                       false, 0);
        break;
      }
      ++area.flips;
    }
    ::close(fd);
  }
}

}  // namespace udax::fsx
