// SPDX-License-Identifier: BSD-3-Clause
//
// The disk of the explorer: a medium in memory that can be rolled back to any earlier state, logs what is stored to it,
// and knows at any moment a hash of all it holds. One of them serves for everything: the workload is run on it and
// rolled back, the log is played into it, each crash image is poked into it, recovered, used and rolled back. No image
// is ever copied: what a state costs is what was stored since the last one.
//
// Invariants
// - rollback(m) leaves the bytes and the hashes as they were when mark() gave m. Marks nest.
// - state_hash() and log_hash() are functions of the bytes alone, whatever the way to them was: the one of all but the
//   journal, the other of the journal's ring and control block.
//
// Locks: stores of several threads are serialised, in the order of the log. Everything else is for one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "media/recording_medium.h"
#include "media/superblock.h"

namespace udax::crash {

using Event = media::RecordingMedium::Event;
using Kind = media::RecordingMedium::Kind;

/// What was stored, flushed and drained, in order.
struct Trace {
  std::vector<Event> events;
  std::vector<std::byte> data;  // of the stores
};

class CrashMedium final : public media::Medium {
 public:
  explicit CrashMedium(uint64_t size);
  ~CrashMedium() override;

  void store(uint64_t offset, const void* source, uint64_t size) override;
  void store_nt(uint64_t offset, const void* source, uint64_t size) override;
  void zero_nt(uint64_t offset, uint64_t size) override;
  void flush(uint64_t offset, uint64_t size) override;
  [[nodiscard]] Status drain() override;
  [[nodiscard]] Status deep_flush(uint64_t offset, uint64_t size) override;

  /// Stores without logging.
  void poke(uint64_t offset, const void* source, uint64_t size);
  /// The bytes themselves, before any mark was made.
  [[nodiscard]] std::byte* raw() { return writable(0); }

  struct Mark {
    size_t entries = 0;
    size_t bytes = 0;
    uint64_t state_hash = 0;
    uint64_t log_hash = 0;
  };
  [[nodiscard]] Mark mark() const;
  void rollback(const Mark& mark);
  /// Where the journal lies: its bytes count for log_hash().
  void set_geometry(const media::Geometry& geometry);
  [[nodiscard]] uint64_t state_hash() const { return state_hash_; }
  [[nodiscard]] uint64_t log_hash() const { return log_hash_; }

  /// Where in the journal's ring the last store to it ended. Bytes.
  [[nodiscard]] uint64_t ring_head() const { return ring_head_; }
  [[nodiscard]] uint64_t ring_size() const { return ring_size_; }

  void start_log();
  /// Puts a mark of the caller's into the log.
  void note(uint64_t value);
  [[nodiscard]] Trace stop_log();

  /// Called before each store, flush and drain, without a lock, on the thread that is at it.
  void set_hook(std::function<void()> hook) { hook_ = std::move(hook); }

 private:
  struct Undo {
    uint64_t offset = 0;
    uint64_t size = 0;
  };
  void change(uint64_t offset, const void* source, uint64_t size);  // source nullptr: zeroes
  void log(Kind kind, uint64_t offset, uint64_t size) UDAX_REQUIRES(mutex_);
  void log_bytes(const void* source, uint64_t size) UDAX_REQUIRES(mutex_);
  [[nodiscard]] uint64_t hash_range(uint64_t offset, uint64_t size) const;
  [[nodiscard]] bool is_journal(uint64_t offset) const {
    return offset - ring_start_ < ring_size_ || offset - control_start_ < control_size_;
  }

  void* mapping_ = nullptr;
  std::vector<Undo> undo_;
  std::vector<std::byte> undo_bytes_;
  uint64_t state_hash_ = 0;
  uint64_t log_hash_ = 0;
  uint64_t ring_start_ = 0;
  uint64_t ring_size_ = 0;
  uint64_t ring_head_ = 0;
  uint64_t control_start_ = 0;
  uint64_t control_size_ = 0;  // 0: no geometry yet

  Mutex mutex_;
  bool logging_ UDAX_GUARDED_BY(mutex_) = false;
  Trace trace_ UDAX_GUARDED_BY(mutex_);
  std::vector<std::thread::id> threads_ UDAX_GUARDED_BY(mutex_);
  std::function<void()> hook_;
};

}  // namespace udax::crash
