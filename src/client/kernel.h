// SPDX-License-Identifier: BSD-3-Clause
//
// The system calls that the library makes, raw: the preload shim stands before the C library's functions of these names, and
// none of these may be a point of cancellation, since locks are held around them. And what Debian 12's headers do not name yet
// of userfaultfd(2).
//
// All of them return -1 (map, remap: MAP_FAILED) and set errno, as system calls do. Thread-safe.
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace udax::client::kernel {

inline constexpr uint64_t kPage = 4096;
inline constexpr uint64_t kHugePage = uint64_t{1} << 21;

// <linux/userfaultfd.h> of Linux 6.7
inline constexpr uint64_t kFeatureWpHugetlbfsShmem = uint64_t{1} << 12;
inline constexpr uint64_t kFeatureWpUnpopulated = uint64_t{1} << 13;
inline constexpr uint64_t kFeatureWpAsync = uint64_t{1} << 15;

inline void* to_pointer(uint64_t address) { return reinterpret_cast<void*>(address); }
inline uint64_t to_address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

inline void* map(uint64_t address, uint64_t length, int prot, int flags, int fd, uint64_t offset) {
  return to_pointer(static_cast<uint64_t>(::syscall(SYS_mmap, address, length, prot, flags, fd, offset)));
}
inline int unmap(uint64_t address, uint64_t length) {
  return static_cast<int>(::syscall(SYS_munmap, address, length));
}
inline void* remap(uint64_t from, uint64_t from_length, uint64_t length, int flags, uint64_t to) {
  return to_pointer(static_cast<uint64_t>(::syscall(SYS_mremap, from, from_length, length, flags, to)));
}
inline int protect(uint64_t address, uint64_t length, int prot) {
  return static_cast<int>(::syscall(SYS_mprotect, address, length, prot));
}
inline int advise(uint64_t address, uint64_t length, int advice) {
  return static_cast<int>(::syscall(SYS_madvise, address, length, advice));
}
inline int punch(int fd, uint64_t offset, uint64_t length) {
  constexpr int kPunch = 3;  // FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
  return static_cast<int>(::syscall(SYS_fallocate, fd, kPunch, offset, length));
}
/// Advice that asks for pages to be there before they are touched.
inline bool asks_ahead(int advice) {
  constexpr int kPopulateRead = 22;  // MADV_POPULATE_READ of Linux 5.14
  return advice == MADV_WILLNEED || advice == kPopulateRead;
}
inline int sync(uint64_t address, uint64_t length, int flags) {
  return static_cast<int>(::syscall(SYS_msync, address, length, flags));
}
inline int close_fd(int fd) { return static_cast<int>(::syscall(SYS_close, fd)); }
inline int open_file(const char* path, int flags) {
  return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0));
}
inline int control(int fd, unsigned long command, void* argument) {
  return static_cast<int>(::syscall(SYS_ioctl, fd, command, argument));
}
inline int control(int fd, unsigned long command, unsigned long argument) {
  return static_cast<int>(::syscall(SYS_ioctl, fd, command, argument));
}
inline ssize_t read_fd(int fd, void* buffer, size_t size) { return ::syscall(SYS_read, fd, buffer, size); }
inline ssize_t send_message(int fd, const msghdr* message) {
  ssize_t sent;
  do {
    sent = ::syscall(SYS_sendmsg, fd, message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent;
}
inline ssize_t receive_message(int fd, msghdr* message, int flags) {
  ssize_t got;
  do {
    got = ::syscall(SYS_recvmsg, fd, message, flags);
  } while (got < 0 && errno == EINTR);
  return got;
}
/// One descriptor, `timeout_ms` or for ever (-1). EINTR counts as nothing.
inline int poll_one(int fd, short events, int timeout_ms) {
  pollfd entry{fd, events, 0};
  const auto found = static_cast<int>(::syscall(SYS_poll, &entry, 1, timeout_ms));
  return found < 0 && errno == EINTR ? 0 : found;
}
inline void pause_ms(int ms) { static_cast<void>(::syscall(SYS_poll, nullptr, 0, ms)); }

/// UFFDIO_REGISTER of whole pages; `mode`: UFFDIO_REGISTER_MODE_...
inline int uffd_register(int fd, uint64_t address, uint64_t length, uint64_t mode) {
  uffdio_register r{};
  r.range = {address, length};
  r.mode = mode;
  return control(fd, UFFDIO_REGISTER, &r);
}
inline int uffd_wake(int fd, uint64_t address, uint64_t length) {
  uffdio_range range{address, length};
  return control(fd, UFFDIO_WAKE, &range);
}

}  // namespace udax::client::kernel
