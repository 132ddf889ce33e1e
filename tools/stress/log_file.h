// SPDX-License-Identifier: BSD-3-Clause
//
// A log of operations as a file: a head, a comment, an operation a line.
#pragma once

#include <fstream>
#include <sstream>
#include <string>

namespace udax::stress {

/// False: it could not be written. `ops`: of what to_text() knows.
template <typename Ops>
bool write_log_file(const std::string& path, const std::string& head, const Ops& ops, const std::string& comment) {
  std::ofstream out(path, std::ios::trunc);
  out << head;
  std::istringstream lines(comment);
  for (std::string line; std::getline(lines, line);) out << "# " << line << '\n';
  for (const auto& op : ops) out << to_text(op) << '\n';
  out.close();
  return out.good();
}

}  // namespace udax::stress
