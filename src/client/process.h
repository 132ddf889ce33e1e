// SPDX-License-Identifier: BSD-3-Clause
//
// The clients of this process, one a pool, and its forks.
//
// Thread-safe. Clients are never taken away: their threads, and mappings of a daemon that is dead, may be in use to the end.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "base/mutex.h"
#include "client/client.h"

namespace udax::client {

/// Set while a thread is in the library: what its allocator maps and unmaps then is not looked at.
class Inside {
 public:
  Inside() : was_(flag()) { flag() = true; }
  ~Inside() { flag() = was_; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  [[nodiscard]] static bool is() { return flag(); }

 private:
  static bool& flag();
  bool was_;
};

class Process {
 public:
  static constexpr uint32_t kClientsMax = 32;

  /// There from the start, without any constructor: allocators ask while they start up themselves.
  static Process& get();

  /// The client for files of the mount that `fd` lies on, connected if it was not. `leave`: the leave that it took; none
  /// (version 0) if the client knows the file already. An errno, or 0.
  [[nodiscard]] int client_for(int fd, udax_ioc_direct* leave, Client** out) UDAX_EXCLUDES(mutex_);
  /// The client that has a view of any byte of [address, end), or null. Quick where no mapping is near.
  [[nodiscard]] Client* owner(uint64_t address, uint64_t end);
  /// The client that `address` is mapped by, or null; `*end`: where that changes, at most the former `*end`.
  [[nodiscard]] Client* piece(uint64_t address, uint64_t* end);
  /// The client whose mapping at `address` has become the kernel's, or null; `*end`, at most the former `*end`: where that ends.
  [[nodiscard]] Client* former_owner(uint64_t address, uint64_t* end);

 private:
  constexpr Process() = default;
  [[nodiscard]] Client* find(const udax_ioc_direct& leave);
  static void before_fork();
  static void after_fork_parent();
  static void after_fork_child();

  Mutex mutex_;  // taken before any client's
  std::array<std::atomic<Client*>, kClientsMax> clients_{};
  std::atomic<uint32_t> count_{0};
  bool watches_forks_ UDAX_GUARDED_BY(mutex_) = false;
};

}  // namespace udax::client
