// SPDX-License-Identifier: BSD-3-Clause
#include "tests/crash/engine/crash_medium.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace udax::crash {
namespace {

/// Summed over units the hash of a range: each unit's share depends on its place and value only, so that a change is
/// the old share out, the new one in.
uint64_t share(uint64_t offset, uint64_t value) {
  uint64_t x = value + (offset + 1) * 0x9E3779B97F4A7C15ULL;
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9ULL;
  x ^= x >> 27;
  x *= 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

}  // namespace

CrashMedium::CrashMedium(uint64_t size) {
  size = align_down(size, kBlockSize);
  void* p = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  UDAX_ASSERT(p != MAP_FAILED);
  mapping_ = p;
  set(static_cast<std::byte*>(p), size, media::Granularity::kCacheLine, false);
}

CrashMedium::~CrashMedium() { ::munmap(mapping_, size()); }

uint64_t CrashMedium::hash_range(uint64_t offset, uint64_t size) const {
  uint64_t sum = 0;
  const uint64_t end = offset + size;
  for (uint64_t unit = align_down(offset, 8); unit < end; unit += 8) {
    uint64_t value = 0;
    std::memcpy(&value, at(unit), sizeof value);
    sum += share(unit, value);
  }
  return sum;
}

void CrashMedium::change(uint64_t offset, const void* source, uint64_t size) {
  UDAX_ASSERT(offset <= this->size() && size <= this->size() - offset);
  if (size == 0) return;
  if (offset - ring_start_ < ring_size_) ring_head_ = offset + size - ring_start_;
  undo_.push_back({offset, size});
  undo_bytes_.insert(undo_bytes_.end(), at(offset), at(offset) + size);
  uint64_t& hash = is_journal(offset) ? log_hash_ : state_hash_;
  hash -= hash_range(offset, size);
  std::byte* to = writable(offset);
  if (source == nullptr) {
    std::memset(to, 0, size);
  } else if (size == 8 && offset % 8 == 0) {  // read by others at any time
    uint64_t word = 0;
    std::memcpy(&word, source, sizeof word);
    __atomic_store_n(reinterpret_cast<uint64_t*>(to), word, __ATOMIC_RELAXED);
  } else {
    std::memmove(to, source, size);
  }
  hash += hash_range(offset, size);
}

void CrashMedium::log(Kind kind, uint64_t offset, uint64_t size) {
  if (!logging_) return;
  const auto id = std::this_thread::get_id();
  const auto found = std::find(threads_.begin(), threads_.end(), id);
  const auto number = static_cast<uint32_t>(found - threads_.begin());
  if (found == threads_.end()) threads_.push_back(id);
  trace_.events.push_back({kind, number, offset, size, trace_.data.size()});
}

void CrashMedium::log_bytes(const void* source, uint64_t size) {
  if (!logging_) return;
  const auto* bytes = static_cast<const std::byte*>(source);
  trace_.data.insert(trace_.data.end(), bytes, bytes + size);
}

void CrashMedium::store(uint64_t offset, const void* source, uint64_t size) {
  if (hook_) hook_();
  LockGuard guard(mutex_);
  change(offset, source, size);
  if (size == 0) return;
  log(Kind::kStore, offset, size);
  log_bytes(at(offset), size);
}

void CrashMedium::store_nt(uint64_t offset, const void* source, uint64_t size) {
  if (hook_) hook_();
  LockGuard guard(mutex_);
  change(offset, source, size);
  if (size == 0) return;
  log(Kind::kStoreNt, offset, size);
  log_bytes(at(offset), size);
}

void CrashMedium::zero_nt(uint64_t offset, uint64_t size) {
  if (hook_) hook_();
  LockGuard guard(mutex_);
  change(offset, nullptr, size);
  if (size == 0) return;
  log(Kind::kStoreNt, offset, size);
  log_bytes(at(offset), size);
}

void CrashMedium::flush(uint64_t offset, uint64_t size) {
  if (hook_) hook_();
  LockGuard guard(mutex_);
  UDAX_ASSERT(offset <= this->size() && size <= this->size() - offset);
  if (size != 0) log(Kind::kFlush, offset, size);
}

Status CrashMedium::drain() {
  if (hook_) hook_();
  LockGuard guard(mutex_);
  log(Kind::kDrain, 0, 0);
  return {};
}

Status CrashMedium::deep_flush(uint64_t /*offset*/, uint64_t /*size*/) { return {}; }

void CrashMedium::poke(uint64_t offset, const void* source, uint64_t size) { change(offset, source, size); }

CrashMedium::Mark CrashMedium::mark() const { return {undo_.size(), undo_bytes_.size(), state_hash_, log_hash_}; }

void CrashMedium::rollback(const Mark& mark) {
  while (undo_.size() > mark.entries) {
    const Undo& u = undo_.back();
    std::memcpy(writable(u.offset), undo_bytes_.data() + (undo_bytes_.size() - u.size), u.size);
    undo_bytes_.resize(undo_bytes_.size() - u.size);
    undo_.pop_back();
  }
  UDAX_ASSERT(undo_bytes_.size() == mark.bytes);
  state_hash_ = mark.state_hash;
  log_hash_ = mark.log_hash;
}

void CrashMedium::set_geometry(const media::Geometry& geometry) {
  ring_start_ = offset_of(geometry.journal_start);
  ring_size_ = geometry.journal_blocks * kBlockSize;
  control_start_ = offset_of(format::kJournalControlBlock);
  control_size_ = kBlockSize;
}

void CrashMedium::start_log() {
  LockGuard guard(mutex_);
  trace_ = {};
  threads_.clear();
  logging_ = true;
}

void CrashMedium::note(uint64_t value) {
  LockGuard guard(mutex_);
  log(Kind::kMark, value, 0);
}

Trace CrashMedium::stop_log() {
  LockGuard guard(mutex_);
  logging_ = false;
  return std::exchange(trace_, {});
}

}  // namespace udax::crash
