// SPDX-License-Identifier: BSD-3-Clause
//
// stat: the daemon's counters, as it gives them (JSON), for Prometheus, or as rates.
#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>

#include "udax/ioctl.h"
#include "udaxctl.h"

namespace udax::ctl {

std::optional<nlohmann::json> read_stat(int fd) {
  const auto stat = std::make_unique<udax_ioc_stat>();
  if (::ioctl(fd, UDAX_IOC_STAT, stat.get()) != 0) return std::nullopt;
  const size_t length = std::min<size_t>(stat->length, UDAX_STAT_TEXT_MAX);
  auto parsed = nlohmann::json::parse(stat->text, stat->text + length, nullptr, false);
  if (!parsed.is_object()) {
    errno = EPROTO;
    return std::nullopt;
  }
  return parsed;
}

namespace {

using nlohmann::json;

std::string label_value(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    out += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return out;
}

void print_metric(const std::string& name, const std::string& labels, const json& value) {
  const std::string number = value.is_boolean() ? (value.get<bool>() ? "1" : "0") : value.dump();
  std::printf("%s{%s} %s\n", name.c_str(), labels.c_str(), number.c_str());
}

/// A gauge may fall; all else in the text only grows.
bool is_gauge(const std::string& name) {
  for (const char* const part :
       {"_blocks", "huge_free", "groups_loaded", "inodes_used", "chunks_empty", "cached", "used_bytes",
        "ring_bytes", "open_files", "uptime", "pid", "was_clean", "_p50_", "_p99_"}) {
    if (name.find(part) != std::string::npos) return true;
  }
  return false;
}

void print_type(const std::string& name) {
  std::printf("# TYPE %s %s\n", name.c_str(), is_gauge(name) ? "gauge" : "counter");
}

void print_prometheus(const json& stat) {
  const std::string labels = "pool=\"" + label_value(stat.value("pool", "")) + "\",mountpoint=\"" +
                             label_value(stat.value("mountpoint", "")) + "\"";
  for (const auto& [key, value] : stat.items()) {
    if (key == "ops") continue;
    const std::string outer = "udaxfs_" + key;
    if (value.is_number() || value.is_boolean()) {
      print_type(outer);
      print_metric(outer, labels, value);
    }
    if (!value.is_object()) continue;
    for (const auto& [inner, number] : value.items()) {
      if (!number.is_number() && !number.is_boolean()) continue;
      std::string name = outer;
      name.append("_").append(inner);
      print_type(name);
      print_metric(name, labels, number);
    }
  }
  // By metric, then by operation: the lines of a metric must stand together.
  const json ops = stat.value("ops", json::object());
  for (const char* const field : {"count", "errors", "total_ns", "p50_ns", "p99_ns"}) {
    const std::string name = std::string("udaxfs_op_") + field;
    bool first = true;
    for (const auto& [op, totals] : ops.items()) {
      if (!totals.is_object() || !totals.contains(field)) continue;
      if (first) print_type(name);
      first = false;
      print_metric(name, labels + ",op=\"" + label_value(op) + "\"", totals.at(field));
    }
  }
}

uint64_t number_at(const json& stat, const char* pointer) {
  const json::json_pointer at(pointer);
  if (!stat.contains(at) || !stat.at(at).is_number_unsigned()) return 0;
  return stat.at(at).get<uint64_t>();
}

void print_text(const json& stat) {
  std::printf("%s on %s, pid %" PRIu64 ", up %" PRIu64 " s, %" PRIu64 " files open\n",
              printable(stat.value("pool", "?")).c_str(), printable(stat.value("mountpoint", "?")).c_str(),
              number_at(stat, "/pid"), number_at(stat, "/uptime_ns") / 1'000'000'000,
              number_at(stat, "/open_files"));
  for (const auto& [key, value] : stat.items()) {
    if (!value.is_object() || key == "ops") continue;
    std::printf("%s\n", printable(key).c_str());
    for (const auto& [inner, number] : value.items()) {
      std::printf("  %-24s %s\n", printable(inner).c_str(), printable(number.dump()).c_str());
    }
  }
  const json ops = stat.value("ops", json::object());
  std::printf("%-20s %12s %10s %12s %12s %12s\n", "operation", "count", "errors", "mean ns", "p50 ns", "p99 ns");
  for (const auto& [op, totals] : ops.items()) {
    const uint64_t count = number_at(totals, "/count");
    std::printf("%-20s %12" PRIu64 " %10" PRIu64 " %12" PRIu64 " %12" PRIu64 " %12" PRIu64 "\n",
                printable(op).c_str(), count, number_at(totals, "/errors"),
                count == 0 ? 0 : number_at(totals, "/total_ns") / count, number_at(totals, "/p50_ns"),
                number_at(totals, "/p99_ns"));
  }
}

uint64_t op_count(const json& stat) {
  uint64_t sum = 0;
  const json ops = stat.value("ops", json::object());
  for (const auto& [op, totals] : ops.items()) sum += number_at(totals, "/count");
  return sum;
}

/// The operation of which there were most since `before`.
std::string busiest(const json& before, const json& now) {
  std::string name = "-";
  uint64_t most = 0;
  const json ops = now.value("ops", json::object());
  for (const auto& [op, totals] : ops.items()) {
    const uint64_t grown = number_at(totals, "/count") - number_at(before, ("/ops/" + op + "/count").c_str());
    if (grown <= most) continue;
    most = grown;
    name = op;
  }
  return name;
}

int watch(int fd, const StatOptions& o, json before) {
  const auto interval = std::chrono::seconds(o.interval_s);
  for (uint32_t line = 0; o.count == 0 || line < o.count; ++line) {
    if (line % 20 == 0) {
      std::printf("%10s %10s %12s %12s %10s %12s  %s\n", "ops/s", "commits/s", "stored/s", "journal/s", "drains/s",
                  "free", "most");
    }
    std::this_thread::sleep_for(interval);
    const auto now = read_stat(fd);
    if (!now) return fail(o.mount + ": " + std::strerror(errno));
    const auto rate = [&](const char* pointer) {
      return (number_at(*now, pointer) - number_at(before, pointer)) / o.interval_s;
    };
    std::printf("%10" PRIu64 " %10" PRIu64 " %12s %12s %10" PRIu64 " %12s  %s\n",
                (op_count(*now) - op_count(before)) / o.interval_s, rate("/journal/commits"),
                size_text(rate("/media/stored_bytes")).c_str(), size_text(rate("/journal/appended_bytes")).c_str(),
                rate("/media/drains"), size_text(number_at(*now, "/space/free_blocks") * 4096).c_str(),
                printable(busiest(before, *now)).c_str());
    std::fflush(stdout);
    before = *now;
  }
  return kExitDone;
}

}  // namespace

int run_stat(const StatOptions& o) {
  const Fd fd(o.mount, O_RDONLY | O_NONBLOCK);
  if (!fd) return fail(o.mount + ": " + std::strerror(errno));
  const auto stat = read_stat(fd.get());
  if (!stat) {
    return fail(o.mount +
                (errno == ENOTTY ? " is not on a mounted udaxfs" : std::string(": ") + std::strerror(errno)));
  }
  if (o.watch) return watch(fd.get(), o, *stat);
  if (o.json) {
    print(*stat);
  } else if (o.prometheus) {
    print_prometheus(*stat);
  } else {
    print_text(*stat);
  }
  return kExitDone;
}

}  // namespace udax::ctl
