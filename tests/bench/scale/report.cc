// SPDX-License-Identifier: BSD-3-Clause
#include "tests/bench/scale/report.h"

#include <algorithm>

namespace udax::bench {
namespace {

std::string number(double value) {
  char text[32];
  const char* const format = value >= 100 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f";
  std::snprintf(text, sizeof text, format, value);
  return text;
}

}  // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 != 0 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::string count_name(uint64_t count) {
  uint64_t rest = count;
  int zeroes = 0;
  for (; rest >= 10 && rest % 10 == 0; rest /= 10) ++zeroes;
  return rest == 1 && zeroes > 0 ? "10^" + std::to_string(zeroes) : std::to_string(count);
}

void Report::add(const std::string& section, const std::string& metric, const std::string& unit,
                 const std::string& parameter, double value) {
  const auto same = [&](const Row& r) { return r.section == section && r.metric == metric && r.unit == unit; };
  auto row = std::find_if(rows_.begin(), rows_.end(), same);
  if (row == rows_.end()) row = rows_.insert(rows_.end(), Row{section, metric, unit, {}, {}});
  if (!row->values.contains(parameter)) row->parameters.push_back(parameter);
  row->values[parameter].push_back(value);
}

void Report::print(const std::string& section) const {
  std::vector<std::string> columns;
  size_t width = 0;
  for (const Row& row : rows_) {
    if (row.section != section) continue;
    width = std::max(width, row.metric.size() + row.unit.size() + 2);
    for (const std::string& p : row.parameters) {
      if (std::find(columns.begin(), columns.end(), p) == columns.end()) columns.push_back(p);
    }
  }
  if (columns.empty()) return;
  std::printf("\n%-*s", static_cast<int>(width), section.c_str());
  for (const std::string& c : columns) std::printf("  %12s", c.c_str());
  std::printf("  %8s\n", columns.size() > 1 ? "growth" : "");
  for (const Row& row : rows_) {
    if (row.section != section) continue;
    std::printf("%-*s", static_cast<int>(width), (row.metric + ", " + row.unit).c_str());
    for (const std::string& c : columns) {
      const auto found = row.values.find(c);
      std::printf("  %12s", found == row.values.end() ? "" : number(median(found->second)).c_str());
    }
    const double first = median(row.values.at(row.parameters.front()));
    const double last = median(row.values.at(row.parameters.back()));
    if (row.parameters.size() > 1 && first > 0) std::printf("  %7.2fx", last / first);
    std::printf("\n");
  }
  std::fflush(stdout);
}

bool Report::write_csv(const std::string& path) const {
  std::FILE* const out = std::fopen(path.c_str(), "w");
  if (out == nullptr) return false;
  std::fprintf(out, "section,metric,unit,parameter,median,min,max,rounds\n");
  for (const Row& row : rows_) {
    for (const std::string& p : row.parameters) {
      const std::vector<double>& values = row.values.at(p);
      const auto [low, high] = std::minmax_element(values.begin(), values.end());
      std::fprintf(out, "%s,%s,%s,%s,%.6g,%.6g,%.6g,%zu\n", row.section.c_str(), row.metric.c_str(),
                   row.unit.c_str(), p.c_str(), median(values), *low, *high, values.size());
    }
  }
  const bool is_whole = std::ferror(out) == 0;
  return std::fclose(out) == 0 && is_whole;
}

}  // namespace udax::bench
