// SPDX-License-Identifier: BSD-3-Clause
//
// Which descriptors of the program are files that the library reads and writes by itself, by copies from and to a view of its own.
// docs/direct.md, "Reads and writes without the kernel", says when that means what the system call means; in every other case the
// caller makes the system call.
//
// Proof, per call: a descriptor's number may mean another file than it did, and not every close(2) is seen here. An epoll instance
// holds each number together with its open file description (and lets go of it at its last close): adding it once more says EEXIST if it
// is still that very description, in one system call, without holding it open.
//
// Files (IoFile) are never freed, so a stale pointer to one is harmless. A file's view goes when no number leads to it (fds) and
// nobody copies (users): a reader counts itself first, and then looks whether its number still leads there.
//
// Not used from within the library (Inside). Nothing here takes a lock on the way of a read or write; a descriptor is taken on in
// the call that makes its number of calls full, if the lock is free.
//
// Locks: mutex_, before a client's.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "base/mutex.h"
#include "client/client.h"

namespace udax::client {

/// A word of the board, which the daemon stores to meanwhile.
[[nodiscard]] inline uint64_t slot_word(const uint64_t& word) { return __atomic_load_n(&word, __ATOMIC_ACQUIRE); }

struct alignas(64) IoFile {
  std::atomic<uint32_t> users{0};
  std::atomic<uint32_t> fds{0};
  /// The clock's tick that the file's times had when a write(2) of this process was done: until they or the clock go on, another
  /// write would change no times.
  std::atomic<uint64_t> written_ns{0};
  /// Writes that go to the kernel still, since one has met a hole: filling one by a fault costs more than by a write(2).
  std::atomic<int32_t> hole_writes{0};
  // Constant while it is in use.
  Client* client = nullptr;
  IoView view;
  FileId id;
  bool in_use = false;  // the table's mutex_
};

class IoTable {
 public:
  /// Calls of a descriptor that go to the kernel before it is taken on: most files are read once.
  static constexpr int32_t kCallsBefore = 16;

  static IoTable& get();
  /// From now on; `calls_before`: see kCallsBefore.
  void turn_on(int32_t calls_before) { calls_before_.store(calls_before); }

  /// Given back by the functions below: make the system call.
  static constexpr ssize_t kKernel = -2;

  /// As preadv(2). Never an error.
  ssize_t read_at(int fd, std::span<const iovec> to, int64_t offset);
  /// As pwritev(2). Never an error. After kKernel, and a system call that wrote something, wrote() is to be called with `*tick`.
  ssize_t write_at(int fd, std::span<const iovec> from, int64_t offset, uint64_t* tick);
  /// As readv(2) and writev(2), with the descriptor's position; -1: errno says why.
  ssize_t read(int fd, std::span<const iovec> to);
  ssize_t write(int fd, std::span<const iovec> from, uint64_t* tick);
  void wrote(int fd, uint64_t tick);

  /// The number is about to mean something else, or to be closed.
  void forget(int fd);
  void forget_range(unsigned first, unsigned last);
  /// What the file of `fd` is open for may have changed.
  void forget_file_of(int fd);
  /// RLIMIT_FSIZE may have.
  void limit_changed();

 private:
  static constexpr int kFdsMax = 65536;
  static constexpr size_t kFilesMax = 1000;  // fewer than the daemon has slots for a client
  static constexpr size_t kClientsMax = 32;

  struct Entry {
    std::atomic<uint64_t> word{0};      // the IoFile's address and kMay...; 0: none
    std::atomic<int32_t> calls{0};      // since it was last looked at
    std::atomic<int64_t> position{-1};  // that the descriptor had when last seen here; -1: not known
  };
  struct Use;

  constexpr IoTable() = default;
  // io_table.cc
  [[nodiscard]] bool is_same(int fd) const;
  void count_call(int fd, Entry& entry);
  [[nodiscard]] int take_on(int fd) UDAX_REQUIRES(mutex_);
  [[nodiscard]] int find_file(int fd, const FileId& id, uint64_t size, IoFile** out) UDAX_REQUIRES(mutex_);
  [[nodiscard]] int client_for(const udax_ioc_direct& leave, Client** out) UDAX_REQUIRES(mutex_);
  [[nodiscard]] int get_ready() UDAX_REQUIRES(mutex_);
  void drop(Entry& entry);
  /// The daemon has taken the file off the board, or is dead.
  void lose(Use& use);
  void release_unused() UDAX_REQUIRES(mutex_);
  static void before_fork();
  static void after_fork_parent();
  static void after_fork_child();
  void restart_in_child() UDAX_REQUIRES(mutex_);

  // io_copy.cc
  ssize_t read_at(Use& use, std::span<const iovec> to, uint64_t wanted, uint64_t offset);
  ssize_t write_at(Use& use, std::span<const iovec> from, uint64_t wanted, uint64_t offset, uint64_t* tick);

  std::array<Entry, kFdsMax> entries_{};
  std::atomic<int32_t> calls_before_{-1};  // -1: off
  std::atomic<uint64_t> size_max_{0};      // RLIMIT_FSIZE
  std::atomic<int> epoll_number_{-1};
  std::atomic<int> pid_{0};

  Mutex mutex_;
  Descriptor epoll_ UDAX_GUARDED_BY(mutex_);
  std::array<IoFile, kFilesMax> files_{};
  std::array<Client*, kClientsMax> clients_ UDAX_GUARDED_BY(mutex_){};
  size_t client_count_ UDAX_GUARDED_BY(mutex_) = 0;
  int entries_end_ UDAX_GUARDED_BY(mutex_) = 0;  // no file behind it
  bool watches_forks_ UDAX_GUARDED_BY(mutex_) = false;
};

/// A descriptor's file, while somebody copies from or to it.
struct IoTable::Use {
  Use(IoTable& table, int fd);
  ~Use() {
    if (file != nullptr) file->users.fetch_sub(1, std::memory_order_seq_cst);
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  static constexpr uint64_t kMayWrite = 1;
  static constexpr uint64_t kMayMarkNoAtime = 2;  // O_NOATIME
  static constexpr uint64_t kBits = 3;

  int fd;
  Entry* entry = nullptr;
  IoFile* file = nullptr;  // null: the kernel's
  uint64_t word = 0;
};

}  // namespace udax::client
