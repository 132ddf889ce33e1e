// SPDX-License-Identifier: BSD-3-Clause
#include "tools/storm/crew.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <sstream>

#include "tools/storm/model.h"
#include "tools/storm/session.h"
#include "tools/stress/child.h"

namespace udax::storm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kProcessesMax = 64;
constexpr size_t kReportMax = 16 * 1024;
constexpr uint64_t kLineMax = 700;  // on average; a log that needs more is cut short
constexpr uint64_t kClockEvery = 16;
constexpr auto kEndAfterStop = std::chrono::seconds(20);
constexpr size_t kLastShown = 12;
constexpr int kAsideMax = 10'000;
constexpr uint32_t kTopMode = 0755;

volatile sig_atomic_t interrupted = 0;

struct Area {  // zero at first, as mmap gives it
  std::atomic<uint32_t> stop;
  std::atomic<uint32_t> reported;
  uint32_t is_environment;
  uint64_t failed_at;
  uint64_t process;
  std::array<char, kReportMax> report;
  std::atomic<uint64_t> operations;
  std::atomic<uint64_t> refused;
  std::atomic<uint64_t> flips;
  std::array<std::atomic<uint64_t>, kProcessesMax> done;
  std::array<std::atomic<uint64_t>, kProcessesMax> log_bytes;
};

void report(Area& area, const Failure& failure, uint64_t process, uint64_t failed_at) {
  if (area.reported.exchange(1) == 0) {
    std::memcpy(area.report.data(), failure.what.data(), std::min(failure.what.size(), kReportMax - 1));
    area.is_environment = failure.error != 0 ? 1 : 0;
    area.process = process;
    area.failed_at = failed_at;
  }
  area.stop.store(1);
}

std::string prefix_of(uint64_t process) { return "p" + std::to_string(process) + "_"; }

// One process: its tree, its names in the shared one, their models.
class Worker {
 public:
  Worker(const CrewOptions& options, Area& area, std::span<char> log, uint8_t me)
      : options_(options),
        area_(area),
        log_(log),
        me_(me),
        own_(options.path + "/p" + std::to_string(me)),
        shared_(options.path + "/shared"),
        own_model_(owner(), kTopMode, options.traits.dax_inherits),
        shared_model_(owner(), kTopMode, options.traits.dax_inherits),
        own_session_(own_, own_model_, options_.traits, ""),
        shared_session_(shared_, shared_model_, options_.traits, prefix_of(options.acts_as.value_or(me))) {
    for (uint64_t n = 0; n < kSharedDirectories; ++n) {
      static_cast<void>(shared_model_.mkdir(shared_directory(n), kTopMode));
    }
    if (options.live_log.empty()) return;
    const std::string name = options.live_log + ".p" + std::to_string(me);
    live_log_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    const std::string head = head_text({options.seed, options.round, me});
    if (live_log_ >= 0) static_cast<void>(!::write(live_log_, head.data(), head.size()));
  }
  ~Worker() {
    for (const Session* session : {&own_session_, &shared_session_}) {
      area_.operations += session->counters().operations;
      area_.refused += session->counters().refused;
      area_.flips += session->counters().flips;
    }
    if (live_log_ >= 0) ::close(live_log_);
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void run_round() {
    Generator generator(derive_seed(derive_seed(options_.seed, options_.round), me_ + uint64_t{1}),
                        options_.choice, prefix_of(me_));
    for (uint64_t n = 0; n < options_.operations; ++n) {
      if (n % kClockEvery == 0 && Clock::now() >= options_.deadline) break;
      const bool checks = options_.check_every != 0 && n % options_.check_every == options_.check_every - 1;
      if (!step(checks ? Op{} : generator.next(own_model_, shared_model_))) return;
    }
    for (uint8_t slot = 0; slot < kSlots; ++slot) {
      if (!step(Op{.kind = Kind::kSlotCheck, .slot = slot})) return;
      if (!step(Op{.kind = Kind::kSlotClose, .slot = slot})) return;
    }
    if (step(Op{})) static_cast<void>(step(Op{.shared = true}));
  }

  void run_list(const std::vector<Op>& ops) {
    for (const Op& op : ops) {
      if (!step(op)) return;
    }
  }

 private:
  static Owner owner() { return {::geteuid(), ::getegid()}; }

  bool step(const Op& op) {
    if (area_.stop.load() != 0) return false;
    note(op);
    const std::optional<Failure> failure = (op.shared ? shared_session_ : own_session_).run(op);
    area_.done[me_].fetch_add(1);
    if (failure) report(area_, *failure, me_, count_ - 1);
    return !failure.has_value();
  }

  void note(const Op& op) {
    ++count_;
    const std::string line = to_text(op) + '\n';
    const uint64_t used = area_.log_bytes[me_].load();
    if (used + line.size() <= log_.size()) {
      std::memcpy(&log_[used], line.data(), line.size());
      area_.log_bytes[me_].store(used + line.size());
    }
    if (live_log_ >= 0) static_cast<void>(!::write(live_log_, line.data(), line.size()));
  }

  const CrewOptions& options_;
  Area& area_;
  const std::span<char> log_;
  const uint8_t me_;
  Directory own_;
  Directory shared_;
  Model own_model_;
  Model shared_model_;
  Session own_session_;
  Session shared_session_;
  uint64_t count_ = 0;
  int live_log_ = -1;
};

// In the shared tree nobody knows all names; but each file has as many as it says. Empty, or which has not.
std::string check_link_counts(const std::string& top) {
  struct File {
    std::string name;
    uint64_t nlink;
    uint64_t names;
  };
  std::map<uint64_t, File> files;
  Directory tree(top);
  for (uint64_t n = 0; n < kSharedDirectories; ++n) {
    std::vector<Entry> entries;
    const int got = tree.list(shared_directory(n), entries);
    if (got != 0) return shared_directory(n) + ": " + std::strerror(-got);
    for (const Entry& entry : entries) {
      const std::string name = shared_directory(n) + '/' + entry.name;
      Attributes attributes;
      if (tree.stat(name, attributes) != 0) return name + " is listed, and not there";
      if (S_ISDIR(attributes.mode)) continue;
      ++files.try_emplace(attributes.ino, File{name, attributes.nlink, 0}).first->second.names;
    }
  }
  for (const auto& [ino, file] : files) {
    if (file.names == file.nlink) continue;
    return file.name + " has a link count of " + std::to_string(file.nlink) + " and " +
           std::to_string(file.names) + " names";
  }
  return {};
}

bool set_aside(const std::string& path) {
  for (int n = 1; n <= kAsideMax; ++n) {
    const std::string to = path + ".left" + std::to_string(n);
    if (::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
    if (errno != EEXIST) return false;
  }
  return false;
}

class Crew {
 public:
  Crew(const CrewOptions& options, uint64_t operations)
      : options_(options),
        log_size_((operations + 100) * kLineMax + (1 << 20)),
        area_memory_(sizeof(Area)),
        log_memory_(log_size_ * options.processes) {}

  Outcome run(const std::function<void(Worker&)>& work);

 private:
  [[nodiscard]] Area& area() const { return *static_cast<Area*>(area_memory_.bytes()); }
  [[nodiscard]] std::span<char> log_of(uint64_t process) const {
    return {static_cast<char*>(log_memory_.bytes()) + process * log_size_, log_size_};
  }
  [[nodiscard]] std::string make_trees() const;
  [[nodiscard]] bool start(uint8_t process, const std::function<void(Worker&)>& work);
  void watch();
  void look_for_hang(Clock::time_point& since, uint64_t& seen);
  [[nodiscard]] std::vector<Op> ops_of(uint64_t process) const;
  [[nodiscard]] uint64_t slowest() const;

  const CrewOptions& options_;
  const uint64_t log_size_;
  const stress::SharedMemory area_memory_;
  const stress::SharedMemory log_memory_;
  std::vector<pid_t> children_;  // 0 once it has ended
};

std::string Crew::make_trees() const {
  std::string wrong = remove_trees(options_);
  if (!wrong.empty()) return wrong;
  ::umask(0);
  std::vector<std::string> directories = tree_names(options_.processes);
  for (uint64_t n = 0; n < kSharedDirectories; ++n) directories.push_back("shared/" + shared_directory(n));
  for (const std::string& name : directories) {
    const std::string path = options_.path + '/' + name;
    if (::mkdir(path.c_str(), kTopMode) != 0) return path + ": " + std::strerror(errno);
    // Whatever the directory above hands down.
    if (::chown(path.c_str(), ::geteuid(), ::getegid()) != 0 || ::chmod(path.c_str(), kTopMode) != 0) {
      return path + ": " + std::strerror(errno);
    }
  }
  return {};
}

bool Crew::start(uint8_t process, const std::function<void(Worker&)>& work) {
  const pid_t child = stress::start_child([&] {
    Worker worker(options_, area(), log_of(process), process);
    work(worker);
  });
  if (child < 0) return false;
  children_.push_back(child);
  return true;
}

uint64_t Crew::slowest() const {
  uint64_t out = 0;
  for (uint64_t process = 1; process < options_.processes; ++process) {
    if (area().done[process].load() < area().done[out].load()) out = process;
  }
  return out;
}

void Crew::look_for_hang(Clock::time_point& since, uint64_t& seen) {
  uint64_t done = 0;
  for (const auto& count : area().done) done += count.load();
  const auto now = Clock::now();
  if (done != seen) {
    seen = done;
    since = now;
  }
  if (area().stop.load() == 0) {
    if (options_.hang_seconds == 0 || now - since < std::chrono::seconds(options_.hang_seconds)) return;
    report(area(), {"no operation ended for " + std::to_string(options_.hang_seconds) + " s", 0}, slowest(), 0);
    since = now;
  } else if (now - since >= kEndAfterStop) {
    for (pid_t& child : children_) {
      if (child != 0) ::kill(child, SIGKILL);
      child = 0;  // one that hangs in the kernel is not waited for
    }
  }
}

void Crew::watch() {
  auto since = Clock::now();
  uint64_t seen = 0;
  useconds_t pause_us = 100;
  for (bool any = true; any;) {
    any = false;
    for (size_t i = 0; i < children_.size(); ++i) {
      int status = 0;
      if (children_[i] == 0) continue;
      if (::waitpid(children_[i], &status, WNOHANG) != children_[i]) {
        any = true;
        continue;
      }
      children_[i] = 0;
      if (!WIFSIGNALED(status)) continue;
      report(area(), {"process " + std::to_string(i) + " died of signal " + std::to_string(WTERMSIG(status)), 0},
             i, 0);
    }
    if (interrupted != 0) area().stop.store(1);
    if (any) look_for_hang(since, seen);
    if (any) ::usleep(pause_us);
    pause_us = std::min<useconds_t>(pause_us * 2, 20'000);
  }
}

std::vector<Op> Crew::ops_of(uint64_t process) const {
  std::vector<Op> out;
  std::istringstream lines(std::string(log_of(process).data(), area().log_bytes[process].load()));
  for (std::string line; std::getline(lines, line);) {
    if (const std::optional<Op> op = op_from_text(line)) out.push_back(*op);
  }
  return out;
}

Outcome Crew::run(const std::function<void(Worker&)>& work) {
  Outcome out;
  out.ending = Ending::kEnvironment;
  if (area_memory_.bytes() == nullptr || log_memory_.bytes() == nullptr) {
    out.report = "no memory\n";
    return out;
  }
  out.report = make_trees();
  if (!out.report.empty()) {
    out.ending = Ending::kFailed;  // a tree that we made and cannot remove
    out.report += '\n';
    return out;
  }
  for (uint32_t process = 0; process < options_.processes; ++process) {
    if (start(static_cast<uint8_t>(process), work)) continue;
    report(area(), {std::string("fork: ") + std::strerror(errno), errno}, 0, 0);
    break;
  }
  watch();
  if (area().stop.load() == 0) {
    const std::string wrong = check_link_counts(options_.path + "/shared");
    if (!wrong.empty()) report(area(), {"in the shared tree " + wrong, 0}, 0, 0);
  }
  out.operations = area().operations.load();
  out.refused = area().refused.load();
  out.flips = area().flips.load();
  out.ending = interrupted != 0 ? Ending::kInterrupted : Ending::kPassed;
  if (area().reported.load() == 0) return out;
  out.ending = area().is_environment != 0 ? Ending::kEnvironment : Ending::kFailed;
  out.process = area().process;
  out.failed_at = area().failed_at;
  out.ops = ops_of(out.process);
  out.report = area().report.data();
  out.report += "\nthe last operations:\n";
  for (size_t i = out.ops.size() - std::min(out.ops.size(), kLastShown); i < out.ops.size(); ++i) {
    out.report += "  #" + std::to_string(i) + ' ' + to_text(out.ops[i]) + '\n';
  }
  return out;
}

}  // namespace

void interrupt() { interrupted = 1; }

std::vector<std::string> tree_names(uint32_t processes) {
  std::vector<std::string> out;
  for (uint32_t process = 0; process < processes; ++process) out.push_back("p" + std::to_string(process));
  out.emplace_back("shared");
  return out;
}

std::string remove_trees(const CrewOptions& options) {
  for (const std::string& name : tree_names(options.processes)) {
    const std::string path = options.path + '/' + name;
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (error && !(options.set_aside && set_aside(path))) {
      return path + " cannot be removed: " + error.message();
    }
  }
  return {};
}

Outcome run_round(const CrewOptions& options) {
  Crew crew(options, options.operations);
  return crew.run([](Worker& worker) { worker.run_round(); });
}

Outcome run_list(const CrewOptions& options, const std::vector<Op>& ops) {
  Crew crew(options, 100);
  return crew.run([&ops](Worker& worker) { worker.run_list(ops); });
}

}  // namespace udax::storm
