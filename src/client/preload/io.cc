// SPDX-License-Identifier: BSD-3-Clause
//
// read, write and their kin, of DAX files: by copies from and to the pool, where that means the same. Only if UDAX_READS_AND_WRITES
// is set ("on", or "on:N": of descriptors that have had N such calls); everything else goes on as it came.
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "client/preload/shim.h"
#include "client/private.h"

namespace udax::preload {
namespace {

using ReadFn = ssize_t (*)(int, void*, size_t);
using WriteFn = ssize_t (*)(int, const void*, size_t);
using VectorFn = ssize_t (*)(int, const iovec*, int);
using PreadFn = ssize_t (*)(int, void*, size_t, off_t);
using PwriteFn = ssize_t (*)(int, const void*, size_t, off_t);
using VectorAtFn = ssize_t (*)(int, const iovec*, int, off_t);
using FlaggedFn = ssize_t (*)(int, const iovec*, int, off_t, int);

constinit Next<ReadFn> g_read("read");
constinit Next<WriteFn> g_write("write");
constinit Next<VectorFn> g_readv("readv");
constinit Next<VectorFn> g_writev("writev");
constinit Next<PreadFn> g_pread("pread");
constinit Next<PwriteFn> g_pwrite("pwrite");
constinit Next<VectorAtFn> g_preadv("preadv");
constinit Next<VectorAtFn> g_pwritev("pwritev");
constinit Next<FlaggedFn> g_preadv2("preadv2");
constinit Next<FlaggedFn> g_pwritev2("pwritev2");
constinit Next<ssize_t (*)(int, void*, size_t, size_t)> g_read_chk("__read_chk");
constinit Next<ssize_t (*)(int, void*, size_t, off_t, size_t)> g_pread_chk("__pread_chk");
constinit Next<int (*)(int, int, void*)> g_fcntl("fcntl");
constinit Next<int (*)(int, const rlimit*)> g_setrlimit("setrlimit");
constinit Next<int (*)(pid_t, int, const rlimit*, rlimit*)> g_prlimit("prlimit");

constinit bool g_is_on = false;

// Before main: no other thread is there.
__attribute__((constructor)) void start() {
  constexpr int kCallsBefore = 16;
  constexpr long kCallsMax = 1 << 20;
  const char* const wish = std::getenv("UDAX_READS_AND_WRITES");
  if (wish == nullptr || std::strncmp(wish, "on", 2) != 0) return;
  long calls = kCallsBefore;
  if (wish[2] == ':') {
    char* end = nullptr;
    calls = std::strtol(wish + 3, &end, 10);
    if (end == wish + 3 || *end != '\0' || calls < 0 || calls > kCallsMax) return;
  } else if (wish[2] != '\0') {
    return;
  }
  g_is_on = true;
  udax_private_io(static_cast<int>(calls));
}

// All of these functions are points of cancellation.
bool is_on() {
  if (!g_is_on) return false;
  ::pthread_testcancel();
  return true;
}

template <typename F>
ssize_t read_at(int fd, const iovec* parts, int count, off_t offset, F by_kernel) {
  if (is_on()) {
    const ssize_t got = udax_private_preadv(fd, parts, count, offset);
    if (got != UDAX_PRIVATE_KERNEL) return got;
  }
  return by_kernel();
}

template <typename F>
ssize_t write_at(int fd, const iovec* parts, int count, off_t offset, F by_kernel) {
  if (!is_on()) return by_kernel();
  uint64_t tick = 0;
  ssize_t done = udax_private_pwritev(fd, parts, count, offset, &tick);
  if (done != UDAX_PRIVATE_KERNEL) return done;
  done = by_kernel();
  if (done > 0 && tick != 0) udax_private_wrote(fd, tick);
  return done;
}

template <typename F>
ssize_t read_on(int fd, const iovec* parts, int count, F by_kernel) {
  if (is_on()) {
    const ssize_t got = udax_private_readv(fd, parts, count);
    if (got != UDAX_PRIVATE_KERNEL) return got;
  }
  return by_kernel();
}

template <typename F>
ssize_t write_on(int fd, const iovec* parts, int count, F by_kernel) {
  if (!is_on()) return by_kernel();
  uint64_t tick = 0;
  ssize_t done = udax_private_writev(fd, parts, count, &tick);
  if (done != UDAX_PRIVATE_KERNEL) return done;
  done = by_kernel();
  if (done > 0 && tick != 0) udax_private_wrote(fd, tick);
  return done;
}

iovec part_of(const void* buffer, size_t size) { return {const_cast<void*>(buffer), size}; }  // not media

ssize_t pread_any(int fd, void* buffer, size_t size, off_t offset) {
  const iovec part = part_of(buffer, size);
  return read_at(fd, &part, 1, offset, [=] { return g_pread.get()(fd, buffer, size, offset); });
}

ssize_t pwrite_any(int fd, const void* buffer, size_t size, off_t offset) {
  const iovec part = part_of(buffer, size);
  return write_at(fd, &part, 1, offset, [=] { return g_pwrite.get()(fd, buffer, size, offset); });
}

ssize_t preadv2_any(int fd, const iovec* parts, int count, off_t offset, int flags) {
  const auto by_kernel = [=] { return g_preadv2.get()(fd, parts, count, offset, flags); };
  return flags == 0 ? read_at(fd, parts, count, offset, by_kernel) : by_kernel();
}

ssize_t pwritev2_any(int fd, const iovec* parts, int count, off_t offset, int flags) {
  const auto by_kernel = [=] { return g_pwritev2.get()(fd, parts, count, offset, flags); };
  return flags == 0 ? write_at(fd, parts, count, offset, by_kernel) : by_kernel();
}

int fcntl_any(int fd, int command, void* argument) {
  const int result = g_fcntl.get()(fd, command, argument);
  if (g_is_on && command == F_SETFL && result == 0) udax_private_io_flags_changed(fd);
  return result;
}

int limits_changed(int result) {
  if (g_is_on && result == 0) udax_private_io_limit_changed();
  return result;
}

}  // namespace
}  // namespace udax::preload

using namespace udax::preload;  // NOLINT(google-build-using-namespace): of the definitions below only

// Names with 64 are other names for the same functions: off_t has 64 bits.
UDAX_SHIM(ssize_t, pread, (int fd, void* buffer, size_t size, off_t offset)) {
  return pread_any(fd, buffer, size, offset);
}
UDAX_SHIM(ssize_t, pread64, (int fd, void* buffer, size_t size, off64_t offset)) {
  return pread_any(fd, buffer, size, offset);
}
UDAX_SHIM(ssize_t, __pread_chk, (int fd, void* buffer, size_t size, off_t offset, size_t room)) {
  return size <= room ? pread_any(fd, buffer, size, offset) : g_pread_chk.get()(fd, buffer, size, offset, room);
}
UDAX_SHIM(ssize_t, __pread64_chk, (int fd, void* buffer, size_t size, off64_t offset, size_t room)) {
  return size <= room ? pread_any(fd, buffer, size, offset) : g_pread_chk.get()(fd, buffer, size, offset, room);
}
UDAX_SHIM(ssize_t, pwrite, (int fd, const void* buffer, size_t size, off_t offset)) {
  return pwrite_any(fd, buffer, size, offset);
}
UDAX_SHIM(ssize_t, pwrite64, (int fd, const void* buffer, size_t size, off64_t offset)) {
  return pwrite_any(fd, buffer, size, offset);
}
UDAX_SHIM(ssize_t, preadv, (int fd, const iovec* parts, int count, off_t offset)) {
  return read_at(fd, parts, count, offset, [=] { return g_preadv.get()(fd, parts, count, offset); });
}
UDAX_SHIM(ssize_t, preadv64, (int fd, const iovec* parts, int count, off64_t offset)) {
  return read_at(fd, parts, count, offset, [=] { return g_preadv.get()(fd, parts, count, offset); });
}
UDAX_SHIM(ssize_t, pwritev, (int fd, const iovec* parts, int count, off_t offset)) {
  return write_at(fd, parts, count, offset, [=] { return g_pwritev.get()(fd, parts, count, offset); });
}
UDAX_SHIM(ssize_t, pwritev64, (int fd, const iovec* parts, int count, off64_t offset)) {
  return write_at(fd, parts, count, offset, [=] { return g_pwritev.get()(fd, parts, count, offset); });
}
UDAX_SHIM(ssize_t, preadv2, (int fd, const iovec* parts, int count, off_t offset, int flags)) {
  return preadv2_any(fd, parts, count, offset, flags);
}
UDAX_SHIM(ssize_t, preadv64v2, (int fd, const iovec* parts, int count, off64_t offset, int flags)) {
  return preadv2_any(fd, parts, count, offset, flags);
}
UDAX_SHIM(ssize_t, pwritev2, (int fd, const iovec* parts, int count, off_t offset, int flags)) {
  return pwritev2_any(fd, parts, count, offset, flags);
}
UDAX_SHIM(ssize_t, pwritev64v2, (int fd, const iovec* parts, int count, off64_t offset, int flags)) {
  return pwritev2_any(fd, parts, count, offset, flags);
}

UDAX_SHIM(ssize_t, read, (int fd, void* buffer, size_t size)) {
  const iovec part = part_of(buffer, size);
  return read_on(fd, &part, 1, [=] { return g_read.get()(fd, buffer, size); });
}
UDAX_SHIM(ssize_t, __read_chk, (int fd, void* buffer, size_t size, size_t room)) {
  if (size > room) return g_read_chk.get()(fd, buffer, size, room);
  const iovec part = part_of(buffer, size);
  return read_on(fd, &part, 1, [=] { return g_read.get()(fd, buffer, size); });
}
UDAX_SHIM(ssize_t, write, (int fd, const void* buffer, size_t size)) {
  const iovec part = part_of(buffer, size);
  return write_on(fd, &part, 1, [=] { return g_write.get()(fd, buffer, size); });
}
UDAX_SHIM(ssize_t, readv, (int fd, const iovec* parts, int count)) {
  return read_on(fd, parts, count, [=] { return g_readv.get()(fd, parts, count); });
}
UDAX_SHIM(ssize_t, writev, (int fd, const iovec* parts, int count)) {
  return write_on(fd, parts, count, [=] { return g_writev.get()(fd, parts, count); });
}

UDAX_SHIM(int, fcntl, (int fd, int command, ...)) {
  va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);  // as wide as any that there is
  va_end(arguments);
  return fcntl_any(fd, command, argument);
}
UDAX_SHIM(int, fcntl64, (int fd, int command, ...)) {
  va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  return fcntl_any(fd, command, argument);
}

UDAX_SHIM(int, setrlimit, (__rlimit_resource_t resource, const rlimit* limit) noexcept) {
  return limits_changed(g_setrlimit.get()(static_cast<int>(resource), limit));
}
UDAX_SHIM(int, setrlimit64, (__rlimit_resource_t resource, const rlimit64* limit) noexcept) {
  return limits_changed(g_setrlimit.get()(static_cast<int>(resource), reinterpret_cast<const rlimit*>(limit)));
}
UDAX_SHIM(int, prlimit, (pid_t pid, __rlimit_resource resource, const rlimit* limit, rlimit* old) noexcept) {
  return limits_changed(g_prlimit.get()(pid, static_cast<int>(resource), limit, old));
}
UDAX_SHIM(int, prlimit64, (pid_t pid, __rlimit_resource resource, const rlimit64* limit, rlimit64* old) noexcept) {
  return limits_changed(g_prlimit.get()(pid, static_cast<int>(resource), reinterpret_cast<const rlimit*>(limit),
                                        reinterpret_cast<rlimit*>(old)));
}
