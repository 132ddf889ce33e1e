// SPDX-License-Identifier: BSD-3-Clause
#include "tools/fsx/op_log.h"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

#include "tools/stress/log_file.h"

namespace udax::fsx {
namespace {

constexpr uint64_t kSizeLimit = uint64_t{1} << 34;  // the copy in memory has this size

bool set_field(Setup& setup, std::string_view word) {
  const size_t equals = word.find('=');
  if (equals == std::string_view::npos) return false;
  const std::string_view key = word.substr(0, equals);
  const std::string_view text = word.substr(equals + 1);
  uint64_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || rest != text.data() + text.size()) return false;
  if (value > kSizeLimit && key != "seed" && key != "round") return false;
  if (key == "seed") {
    setup.seed = value;
  } else if (key == "round") {
    setup.round = value;
  } else if (key == "max-size") {
    setup.max_size = value;
  } else if (key == "direct-align") {
    setup.direct_align = value;
  } else if (key == "processes") {
    setup.processes = static_cast<uint32_t>(value);
  } else if (key == "unit") {
    setup.unit = value;
  } else if (key == "shared-size") {
    setup.shared_size = value;
  } else if (key == "mmap") {
    setup.mmap = value != 0;
  } else if (key == "past-end") {
    setup.past_end = value != 0;
  } else if (key == "msync-seek") {
    setup.msync_seek = value != 0;
  } else {
    return false;
  }
  return true;
}

bool is_possible(const Setup& setup) {
  if (setup.max_size == 0 || setup.direct_align == 0 || setup.processes == 0 || setup.processes > 64) return false;
  if (setup.processes == 1) return setup.shared_size == 0;
  return setup.unit > 0 && setup.shared_size >= setup.unit * setup.processes && setup.shared_size < setup.max_size;
}

bool parse_setup(const std::string& line, Setup& setup) {
  std::istringstream words(line);
  std::string word;
  words >> word;
  if (word != "setup") return false;
  while (words >> word) {
    if (!set_field(setup, word)) return false;
  }
  return is_possible(setup);
}

}  // namespace

std::string head_text(const Setup& setup) {
  std::ostringstream out;
  out << "# udax-fsx operation log\n"
      << "setup seed=" << setup.seed << " round=" << setup.round << " max-size=" << setup.max_size
      << " direct-align=" << setup.direct_align << " processes=" << setup.processes << " unit=" << setup.unit
      << " shared-size=" << setup.shared_size << " mmap=" << (setup.mmap ? 1 : 0)
      << " past-end=" << (setup.past_end ? 1 : 0) << " msync-seek=" << (setup.msync_seek ? 1 : 0) << '\n';
  return out.str();
}

bool write_log(const std::string& path, const Setup& setup, std::span<const Op> ops, const std::string& comment) {
  return stress::write_log_file(path, head_text(setup), ops, comment);
}

bool read_log(const std::string& path, OpLog& out, std::string& error) {
  std::ifstream in(path);
  if (!in) {
    error = path + ": " + std::strerror(errno);
    return false;
  }
  bool has_setup = false;
  std::string line;
  for (uint64_t number = 1; std::getline(in, line); ++number) {
    if (line.empty() || line[0] == '#') continue;
    if (!has_setup) {
      has_setup = parse_setup(line, out.setup);
      if (has_setup) continue;
      error = path + ":" + std::to_string(number) + ": not the setup of a udax-fsx log: " + line.substr(0, 200);
      return false;
    }
    const std::optional<Op> op = op_from_text(line);
    if (!op || (op->process != kAll && op->process >= out.setup.processes)) {
      error = path + ":" + std::to_string(number) + ": not an operation: " + line.substr(0, 200);
      return false;
    }
    out.ops.push_back(*op);
  }
  if (!has_setup) error = path + ": not a udax-fsx log";
  return has_setup;
}

}  // namespace udax::fsx
