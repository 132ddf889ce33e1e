// SPDX-License-Identifier: BSD-3-Clause
#include "tools/storm/shrink.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "tools/storm/generator.h"

namespace udax::storm {
namespace {

using Clock = std::chrono::steady_clock;

// Whether `path` is `top` or below it.
bool is_at_or_below(const std::string& path, const std::string& top) {
  return path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/');
}

std::string lead(const std::string& path, const std::string& from, const std::string& to) {
  if (!is_at_or_below(path, from)) return path;
  const std::string rest = path.substr(from.size());
  return to.empty() && !rest.empty() ? rest.substr(1) : to + rest;
}

struct Redirection {
  std::string from;
  std::string to;
  bool both_ways = false;
};

std::string redirect(const std::string& path, const Redirection& way) {
  if (way.both_ways && is_at_or_below(path, way.to)) return lead(path, way.to, way.from);
  return lead(path, way.from, way.to);
}

// What without this operation has another path; nullopt: nothing has.
std::optional<Redirection> redirection_of(const Op& op) {
  if (has_two_paths(op.kind)) return Redirection{op.to, op.path, op.kind == Kind::kExchange};
  if (op.kind != Kind::kMkdir) return std::nullopt;
  const size_t slash = op.path.rfind('/');
  return Redirection{op.path, slash == std::string::npos ? "" : op.path.substr(0, slash)};
}

// A directory of the shared tree that is there from the start and stays: to move or remove it would be a failure of its own.
bool is_fixed(const std::string& path) { return path.find('/') == std::string::npos; }

// Empty: what is left would be something else.
std::vector<Op> without(const std::vector<Op>& ops, size_t index, const Redirection& way) {
  std::vector<Op> out(ops);
  for (size_t i = index + 1; i < out.size(); ++i) {
    if (out[i].shared != ops[index].shared) continue;
    Op& op = out[i];
    op.path = redirect(op.path, way);
    if (has_two_paths(op.kind)) op.to = redirect(op.to, way);
    if (!op.shared || op == ops[i] || op.kind == Kind::kList) continue;
    if (is_fixed(op.path) || (has_two_paths(op.kind) && is_fixed(op.to))) return {};
  }
  out.erase(out.begin() + static_cast<std::ptrdiff_t>(index));
  return out;
}

std::vector<Op> expanded(const std::vector<Op>& ops, size_t index) {
  std::vector<Op> out(ops.begin(), ops.begin() + static_cast<std::ptrdiff_t>(index));
  for (uint64_t n = 0; n < kScanSteps; ++n) out.push_back(scan_step(ops[index], n));
  out.insert(out.end(), ops.begin() + static_cast<std::ptrdiff_t>(index) + 1, ops.end());
  return out;
}

class Shrinker {
 public:
  Shrinker(std::vector<Op> ops, const stress::Trial<Op>& trial, std::chrono::seconds limit)
      : ops_(std::move(ops)), trial_(trial), deadline_(Clock::now() + limit) {}

  std::vector<Op> run() {
    do {
      ops_ = stress::ddmin(std::move(ops_), trial_, left());
    } while (Clock::now() < deadline_ && (redirect_one() || expand_one()));
    return std::move(ops_);
  }

 private:
  [[nodiscard]] std::chrono::seconds left() const {
    const auto rest = std::chrono::duration_cast<std::chrono::seconds>(deadline_ - Clock::now());
    return std::max(rest, std::chrono::seconds(0));
  }

  bool take_if_fails(std::vector<Op> ops) {
    if (ops.empty()) return false;
    const std::optional<size_t> failed_at = trial_(ops);
    if (!failed_at) return false;
    ops.resize(std::min(ops.size(), *failed_at + 1));
    ops_ = std::move(ops);
    return true;
  }

  // All that can go, from the end: what comes early has more paths after it to lead elsewhere.
  bool redirect_one() {
    bool any = false;
    for (size_t i = ops_.size(); i-- > 0 && Clock::now() < deadline_;) {
      if (i >= ops_.size()) continue;
      const std::optional<Redirection> way = redirection_of(ops_[i]);
      if (way && take_if_fails(without(ops_, i, *way))) any = true;
    }
    return any;
  }

  // The list is longer for a while. It is taken only if a shorter one comes of it, or an equal one with one scan less.
  bool expand_one() {
    for (size_t i = 0; i < ops_.size() && Clock::now() < deadline_; ++i) {
      if (ops_[i].kind != Kind::kScan || ops_[i].shared) continue;
      std::vector<Op> ops = expanded(ops_, i);
      const std::optional<size_t> failed_at = trial_(ops);
      if (!failed_at) continue;
      ops.resize(std::min(ops.size(), *failed_at + 1));
      ops = stress::ddmin(std::move(ops), trial_, left());
      if (ops.size() > ops_.size()) continue;
      ops_ = std::move(ops);
      return true;
    }
    return false;
  }

  std::vector<Op> ops_;
  const stress::Trial<Op>& trial_;
  const Clock::time_point deadline_;
};

}  // namespace

std::vector<Op> shrink(std::vector<Op> ops, const stress::Trial<Op>& trial, std::chrono::seconds limit) {
  return Shrinker(std::move(ops), trial, limit).run();
}

}  // namespace udax::storm
