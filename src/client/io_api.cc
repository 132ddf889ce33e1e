// SPDX-License-Identifier: BSD-3-Clause
//
// What the preload shim calls for reads and writes (client/private.h).
#include "client/io_table.h"
#include "client/private.h"

#define UDAX_EXPORT extern "C" __attribute__((visibility("default")))

using udax::client::IoTable;

static_assert(IoTable::kKernel == UDAX_PRIVATE_KERNEL);

namespace {

std::span<const iovec> span_of(const iovec* parts, int count) {
  return {parts, count < 0 ? 0 : static_cast<size_t>(count)};
}

}  // namespace

UDAX_EXPORT void udax_private_io(int calls_before) { IoTable::get().turn_on(calls_before); }

UDAX_EXPORT ssize_t udax_private_preadv(int fd, const iovec* parts, int count, int64_t offset) {
  return IoTable::get().read_at(fd, span_of(parts, count), offset);
}

UDAX_EXPORT ssize_t udax_private_pwritev(int fd, const iovec* parts, int count, int64_t offset, uint64_t* tick) {
  return IoTable::get().write_at(fd, span_of(parts, count), offset, tick);
}

UDAX_EXPORT ssize_t udax_private_readv(int fd, const iovec* parts, int count) {
  return IoTable::get().read(fd, span_of(parts, count));
}

UDAX_EXPORT ssize_t udax_private_writev(int fd, const iovec* parts, int count, uint64_t* tick) {
  return IoTable::get().write(fd, span_of(parts, count), tick);
}

UDAX_EXPORT void udax_private_wrote(int fd, uint64_t tick) { IoTable::get().wrote(fd, tick); }

UDAX_EXPORT void udax_private_io_forget(int fd) { IoTable::get().forget(fd); }

UDAX_EXPORT void udax_private_io_forget_range(unsigned first, unsigned last) {
  IoTable::get().forget_range(first, last);
}

UDAX_EXPORT void udax_private_io_flags_changed(int fd) { IoTable::get().forget_file_of(fd); }

UDAX_EXPORT void udax_private_io_limit_changed() { IoTable::get().limit_changed(); }
