// SPDX-License-Identifier: BSD-3-Clause
#include "direct/late_views.h"

#include <fcntl.h>

#include <algorithm>
#include <new>

#include "mapping/entry_tree.h"

namespace udax::direct {

LateViews::LateViews(fs::Filesystem& fs, std::function<void()> emptied)
    : fs_(fs), emptied_(std::move(emptied)), thread_([this] { run(); }) {}

void LateViews::add(Late late) {
  const std::lock_guard guard(mutex_);
  all_.push_back(std::move(late));
  changed_.notify_all();
}

bool LateViews::empty() {
  const std::lock_guard guard(mutex_);
  return all_.empty();
}

bool LateViews::any(Ino ino, mapping::ByteRange range) {
  const std::lock_guard guard(mutex_);
  return any_locked(ino, range);
}

void LateViews::await_none(Ino ino, mapping::ByteRange range, Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline, [&] { return !any_locked(ino, range); });
}

bool LateViews::any_locked(Ino ino, mapping::ByteRange range) const {
  return std::any_of(all_.begin(), all_.end(), [&](const Late& late) {
    return late.ino == ino && late.range.start < range.end && range.start < late.range.end;
  });
}

LateViews::Clock::time_point LateViews::deadline(const Client& client, Clock::time_point now) {
  const std::lock_guard guard(mutex_);
  Clock::time_point first = now;
  for (const Late& late : all_) {
    if (late.client.get() == &client) first = std::min(first, late.since);
  }
  return first + client.patience();
}

// What was stored since, its file may not have been told of; and who has made a copy may have made it before a store.
void LateViews::settle(const Late& late) {
  constexpr uint64_t kEnd = uint64_t{mapping::kFileBlockEnd} << kBlockShift;
  if (const auto file = fs_.open(late.ino, O_RDONLY | O_NOATIME, false); file) {
    fs_.dax().note_stored((*file)->inode(), FileBlock(late.range.start >> kBlockShift),
                          FileBlock(blocks_for(std::min(late.range.end, kEnd))));
    fs_.dax().touch_stored((*file)->inode());
    fs_.tell_attributes((*file)->inode());
  }
  fs_.mappers().drop_copies(late.ino, late.range);
}

void LateViews::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !all_.empty(); });
    if (all_.empty()) return;
    const auto first = all_.begin();  // others only add
    lock.unlock();
    const auto deadline = first->since + std::chrono::milliseconds(kLateDeadlineMs);
    // One that is killed and does not end is the server's to look after.
    if (first->client->finish_revoke(first->sequence, deadline)) {
      first->client->settle_dropped(first->sequence);
      settle(*first);
    }
    std::list<Late> done;
    lock.lock();
    done.splice(done.begin(), all_, first);
    changed_.notify_all();
    const bool is_empty = all_.empty();
    lock.unlock();
    done.clear();
    if (is_empty) emptied_();
    lock.lock();
  }
}

void LateViews::stop() {
  {
    const std::lock_guard guard(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace udax::direct
