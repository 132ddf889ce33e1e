// SPDX-License-Identifier: BSD-3-Clause
#include "tests/crash/engine/turns.h"

#include <chrono>

namespace udax::crash {
namespace {

constexpr auto kPatience = std::chrono::milliseconds(3);
constexpr size_t kNobody = ~size_t{0};
thread_local size_t own_number = kNobody;

}  // namespace

void Turns::enter(size_t thread) {
  LockGuard guard(mutex_);
  own_number = thread;
  states_[thread] = State::kInside;
  if (++entered_ == states_.size()) pass_on();
  while (entered_ < states_.size()) changed_.wait(mutex_);
  wait_for_turn(thread);
}

void Turns::step() {
  if (own_number == kNobody) return;
  LockGuard guard(mutex_);
  // One that lost its turn while it waited for a lock, and has the lock now.
  wait_for_turn(own_number);
  ++steps_;
  if (random_.one_in(3)) pass_on();
  wait_for_turn(own_number);
}

void Turns::leave() {
  LockGuard guard(mutex_);
  states_[own_number] = State::kGone;
  ++steps_;
  if (turn_ == own_number) pass_on();
  own_number = kNobody;
}

void Turns::pass_on() {
  size_t inside = 0;
  for (const State s : states_) inside += s == State::kInside ? 1 : 0;
  if (inside == 0) return;
  uint64_t n = random_.below(inside);
  for (size_t i = 0; i < states_.size(); ++i) {
    if (states_[i] == State::kInside && n-- == 0) turn_ = i;
  }
  changed_.notify_all();
}

void Turns::wait_for_turn(size_t thread) {
  while (turn_ != thread) {
    const uint64_t seen = steps_;
    if (changed_.wait_for(mutex_, kPatience) == std::cv_status::timeout && steps_ == seen) {
      ++steps_;  // the others' patience begins anew
      turn_ = thread;
      changed_.notify_all();
    }
  }
}

}  // namespace udax::crash
