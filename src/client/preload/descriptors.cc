// SPDX-License-Identifier: BSD-3-Clause
//
// Descriptors of the library are not the program's: who closes all there are (a daemon at its start, a shell) must not cut the
// process off from what it has mapped.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>

#include "client/preload/shim.h"
#include "client/private.h"

namespace udax::preload {
namespace {

constinit Next<int (*)(int)> g_close("close");
constinit Next<int (*)(FILE*)> g_fclose("fclose");
constinit Next<int (*)(int, int)> g_dup2("dup2");
constinit Next<int (*)(int, int, int)> g_dup3("dup3");
constinit Next<int (*)(unsigned, unsigned, int)> g_close_range("close_range");

constexpr int kRangeCloexec = 4;      // CLOSE_RANGE_CLOEXEC
constexpr int kTrackedEnd = 1 << 16;  // the library knows none of its own behind that

bool is_own(int fd) { return udax_private_is_own_descriptor(fd); }

// Range by range, around those that are the library's.
int close_around(unsigned first, unsigned last, int flags) {
  unsigned begin = first;
  for (unsigned fd = first; fd <= last && fd < kTrackedEnd; ++fd) {
    if (!is_own(static_cast<int>(fd))) continue;
    if (fd > begin && g_close_range.get()(begin, fd - 1, flags) != 0) return -1;
    begin = fd + 1;
  }
  return begin <= last ? g_close_range.get()(begin, last, flags) : 0;
}

}  // namespace
}  // namespace udax::preload

using namespace udax::preload;  // NOLINT(google-build-using-namespace): of the definitions below only

UDAX_SHIM(int, close, (int fd)) {
  udax_private_io_forget(fd);
  if (!is_own(fd)) return g_close.get()(fd);
  errno = EBADF;
  return -1;
}

UDAX_SHIM(int, fclose, (FILE * stream)) {
  if (stream != nullptr) udax_private_io_forget(::fileno(stream));
  return g_fclose.get()(stream);
}

UDAX_SHIM(int, dup2, (int from, int to) noexcept) {
  if (from != to) udax_private_io_forget(to);
  if (!is_own(to)) return g_dup2.get()(from, to);
  errno = EBUSY;
  return -1;
}

UDAX_SHIM(int, dup3, (int from, int to, int flags) noexcept) {
  udax_private_io_forget(to);
  if (!is_own(to)) return g_dup3.get()(from, to, flags);
  errno = EBUSY;
  return -1;
}

UDAX_SHIM(int, close_range, (unsigned first, unsigned last, int flags) noexcept) {
  // They are close-on-exec already.
  if ((flags & kRangeCloexec) != 0 || first > last) return g_close_range.get()(first, last, flags);
  udax_private_io_forget_range(first, last);
  return close_around(first, last, flags);
}

UDAX_SHIM(void, closefrom, (int first) noexcept) {
  // It cannot fail, and without close_range(2) (Linux 5.9) it has to go the long way.
  const int lowest = std::max(first, 0);
  udax_private_io_forget_range(static_cast<unsigned>(lowest), UINT_MAX);
  if (close_around(static_cast<unsigned>(lowest), UINT_MAX, 0) == 0) return;
  const auto end = static_cast<int>(std::min<long>(::sysconf(_SC_OPEN_MAX), INT_MAX));
  for (int fd = lowest; fd < end; ++fd) {
    if (!is_own(fd)) g_close.get()(fd);
  }
}
