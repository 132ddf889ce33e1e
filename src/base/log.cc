// SPDX-License-Identifier: BSD-3-Clause
#include "base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <syslog.h>

#include <array>
#include <atomic>
#include <memory>
#include <new>
#include <string>

namespace udax {
namespace {

constexpr const char* kIdent = "udaxfs";
constexpr std::array<std::string_view, 5> kNames = {"trace", "debug", "info", "warning", "error"};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace: return spdlog::level::trace;
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
  }
  return spdlog::level::err;
}

std::shared_ptr<spdlog::logger> make_logger(LogTarget target) {
  spdlog::sink_ptr sink;
  if (target == LogTarget::kSyslog) {
    sink = std::make_shared<spdlog::sinks::syslog_sink_mt>(kIdent, LOG_PID, LOG_DAEMON, false);
  } else {
    sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    sink->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %n[%P] %l: %v");
  }
  auto logger = std::make_shared<spdlog::logger>(kIdent, std::move(sink));
  logger->set_level(spdlog::level::trace);  // filtered by is_on(), before anything is formatted
  logger->flush_on(spdlog::level::trace);
  return logger;
}

std::atomic<LogLevel> level_min{LogLevel::kInfo};

// Never destroyed: threads may still log while the process ends.
std::shared_ptr<spdlog::logger>& logger() {
  static auto& instance = *new std::shared_ptr<spdlog::logger>(make_logger(LogTarget::kStderr));
  return instance;
}

}  // namespace

Status log_init(LogLevel level, LogTarget target) {
  try {
    logger() = make_logger(target);
  } catch (const std::bad_alloc&) {
    return Error::kNoMemory;
  } catch (const std::exception&) {
    return Error::kIo;
  }
  level_min.store(level, std::memory_order_relaxed);
  return {};
}

Result<LogLevel> parse_log_level(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (kNames.at(i) == name) return static_cast<LogLevel>(i);
  }
  return Error::kInvalid;
}

namespace log {

bool is_on(LogLevel level) noexcept { return level >= level_min.load(std::memory_order_relaxed); }

void write(LogLevel level, fmt::string_view format, fmt::format_args args) noexcept {
  try {
    logger()->log(to_spdlog(level), fmt::vformat(format, args));
  } catch (...) {  // NOLINT(bugprone-empty-catch): a lost message is the contract
  }
}

}  // namespace log
}  // namespace udax
