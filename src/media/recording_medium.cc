// SPDX-License-Identifier: BSD-3-Clause
#include "media/recording_medium.h"

#include <algorithm>
#include <cstring>

namespace udax::media {

RecordingMedium::RecordingMedium(uint64_t size) : MemoryMedium(size), start_(size) {}

uint32_t RecordingMedium::thread_number() {
  const auto id = std::this_thread::get_id();
  const auto found = std::find(threads_.begin(), threads_.end(), id);
  const auto number = static_cast<uint32_t>(found - threads_.begin());
  if (found == threads_.end()) threads_.push_back(id);
  return number;
}

void RecordingMedium::log(Kind kind, uint64_t offset, uint64_t size) {
  if (recording_) events_.push_back({kind, thread_number(), offset, size, data_.size()});
}

// The bytes are stored and logged under one lock, so that the log's order is the order in which readers saw them.

void RecordingMedium::store(uint64_t offset, const void* source, uint64_t size) {
  LockGuard guard(mutex_);
  MemoryMedium::store(offset, source, size);
  if (size == 0) return;
  log(Kind::kStore, offset, size);
  if (recording_) data_.insert(data_.end(), at(offset), at(offset) + size);
}

void RecordingMedium::store_nt(uint64_t offset, const void* source, uint64_t size) {
  LockGuard guard(mutex_);
  MemoryMedium::store_nt(offset, source, size);
  if (size == 0) return;
  log(Kind::kStoreNt, offset, size);
  if (recording_) data_.insert(data_.end(), at(offset), at(offset) + size);
}

void RecordingMedium::zero_nt(uint64_t offset, uint64_t size) {
  LockGuard guard(mutex_);
  MemoryMedium::zero_nt(offset, size);
  if (size == 0) return;
  log(Kind::kStoreNt, offset, size);
  if (recording_) data_.resize(data_.size() + size, std::byte{0});
}

void RecordingMedium::flush(uint64_t offset, uint64_t size) {
  LockGuard guard(mutex_);
  MemoryMedium::flush(offset, size);
  if (size != 0) log(Kind::kFlush, offset, size);
}

Status RecordingMedium::drain() {
  LockGuard guard(mutex_);
  log(Kind::kDrain, 0, 0);
  return MemoryMedium::drain();
}

void RecordingMedium::start() {
  LockGuard guard(mutex_);
  events_.clear();
  data_.clear();
  threads_.clear();
  start_.copy_from(*this);
  recording_ = true;
}

void RecordingMedium::stop() {
  LockGuard guard(mutex_);
  recording_ = false;
}

void RecordingMedium::mark(uint64_t value) {
  LockGuard guard(mutex_);
  log(Kind::kMark, value, 0);
}

const std::vector<RecordingMedium::Event>& RecordingMedium::events() const {
  LockGuard guard(mutex_);
  UDAX_ASSERT(!recording_);
  return events_;
}

const std::vector<std::byte>& RecordingMedium::data() const {
  LockGuard guard(mutex_);
  UDAX_ASSERT(!recording_);
  return data_;
}

const MemoryMedium& RecordingMedium::start_image() const { return start_; }

}  // namespace udax::media
