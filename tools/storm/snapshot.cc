// SPDX-License-Identifier: BSD-3-Clause
#include "tools/storm/snapshot.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/crc32c.h"
#include "tools/stress/log_file.h"

namespace udax::storm {
namespace {

constexpr const char* kHead = "# udax-storm model 1";
constexpr const char* kLogHead = "# udax-storm operation log";

class Describer {
 public:
  Describer(Namespace& tree, bool with_dax, std::vector<std::string>& out)
      : tree_(tree), with_dax_(with_dax), out_(out) {}

  bool run(const std::string& path, std::string& error) {
    Attributes attributes;
    int result = tree_.stat(path, attributes);
    if (result == 0) result = line(path, attributes);
    std::vector<Entry> entries;
    if (result == 0 && S_ISDIR(attributes.mode)) result = tree_.list(path, entries);
    if (result != 0) {
      error = escape(path) + ": " + std::strerror(-result);
      return false;
    }
    std::ranges::sort(entries, {}, &Entry::name);
    for (const Entry& entry : entries) {
      if (!run(path.empty() ? entry.name : path + '/' + entry.name, error)) return false;
    }
    return true;
  }

 private:
  int line(const std::string& path, const Attributes& attributes) {
    std::ostringstream out;
    out << "path=" << escape(path) << " mode=" << std::oct << attributes.mode << std::dec
        << " nlink=" << attributes.nlink << " uid=" << attributes.uid << " gid=" << attributes.gid
        << " size=" << attributes.size << " rdev=" << attributes.rdev << " mtime=" << attributes.mtime_ns
        << " first=" << escape(first_.try_emplace(attributes.ino, path).first->second);
    const int result = contents(path, attributes, out);
    out_.push_back(out.str());
    return result;
  }

  int contents(const std::string& path, const Attributes& attributes, std::ostringstream& out) {
    if (S_ISLNK(attributes.mode)) {
      std::string target;
      const int result = tree_.readlink(path, target);
      out << " target=" << escape(target);
      return result;
    }
    if (!S_ISREG(attributes.mode) && !S_ISDIR(attributes.mode)) return 0;
    if (S_ISREG(attributes.mode)) {
      std::vector<std::byte> bytes;
      const int result = tree_.read(path, bytes);
      if (result != 0) return result;
      out << " crc=" << crc32c(0, bytes.data(), bytes.size());
    }
    Xattrs xattrs;
    const int result = tree_.xattrs(path, xattrs);
    if (result != 0 && result != -EOPNOTSUPP) return result;
    for (const auto& [name, value] : xattrs) {
      out << ' ' << escape(name) << ':' << value.size() << ':' << crc32c(0, value.data(), value.size());
    }
    if (!with_dax_) return 0;
    const int dax = tree_.get_dax(path);
    out << " dax=" << dax;
    return std::min(dax, 0);
  }

  Namespace& tree_;
  const bool with_dax_;
  std::vector<std::string>& out_;
  std::map<uint64_t, std::string> first_;  // name of an inode
};

bool set_field(Setup& setup, std::string_view word) {
  const size_t equals = word.find('=');
  if (equals == std::string_view::npos) return false;
  const std::string_view key = word.substr(0, equals);
  uint64_t* const place = key == "seed"      ? &setup.seed
                          : key == "round"   ? &setup.round
                          : key == "process" ? &setup.process
                                             : nullptr;
  if (place == nullptr) return false;
  const std::string_view text = word.substr(equals + 1);
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), *place);
  return error == std::errc() && rest == text.data() + text.size();
}

bool parse_setup(const std::string& line, Setup& setup) {
  std::istringstream words(line);
  std::string word;
  words >> word;
  if (word != "setup") return false;
  while (words >> word) {
    if (!set_field(setup, word)) return false;
  }
  return true;
}

}  // namespace

bool describe(Namespace& tree, bool with_dax, std::vector<std::string>& out, std::string& error) {
  return Describer(tree, with_dax, out).run("", error);
}

bool write_snapshot(const std::string& path, const Snapshot& snapshot) {
  std::ofstream out(path, std::ios::trunc);
  out << kHead << '\n' << "dax " << (snapshot.with_dax ? 1 : 0) << '\n';
  for (const auto& [tree, lines] : snapshot.trees) {
    out << "tree " << tree << '\n';
    for (const std::string& line : lines) out << line << '\n';
  }
  out.close();
  return out.good();
}

bool read_snapshot(const std::string& path, Snapshot& out, std::string& error) {
  std::ifstream in(path);
  std::string line;
  if (!in) {
    error = path + ": " + std::strerror(errno);
    return false;
  }
  if (!std::getline(in, line) || line != kHead) {
    error = path + ": not a model that --save-model wrote";
    return false;
  }
  std::vector<std::string>* lines = nullptr;
  while (std::getline(in, line)) {
    if (line.starts_with("dax ")) {
      out.with_dax = line == "dax 1";
    } else if (line.starts_with("tree ")) {
      lines = &out.trees[line.substr(5)];
    } else if (lines != nullptr) {
      lines->push_back(line);
    }
  }
  return true;
}

std::string head_text(const Setup& setup) {
  return std::string(kLogHead) + "\nsetup seed=" + std::to_string(setup.seed) +
         " round=" + std::to_string(setup.round) + " process=" + std::to_string(setup.process) + '\n';
}

bool write_log(const std::string& path, const Setup& setup, const std::vector<Op>& ops,
               const std::string& comment) {
  return stress::write_log_file(path, head_text(setup), ops, comment);
}

bool read_log(const std::string& path, Setup& setup, std::vector<Op>& ops, std::string& error) {
  std::ifstream in(path);
  if (!in) {
    error = path + ": " + std::strerror(errno);
    return false;
  }
  bool has_setup = false;
  std::string line;
  for (uint64_t number = 1; std::getline(in, line); ++number) {
    if (line.empty() || line[0] == '#') continue;
    const std::optional<Op> op = has_setup ? op_from_text(line) : std::nullopt;
    if (op) {
      ops.push_back(*op);
    } else if (!has_setup && parse_setup(line, setup)) {
      has_setup = true;
    } else {
      error = path + ":" + std::to_string(number) + ": not a line of a udax-storm log: " + line.substr(0, 200);
      return false;
    }
  }
  if (!has_setup) error = path + ": not a udax-storm log";
  return has_setup;
}

}  // namespace udax::storm
