// SPDX-License-Identifier: BSD-3-Clause
//
// Sync points and knobs: how a test drives threads into one order, and takes a safeguard away.
//
//   UDAX_SYNC_POINT("dax.fault.allocated");        in the code: does nothing, unless a test registered a handler
//   if (!UDAX_KNOB("dax.skip_write_protect")) ...  in the code: false, unless a test turned it on
//
// The environment's UDAX_KNOBS turns knobs on from the start: names, separated by commas.
// Both are compiled out unless UDAX_SYNC_POINTS is defined: the point is then empty and the knob the constant
// false. Names are "<layer>.<operation>.<place>". A test that depends on them begins by skipping where
// sync_point::kCompiledIn is false.
//
// Thread safety: everything here. A handler runs on the thread that reached the point, holding what locks that
// thread holds, and no lock of this file.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#if defined(UDAX_SYNC_POINTS)
#define UDAX_SYNC_POINT(name) ::udax::sync_point::reach(name)
#define UDAX_KNOB(name) ::udax::sync_point::knob(name)
#else
#define UDAX_SYNC_POINT(name) static_cast<void>(0)
#define UDAX_KNOB(name) false
#endif

namespace udax::sync_point {

#if defined(UDAX_SYNC_POINTS)
inline constexpr bool kCompiledIn = true;
#else
inline constexpr bool kCompiledIn = false;
#endif

/// What the macros call.
void reach(std::string_view name);
[[nodiscard]] bool knob(std::string_view name);

/// Runs `handler` whenever a thread reaches the point, as long as this object lives; several threads may be in
/// it at once. One handler a name at a time. The destructor waits for those who are still in the handler, so it
/// must not run inside of it, and whatever the handler waits for must come without this thread.
class ScopedHandler {
 public:
  ScopedHandler(std::string name, std::function<void()> handler);
  ~ScopedHandler();
  ScopedHandler(const ScopedHandler&) = delete;
  ScopedHandler& operator=(const ScopedHandler&) = delete;

 private:
  std::string name_;
};

/// Turns the knob on as long as this object lives. One object a name at a time.
class ScopedKnob {
 public:
  explicit ScopedKnob(std::string name);
  ~ScopedKnob();
  ScopedKnob(const ScopedKnob&) = delete;
  ScopedKnob& operator=(const ScopedKnob&) = delete;

 private:
  std::string name_;
};

/// Stops one thread at the point until open(): the one that comes after `let_pass` others. Later ones pass.
class Gate {
 public:
  explicit Gate(std::string name, uint64_t let_pass = 0);
  ~Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  /// Waits until the thread has arrived; false if it did not within `limit`.
  [[nodiscard]] bool wait_reached(std::chrono::milliseconds limit = std::chrono::seconds(30));
  /// Lets the thread go on, now or when it comes. The destructor does the same.
  void open();

 private:
  struct State;
  std::shared_ptr<State> state_;
  ScopedHandler handler_;
};

}  // namespace udax::sync_point
