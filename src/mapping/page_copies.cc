// SPDX-License-Identifier: BSD-3-Clause
#include "mapping/page_copies.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "base/sync_point.h"

namespace udax::mapping {
namespace {

/// Calls `part(offset in page, first byte's index, size)` for the piece of [offset, offset + size) in page `at`.
struct Piece {
  uint64_t in_page = 0;
  uint64_t index = 0;  // from `offset` on
  uint64_t size = 0;
};
Piece piece_in(uint64_t at, uint64_t offset, uint64_t size) {
  const uint64_t page = at << kBlockShift;
  const uint64_t from = std::max(page, offset);
  const uint64_t to = std::min(page + kBlockSize, offset + size);
  return {from - page, from - offset, to > from ? to - from : 0};
}

}  // namespace

bool PageCopies::is_known_out(FileBlock at) const {
  const auto chunk = out_.find(at.value / kChunkPages);
  return chunk != out_.end() && chunk->second.test(at.value % kChunkPages);
}

void PageCopies::set(Chunks& chunks, FileBlock from, FileBlock to) {
  for (FileBlock at = from; at < to; at += 1) chunks[at.value / kChunkPages].set(at.value % kChunkPages);
}

void PageCopies::reset(Chunks& chunks, FileBlock from, FileBlock to) {
  for (auto c = chunks.lower_bound(from.value / kChunkPages); c != chunks.end();) {
    const uint64_t base = c->first * kChunkPages;
    if (base >= to.value) break;
    const uint64_t begin = std::max(from.value, base) - base;
    const uint64_t end = std::min(to.value - base, kChunkPages);
    for (uint64_t i = begin; i < end; ++i) c->second.reset(i);
    c = c->second.none() ? chunks.erase(c) : std::next(c);
  }
}

bool PageCopies::any_of(const Chunks& chunks, FileBlock from, FileBlock to) {
  for (auto c = chunks.lower_bound(from.value / kChunkPages); c != chunks.end(); ++c) {
    const uint64_t base = c->first * kChunkPages;
    if (base >= to.value) return false;
    const uint64_t begin = std::max(from.value, base) - base;
    const uint64_t end = std::min(to.value - base, kChunkPages);
    for (uint64_t i = begin; i < end; ++i) {
      if (c->second.test(i)) return true;
    }
  }
  return false;
}

bool PageCopies::any(FileBlock from, FileBlock to) const {
  if (from >= to || empty()) return false;
  const LockGuard guard(out_lock_);
  return suspicions_ > 0 || any_of(out_, from, to);
}

bool PageCopies::any_or_late(FileBlock from, FileBlock to) const {
  if (from >= to || empty()) return false;
  const LockGuard guard(out_lock_);
  return suspicions_ > 0 || any_of(out_, from, to) || any_of(late_, from, to);
}

bool PageCopies::hand_out_again(FileBlock from, FileBlock to) {
  if (const auto twin = twins_.lower_bound(from.value); twin != twins_.end() && twin->first < to.value)
    return false;
  const LockGuard guard(out_lock_);
  for (FileBlock at = from; at < to; at += 1) {
    if (!is_known_out(at)) return false;
  }
  set(handed_lately_, from, to);
  log_hand_out(from, to);
  return true;
}

Status PageCopies::hand_out(FileBlock from, FileBlock to) try {
  UDAX_CHECK(note_out(from, to));
  twins_.erase(twins_.lower_bound(from.value), twins_.lower_bound(to.value));
  const LockGuard guard(out_lock_);
  set(handed_lately_, from, to);
  reset(late_, from, to);
  return {};
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status PageCopies::note_out(FileBlock from, FileBlock to) try {
  const LockGuard guard(out_lock_);
  log_hand_out(from, to);
  is_empty_.store(false);
  set(out_, from, to);
  return {};
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status PageCopies::keep(FileBlock from, FileBlock to, const std::function<Status(FileBlock, Page&)>& current) try {
  if (UDAX_KNOB("mapping.copies.no_twins")) {
    const LockGuard guard(out_lock_);
    reset(late_, from, to);
    return {};
  }
  for (FileBlock at = from; at < to; at += 1) {
    if (!any_or_late(at, at + 1) || twins_.contains(at.value)) continue;
    auto twin = std::make_unique<Twin>();
    UDAX_CHECK(current(at, twin->page));
    twin->number = twin_count_;
    twin->is_late = !any(at, at + 1);
    twins_.emplace(at.value, std::move(twin));
    ++twin_count_;
    const LockGuard guard(out_lock_);
    reset(late_, at, at + 1);
  }
  return {};
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

Status PageCopies::merge(uint64_t offset, std::span<const std::byte> returned,
                         const std::function<Status(uint64_t, std::span<const std::byte>)>& store) {
  const uint64_t end = offset + returned.size();
  uint64_t from = offset;  // of what comes back whole
  const auto store_whole = [&](uint64_t to) -> Status {
    if (to > from) UDAX_CHECK(store(from, returned.subspan(from - offset, to - from)));
    return {};
  };
  const auto last = twins_.lower_bound(blocks_for(end));
  bool is_any_late = false;
  for (auto twin = twins_.lower_bound(offset >> kBlockShift); twin != last; ++twin) {
    const Piece piece = piece_in(twin->first, offset, returned.size());
    const uint64_t start = offset + piece.index;
    UDAX_CHECK(store_whole(start));
    from = start + piece.size;
    std::byte* const old = twin->second->page.data() + piece.in_page;
    const std::byte* const now = returned.data() + piece.index;
    for (uint64_t i = 0; i < piece.size;) {
      if (old[i] == now[i]) {
        ++i;
        continue;
      }
      uint64_t run = i + 1;
      while (run < piece.size && old[run] != now[run]) ++run;
      UDAX_CHECK(store(start + i, {now + i, run - i}));
      i = run;
    }
    std::memcpy(old, now, piece.size);
    twin->second->came_back = true;
    is_any_late |= twin->second->is_late;
  }
  UDAX_CHECK(store_whole(end));
  set_come(FileBlock(offset >> kBlockShift), FileBlock(blocks_for(end)), is_any_late);
  return {};
}

void PageCopies::set_come(FileBlock from, FileBlock to, bool has_late_twins) {
  if (!has_late_twins) {
    const LockGuard guard(out_lock_);
    if (late_.empty()) return;
  }
  for (auto twin = twins_.lower_bound(from.value); twin != twins_.end() && twin->first < to.value;) {
    twin = twin->second->is_late ? twins_.erase(twin) : std::next(twin);
  }
  const LockGuard guard(out_lock_);
  reset(late_, from, to);
  update_empty();
}

void PageCopies::overlay(uint64_t offset, std::span<const std::byte> data) { overlay(offset, data, true); }

void PageCopies::overlay(uint64_t offset, std::span<const std::byte> data, bool with_came_back) {
  const auto last = twins_.lower_bound(blocks_for(offset + data.size()));
  for (auto twin = twins_.lower_bound(offset >> kBlockShift); twin != last; ++twin) {
    const Piece piece = piece_in(twin->first, offset, data.size());
    const bool is_left_alone = twin->second->came_back && !with_came_back;
    if (is_left_alone) continue;
    std::memcpy(twin->second->page.data() + piece.in_page, data.data() + piece.index, piece.size);
    // A page that was written whole is as if handed out anew. Its twin stays: somebody may be storing to the file yet, late.
    if (piece.size < kBlockSize) continue;
    twin->second->number = twin_count_++;
    twin->second->is_late = false;
  }
}

void PageCopies::zero(uint64_t offset, uint64_t size) {
  const auto last = twins_.lower_bound(blocks_for(offset + size));
  for (auto twin = twins_.lower_bound(offset >> kBlockShift); twin != last; ++twin) {
    const Piece piece = piece_in(twin->first, offset, size);
    std::memset(twin->second->page.data() + piece.in_page, 0, piece.size);
  }
}

bool PageCopies::may_lack(FileBlock from, FileBlock to) const {
  const LockGuard guard(out_lock_);
  return suspicions_ > 0 || any_of(handed_lately_, from, to);
}

void PageCopies::note_written(FileBlock from, FileBlock to) {
  const auto last = twins_.lower_bound(to.value);
  for (auto twin = twins_.lower_bound(from.value); twin != last; ++twin) twin->second->came_back = false;
  const LockGuard guard(out_lock_);
  handed_lately_.clear();
}

void PageCopies::settle(uint64_t offset, std::span<const std::byte> data) { overlay(offset, data, false); }

// A recall that is about to end must not take these for the copies that it has dropped.
void PageCopies::log_hand_out(FileBlock from, FileBlock to) {
  const uint64_t at = hand_out_count_.load(std::memory_order_relaxed);
  hand_outs_[at % kHandOutsKept] = {from, to};
  hand_out_count_.store(at + 1, std::memory_order_relaxed);
}

// In order, clipped to [from, to); all of it, if nobody remembers.
size_t PageCopies::handed_out_since(Wave wave, FileBlock from, FileBlock to,
                                    std::array<Range, kHandOutsKept>& out) {
  const LockGuard guard(out_lock_);
  const uint64_t now = hand_out_count_.load(std::memory_order_relaxed);
  if (now - wave.hand_outs > kHandOutsKept) {
    out[0] = {from, to};
    return 1;
  }
  size_t count = 0;
  for (uint64_t i = wave.hand_outs; i < now; ++i) {
    const Range& range = hand_outs_[i % kHandOutsKept];
    const Range part{std::max(range.from, from), std::min(range.to, to)};
    if (part.from < part.to) out[count++] = part;
  }
  std::sort(out.begin(), out.begin() + count, [](const Range& a, const Range& b) { return a.from < b.from; });
  return count;
}

void PageCopies::end_wave(FileBlock from, FileBlock to, Wave wave, bool returns_late) {
  std::array<Range, kHandOutsKept> since;
  const size_t count = handed_out_since(wave, from, to, since);
  FileBlock at = from;
  for (size_t i = 0; i < count; ++i) {
    end_wave_of(at, since[i].from, returns_late);
    end_wave_of_older_twins(since[i].from, since[i].to, wave.twins, returns_late);
    at = std::max(at, since[i].to);
  }
  end_wave_of(at, to, returns_late);
  if (twins_.size() > kLateMax) shed_late_twins();
}

// Of [from, to) nothing was handed out since its beginning.
void PageCopies::end_wave_of(FileBlock from, FileBlock to, bool returns_late) {
  if (from >= to) return;
  end_wave_of_older_twins(from, to, twin_count_, returns_late);
  const LockGuard guard(out_lock_);
  if (returns_late && !make_late(from, to)) return;  // out they stay
  reset(out_, from, to);
  reset(handed_lately_, from, to);
  update_empty();
}

// What was handed out since has no twin, or one that is younger.
void PageCopies::end_wave_of_older_twins(FileBlock from, FileBlock to, uint64_t number, bool returns_late) {
  for (auto twin = twins_.lower_bound(from.value); twin != twins_.end() && twin->first < to.value;) {
    twin = twin->second->number < number ? let_go(twin, returns_late) : std::next(twin);
  }
}

// Its copy is gone. What was sent back of it may still come, if it returns late. Gives the next.
PageCopies::Twins::iterator PageCopies::let_go(Twins::iterator twin, bool returns_late) {
  if (!returns_late) return twins_.erase(twin);
  twin->second->is_late = true;
  return std::next(twin);
}

// Of what is out; no memory: false.
bool PageCopies::make_late(FileBlock from, FileBlock to) try {
  for (auto c = out_.lower_bound(from.value / kChunkPages); c != out_.end(); ++c) {
    for (uint64_t i = 0; i < kChunkPages; ++i) {
      const FileBlock at(c->first * kChunkPages + i);
      if (at >= to) return true;
      if (at >= from && c->second.test(i) && !twins_.contains(at.value)) set(late_, at, at + 1);
    }
  }
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

void PageCopies::shed_late_twins() {
  std::erase_if(twins_, [this](const auto& twin) {
    return twin.second->is_late && twin.second->number + kLateMax / 2 < twin_count_;
  });
}

void PageCopies::forget(FileBlock from, FileBlock to) {
  if (from >= to) return;
  twins_.erase(twins_.lower_bound(from.value), twins_.lower_bound(to.value));
  const LockGuard guard(out_lock_);
  reset(out_, from, to);
  reset(handed_lately_, from, to);
  reset(late_, from, to);
  update_empty();
}

void PageCopies::suspect() {
  const LockGuard guard(out_lock_);
  ++suspicions_;
  update_empty();
}

void PageCopies::trust(bool returns_late, FileBlock end) try {
  const LockGuard guard(out_lock_);
  UDAX_ASSERT(suspicions_ > 0);
  if (suspicions_ > 1) {
    --suspicions_;
    return;
  }
  for (auto twin = twins_.begin(); twin != twins_.end();) {
    twin = is_known_out(FileBlock(twin->first)) ? std::next(twin) : let_go(twin, returns_late);
  }
  for (FileBlock at(0); returns_late && at < end; at += 1) {
    if (!is_known_out(at) && !twins_.contains(at.value)) set(late_, at, at + 1);
  }
  suspicions_ = 0;
  update_empty();
} catch (const std::bad_alloc&) {
  // Suspicion stays: that is slow, but safe.
}

}  // namespace udax::mapping
