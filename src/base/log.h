// SPDX-License-Identifier: BSD-3-Clause
//
// Logging: `log::info("mounted {} at {}", pool, path)`, to standard error or to syslog.
//
// Format strings are checked at compile time. Logging never fails and never throws: a message that cannot be
// formatted or written is lost. Until log_init() is called messages from kInfo upward go to standard error.
//
// Thread safety: all but log_init(), which must not run while another thread logs.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace udax {

enum class LogLevel : uint8_t { kTrace, kDebug, kInfo, kWarning, kError };
enum class LogTarget : uint8_t { kStderr, kSyslog };

/// Sets the lowest level that is written and where to. May be called again, for one that has become a daemon.
/// kNoMemory, kIo (no such target); the former setting stays then.
Status log_init(LogLevel level, LogTarget target);
/// "trace", "debug", "info", "warning" or "error"; otherwise kInvalid.
Result<LogLevel> parse_log_level(std::string_view name);

namespace log {

/// True if a message of `level` would be written; for what is costly to gather.
[[nodiscard]] bool is_on(LogLevel level) noexcept;
void write(LogLevel level, fmt::string_view format, fmt::format_args args) noexcept;

template <typename... Args>
void message(LogLevel level, fmt::format_string<Args...> format, Args&&... args) noexcept {
  if (is_on(level)) write(level, format, fmt::make_format_args(args...));
}

template <typename... Args>
void trace(fmt::format_string<Args...> format, Args&&... args) noexcept {
  message<Args...>(LogLevel::kTrace, format, std::forward<Args>(args)...);
}
template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) noexcept {
  message<Args...>(LogLevel::kDebug, format, std::forward<Args>(args)...);
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) noexcept {
  message<Args...>(LogLevel::kInfo, format, std::forward<Args>(args)...);
}
template <typename... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) noexcept {
  message<Args...>(LogLevel::kWarning, format, std::forward<Args>(args)...);
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) noexcept {
  message<Args...>(LogLevel::kError, format, std::forward<Args>(args)...);
}

}  // namespace log
}  // namespace udax
