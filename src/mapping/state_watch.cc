// SPDX-License-Identifier: BSD-3-Clause
#include "mapping/state_watch.h"

namespace udax::mapping {

void StateWatchers::add(StateWatcher* watcher) {
  const LockGuard guard(mutex_);
  watcher->next_ = first_;
  first_ = watcher;
  count_.fetch_add(1, std::memory_order_release);
}

void StateWatchers::remove(StateWatcher* watcher) {
  const LockGuard guard(mutex_);
  for (StateWatcher** at = &first_; *at != nullptr; at = &(*at)->next_) {
    if (*at != watcher) continue;
    *at = watcher->next_;
    watcher->next_ = nullptr;
    count_.fetch_sub(1, std::memory_order_release);
    return;
  }
}

void StateWatchers::begin() {
  const LockGuard guard(mutex_);
  for (StateWatcher* w = first_; w != nullptr; w = w->next_) w->change_begins();
}

void StateWatchers::publish(const FileState& state) {
  const LockGuard guard(mutex_);
  for (StateWatcher* w = first_; w != nullptr; w = w->next_) w->changed(state);
}

}  // namespace udax::mapping
