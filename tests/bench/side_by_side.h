// SPDX-License-Identifier: BSD-3-Clause
//
// What the programs share that compare folders: LABEL=FOLDER arguments, of which the first is what the others are compared with; a row of
// medians and 99th percentiles for each thing measured, printed, and as CSV.
//
// Thread safety: one thread. Failures are thrown (std::runtime_error) up to run_and_tell().
#pragma once

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace udax::bench {

using Folders = std::vector<std::pair<std::string, std::string>>;  // label, path
using Samples = std::vector<double>;                               // ns

inline void must(bool is_good, const std::string& what) {
  if (!is_good) throw std::runtime_error(what + ": " + ::strerrordesc_np(errno));
}

inline uint64_t now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(t.tv_nsec);
}

/// Takes LABEL=FOLDER. False: it is something else.
inline bool take_folder(const std::string& word, Folders& folders) {
  const size_t at = word.find('=');
  if (at == std::string::npos || word[0] == '-') return false;
  folders.emplace_back(word.substr(0, at), word.substr(at + 1));
  return true;
}

inline void tell_heads(const std::vector<std::string>& labels, std::FILE* csv) {
  std::printf("%-30s", "us: p50, p99, p50 to the first");
  for (const std::string& label : labels) std::printf("  %32s", label.c_str());
  std::printf("\n");
  if (csv != nullptr) std::fprintf(csv, "operation,subject,p50_ns,p99_ns,ratio,samples\n");
}

/// What `row` took with each label. Sorts the samples, of which there is one at least.
inline void tell(const char* row, const std::vector<std::string>& labels, std::vector<Samples>& samples,
                 std::FILE* csv) {
  const auto percentile = [](const Samples& sorted, size_t percent) {
    return sorted[std::min(sorted.size() - 1, sorted.size() * percent / 100)];
  };
  std::printf("%-30s", row);
  double base = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    std::sort(samples[i].begin(), samples[i].end());
    const double p50 = percentile(samples[i], 50);
    const double p99 = percentile(samples[i], 99);
    if (i == 0) base = p50;
    std::printf("  %11.4f %11.4f %7.2fx", p50 / 1e3, p99 / 1e3, p50 / base);
    if (csv == nullptr) continue;
    std::fprintf(csv, "\"%s\",%s,%.2f,%.2f,%.3f,%zu\n", row, labels[i].c_str(), p50, p99, p50 / base,
                 samples[i].size());
  }
  std::printf("\n");
  std::fflush(stdout);
}

/// Runs `measure` with the CSV file, if it has a name; gives the exit status.
inline int run_and_tell(const char* program, const std::string& csv_name,
                        const std::function<void(std::FILE*)>& measure) {
  std::FILE* csv = nullptr;
  if (!csv_name.empty() && (csv = std::fopen(csv_name.c_str(), "w")) == nullptr) {
    std::perror(csv_name.c_str());
    return 1;
  }
  int status = 0;
  try {
    measure(csv);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "%s: %s\n", program, failure.what());
    status = 1;
  }
  if (csv != nullptr && std::fclose(csv) != 0) status = 1;
  return status;
}

}  // namespace udax::bench
