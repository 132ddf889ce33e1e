// SPDX-License-Identifier: BSD-3-Clause
#include "media/pool_lock.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>

namespace udax::media {
namespace {

constexpr std::chrono::milliseconds kPollInterval{5};

bool is_alive(uint32_t pid) { return pid != 0 && (::kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM); }

/// Takes a number, and what separates it from the next, off the front of `text`. False: there is none that fits.
template <typename T>
bool take_number(std::string_view& text, int base, T& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc{}) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  if (text.starts_with(':')) text.remove_prefix(1);
  return true;
}

/// The process that has an flock on the file `st`, if this line of /proc/locks shows one; else 0. The line reads
/// "1: FLOCK  ADVISORY  WRITE 4711 fd:00:1234 0 EOF"; a waiter's has "->" before FLOCK.
uint32_t flock_owner(const std::string& line, const struct stat& st) {
  std::istringstream words(line);
  std::string ordinal, kind, strength, access, owner, file;
  if (!(words >> ordinal >> kind >> strength >> access >> owner >> file) || kind != "FLOCK") return 0;
  std::string_view owner_left = owner;
  std::string_view file_left = file;
  int32_t pid = 0;  // -1, or 0: a process that this pid namespace does not show
  unsigned major_number = 0;
  unsigned minor_number = 0;
  uint64_t inode = 0;
  if (!take_number(owner_left, 10, pid) || !take_number(file_left, 16, major_number) ||
      !take_number(file_left, 16, minor_number) || !take_number(file_left, 10, inode)) {
    return 0;
  }
  if (pid <= 0 || inode != st.st_ino || major_number != ::major(st.st_dev) || minor_number != ::minor(st.st_dev)) {
    return 0;
  }
  return static_cast<uint32_t>(pid);
}

/// The process that /proc/locks shows with an flock on the file behind `fd`; 0 if it shows none (that of another
/// pid namespace, or a filesystem whose device numbers differ from stat's).
uint32_t find_locker(int fd) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return 0;
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    if (const uint32_t pid = flock_owner(line, st); pid != 0) return pid;
  }
  return 0;
}

std::string program_of(uint32_t pid) {
  std::ifstream comm("/proc/" + std::to_string(pid) + "/comm");
  std::string name;
  std::getline(comm, name);
  return name;
}

/// REQUIRES: somebody has the lock; `locker`: who, or 0. A daemon that went into the background after it took the lock has
/// another pid than the one on record.
std::string describe_locker(uint32_t locker, const Holder& holder) {
  const bool locker_lives = is_alive(locker);
  const bool holder_counts = is_alive(holder.pid) && (!locker_lives || locker == holder.pid);
  if (!holder_counts && !locker_lives) return "another process";
  const std::string program = holder_counts ? holder.program : program_of(locker);
  std::string text = (program.empty() ? "a process" : program) + " (pid " +
                     std::to_string(holder_counts ? holder.pid : locker) + ")";
  if (holder_counts && !holder.mountpoint.empty()) text += ", mounted on " + holder.mountpoint;
  return text;
}

}  // namespace

Status lock_pool(int fd, LockKind kind, std::chrono::milliseconds wait) {
  const int operation = (kind == LockKind::kShared ? LOCK_SH : LOCK_EX) | LOCK_NB;
  const auto deadline = std::chrono::steady_clock::now() + wait;
  while (::flock(fd, operation) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return from_errno(errno);
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) return Error::kBusy;
    std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(kPollInterval, deadline - now));
  }
  return {};
}

std::string describe_user(int fd, const Holder& holder) {
  const uint32_t locker = find_locker(fd);
  if (!is_alive(locker)) {
    // Either nobody has it, or somebody whom /proc/locks does not show here.
    if (lock_pool(fd, LockKind::kShared, std::chrono::milliseconds(0))) {
      (void)::flock(fd, LOCK_UN);
      return "";
    }
  }
  return describe_locker(locker, holder);
}

std::string describe_holder(const std::string& path, int fd, const Holder& holder) {
  return path + " is in use by " + describe_locker(find_locker(fd), holder);
}

}  // namespace udax::media
