// SPDX-License-Identifier: BSD-3-Clause
//
// mmap and what is done to mappings.
#include <sys/mman.h>
#include <udax/udax.h>

#include <cerrno>
#include <cstdarg>
#include <cstdint>

#include "client/preload/shim.h"
#include "client/private.h"

namespace udax::preload {
namespace {

constexpr uint64_t kPageSize = 4096;

constinit Next<void* (*)(void*, size_t, int, int, int, off_t)> g_mmap("mmap");
constinit Next<int (*)(void*, size_t)> g_munmap("munmap");
constinit Next<void* (*)(void*, size_t, size_t, int, ...)> g_mremap("mremap");
constinit Next<int (*)(void*, size_t, int)> g_mprotect("mprotect");
constinit Next<int (*)(void*, size_t, int)> g_msync("msync");
constinit Next<int (*)(void*, size_t, int)> g_madvise("madvise");

// Whole pages that do not wrap around, as far as the range goes; else the kernel may say what is wrong with it.
bool is_range(const void* addr, size_t length, size_t* bytes) {
  const auto address = reinterpret_cast<uint64_t>(addr);
  if (address % kPageSize != 0 || length == 0 || length > INT64_MAX - kPageSize) return false;
  *bytes = (length + kPageSize - 1) & ~(kPageSize - 1);
  return address <= UINT64_MAX - *bytes;
}

bool is_ours(const void* addr, size_t length, size_t* bytes) {
  return is_range(addr, length, bytes) && udax_private_overlaps(addr, *bytes);
}

// Does `own` to what is ours of the range and `other` to the rest, in order of addresses, until one fails.
template <typename Own, typename Other>
int by_pieces(void* addr, size_t bytes, Own own, Other other) {
  auto* at = static_cast<char*>(addr);
  while (bytes != 0) {
    bool is_own = false;
    const size_t piece = udax_private_piece(at, bytes, &is_own);
    if ((is_own ? own(at, piece) : other(at, piece)) != 0) return -1;
    at += piece;
    bytes -= piece;
  }
  return 0;
}

bool may_be_direct(int prot, int flags, int fd) {
  constexpr int kType = 0x0f;
  const int type = flags & kType;
  return fd >= 0 && (flags & MAP_ANONYMOUS) == 0 && (type == MAP_SHARED || type == MAP_SHARED_VALIDATE) &&
         (prot & PROT_EXEC) == 0 && (flags & MAP_FIXED_NOREPLACE) == 0 && !udax_private_inside();
}

// On x86-64 what may be stored to may be loaded from.
int with_read(int prot) { return (prot & PROT_WRITE) != 0 ? prot | PROT_READ : prot; }

void* map(void* addr, size_t length, int prot, int flags, int fd, off_t offset) {
  if (may_be_direct(prot, flags, fd)) {
    const int before = errno;
    void* const direct = udax_private_map(addr, length, with_read(prot), flags, fd, offset);
    if (direct != MAP_FAILED) return direct;
    errno = before;
  }
  size_t bytes = 0;
  if ((flags & MAP_FIXED) != 0 && (flags & MAP_FIXED_NOREPLACE) == 0 && is_ours(addr, length, &bytes) &&
      udax_private_vacate(addr, bytes) != 0) {
    return MAP_FAILED;
  }
  return g_mmap.get()(addr, length, prot, flags, fd, offset);
}

int unmap(void* addr, size_t length) {
  size_t bytes = 0;
  if (!is_ours(addr, length, &bytes)) return g_munmap.get()(addr, length);
  return by_pieces(addr, bytes, &udax_unmap, g_munmap.get());
}

// Shorter, in its place: as in the kernel, where several mappings will do. A part may be the kernel's, if the file was no DAX file
// when it was made.
bool is_shrinking(size_t old_length, size_t new_length, int flags) {
  return (flags & ~MREMAP_MAYMOVE) == 0 && new_length != 0 && new_length < old_length;
}

}  // namespace
}  // namespace udax::preload

using namespace udax::preload;  // NOLINT(google-build-using-namespace): of the definitions below only

UDAX_SHIM(void*, mmap, (void* addr, size_t length, int prot, int flags, int fd, off_t offset) noexcept) {
  return map(addr, length, prot, flags, fd, offset);
}

UDAX_SHIM(void*, mmap64, (void* addr, size_t length, int prot, int flags, int fd, off64_t offset) noexcept) {
  return map(addr, length, prot, flags, fd, offset);
}

UDAX_SHIM(int, munmap, (void* addr, size_t length) noexcept) { return unmap(addr, length); }

UDAX_SHIM(void*, mremap, (void* addr, size_t old_length, size_t new_length, int flags, ...) noexcept) {
  va_list arguments;
  va_start(arguments, flags);
  void* const target = (flags & MREMAP_FIXED) != 0 ? va_arg(arguments, void*) : nullptr;
  va_end(arguments);
  size_t bytes = 0;
  if (is_ours(addr, old_length == 0 ? 1 : old_length, &bytes)) {
    if (!is_shrinking(old_length, new_length, flags)) return udax_remap(addr, old_length, new_length, flags);
    const size_t kept = (new_length + kPageSize - 1) & ~(kPageSize - 1);
    if (kept >= bytes) return addr;
    return unmap(static_cast<char*>(addr) + kept, bytes - kept) == 0 ? addr : MAP_FAILED;
  }
  if ((flags & MREMAP_FIXED) != 0 && is_ours(target, new_length, &bytes) &&
      udax_private_vacate(target, bytes) != 0) {
    return MAP_FAILED;
  }
  return g_mremap.get()(addr, old_length, new_length, flags, target);
}

UDAX_SHIM(int, mprotect, (void* addr, size_t length, int prot) noexcept) {
  size_t bytes = 0;
  if (!is_ours(addr, length, &bytes)) return g_mprotect.get()(addr, length, prot);
  return by_pieces(
      addr, bytes, [=](void* at, size_t piece) { return udax_protect(at, piece, with_read(prot)); },
      [=](void* at, size_t piece) { return g_mprotect.get()(at, piece, prot); });
}

UDAX_SHIM(int, msync, (void* addr, size_t length, int flags)) {
  size_t bytes = 0;
  if (!is_ours(addr, length, &bytes)) return g_msync.get()(addr, length, flags);
  return by_pieces(
      addr, bytes, [=](void* at, size_t piece) { return udax_sync(at, piece, flags); },
      [=](void* at, size_t piece) { return g_msync.get()(at, piece, flags); });
}

UDAX_SHIM(int, madvise, (void* addr, size_t length, int advice) noexcept) {
  size_t bytes = 0;
  if (!is_ours(addr, length, &bytes)) return g_madvise.get()(addr, length, advice);
  return by_pieces(
      addr, bytes, [=](void* at, size_t piece) { return udax_advise(at, piece, advice); },
      [=](void* at, size_t piece) { return g_madvise.get()(at, piece, advice); });
}

UDAX_SHIM(int, posix_madvise, (void* addr, size_t length, int advice) noexcept) {
  // POSIX_MADV_DONTNEED never loses data: the C library makes it nothing, and so does libudax.
  if (advice == POSIX_MADV_DONTNEED) return 0;
  const int before = errno;
  const int error = madvise(addr, length, advice) == 0 ? 0 : errno;
  errno = before;
  return error;
}
