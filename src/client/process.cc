// SPDX-License-Identifier: BSD-3-Clause
#include "client/process.h"

#include <pthread.h>

#include <algorithm>

namespace udax::client {

// In the thread's own static block: a lazily made one would allocate, which is what this is there to notice.
bool& Inside::flag() {
  __attribute__((tls_model("initial-exec"))) static thread_local bool inside = false;
  return inside;
}

Process& Process::get() {
  static constinit Process instance;
  return instance;
}

Client* Process::find(const udax_ioc_direct& leave) {
  for (uint32_t i = 0; i < count_.load(std::memory_order_acquire); ++i) {
    Client* const client = clients_.at(i).load(std::memory_order_relaxed);
    if (client->is_of(leave) && !client->is_dead()) return client;
  }
  return nullptr;
}

int Process::client_for(int fd, udax_ioc_direct* leave, Client** out) {
  *leave = {};
  FileId id;
  if (const int error = identify(fd, &id); error != 0) return error;
  for (uint32_t i = 0; i < count_.load(std::memory_order_acquire); ++i) {
    *out = clients_.at(i).load(std::memory_order_relaxed);
    if ((*out)->knows(id)) return 0;
  }
  if (const int error = ask_leave(fd, leave); error != 0) return error;
  const LockGuard lock(mutex_);
  *out = find(*leave);
  if (*out != nullptr) return 0;
  const uint32_t index = count_.load(std::memory_order_relaxed);
  if (index == kClientsMax) return ENOMEM;
  if (!watches_forks_) {
    if (const int error = ::pthread_atfork(&before_fork, &after_fork_parent, &after_fork_child); error != 0)
      return error;
    watches_forks_ = true;
  }
  std::unique_ptr<Client> client;
  if (const int error = Client::open(*leave, &client); error != 0) return error;
  *out = client.release();
  clients_.at(index).store(*out, std::memory_order_relaxed);
  count_.store(index + 1, std::memory_order_release);
  return 0;
}

Client* Process::owner(uint64_t address, uint64_t end) {
  for (uint32_t i = 0; i < count_.load(std::memory_order_acquire); ++i) {
    Client* const client = clients_.at(i).load(std::memory_order_relaxed);
    if (client->overlaps(address, end)) return client;
  }
  return nullptr;
}

Client* Process::piece(uint64_t address, uint64_t* end) {
  uint64_t nearest = *end;
  for (uint32_t i = 0; i < count_.load(std::memory_order_acquire); ++i) {
    Client* const client = clients_.at(i).load(std::memory_order_relaxed);
    uint64_t border = 0;
    if (!client->may_overlap(address, *end)) continue;
    if (client->piece(address, &border)) {
      *end = std::min(*end, border);
      return client;
    }
    nearest = std::min(nearest, border);
  }
  *end = nearest;
  return nullptr;
}

Client* Process::former_owner(uint64_t address, uint64_t* end) {
  for (uint32_t i = 0; i < count_.load(std::memory_order_acquire); ++i) {
    Client* const client = clients_.at(i).load(std::memory_order_relaxed);
    if (client->is_kernels(address, end)) return client;
  }
  return nullptr;
}

void Process::before_fork() UDAX_NO_THREAD_SAFETY_ANALYSIS {
  Process& self = get();
  self.mutex_.lock();
  for (uint32_t i = 0; i < self.count_.load(); ++i) self.clients_.at(i).load()->before_fork();
}

void Process::after_fork_parent() UDAX_NO_THREAD_SAFETY_ANALYSIS {
  Process& self = get();
  for (uint32_t i = 0; i < self.count_.load(); ++i) self.clients_.at(i).load()->after_fork_parent();
  self.mutex_.unlock();
}

void Process::after_fork_child() UDAX_NO_THREAD_SAFETY_ANALYSIS {
  const Inside inside;
  Process& self = get();
  for (uint32_t i = 0; i < self.count_.load(); ++i) {
    try {
      self.clients_.at(i).load()->after_fork_child();
    } catch (...) {
      // Out of memory: its addresses stay empty, and touching them ends the child.
      self.clients_.at(i).load()->after_fork_parent();
    }
  }
  self.mutex_.unlock();
}

}  // namespace udax::client
