// SPDX-License-Identifier: BSD-3-Clause
//
// What may be found after a crash.
//
// Of one thread's operations 1... n with the trees S0... Sn between them, after k were acknowledged: Sk or Sk+1, as a
// whole. Operations that change bytes in place, or in steps, allow more while they are under way, as their Rule says;
// never a byte that is neither the file's old one nor its new one.
//
// Of several threads: the tree of any order of the operations that were acknowledged and any of those under way, if it
// has those before others that had been acknowledged before the others began.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/crash/engine/tree.h"

namespace udax::crash {

/// What an operation under way may be seen to have done.
enum class Rule : uint8_t {
  kAtomic,   // all of it or nothing
  kInPlace,  // while the file's attributes are the old ones, any 8 bytes of it may be new; then all are
  kSteps,    // attributes old or new, each; the size between; any byte old or new
  kMapped,   // stores through a mapping: until the next fsync any 8 bytes may be old or new
};

/// A tree, or the reason why there is none.
class Oracle {
 public:
  Oracle() = default;
  Oracle(const Oracle&) = delete;
  Oracle& operator=(const Oracle&) = delete;
  virtual ~Oracle() = default;
  /// The log passes a mark.
  virtual void pass(uint64_t mark) = 0;
  /// A number that stands for what is allowed now.
  [[nodiscard]] virtual uint64_t window() const = 0;
  /// Empty if `found` is allowed. `full`: gives the same tree with the bytes of its files.
  [[nodiscard]] virtual std::string judge(const Tree& found, const std::function<Tree()>& full) const = 0;
  /// The indexes of the operations that have begun and are not acknowledged.
  [[nodiscard]] virtual std::vector<size_t> under_way() const = 0;
  /// What is under way, for people.
  [[nodiscard]] virtual std::string situation() const = 0;
};

struct Step {
  std::string name;
  Rule rule = Rule::kAtomic;
  std::string outcome;  // what the operation gave
};

class SerialOracle final : public Oracle {
 public:
  /// The tree before anything.
  explicit SerialOracle(Tree start);
  /// The operation just done, and the tree after it. Its mark is the number of operations done by then.
  void add(Step step, Tree tree);
  void pass(uint64_t mark) override { acknowledged_ = mark; }
  [[nodiscard]] uint64_t window() const override;
  [[nodiscard]] std::string judge(const Tree& found, const std::function<Tree()>& full) const override;
  [[nodiscard]] std::vector<size_t> under_way() const override;
  [[nodiscard]] std::string situation() const override;
  [[nodiscard]] const std::vector<Step>& steps() const { return steps_; }

 private:
  [[nodiscard]] std::string judge_bytes(const Tree& found) const;
  [[nodiscard]] size_t after() const { return std::min(acknowledged_ + 1, trees_.size() - 1); }
  /// The first tree whose mapped bytes may still be seen.
  [[nodiscard]] size_t mapped_since() const;

  std::vector<Tree> trees_;
  std::vector<uint64_t> digests_;
  std::vector<Step> steps_;
  size_t acknowledged_ = 0;
};

/// Operations of several threads, one each. Marks: begin_mark(i), end_mark(i).
class ThreadOracle final : public Oracle {
 public:
  [[nodiscard]] static uint64_t begin_mark(size_t op) { return 2 * op; }
  [[nodiscard]] static uint64_t end_mark(size_t op) { return 2 * op + 1; }
  explicit ThreadOracle(std::vector<Step> steps) : steps_(std::move(steps)), state_(steps_.size()) {}
  /// The tree after the operations of `order`, one after another.
  void add(std::vector<size_t> order, Tree tree);
  void pass(uint64_t mark) override;
  [[nodiscard]] uint64_t window() const override;
  [[nodiscard]] std::string judge(const Tree& found, const std::function<Tree()>& full) const override;
  [[nodiscard]] std::vector<size_t> under_way() const override;
  [[nodiscard]] std::string situation() const override;

 private:
  struct Outcome {
    std::vector<size_t> order;
    Tree tree;
    uint64_t digest = 0;
  };
  struct State {
    bool begun = false;
    bool ended = false;
    uint64_t begin_time = 0;
    uint64_t end_time = 0;
  };
  [[nodiscard]] bool allowed(const Outcome& outcome) const;

  std::vector<Step> steps_;
  std::vector<State> state_;
  std::vector<Outcome> outcomes_;
  uint64_t time_ = 0;
};

}  // namespace udax::crash
