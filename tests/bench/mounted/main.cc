// SPDX-License-Identifier: BSD-3-Clause
//
// Latency and throughput of operations in several folders, side by side: rounds go over all of them in turn, so that a
// busy moment of the machine falls on each. A client is a process. tools/bench.sh makes the folders and reads the CSV.
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "tests/bench/mounted/operations.h"

namespace udax::bench {
namespace {

struct Settings {
  std::vector<std::string> subjects;  // name=folder
  std::vector<uint32_t> clients{1, 2, 4};
  std::vector<std::string> operations;  // names; empty: all
  uint32_t rounds = 5;
  uint32_t time_ms = 200;
  std::string csv;
};

struct Sample {
  std::vector<uint32_t> latencies_ns;
  double seconds = 0;  // of the slowest client
};

/// The work of a client: writes its latencies to `out`.
int client(const OperationKind& kind, const std::string& folder, uint32_t number, uint32_t time_ms, int ready,
           int go, int out) {
  try {
    const auto operation = kind.make(folder, number);
    operation->run();  // what is only done once
    char byte = 0;
    if (::write(ready, &byte, 1) != 1) return 1;
    ::close(ready);  // or who waits for one that has died would wait for this one
    if (::read(go, &byte, 1) < 0) return 1;
    std::vector<uint32_t> latencies;
    latencies.reserve(1U << 16);
    const uint64_t start = monotonic_ns();
    const uint64_t end = start + uint64_t{time_ms} * 1'000'000;
    for (uint64_t before = start; before < end;) {
      operation->run();
      const uint64_t after = monotonic_ns();
      latencies.push_back(static_cast<uint32_t>(std::min<uint64_t>(after - before, UINT32_MAX)));
      before = after;
    }
    const auto* bytes = reinterpret_cast<const char*>(latencies.data());
    for (size_t left = latencies.size() * sizeof(uint32_t); left > 0;) {
      const ssize_t n = ::write(out, bytes, left);
      if (n <= 0) return 1;
      bytes += n;
      left -= static_cast<size_t>(n);
    }
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s in %s: %s\n", kind.name, folder.c_str(), e.what());
    return 1;
  }
}

bool read_all(int fd, std::vector<uint32_t>& into) {
  std::vector<char> bytes;
  char part[65536];
  ssize_t n = 0;
  while ((n = ::read(fd, part, sizeof(part))) > 0) bytes.insert(bytes.end(), part, part + n);
  const auto* numbers = reinterpret_cast<const uint32_t*>(bytes.data());
  into.insert(into.end(), numbers, numbers + bytes.size() / sizeof(uint32_t));
  return n == 0;
}

/// False: an operation failed (the client has said why).
bool measure(const OperationKind& kind, const std::string& folder, uint32_t clients, uint32_t time_ms,
             Sample& sample) {
  int ready[2];
  int go[2];
  if (::pipe(ready) != 0 || ::pipe(go) != 0) return false;
  std::vector<std::pair<pid_t, int>> running;
  for (uint32_t i = 0; i < clients; ++i) {
    int out[2];
    if (::pipe(out) != 0) return false;
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::close(go[1]);
      ::close(ready[0]);
      ::_exit(client(kind, folder, i, time_ms, ready[1], go[0], out[1]));
    }
    ::close(out[1]);
    running.emplace_back(pid, out[0]);
  }
  ::close(ready[1]);
  ::close(go[0]);
  char byte = 0;
  uint32_t there = 0;
  while (there < clients && ::read(ready[0], &byte, 1) == 1) ++there;
  ::close(go[1]);  // all start
  bool good = there == clients;
  for (const auto& [pid, out] : running) {
    good = read_all(out, sample.latencies_ns) && good;
    ::close(out);
    int status = 0;
    good = ::waitpid(pid, &status, 0) == pid && status == 0 && good;
  }
  ::close(ready[0]);
  sample.seconds += time_ms / 1000.0;
  return good;
}

double percentile_us(const std::vector<uint32_t>& sorted, double share) {
  if (sorted.empty()) return 0;
  const auto index = static_cast<size_t>(share * static_cast<double>(sorted.size() - 1));
  return sorted[index] / 1000.0;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Row {
  std::vector<double> p50, p99, p999, per_second;  // one a round
};

int run(const Settings& settings) {
  std::map<std::string, Row> rows;
  std::vector<std::string> failed;
  const auto key = [](const std::string& subject, const char* operation, uint32_t clients) {
    return subject + "," + operation + "," + std::to_string(clients);
  };
  std::vector<const OperationKind*> kinds;
  for (const OperationKind& kind : operation_kinds()) {
    const auto& wanted = settings.operations;
    if (wanted.empty() || std::find(wanted.begin(), wanted.end(), kind.name) != wanted.end())
      kinds.push_back(&kind);
  }
  for (uint32_t round = 0; round < settings.rounds; ++round) {
    for (const OperationKind* kind : kinds) {
      for (const uint32_t clients : settings.clients) {
        for (const std::string& subject : settings.subjects) {
          const size_t equals = subject.find('=');
          const std::string name = subject.substr(0, equals);
          const std::string id = key(name, kind->name, clients);
          if (std::find(failed.begin(), failed.end(), id) != failed.end()) continue;
          Sample sample;
          if (!measure(*kind, subject.substr(equals + 1), clients, settings.time_ms, sample)) {
            failed.push_back(id);
            continue;
          }
          std::sort(sample.latencies_ns.begin(), sample.latencies_ns.end());
          Row& row = rows[id];
          row.p50.push_back(percentile_us(sample.latencies_ns, 0.5));
          row.p99.push_back(percentile_us(sample.latencies_ns, 0.99));
          row.p999.push_back(percentile_us(sample.latencies_ns, 0.999));
          row.per_second.push_back(static_cast<double>(sample.latencies_ns.size()) / sample.seconds);
        }
      }
    }
    std::fprintf(stderr, "round %u of %u\n", round + 1, settings.rounds);
  }
  std::ofstream csv(settings.csv);
  csv << "subject,operation,clients,bytes,p50_us,p99_us,p999_us,per_second,rounds\n";
  for (const OperationKind* kind : kinds) {
    for (const uint32_t clients : settings.clients) {
      for (const std::string& subject : settings.subjects) {
        const auto found = rows.find(key(subject.substr(0, subject.find('=')), kind->name, clients));
        if (found == rows.end()) continue;
        const Row& row = found->second;
        csv << found->first.substr(0, found->first.find(',')) << ',' << kind->name << ',' << clients << ','
            << kind->bytes << ',' << median(row.p50) << ',' << median(row.p99) << ',' << median(row.p999) << ','
            << median(row.per_second) << ',' << row.p50.size() << '\n';
      }
    }
  }
  csv.close();
  for (const std::string& id : failed) std::fprintf(stderr, "not measured: %s\n", id.c_str());
  return csv.good() ? 0 : 1;
}

}  // namespace
}  // namespace udax::bench

int main(int argc, char** argv) {
  udax::bench::Settings settings;
  CLI::App app("Latency and throughput of file operations in several folders, in turn");
  app.add_option("--subject", settings.subjects, "NAME=FOLDER to measure in; several")->required();
  app.add_option("--clients", settings.clients, "how many processes at once")->delimiter(',');
  app.add_option("--operations", settings.operations, "which (all)")->delimiter(',');
  app.add_option("--rounds", settings.rounds, "how often; medians are given");
  app.add_option("--time-ms", settings.time_ms, "of each measurement");
  app.add_option("--csv", settings.csv, "where the figures go")->required();
  CLI11_PARSE(app, argc, argv);
  for (const std::string& subject : settings.subjects) {
    if (subject.find('=') == std::string::npos) {
      std::fprintf(stderr, "--subject %s: it is NAME=FOLDER\n", subject.c_str());
      return 2;
    }
  }
  return udax::bench::run(settings);
}
