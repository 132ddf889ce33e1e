// SPDX-License-Identifier: BSD-3-Clause
//
// The C functions of <udax/udax.h>, and those of client/private.h: arguments are checked, errors become errno, and no exception
// gets out.
#include <udax/udax.h>

#include <climits>
#include <cstring>
#include <new>

#include "client/kernel.h"
#include "client/private.h"
#include "client/process.h"

#define UDAX_EXPORT extern "C" __attribute__((visibility("default")))

namespace udax::client {
namespace {

constexpr uint64_t kOffsetMax = INT64_MAX;

uint64_t whole_pages(uint64_t length) { return (length + kernel::kPage - 1) & ~(kernel::kPage - 1); }

// A range of a caller: whole pages, not empty, not around the end of the address space.
bool check_range(const void* addr, size_t length, uint64_t* address, uint64_t* bytes) {
  *address = kernel::to_address(addr);
  if (*address % kernel::kPage != 0 || length == 0 || length > kOffsetMax - kernel::kPage) return false;
  *bytes = whole_pages(length);
  return *address <= UINT64_MAX - *bytes;
}

template <typename F>
int guarded(F body) {
  const int before = errno;
  int error = 0;
  {
    const Inside inside;
    try {
      error = body();
    } catch (const std::bad_alloc&) {
      error = ENOMEM;
    } catch (...) {
      error = EIO;
    }
  }
  errno = error == 0 ? before : error;
  return error == 0 ? 0 : -1;
}

int check_map(size_t length, int prot, int flags, int64_t offset) {
  constexpr int kType = 0x0f;
  const int type = flags & kType;
  if (type == MAP_PRIVATE) return EOPNOTSUPP;
  if (type != MAP_SHARED && type != MAP_SHARED_VALIDATE) return EINVAL;
  if ((flags & (MAP_ANONYMOUS | MAP_HUGETLB | MAP_GROWSDOWN)) != 0) return EINVAL;
  constexpr int kKnown = kType | MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_POPULATE | MAP_SYNC | MAP_NORESERVE |
                         MAP_NONBLOCK | MAP_LOCKED | MAP_STACK | MAP_DENYWRITE | MAP_EXECUTABLE;
  if (type == MAP_SHARED_VALIDATE && (flags & ~kKnown) != 0) return EOPNOTSUPP;
  if ((flags & (MAP_FIXED_NOREPLACE | MAP_LOCKED)) != 0) return EOPNOTSUPP;
  if ((prot & ~(PROT_READ | PROT_WRITE)) != 0) return EOPNOTSUPP;
  if (prot == PROT_WRITE) return EOPNOTSUPP;
  if (length == 0 || offset < 0 || static_cast<uint64_t>(offset) % kernel::kPage != 0) return EINVAL;
  if (length > kOffsetMax - kernel::kPage) return ENOMEM;
  return whole_pages(length) > kOffsetMax - static_cast<uint64_t>(offset) ? EOVERFLOW : 0;
}

// Who has the mapping at an address.
struct Piece {
  Client* owner = nullptr;   // it is direct
  Client* former = nullptr;  // it was, and is the kernel's now
  uint64_t end = 0;          // where that changes, at most
};

Piece piece_at(uint64_t address, uint64_t end) {
  Piece piece;
  piece.end = end;
  piece.owner = Process::get().piece(address, &piece.end);
  if (piece.owner == nullptr) piece.former = Process::get().former_owner(address, &piece.end);
  return piece;
}

// As far as it goes on with the same owner's next.
Piece run_at(uint64_t address, uint64_t end) {
  Piece run = piece_at(address, end);
  while (run.owner != nullptr && run.end < end) {
    const Piece next = piece_at(run.end, end);
    if (next.owner != run.owner) break;
    run.end = next.end;
  }
  return run;
}

bool is_covered(uint64_t address, uint64_t end) {
  for (uint64_t at = address; at < end;) {
    const Piece run = run_at(at, end);
    if (run.owner == nullptr && run.former == nullptr) return false;
    at = run.end;
  }
  return true;
}

void* map(void* addr, size_t length, int prot, int flags, int fd, int64_t offset, bool adopt) {
  uint64_t place = 0;
  const int result = guarded([&] {
    if (const int error = check_map(length, prot, flags, offset); error != 0) return error;
    MapWish wish;
    wish.address = kernel::to_address(addr);
    wish.length = whole_pages(length);
    wish.prot = prot;
    wish.fixed = (flags & MAP_FIXED) != 0;
    wish.sync = (flags & MAP_SYNC) != 0 && (flags & 0x0f) == MAP_SHARED_VALIDATE;
    wish.populate = (flags & MAP_POPULATE) != 0 && (flags & MAP_NONBLOCK) == 0;
    wish.fd = fd;
    wish.file_offset = static_cast<uint64_t>(offset);
    if (wish.fixed && (wish.address % kernel::kPage != 0 || wish.address > UINT64_MAX - wish.length))
      return EINVAL;
    if (!wish.fixed) wish.address &= ~(kernel::kPage - 1);
    udax_ioc_direct leave{};
    Client* client = nullptr;
    if (const int error = Process::get().client_for(fd, &leave, &client); error != 0) return error;
    // Of another pool's there must be nothing left where this goes.
    for (uint64_t at = wish.address; wish.fixed && at < wish.address + wish.length;) {
      uint64_t end = wish.address + wish.length;
      Client* const other = Process::get().piece(at, &end);
      if (other == nullptr && !adopt && Process::get().former_owner(at, &end) == nullptr) return EOPNOTSUPP;
      if (other != nullptr && other != client) {
        if (const int error = other->unmap(at, end - at, true); error != 0) return error;
      }
      at = end;
    }
    return client->map(wish, leave.version == 0 ? nullptr : &leave, &place);
  });
  return result == 0 ? kernel::to_pointer(place) : MAP_FAILED;
}

// For what is done to a range: `own` to what is direct of it, `kernels`, a system call, to what was. ENOMEM: not all of it is either.
template <typename Own, typename Kernels>
int on_range(const void* addr, size_t length, Own own, Kernels kernels) {
  return guarded([&] {
    uint64_t address = 0;
    uint64_t bytes = 0;
    if (length == 0 && kernel::to_address(addr) % kernel::kPage == 0) return 0;
    if (!check_range(addr, length, &address, &bytes)) return EINVAL;
    if (!is_covered(address, address + bytes)) return ENOMEM;
    for (uint64_t at = address; at < address + bytes;) {
      const Piece run = run_at(at, address + bytes);
      int error = ENOMEM;
      if (run.owner != nullptr) {
        error = own(*run.owner, at, run.end - at);
      } else if (run.former != nullptr) {
        error = kernels(at, run.end - at) == 0 ? 0 : errno;
      }
      if (error == kHandedOver) continue;
      if (error != 0) return error;
      at = run.end;
    }
    return 0;
  });
}

int remap(uint64_t address, uint64_t old_bytes, uint64_t new_bytes, bool may_move, uint64_t* moved) {
  for (;;) {
    const Piece run = run_at(address, address + old_bytes);
    if (run.former != nullptr && run.end == address + old_bytes) {
      return run.former->remap_kernels(address, old_bytes, new_bytes, may_move, moved);
    }
    if (run.owner == nullptr || run.end != address + old_bytes) return EFAULT;
    const int error = run.owner->remap(address, old_bytes, new_bytes, may_move, moved);
    if (error != kHandedOver) return error;
  }
}

}  // namespace
}  // namespace udax::client

using namespace udax::client;  // NOLINT(google-build-using-namespace): of the definitions below only

UDAX_EXPORT uint32_t udax_version(void) { return UDAX_API_VERSION; }

UDAX_EXPORT int udax_attach(int fd, unsigned flags) {
  return guarded([&] {
    if (flags != 0) return EINVAL;
    udax_ioc_direct leave{};
    Client* client = nullptr;
    return Process::get().client_for(fd, &leave, &client);
  });
}

UDAX_EXPORT void* udax_map(void* addr, size_t length, int prot, int flags, int fd, off_t offset) {
  return map(addr, length, prot, flags, fd, offset, false);
}

UDAX_EXPORT int udax_unmap(void* addr, size_t length) {
  return guarded([&] {
    uint64_t address = 0;
    uint64_t bytes = 0;
    if (!check_range(addr, length, &address, &bytes)) return EINVAL;
    bool any = false;
    for (uint64_t at = address; at < address + bytes;) {
      const Piece piece = piece_at(at, address + bytes);
      const uint64_t size = piece.end - at;
      int error = 0;
      if (piece.owner != nullptr) error = piece.owner->unmap(at, size, false);
      if (piece.former != nullptr) error = piece.former->unmap_kernels(at, size);
      if (error != 0) return error;
      any = any || piece.owner != nullptr || piece.former != nullptr;
      at = piece.end;
    }
    return any ? 0 : EINVAL;
  });
}

UDAX_EXPORT void* udax_remap(void* addr, size_t old_length, size_t new_length, int flags) {
  uint64_t moved = 0;
  const int result = guarded([&] {
    uint64_t address = 0;
    uint64_t old_bytes = 0;
    if ((flags & ~MREMAP_MAYMOVE) != 0 || new_length == 0) return EINVAL;
    if (!check_range(addr, old_length, &address, &old_bytes)) return EINVAL;
    if (new_length > kOffsetMax - kernel::kPage || address > UINT64_MAX - whole_pages(new_length)) return ENOMEM;
    return udax::client::remap(address, old_bytes, whole_pages(new_length), (flags & MREMAP_MAYMOVE) != 0, &moved);
  });
  return result == 0 ? kernel::to_pointer(moved) : MAP_FAILED;
}

UDAX_EXPORT int udax_sync(void* addr, size_t length, int flags) {
  if ((flags & ~(MS_SYNC | MS_ASYNC | MS_INVALIDATE)) != 0 ||
      (flags & (MS_SYNC | MS_ASYNC)) == (MS_SYNC | MS_ASYNC)) {
    errno = EINVAL;
    return -1;
  }
  return on_range(
      addr, length,
      [&](Client& client, uint64_t address, uint64_t bytes) {
        return (flags & MS_SYNC) == 0 ? client.covered(address, bytes) : client.sync(address, bytes);
      },
      [&](uint64_t address, uint64_t bytes) { return kernel::sync(address, bytes, flags); });
}

UDAX_EXPORT int udax_protect(void* addr, size_t length, int prot) {
  if ((prot & ~(PROT_READ | PROT_WRITE)) != 0 || prot == PROT_WRITE) {
    errno = (prot & PROT_EXEC) != 0 ? EACCES : EINVAL;
    return -1;
  }
  return on_range(
      addr, length,
      [&](Client& client, uint64_t address, uint64_t bytes) { return client.protect(address, bytes, prot); },
      [&](uint64_t address, uint64_t bytes) { return kernel::protect(address, bytes, prot); });
}

UDAX_EXPORT int udax_advise(void* addr, size_t length, int advice) {
  // What would lose anything but by its purpose has no effect here; nor has it there.
  return on_range(
      addr, length,
      [&](Client& client, uint64_t address, uint64_t bytes) {
        return advice == MADV_REMOVE ? client.punch(address, bytes) : client.advise(address, bytes, advice);
      },
      [&](uint64_t address, uint64_t bytes) {
        const bool is_meant = advice == MADV_REMOVE || kernel::asks_ahead(advice);
        return is_meant ? kernel::advise(address, bytes, advice) : 0;
      });
}

UDAX_EXPORT int udax_query(const void* addr, size_t length, struct udax_mapping* mapping, size_t size) {
  if (mapping == nullptr || size < sizeof *mapping) {
    errno = EINVAL;
    return -1;
  }
  std::memset(mapping, 0, size);
  return guarded([&] {
    uint64_t address = 0;
    uint64_t bytes = 0;
    if (length == 0 && kernel::to_address(addr) % kernel::kPage == 0) return 0;
    if (!check_range(addr, length, &address, &bytes)) return EINVAL;
    const Piece piece = piece_at(address, address + bytes);
    Client* const client = piece.owner != nullptr ? piece.owner : piece.former;
    return client == nullptr ? EINVAL : client->query(address, bytes, mapping);
  });
}

UDAX_EXPORT bool udax_private_is_own_descriptor(int fd) { return is_own_descriptor(fd); }

UDAX_EXPORT bool udax_private_inside() { return Inside::is(); }

UDAX_EXPORT void* udax_private_map(void* addr, size_t length, int prot, int flags, int fd, int64_t offset) {
  return map(addr, length, prot, flags, fd, offset, true);
}

UDAX_EXPORT bool udax_private_overlaps(const void* addr, size_t length) {
  const uint64_t address = kernel::to_address(addr);
  if (Inside::is() || length == 0 || address > UINT64_MAX - length) return false;
  const Inside inside;
  return Process::get().owner(address, address + length) != nullptr;
}

UDAX_EXPORT size_t udax_private_piece(const void* addr, size_t length, bool* own) {
  const Inside inside;
  const uint64_t address = kernel::to_address(addr);
  uint64_t end = address + length;
  *own = Process::get().piece(address, &end) != nullptr;
  return end - address;
}

UDAX_EXPORT int udax_private_vacate(void* addr, size_t length) {
  return guarded([&] {
    const uint64_t last = kernel::to_address(addr) + length;
    for (uint64_t at = kernel::to_address(addr); at < last;) {
      uint64_t end = last;
      Client* const client = Process::get().piece(at, &end);
      if (client != nullptr) {
        if (const int error = client->unmap(at, end - at, true); error != 0) return error;
      }
      at = end;
    }
    return 0;
  });
}
