// SPDX-License-Identifier: BSD-3-Clause
#include "tests/crash/engine/oracle.h"

#include <algorithm>

namespace udax::crash {
namespace {

constexpr uint64_t kMix = 0x9E3779B97F4A7C15ULL;

/// Byte `at` of a file, zero behind its end.
char byte_at(const std::string& content, size_t at) { return at < content.size() ? content[at] : '\0'; }

/// Each `grain` bytes of `found` are those of one of `choices`. Else where they are not.
std::optional<size_t> foreign_bytes(const std::string& found, const std::vector<const std::string*>& choices,
                                    size_t grain) {
  for (size_t unit = 0; unit < found.size(); unit += grain) {
    const size_t end = std::min(unit + grain, found.size());
    const auto is_of = [&](const std::string* choice) {
      for (size_t i = unit; i < end; ++i) {
        if (found[i] != byte_at(*choice, i)) return false;
      }
      return true;
    };
    if (!std::any_of(choices.begin(), choices.end(), is_of)) return unit;
  }
  return std::nullopt;
}

std::string foreign_text(const Node& found, size_t at) {
  char line[160];
  std::snprintf(line, sizeof line, "    bytes of nobody's at %zu: %02x...%s\n", at,
                static_cast<unsigned char>((*found.content)[at]),
                static_cast<unsigned char>((*found.content)[at]) == 0xDD ? " (freed space)" : "");
  return "    " + found.path + "\n" + line;
}

}  // namespace

SerialOracle::SerialOracle(Tree start) {
  digests_.push_back(start.digest());
  trees_.push_back(std::move(start));
}

void SerialOracle::add(Step step, Tree tree) {
  steps_.push_back(std::move(step));
  digests_.push_back(tree.digest());
  trees_.push_back(std::move(tree));
}

size_t SerialOracle::mapped_since() const {
  size_t since = acknowledged_;
  for (size_t i = 0; i < acknowledged_; ++i) {
    if (steps_[i].rule == Rule::kMapped && since == acknowledged_) since = i;
    if (steps_[i].name.starts_with("fsync")) since = acknowledged_;
  }
  return since;
}

uint64_t SerialOracle::window() const {
  uint64_t w = digests_[acknowledged_] * kMix + digests_[after()];
  if (after() != acknowledged_) w = w * kMix + static_cast<uint64_t>(steps_[acknowledged_].rule);
  for (size_t i = mapped_since(); i < acknowledged_; ++i) w = w * kMix + digests_[i];
  return w;
}

std::string SerialOracle::judge(const Tree& found, const std::function<Tree()>& full) const {
  const uint64_t digest = found.digest();
  if (digest == digests_[acknowledged_] || digest == digests_[after()]) return {};
  const Tree all = full();
  const bool in_flight = after() != acknowledged_;
  if ((in_flight && steps_[acknowledged_].rule != Rule::kAtomic) || mapped_since() != acknowledged_) {
    const std::string why = judge_bytes(all);
    if (why.empty()) return {};
    return "  neither before nor after, nor between as its rule allows\n" + why + "  against the tree before:\n" +
           difference(all, trees_[acknowledged_]);
  }
  std::string why =
      "  neither before nor after\n  against the tree before:\n" + difference(all, trees_[acknowledged_]);
  if (in_flight) why += "  against the tree after:\n" + difference(all, trees_[after()]);
  return why;
}

/// A tree that is neither Sk nor Sk+1: as the rule of what is under way has it?
std::string SerialOracle::judge_bytes(const Tree& found) const {
  const Tree& before = trees_[acknowledged_];
  const Tree& next = trees_[after()];
  const bool in_flight = after() != acknowledged_;
  const Rule rule = in_flight ? steps_[acknowledged_].rule : Rule::kAtomic;
  const size_t since = mapped_since();
  const bool is_before = found.nodes.size() == before.nodes.size();
  const Tree& shape = is_before ? before : next;
  if (found.nodes.size() != shape.nodes.size()) return "    other names than before and after\n";
  for (size_t i = 0; i < found.nodes.size(); ++i) {
    const Node& f = found.nodes[i];
    const Node* b = before.find(f.path);
    const Node* a = next.find(f.path);
    if (a == nullptr && b == nullptr) return "    not expected: " + f.path + "\n";
    const bool old_attributes = b != nullptr && same_attributes(f, *b, Look::kAll);
    const bool new_attributes = a != nullptr && same_attributes(f, *a, Look::kAll);
    if (!old_attributes && !new_attributes) {
      const bool between = rule == Rule::kSteps && a != nullptr && b != nullptr && f.error.empty() &&
                           f.mode == a->mode && f.nlink == a->nlink && f.size >= std::min(a->size, b->size) &&
                           f.size <= std::max(a->size, b->size) && (f.mtime == a->mtime || f.mtime == b->mtime);
      if (!between) return "    attributes of " + f.path + "\n";
    }
    if (!f.content) continue;
    if ((old_attributes && f.content_hash == b->content_hash) ||
        (new_attributes && f.content_hash == a->content_hash)) {
      continue;
    }
    std::vector<const std::string*> choices;
    // In place: once the attributes say so, all of it is there.
    const bool mixes = rule == Rule::kSteps || rule == Rule::kMapped || (rule == Rule::kInPlace && old_attributes);
    if (b != nullptr && b->content && (old_attributes || mixes)) choices.push_back(b->content.get());
    if (a != nullptr && a->content && (mixes || (new_attributes && !old_attributes)))
      choices.push_back(a->content.get());
    for (size_t k = since; k < acknowledged_; ++k) {
      const Node* earlier = trees_[k].find(f.path);
      if (earlier != nullptr && earlier->content) choices.push_back(earlier->content.get());
    }
    // One step may end, and the next begin, at any byte.
    const size_t grain = rule == Rule::kSteps ? 1 : 8;
    if (const auto at = foreign_bytes(*f.content, choices, grain)) return foreign_text(f, *at);
  }
  return {};
}

std::vector<size_t> SerialOracle::under_way() const {
  return after() != acknowledged_ ? std::vector<size_t>{acknowledged_} : std::vector<size_t>{};
}

std::string SerialOracle::situation() const {
  std::string out;
  for (size_t i = 0; i < steps_.size(); ++i) {
    out += "  " + std::to_string(i + 1) + ". " + steps_[i].name + " (" + steps_[i].outcome + "): ";
    out += i < acknowledged_ ? "acknowledged\n" : i == acknowledged_ ? "under way\n" : "not begun\n";
  }
  return out;
}

void ThreadOracle::add(std::vector<size_t> order, Tree tree) {
  const uint64_t digest = tree.digest(Look::kNoBlocks);
  outcomes_.push_back({std::move(order), std::move(tree), digest});
}

void ThreadOracle::pass(uint64_t mark) {
  State& s = state_.at(mark / 2);
  ++time_;
  if (mark % 2 == 0) {
    s.begun = true;
    s.begin_time = time_;
  } else {
    s.ended = true;
    s.end_time = time_;
  }
}

bool ThreadOracle::allowed(const Outcome& outcome) const {
  for (size_t op = 0; op < state_.size(); ++op) {
    const bool in = std::find(outcome.order.begin(), outcome.order.end(), op) != outcome.order.end();
    if ((state_[op].ended && !in) || (in && !state_[op].begun)) return false;
  }
  for (size_t i = 0; i < outcome.order.size(); ++i) {
    for (size_t k = i + 1; k < outcome.order.size(); ++k) {
      const State& first = state_[outcome.order[i]];
      const State& second = state_[outcome.order[k]];
      if (second.ended && second.end_time < first.begin_time) return false;
    }
  }
  return true;
}

uint64_t ThreadOracle::window() const {
  uint64_t w = 0;
  for (const Outcome& o : outcomes_) w = w * kMix + (allowed(o) ? o.digest : 0);
  for (size_t i = 0; i < steps_.size(); ++i) w = w * kMix + static_cast<uint64_t>(steps_[i].rule);
  return w;
}

std::string ThreadOracle::judge(const Tree& found, const std::function<Tree()>& full) const {
  const uint64_t digest = found.digest(Look::kNoBlocks);
  bool relaxed = false;
  for (size_t i = 0; i < steps_.size(); ++i) {
    relaxed = relaxed || (state_[i].begun && !state_[i].ended && steps_[i].rule != Rule::kAtomic);
  }
  std::vector<const Tree*> trees;
  for (const Outcome& o : outcomes_) {
    if (!allowed(o)) continue;
    if (o.digest == digest) return {};
    trees.push_back(&o.tree);
  }
  const Tree all = full();
  for (const Tree* tree : trees) {
    if (!relaxed || tree->nodes.size() != all.nodes.size()) continue;
    bool fits = true;
    for (size_t i = 0; i < all.nodes.size() && fits; ++i) {
      const Node& f = all.nodes[i];
      fits = same_attributes(f, tree->nodes[i], Look::kNoBlocks);
      if (!fits || !f.content || f.content_hash == tree->nodes[i].content_hash) continue;
      std::vector<const std::string*> choices;
      for (const Tree* other : trees) {
        const Node* node = other->find(f.path);
        if (node != nullptr && node->content) choices.push_back(node->content.get());
      }
      fits = !foreign_bytes(*f.content, choices, 1);
    }
    if (fits) return {};
  }
  std::string why = "  the tree of none of " + std::to_string(trees.size()) + " orders\n";
  if (!trees.empty()) why += "  against one of them:\n" + difference(all, *trees.front(), Look::kNoBlocks);
  return why;
}

std::vector<size_t> ThreadOracle::under_way() const {
  std::vector<size_t> out;
  for (size_t i = 0; i < state_.size(); ++i) {
    if (state_[i].begun && !state_[i].ended) out.push_back(i);
  }
  return out;
}

std::string ThreadOracle::situation() const {
  std::string out;
  for (size_t i = 0; i < steps_.size(); ++i) {
    out += "  thread " + std::to_string(i) + ": " + steps_[i].name + ": ";
    out += state_[i].ended ? "acknowledged\n" : state_[i].begun ? "under way\n" : "not begun\n";
  }
  return out;
}

}  // namespace udax::crash
