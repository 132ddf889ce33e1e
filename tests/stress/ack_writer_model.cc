// SPDX-License-Identifier: BSD-3-Clause
#include "tests/stress/ack_writer_model.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>  // RENAME_EXCHANGE

#include <algorithm>
#include <sstream>

namespace udax::stress {
namespace {

constexpr size_t kNamesMax = 60;
constexpr uint64_t kFileBytesMax = 300'000;

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

void put(std::string& content, uint64_t offset, const std::string& data) {
  if (data.empty()) return;
  if (content.size() < offset + data.size()) content.resize(offset + data.size());
  content.replace(offset, data.size(), data);
}

void rename_within(State& state, const std::string& from, const std::string& to) {
  std::map<std::string, NodePtr> moved;
  const std::string below = from + "/";
  for (auto it = state.names.begin(); it != state.names.end();) {
    if (it->first == from || it->first.starts_with(below)) {
      moved[to + it->first.substr(from.size())] = it->second;
      it = state.names.erase(it);
    } else {
      ++it;
    }
  }
  state.names.merge(moved);
}

void exchange(State& state, const std::string& a, const std::string& b) {
  static const std::string kAside = "\x01";
  rename_within(state, a, kAside);
  rename_within(state, b, a);
  rename_within(state, kAside, b);
}

void allocate(Node& node, const Op& op) {
  const uint64_t mode = op.numbers.at(0);
  const uint64_t offset = op.numbers.at(1);
  const uint64_t end = offset + op.numbers.at(2);
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && node.content.size() < end) node.content.resize(end);
  if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) {
    const uint64_t stop = std::min<uint64_t>(end, node.content.size());
    if (offset < stop) std::fill_n(node.content.begin() + static_cast<ptrdiff_t>(offset), stop - offset, '\0');
  }
}

std::vector<State> file_stages(const State& before, const Op& op, uint64_t seed) {
  const NodePtr old = before.find(op.kind == Kind::kCopy ? op.b : op.a);
  if (old == nullptr || old->type != Type::kFile) return {};
  std::vector<State> result;
  Node node = *old;
  const auto stage = [&] {
    result.push_back(before);
    result.back().replace(op.kind == Kind::kCopy ? op.b : op.a, node);
  };
  const auto& n = op.numbers;
  switch (op.kind) {
    case Kind::kWrite:
      for (size_t i = 0; i + 1 < n.size(); i += 2) {
        put(node.content, n[i], bytes_of(seed, op.seq, i, n[i + 1]));
        stage();
      }
      return result;
    case Kind::kAppend: put(node.content, node.content.size(), bytes_of(seed, op.seq, 0, n.at(0))); break;
    case Kind::kMapWrite: put(node.content, n.at(0), bytes_of(seed, op.seq, 0, n.at(1))); break;
    case Kind::kTruncate: node.content.resize(n.at(0)); break;
    case Kind::kFallocate: allocate(node, op); break;
    case Kind::kCopy: {
      const NodePtr from = before.find(op.a);
      if (from == nullptr || n.at(0) > from->content.size()) return {};
      put(node.content, n.at(1), from->content.substr(n.at(0), n.at(2)));
      break;
    }
    default: return {};
  }
  stage();
  return result;
}

bool apply_name(State& state, const Op& op, uint64_t seed) {
  const NodePtr a = state.find(op.a);
  const auto& n = op.numbers;
  switch (op.kind) {
    case Kind::kCreate:
      state.names[op.a] = std::make_shared<Node>(Node{Type::kFile, uint32_t(n.at(0)), {}, {}});
      return !a;
    case Kind::kMkdir:
      state.names[op.a] = std::make_shared<Node>(Node{Type::kFolder, uint32_t(n.at(0)), {}, {}});
      return !a;
    case Kind::kTmpFile:
      state.names[op.b] = std::make_shared<Node>(Node{Type::kFile, 0600, bytes_of(seed, op.seq, 0, n.at(0)), {}});
      return true;
    case Kind::kSymlink:
      state.names[op.b] = std::make_shared<Node>(Node{Type::kSymlink, 0, op.a, {}});
      return true;
    case Kind::kLink: state.names[op.b] = a; return a != nullptr;
    case Kind::kUnlink:
    case Kind::kRmdir: return state.names.erase(op.a) == 1;
    case Kind::kRename:
      if (!a) return false;
      if (n.at(0) == RENAME_EXCHANGE) {
        exchange(state, op.a, op.b);
      } else if (state.find(op.b) != a) {  // two names of one file: rename does nothing
        state.names.erase(op.b);
        rename_within(state, op.a, op.b);
      }
      return true;
    default: break;
  }
  if (!a) return false;
  Node node = *a;
  if (op.kind == Kind::kChmod) node.mode = static_cast<uint32_t>(n.at(0));
  if (op.kind == Kind::kSetXattr) node.xattrs[op.b] = bytes_of(seed, op.seq, 0, n.at(0));
  if (op.kind == Kind::kRemoveXattr) node.xattrs.erase(op.b);
  state.replace(op.a, std::move(node));
  return true;
}

// ---- drawing ---------------------------------------------------------------------------------------------------

class Drawer {
 public:
  Drawer(const State& state, Random& random, uint64_t seq) : state_(state), random_(random) { op_.seq = seq; }

  Op run() {
    while (!attempt()) {
    }
    return op_;
  }

 private:
  bool attempt() {
    op_.a = op_.b = "-";
    op_.numbers.clear();
    if (state_.names.size() > kNamesMax || (state_.names.size() > 10 && random_.one_in(5))) return removal();
    if (files().empty() || random_.one_in(4)) return creation();
    return random_.one_in(3) ? renaming() : on_file();
  }

  [[nodiscard]] std::vector<std::string> files() const { return of(Type::kFile); }
  [[nodiscard]] std::vector<std::string> of(Type type) const {
    std::vector<std::string> found;
    for (const auto& [path, node] : state_.names) {
      if (node->type == type) found.push_back(path);
    }
    return found;
  }
  std::string pick(const std::vector<std::string>& from) { return from[random_.below(from.size())]; }
  std::string any_folder() {
    auto folders = of(Type::kFolder);
    folders.emplace_back();
    return pick(folders);
  }
  std::string new_name() {
    const std::string folder = any_folder();
    std::string name = "n" + std::to_string(op_.seq);
    if (random_.one_in(8)) name += std::string(random_.between(40, 230), 'x');
    return folder.empty() ? name : folder + "/" + name;
  }
  uint64_t length() {
    constexpr uint64_t kScales[] = {60, 4096, 20'000, 120'000};
    return random_.between(1, kScales[random_.below(4)]);
  }

  bool creation() {
    op_.a = new_name();
    const uint64_t which = random_.below(10);
    if (which < 5) {
      op_.kind = Kind::kCreate;
      op_.numbers = {random_.one_in(2) ? 0644U : 0600U};
    } else if (which < 7) {
      op_.kind = Kind::kMkdir;
      op_.numbers = {0755};
    } else if (which < 8) {
      op_.kind = Kind::kTmpFile;
      op_.b = op_.a;
      op_.a = folder_of(op_.b).empty() ? "." : folder_of(op_.b);
      op_.numbers = {length()};
    } else {
      op_.kind = Kind::kSymlink;
      op_.b = op_.a;
      op_.a = "target" + std::string(random_.one_in(3) ? random_.between(50, 900) : 0, 't');
    }
    return true;
  }

  bool removal() {
    std::vector<std::string> all;
    for (const auto& [path, node] : state_.names) {
      if (node->type != Type::kFolder || state_.is_empty(path)) all.push_back(path);
    }
    if (all.empty()) return false;
    op_.a = pick(all);
    op_.kind = state_.find(op_.a)->type == Type::kFolder ? Kind::kRmdir : Kind::kUnlink;
    return true;
  }

  bool renaming() {
    std::vector<std::string> all;
    for (const auto& [path, node] : state_.names) all.push_back(path);
    if (all.empty()) return false;
    op_.a = pick(all);
    const NodePtr node = state_.find(op_.a);
    if (node->type != Type::kFolder && random_.one_in(3)) {
      op_.kind = Kind::kLink;
      op_.b = new_name();
      return true;
    }
    op_.kind = Kind::kRename;
    op_.b = random_.one_in(2) ? new_name() : pick(all);
    // Not into itself, nor onto what is above it.
    if (op_.b == op_.a || op_.b.starts_with(op_.a + "/") || op_.a.starts_with(op_.b + "/")) return false;
    const NodePtr there = state_.find(op_.b);
    if (there == nullptr) {
      op_.numbers = {random_.one_in(2) ? uint64_t{RENAME_NOREPLACE} : 0};
      return true;
    }
    op_.numbers = {random_.one_in(3) ? uint64_t{RENAME_EXCHANGE} : 0};
    if (op_.numbers[0] == RENAME_EXCHANGE) return true;
    const bool folder = node->type == Type::kFolder;
    return folder == (there->type == Type::kFolder) && (!folder || state_.is_empty(op_.b));
  }

  bool on_file() {
    op_.a = pick(files());
    const uint64_t size = state_.find(op_.a)->content.size();
    const uint64_t offset = random_.below(size + 5000);
    switch (random_.below(12)) {
      case 0:
      case 1:
      case 2:
        op_.kind = Kind::kWrite;
        for (uint64_t left = random_.between(1, 3), at = offset; left > 0; --left) {
          const uint64_t bytes = length();
          op_.numbers.insert(op_.numbers.end(), {at, bytes});
          at += bytes + random_.below(9000);
        }
        return op_.numbers.back() + op_.numbers[op_.numbers.size() - 2] <= kFileBytesMax;
      case 3:
      case 4:
        op_.kind = Kind::kAppend;
        op_.numbers = {length()};
        return size + op_.numbers[0] <= kFileBytesMax;
      case 5:
        op_.kind = Kind::kMapWrite;
        if (offset >= size) return false;
        op_.numbers = {offset, std::min(length(), size - offset)};
        return true;
      case 6:
        op_.kind = Kind::kTruncate;
        op_.numbers = {random_.one_in(3) ? random_.below(kFileBytesMax) : random_.below(size + 1)};
        return true;
      case 7: return allocation(offset);
      case 8: {
        op_.kind = Kind::kCopy;
        op_.b = pick(files());
        if (state_.find(op_.b) == state_.find(op_.a) || size == 0) return false;
        const uint64_t from = random_.below(size);
        op_.numbers = {from, random_.below(state_.find(op_.b)->content.size() + 1),
                       std::min(length(), size - from)};
        return op_.numbers[1] + op_.numbers[2] <= kFileBytesMax;
      }
      case 9:
        op_.kind = Kind::kChmod;
        op_.numbers = {0600 | random_.below(0200)};  // the owner, who need not be root, goes on with it
        return true;
      default: return attribute();
    }
  }

  bool allocation(uint64_t offset) {
    constexpr uint64_t kModes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                   FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    op_.kind = Kind::kFallocate;
    op_.numbers = {kModes[random_.below(5)], offset, length()};
    return offset + op_.numbers[2] <= kFileBytesMax;
  }

  bool attribute() {
    const auto& xattrs = state_.find(op_.a)->xattrs;
    if (!xattrs.empty() && random_.one_in(3)) {
      op_.kind = Kind::kRemoveXattr;
      op_.b = xattrs.begin()->first;
      return true;
    }
    op_.kind = Kind::kSetXattr;
    op_.b = "user.x" + std::to_string(random_.below(6));
    op_.numbers = {random_.one_in(4) ? random_.below(9000) : random_.below(100)};
    return true;
  }

  const State& state_;
  Random& random_;
  Op op_;
};

/// The node that is there instead of the stages' in some moment of them: byte by byte one of theirs.
std::string difference_of_bytes(const Node& before, const std::vector<const Node*>& after, const Node& found,
                                bool any_size) {
  std::vector<const Node*> all = after;
  all.push_back(&before);
  uint64_t low = UINT64_MAX;
  uint64_t high = 0;
  bool exact = false;
  for (const Node* node : all) {
    low = std::min<uint64_t>(low, node->content.size());
    high = std::max<uint64_t>(high, node->content.size());
    exact = exact || node->content.size() == found.content.size();
  }
  const uint64_t size = found.content.size();
  if (any_size ? (size < low || size > high) : !exact) {
    return "has " + std::to_string(size) + " bytes, neither before nor after the operation in flight";
  }
  for (uint64_t i = 0; i < size; ++i) {
    const bool known = std::any_of(all.begin(), all.end(), [&](const Node* node) {
      return found.content[i] == (i < node->content.size() ? node->content[i] : '\0');
    });
    if (!known)
      return "byte " + std::to_string(i) + " is neither that before nor that after the operation in flight";
  }
  return "";
}

}  // namespace

std::string Op::to_line() const {
  std::ostringstream out;
  out << seq << ' ' << static_cast<int>(kind) << ' ' << a << ' ' << b;
  for (const uint64_t n : numbers) out << ' ' << n;
  return out.str();
}

std::optional<Op> Op::from_line(const std::string& line) {
  std::istringstream in(line);
  Op op;
  int kind = 0;
  if (!(in >> op.seq >> kind >> op.a >> op.b) || kind < 0 || kind > static_cast<int>(Kind::kRemoveXattr))
    return {};
  op.kind = static_cast<Kind>(kind);
  for (uint64_t n = 0; in >> n;) op.numbers.push_back(n);
  return op;
}

bool Op::is_of_bytes() const { return kind >= Kind::kWrite && kind <= Kind::kCopy; }

NodePtr State::find(const std::string& path) const {
  const auto it = names.find(path);
  return it == names.end() ? nullptr : it->second;
}

void State::replace(const std::string& path, Node node) {
  const NodePtr old = find(path);
  const auto fresh = std::make_shared<const Node>(std::move(node));
  for (auto& [name, there] : names) {
    if (there == old) there = fresh;
  }
}

bool State::is_empty(const std::string& folder) const {
  const auto next = names.upper_bound(folder + "/");
  return next == names.end() || !next->first.starts_with(folder + "/");
}

std::string bytes_of(uint64_t seed, uint64_t seq, uint64_t piece, uint64_t length) {
  Random random(seed ^ (seq * 0x9e3779b97f4a7c15U) ^ (piece << 56U));
  std::string bytes(length, '\0');
  random.fill(bytes.data(), length);
  return bytes;
}

std::vector<State> stages(const State& before, const Op& op, uint64_t seed) {
  if (op.is_of_bytes()) return file_stages(before, op, seed);
  State after = before;
  if (!apply_name(after, op, seed)) return {};
  return {after};
}

Op draw(const State& state, Random& random, uint64_t seq) { return Drawer(state, random, seq).run(); }

std::string difference(const State& expected, const State& found) {
  for (const auto& [path, node] : expected.names) {
    const NodePtr there = found.find(path);
    if (there == nullptr) return path + " is missing";
    if (there->type != node->type) return path + " is of another type";
    if (there->content.size() != node->content.size()) {
      return path + " has " + std::to_string(there->content.size()) + " bytes instead of " +
             std::to_string(node->content.size());
    }
    if (there->content != node->content) {
      const auto at = std::mismatch(node->content.begin(), node->content.end(), there->content.begin()).first;
      return path + " differs at byte " + std::to_string(at - node->content.begin());
    }
    if (there->mode != node->mode) return path + " has another mode";
    if (there->xattrs != node->xattrs) return path + " has other xattrs";
  }
  for (const auto& [path, node] : found.names) {
    if (expected.find(path) == nullptr) return path + " should not be there";
  }
  std::map<NodePtr, NodePtr> pairs;  // names that share a file must share one
  std::map<NodePtr, NodePtr> back;
  for (const auto& [path, node] : expected.names) {
    const NodePtr there = found.find(path);
    if (pairs.try_emplace(node, there).first->second != there ||
        back.try_emplace(there, node).first->second != node) {
      return path + " is a name of another file";
    }
  }
  return "";
}

std::string difference_in_flight(const State& before, const Op& op, uint64_t seed, const State& found) {
  const std::string from_before = difference(before, found);
  if (from_before.empty()) return "";
  const auto after = stages(before, op, seed);
  if (after.empty()) return "the operation in flight was not possible: " + op.to_line();
  const std::string from_after = difference(after.back(), found);
  if (from_after.empty()) return "";
  std::string both =
      "neither before (" + from_before + ") nor after (" + from_after + ") operation " + op.to_line();
  if (!op.is_of_bytes()) return both;

  const std::string& path = op.kind == Kind::kCopy ? op.b : op.a;
  const NodePtr there = found.find(path);
  if (there == nullptr || there->type != Type::kFile) return both;
  std::vector<const Node*> nodes;
  nodes.reserve(after.size());
  for (const State& state : after) nodes.push_back(state.find(path).get());
  const bool any_size = op.kind == Kind::kWrite || op.kind == Kind::kAppend || op.kind == Kind::kCopy;
  const std::string wrong = difference_of_bytes(*before.find(path), nodes, *there, any_size);
  if (!wrong.empty()) return path + " " + wrong + ": " + op.to_line();
  State between = before;
  between.replace(path, *there);
  return difference(between, found);
}

}  // namespace udax::stress
