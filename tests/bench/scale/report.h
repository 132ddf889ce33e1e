// SPDX-License-Identifier: BSD-3-Clause
//
// The table of a benchmark: values by section, metric and parameter. A metric is a row, a parameter a column; the last
// column says how the value grew from the first parameter to the last, which says more than the values do on a
// machine that others use as well.
#pragma once

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace udax::bench {

class Report {
 public:
  /// Several values of one place are rounds: their median counts.
  void add(const std::string& section, const std::string& metric, const std::string& unit,
           const std::string& parameter, double value);
  /// Prints what was added to `section`.
  void print(const std::string& section) const;
  /// One line a value. False: it could not be written.
  [[nodiscard]] bool write_csv(const std::string& path) const;

 private:
  struct Row {
    std::string section;
    std::string metric;
    std::string unit;
    std::vector<std::string> parameters;  // as first added
    std::map<std::string, std::vector<double>> values;
  };
  std::vector<Row> rows_;
};

/// REQUIRES: not empty.
[[nodiscard]] double median(std::vector<double> values);
/// 1000 -> "10^3", 4096 -> "4096".
[[nodiscard]] std::string count_name(uint64_t count);

}  // namespace udax::bench
