// SPDX-License-Identifier: BSD-3-Clause
//
// The memory that the processes of a crew share, and one of them at work.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tools/fsx/crew.h"

namespace udax::fsx {

inline constexpr size_t kCrewMax = 64;
inline constexpr size_t kReportMax = 64 * 1024;

/// All of it zero at first, as mmap gives it.
struct Area {
  std::atomic<uint32_t> stop;  // somebody failed, or the parent says so
  std::atomic<uint32_t> over;  // the time is; said by process 0 before a meeting
  std::atomic<uint32_t> flipper_stop;
  std::atomic<uint32_t> arrived;     // at the barrier
  std::atomic<uint32_t> generation;  // of the barrier
  std::atomic<uint64_t> turn;        // in step: the index of the operation whose turn it is
  std::atomic<uint32_t> reported;    // who sets it first writes the next ones
  uint64_t failed_at;
  uint32_t is_environment;
  std::array<char, kReportMax> report;
  std::atomic<uint64_t> flips;
  std::atomic<uint64_t> flips_refused;
  std::array<std::atomic<uint64_t>, kCrewMax> logged;  // operations begun, by process
  std::array<std::atomic<uint64_t>, kCrewMax> ended;
};

/// Sets the report, unless there is one, and stops all.
void report_failure(Area& area, const std::string& text, bool is_environment, uint64_t failed_at);

class Worker {
 public:
  /// `log`: where its operations go.
  Worker(const CrewOptions& options, Area& area, std::span<Op> log, uint8_t me);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void run_round(const Draw& draw);
  void run_list(const std::vector<Op>& ops, bool in_step);

 private:
  [[nodiscard]] bool step(Op op);
  [[nodiscard]] bool step_all(Op op);
  [[nodiscard]] bool meet();
  [[nodiscard]] bool wait_turn(uint64_t index);
  [[nodiscard]] bool stopped() const { return area_.stop.load() != 0; }
  void note(const Op& op);
  void finish_round();

  const CrewOptions& options_;
  Area& area_;
  const std::span<Op> log_;
  const uint8_t me_;
  uint64_t count_ = 0;
  uint64_t index_ = 0;  // in a list
  bool over_ = false;
  int live_log_ = -1;
  FileTarget target_;
  Session session_;
};

/// Flips the DAX flag of the file until told to stop.
void run_flipper(const CrewOptions& options, Area& area);

[[nodiscard]] std::string second_path(const CrewOptions& options, uint8_t process);

}  // namespace udax::fsx
