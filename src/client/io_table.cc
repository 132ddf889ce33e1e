// SPDX-License-Identifier: BSD-3-Clause
#include "client/io_table.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <new>

#include "base/sync_point.h"
#include "client/kernel.h"
#include "client/process.h"

namespace udax::client {
namespace {

// How many calls later one that was refused is looked at again, by how likely it is that that has changed.
constexpr int32_t kLater = 1 << 10;
constexpr int32_t kMuchLater = 1 << 20;
constexpr uint64_t kViewMin = uint64_t{16} << 20;

class KeepErrno {
 public:
  KeepErrno() : was_(errno) {}
  ~KeepErrno() { errno = was_; }
  KeepErrno(const KeepErrno&) = delete;
  KeepErrno& operator=(const KeepErrno&) = delete;

 private:
  const int was_;
};

int control_epoll(int epoll, int command, int fd) {
  epoll_event nothing{};
  return static_cast<int>(::syscall(SYS_epoll_ctl, epoll, command, fd, &nothing));
}

/// Its mount is: each write(2) is to be durable at its end.
bool is_synchronous(int fd) {
  struct statvfs info {};
  return ::fstatvfs(fd, &info) != 0 || (info.f_flag & ST_SYNCHRONOUS) != 0;
}

}  // namespace

IoTable& IoTable::get() {
  static constinit IoTable instance;
  return instance;
}

IoTable::Use::Use(IoTable& table, int number) : fd(number) {
  if (number < 0 || number >= kFdsMax) return;
  Entry& e = table.entries_[static_cast<size_t>(number)];
  word = e.word.load(std::memory_order_acquire);
  if (word == 0) {
    table.count_call(number, e);
    return;
  }
  auto* const found = static_cast<IoFile*>(kernel::to_pointer(word & ~kBits));
  found->users.fetch_add(1, std::memory_order_seq_cst);
  if (e.word.load(std::memory_order_seq_cst) == word && !Inside::is()) {
    if (table.is_same(number)) {
      entry = &e;
      file = found;
      return;
    }
    table.drop(e);
  }
  found->users.fetch_sub(1, std::memory_order_seq_cst);
}

bool IoTable::is_same(int fd) const {
  if (UDAX_KNOB("client.io.no_proof")) return true;
  const KeepErrno keep;
  const int epoll = epoll_number_.load(std::memory_order_relaxed);
  if (control_epoll(epoll, EPOLL_CTL_ADD, fd) != 0) return errno == EEXIST;
  static_cast<void>(control_epoll(epoll, EPOLL_CTL_DEL, fd));
  return false;
}

void IoTable::count_call(int fd, Entry& entry) {
  const int32_t needed = calls_before_.load(std::memory_order_relaxed);
  if (needed < 0) return;
  const int32_t calls = entry.calls.load(std::memory_order_relaxed);
  entry.calls.store(calls + 1, std::memory_order_relaxed);
  if (calls < needed || Inside::is() || !mutex_.try_lock()) return;
  const KeepErrno keep;
  int32_t wait = 0;
  {
    const Inside inside;
    int error = 0;
    try {
      error = take_on(fd);
    } catch (...) {
      error = ENOMEM;
    }
    // Not of udaxfs, not a regular file, refused for good; or for now.
    if (error != 0)
      wait = error == ENOSYS || error == EPERM || error == EACCES || error == EBADF ? kMuchLater : kLater;
  }
  mutex_.unlock();
  entry.calls.store(needed - wait, std::memory_order_relaxed);
}

int IoTable::get_ready() {
  if (!watches_forks_) {
    if (const int error = ::pthread_atfork(&before_fork, &after_fork_parent, &after_fork_child); error != 0) {
      return error;
    }
    watches_forks_ = true;
  }
  if (epoll_) return 0;
  epoll_ = Descriptor(static_cast<int>(::syscall(SYS_epoll_create1, EPOLL_CLOEXEC)));
  if (!epoll_) return errno;
  epoll_number_.store(epoll_.get());
  pid_.store(static_cast<int>(::syscall(SYS_getpid)));
  limit_changed();
  return 0;
}

// From the first step on it is proved that the number means the same description; so what is found out about it in between is of
// that, too.
int IoTable::take_on(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return errno;
  if (!S_ISREG(status.st_mode)) return ENOSYS;
  if (const int error = get_ready(); error != 0) return error;
  if (control_epoll(epoll_.get(), EPOLL_CTL_ADD, fd) != 0 && errno != EEXIST && !UDAX_KNOB("client.io.no_proof")) {
    return errno;
  }
  const auto flags = static_cast<int>(::syscall(SYS_fcntl, fd, F_GETFL));
  FileId id;
  int error = flags < 0 ? errno : identify(fd, &id);
  IoFile* file = nullptr;
  release_unused();
  if (error == 0) error = find_file(fd, id, static_cast<uint64_t>(status.st_size), &file);
  if (error != 0) return error;
  constexpr int kNotByUs = O_APPEND | O_DSYNC | O_SYNC | O_DIRECT;
  uint64_t word = kernel::to_address(file);
  if (file->view.is_writable && (flags & kNotByUs) == 0 && !is_synchronous(fd)) word |= Use::kMayWrite;
  if ((flags & O_NOATIME) != 0) word |= Use::kMayMarkNoAtime;
  Entry& entry = entries_[static_cast<size_t>(fd)];
  file->fds.fetch_add(1, std::memory_order_seq_cst);
  if (!is_same(fd) || entry.word.load() != 0) {
    file->fds.fetch_sub(1, std::memory_order_seq_cst);
    return EAGAIN;
  }
  entry.position.store(-1);
  entries_end_ = std::max(entries_end_, fd + 1);
  entry.word.store(word, std::memory_order_seq_cst);
  return 0;
}

int IoTable::find_file(int fd, const FileId& id, uint64_t size, IoFile** out) {
  const auto is_it = [&](const IoFile& f) {
    if (!f.in_use || !(f.id == id) || f.client->is_dead() || f.view.length < size) return false;
    return (slot_word(f.view.slot->rights) & direct::kBoardClosed) == 0;
  };
  auto* found = std::find_if(files_.begin(), files_.end(), is_it);
  if (found == files_.end()) {
    found = std::find_if(files_.begin(), files_.end(), [](const IoFile& f) { return !f.in_use; });
    if (found == files_.end()) return ENFILE;
    udax_ioc_direct leave{};
    if (const int error = ask_leave(fd, &leave); error != 0) return error;
    Client* client = nullptr;
    if (const int error = client_for(leave, &client); error != 0) return error;
    if (size > uint64_t{1} << 42) return EFBIG;
    // Room to grow: when it is used up, the view is made anew.
    const uint64_t length = (std::max(2 * size, kViewMin) + kernel::kHugePage - 1) & ~(kernel::kHugePage - 1);
    IoView view;
    if (const int error = client->take_on(leave, id.writable, length, &view); error != 0) return error;
    found->client = client;
    found->view = view;
    found->id = id;
    found->written_ns.store(0);
    found->hole_writes.store(0);
    found->in_use = true;
  }
  *out = found;
  return 0;
}

int IoTable::client_for(const udax_ioc_direct& leave, Client** out) {
  for (size_t i = 0; i < client_count_; ++i) {
    *out = clients_.at(i);
    if ((*out)->is_of(leave) && !(*out)->is_dead()) return 0;
  }
  if (client_count_ == kClientsMax) return ENOMEM;
  std::unique_ptr<Client> client;
  if (const int error = Client::open_for_io(leave, &client); error != 0) return error;
  *out = client.release();
  clients_.at(client_count_++) = *out;
  return 0;
}

void IoTable::drop(Entry& entry) {
  const uint64_t word = entry.word.exchange(0, std::memory_order_seq_cst);
  if (word == 0) return;
  static_cast<IoFile*>(kernel::to_pointer(word & ~Use::kBits))->fds.fetch_sub(1, std::memory_order_seq_cst);
}

void IoTable::lose(Use& use) {
  drop(*use.entry);
  use.entry->calls.store(calls_before_.load() - kLater, std::memory_order_relaxed);
}

void IoTable::release_unused() {
  for (IoFile& file : files_) {
    if (!file.in_use || file.fds.load() != 0 || file.users.load() != 0) continue;
    file.client->let_go(file.view);
    file.in_use = false;
  }
}

void IoTable::forget(int fd) {
  if (fd < 0 || fd >= kFdsMax) return;
  Entry& entry = entries_[static_cast<size_t>(fd)];
  if (entry.calls.load(std::memory_order_relaxed) != 0) entry.calls.store(0, std::memory_order_relaxed);
  if (entry.word.load(std::memory_order_acquire) == 0) return;
  const KeepErrno keep;
  // The child of a vfork closes descriptors of its own, in our memory.
  if (static_cast<int>(::syscall(SYS_getpid)) != pid_.load()) return;
  drop(entry);
  if (Inside::is() || !mutex_.try_lock()) return;
  {
    const Inside inside;
    release_unused();
  }
  mutex_.unlock();
}

void IoTable::forget_range(unsigned first, unsigned last) {
  if (calls_before_.load(std::memory_order_relaxed) < 0) return;
  const unsigned end = std::min(last, static_cast<unsigned>(kFdsMax) - 1);
  for (unsigned fd = first; fd <= end; ++fd) forget(static_cast<int>(fd));
}

void IoTable::forget_file_of(int fd) {
  if (fd < 0 || fd >= kFdsMax || Inside::is()) return;
  const Entry& changed = entries_[static_cast<size_t>(fd)];
  const uint64_t file = changed.word.load() & ~Use::kBits;
  entries_[static_cast<size_t>(fd)].calls.store(0);
  if (calls_before_.load() < 0) return;
  const LockGuard lock(mutex_);
  for (int i = 0; i < entries_end_; ++i) {
    Entry& entry = entries_[static_cast<size_t>(i)];
    // One that was not yet taken on may be of the same description as others that are.
    if (const uint64_t word = entry.word.load(); word != 0 && (file == 0 || (word & ~Use::kBits) == file))
      drop(entry);
  }
}

void IoTable::limit_changed() {
  rlimit limit{};
  if (::syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, nullptr, &limit) == 0) size_max_.store(limit.rlim_cur);
}

void IoTable::before_fork() UDAX_NO_THREAD_SAFETY_ANALYSIS {
  IoTable& self = get();
  self.mutex_.lock();
  for (size_t i = 0; i < self.client_count_; ++i) self.clients_.at(i)->before_fork();
}

void IoTable::after_fork_parent() UDAX_NO_THREAD_SAFETY_ANALYSIS {
  IoTable& self = get();
  for (size_t i = 0; i < self.client_count_; ++i) self.clients_.at(i)->after_fork_parent();
  self.mutex_.unlock();
}

void IoTable::after_fork_child() UDAX_NO_THREAD_SAFETY_ANALYSIS {
  IoTable& self = get();
  self.restart_in_child();
  self.mutex_.unlock();
}

// Descriptors are the same, but the connection is the parent's: they are taken on anew when they are used.
void IoTable::restart_in_child() {
  for (int i = 0; i < entries_end_; ++i) {
    entries_[static_cast<size_t>(i)].word.store(0);
    entries_[static_cast<size_t>(i)].calls.store(0);
  }
  for (IoFile& file : files_) {
    file.in_use = false;
    file.users.store(0);
    file.fds.store(0);
  }
  for (size_t i = 0; i < client_count_; ++i) {
    clients_.at(i)->abandon_in_child();
    clients_.at(i)->after_fork_parent();
  }
  client_count_ = 0;
  entries_end_ = 0;
  epoll_.reset();
  epoll_number_.store(-1);
}

}  // namespace udax::client
