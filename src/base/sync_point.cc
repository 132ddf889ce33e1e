// SPDX-License-Identifier: BSD-3-Clause
#include "base/sync_point.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/mutex.h"

namespace udax::sync_point {
namespace {

struct Entry {
  std::function<void()> handler;
  uint64_t running = 0;  // threads in the handler
  bool closing = false;  // lets no more of them in
};

struct Registry {
  Mutex mutex;
  std::condition_variable_any idle;  // an entry's `running` fell to 0
  std::map<std::string, Entry, std::less<>> entries UDAX_GUARDED_BY(mutex);
  std::set<std::string, std::less<>> knobs UDAX_GUARDED_BY(mutex);
  // Their sizes, so that a point that no test asks about costs a load.
  std::atomic<uint64_t> entry_count{0};
  std::atomic<uint64_t> knob_count{0};
};

// With the knobs of UDAX_KNOBS, for programs that a test starts.
Registry* make_registry() {
  auto* const made = new Registry;
  const char* const names = std::getenv("UDAX_KNOBS");
  if (!kCompiledIn || names == nullptr) return made;
  const LockGuard lock(made->mutex);
  for (std::string_view rest = names; !rest.empty();) {
    const size_t end = std::min(rest.find(','), rest.size());
    if (end > 0) made->knobs.emplace(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  made->knob_count.store(made->knobs.size(), std::memory_order_release);
  return made;
}

// Never destroyed: threads may outlive main().
Registry& registry() {
  static auto& instance = *make_registry();
  return instance;
}

}  // namespace

void reach(std::string_view name) {
  Registry& r = registry();
  if (r.entry_count.load(std::memory_order_acquire) == 0) return;
  Entry* entry = nullptr;
  {
    LockGuard lock(r.mutex);
    const auto it = r.entries.find(name);
    if (it == r.entries.end() || it->second.closing) return;
    entry = &it->second;
    ++entry->running;  // from here on ~ScopedHandler leaves the entry where it is
  }
  entry->handler();
  LockGuard lock(r.mutex);
  if (--entry->running == 0) r.idle.notify_all();
}

bool knob(std::string_view name) {
  Registry& r = registry();
  if (r.knob_count.load(std::memory_order_acquire) == 0) return false;
  LockGuard lock(r.mutex);
  return r.knobs.find(name) != r.knobs.end();
}

ScopedHandler::ScopedHandler(std::string name, std::function<void()> handler) : name_(std::move(name)) {
  Registry& r = registry();
  LockGuard lock(r.mutex);
  const bool added = r.entries.try_emplace(name_, Entry{std::move(handler), 0, false}).second;
  UDAX_ASSERT(added);
  r.entry_count.store(r.entries.size(), std::memory_order_release);
}

ScopedHandler::~ScopedHandler() {
  Registry& r = registry();
  LockGuard lock(r.mutex);
  const auto it = r.entries.find(name_);
  UDAX_ASSERT(it != r.entries.end());
  it->second.closing = true;
  while (it->second.running > 0) r.idle.wait(r.mutex);
  r.entries.erase(it);
  r.entry_count.store(r.entries.size(), std::memory_order_release);
}

ScopedKnob::ScopedKnob(std::string name) : name_(std::move(name)) {
  Registry& r = registry();
  LockGuard lock(r.mutex);
  const bool added = r.knobs.insert(name_).second;
  UDAX_ASSERT(added);
  r.knob_count.store(r.knobs.size(), std::memory_order_release);
}

ScopedKnob::~ScopedKnob() {
  Registry& r = registry();
  LockGuard lock(r.mutex);
  r.knobs.erase(name_);
  r.knob_count.store(r.knobs.size(), std::memory_order_release);
}

struct Gate::State {
  explicit State(uint64_t n) : let_pass(n) {}

  void arrive() {
    LockGuard lock(mutex);
    if (let_pass > 0) {
      --let_pass;
      return;
    }
    if (reached) return;
    reached = true;
    changed.notify_all();
    while (!opened) changed.wait(mutex);
  }

  Mutex mutex;
  std::condition_variable_any changed;
  uint64_t let_pass UDAX_GUARDED_BY(mutex);
  bool reached UDAX_GUARDED_BY(mutex) = false;
  bool opened UDAX_GUARDED_BY(mutex) = false;
};

Gate::Gate(std::string name, uint64_t let_pass)
    : state_(std::make_shared<State>(let_pass)),
      handler_(std::move(name), [state = state_] { state->arrive(); }) {}

Gate::~Gate() { open(); }

bool Gate::wait_reached(std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  LockGuard lock(state_->mutex);
  while (!state_->reached) {
    if (state_->changed.wait_until(state_->mutex, deadline) == std::cv_status::timeout) return state_->reached;
  }
  return true;
}

void Gate::open() {
  LockGuard lock(state_->mutex);
  state_->opened = true;
  state_->changed.notify_all();
}

}  // namespace udax::sync_point
