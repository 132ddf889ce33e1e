// SPDX-License-Identifier: BSD-3-Clause
//
// What a forked child does: its parent's descriptors go, and its views come back at the same addresses through a connection of
// its own. Runs in fork(2) itself, before the child has done anything; so nothing else can be at these addresses yet.
#include <array>

#include "client/client.h"
#include "client/kernel.h"
#include "client/vault.h"

namespace udax::client {

// The view as a mapping of the kernel's, which is coherent with everybody else's but goes through the mount.
int Client::map_by_kernel(uint64_t begin, const View& view) {
  const Descriptor fd = unseal(view.file->vault);
  if (!fd) return map_empty(memory_, begin, view.end - begin);
  return kernel::map(begin, view.end - begin, view.prot, MAP_SHARED | MAP_FIXED, fd.get(), view.file_offset) ==
                 MAP_FAILED
             ? errno
             : 0;
}

int Client::revive_view(uint64_t begin, const View& view) {
  if (!view.file->is_open) return EBADF;
  const uint64_t length = view.end - begin;
  if (kernel::map(begin, length, view.prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
      MAP_FAILED) {
    return errno;
  }
  if (const int error = adopt(begin, length); error != 0) return error;
  return request_map(begin, view, false);
}

// A new connection, with leave by the first file that gets it.
int Client::reconnect() {
  for (const std::shared_ptr<File>& file : files_) {
    const Descriptor fd = unseal(file->vault);
    udax_ioc_direct leave{};
    if (fd && ask_leave(fd.get(), &leave) == 0) return start(leave);
  }
  return EPERM;
}

void Client::revive() {
  bool alive = reconnect() == 0;
  for (const std::shared_ptr<File>& file : files_) {
    file->is_open = false;
    const Descriptor fd = unseal(file->vault);
    if (!alive || !fd || open_file(fd.get(), nullptr, file.get()) != 0) continue;
    shelf_.put(file->handle, file->vault.get());
  }
  if (!alive) {
    close_all();
    empty_ = make_empty_file();
    memory_.empty = empty_.get();
    dead_.store(true, std::memory_order_release);
  }
  for (auto it = views_.all().begin(); it != views_.all().end();) {
    const uint64_t begin = it->first;
    const View view = it->second;
    ++it;
    if (alive && revive_view(begin, view) == 0) continue;
    static_cast<void>(map_by_kernel(begin, view));
    views_.erase(begin, view.end);  // the kernel's from now on
  }
  update_bounds();
  close_unused_files();
}

void Client::after_fork_child() {
  const bool was_dead = is_dead();
  const Memory before = memory_;
  control_.close();
  for (Descriptor* const fd : {&stream_, &life_, &fault_, &tracking_, &pool_file_}) fd->reset();
  memory_ = {};
  memory_.empty = before.empty;
  shelf_.clear();
  settle();
  if (was_dead) {
    // Whatever the parent's watchdog has not come to yet.
    for (const auto& [begin, view] : views_.all()) static_cast<void>(map_empty(memory_, begin, view.end - begin));
  } else if (views_.empty()) {
    dead_.store(true, std::memory_order_release);  // the next mapping makes another client
  } else {
    revive();
  }
  mutex_.unlock();
}

}  // namespace udax::client
