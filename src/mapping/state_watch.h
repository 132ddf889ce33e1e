// SPDX-License-Identifier: BSD-3-Clause
//
// The second seam of mappings: who reads and writes a file's bytes without asking (through views of his own) is told what he may
// assume of the file, and that it changes before it does.
//
// Order: what narrows what he may do is told by change_begins() before anything of it can be seen, and by changed() when it is
// over, done or not. What only widens it, such as growth, by changed() after it is done.
//
// Locks: a watcher is called with locks of the inode held (extent_lock exclusive), and must take none of the filesystem's. The list's own is
// a leaf but for what watchers have themselves.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/mutex.h"

namespace udax::mapping {

/// A time that no clock shows.
inline constexpr uint64_t kNoTime = ~uint64_t{0};

struct FileState {
  uint64_t size = 0;            // bytes
  uint64_t blocks = 0;          // that the file owns
  uint64_t atime_ns = kNoTime;  // since 1970; kNoTime: not to be had in 64 bits
  uint64_t mtime_ns = kNoTime;
  uint64_t ctime_ns = kNoTime;
  uint32_t flags = 0;  // the inode's
  uint32_t mode = 0;
  bool has_xattrs = false;
};

class StateWatcher {
 public:
  virtual ~StateWatcher() = default;
  StateWatcher(const StateWatcher&) = delete;
  StateWatcher& operator=(const StateWatcher&) = delete;
  virtual void change_begins() = 0;
  virtual void changed(const FileState& state) = 0;

 protected:
  StateWatcher() = default;

 private:
  friend class StateWatchers;
  StateWatcher* next_ = nullptr;
};

/// Those of a file.
class StateWatchers {
 public:
  /// REQUIRES: not in any list; no change under way.
  void add(StateWatcher* watcher);
  /// On return it is not called any more.
  void remove(StateWatcher* watcher);
  [[nodiscard]] bool any() const { return count_.load(std::memory_order_acquire) != 0; }
  void begin();
  void publish(const FileState& state);

 private:
  Mutex mutex_;
  StateWatcher* first_ UDAX_GUARDED_BY(mutex_) = nullptr;
  std::atomic<uint32_t> count_{0};
};

}  // namespace udax::mapping
