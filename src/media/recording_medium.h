// SPDX-License-Identifier: BSD-3-Clause
//
// A medium in memory that logs every store, flush and drain, so that the states a crash could leave can be
// rebuilt: a start image, and at any moment of the log the 8-byte units that are durable for certain, and those
// that may or may not have reached the medium (cache lines are evicted whenever they like).
//
// Locks: the log is serialised; the order of stores of several threads is the order in which they got here.
#pragma once

#include <cstdint>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "media/memory_medium.h"

namespace udax::media {

class RecordingMedium final : public MemoryMedium {
 public:
  enum class Kind : uint8_t { kStore, kStoreNt, kFlush, kDrain, kMark };
  struct Event {
    Kind kind = Kind::kStore;
    uint32_t thread = 0;  // small number of the thread
    uint64_t offset = 0;  // kMark: the caller's value
    uint64_t size = 0;    // bytes
    uint64_t data = 0;    // kStore, kStoreNt: where the new bytes are in data()
  };

  explicit RecordingMedium(uint64_t size);

  void store(uint64_t offset, const void* source, uint64_t size) override;
  void store_nt(uint64_t offset, const void* source, uint64_t size) override;
  void zero_nt(uint64_t offset, uint64_t size) override;
  void flush(uint64_t offset, uint64_t size) override;
  [[nodiscard]] Status drain() override;

  /// Starts a new log; what the medium holds now counts as durable.
  void start();
  /// Stops logging; stores go on.
  void stop();
  /// Puts a mark of the caller's into the log ("operation n was acknowledged").
  void mark(uint64_t value);

  // REQUIRES: stopped.
  [[nodiscard]] const std::vector<Event>& events() const;
  [[nodiscard]] const std::vector<std::byte>& data() const;
  /// What the medium held at start().
  [[nodiscard]] const MemoryMedium& start_image() const;

 private:
  uint32_t thread_number() UDAX_REQUIRES(mutex_);
  mutable Mutex mutex_;
  void log(Kind kind, uint64_t offset, uint64_t size) UDAX_REQUIRES(mutex_);
  bool recording_ UDAX_GUARDED_BY(mutex_) = false;
  std::vector<std::thread::id> threads_ UDAX_GUARDED_BY(mutex_);
  std::vector<Event> events_;
  std::vector<std::byte> data_;
  MemoryMedium start_;
};

}  // namespace udax::media
