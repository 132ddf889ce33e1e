// SPDX-License-Identifier: BSD-3-Clause
#include "client/mapper.h"

#include <sys/uio.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "base/sync_point.h"
#include "client/kernel.h"

namespace udax::client {
namespace {

using direct::Op;
using direct::OpType;

constexpr int kExitLost = 70;  // EX_SOFTWARE of sysexits.h

[[noreturn]] void give_up(const char* what, const Op& op, int error) {
  std::array<char, 200> text{};
  const int length = std::snprintf(text.data(), text.size(),
                                   "libudax: %s (op %u at %#llx, %#llx bytes: error %d); this process ends\n",
                                   what, unsigned{op.type}, static_cast<unsigned long long>(op.offset),
                                   static_cast<unsigned long long>(op.length), error);
  if (length > 0) {
    static_cast<void>(::syscall(SYS_write, STDERR_FILENO, text.data(), static_cast<size_t>(length)));
  }
  ::_exit(kExitLost);
}

bool in_pages(uint64_t offset, uint64_t length, uint64_t size) {
  return offset % kernel::kPage == 0 && length % kernel::kPage == 0 && length != 0 && length <= size &&
         offset <= size - length;
}

int do_map(const Memory& memory, const Op& op) {
  const uint64_t address = memory.base + op.offset;
  const int populate = (op.flags & direct::kOpPopulate) != 0 ? MAP_POPULATE : 0;
  if (kernel::map(address, op.length, static_cast<int>(op.prot), MAP_SHARED | MAP_FIXED | populate, memory.pool,
                  op.device) == MAP_FAILED) {
    return errno;
  }
  // A new mapping has none of the advice that the reservation was given: a child of a raw clone(2) must not inherit it.
  if (kernel::advise(address, op.length, MADV_DONTFORK) != 0) return errno;
  if (memory.tracking >= 0 && (op.prot & direct::kProtWrite) != 0 && !UDAX_KNOB("client.skip_tracking") &&
      kernel::uffd_register(memory.tracking, address, op.length, UFFDIO_REGISTER_MODE_WP) != 0) {
    return errno;
  }
  return kernel::uffd_wake(memory.fault, address, op.length) == 0 ? 0 : errno;
}

int do_hole(const Memory& memory, const Op& op, uint32_t prot) {
  const uint64_t address = memory.base + op.offset;
  if (UDAX_KNOB("client.skip_hole")) return 0;
  if (UDAX_KNOB("client.late_hole")) kernel::pause_ms(700);
  if (UDAX_KNOB("client.naive_hole")) {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    kernel::map(address, op.length, static_cast<int>(prot), kFlags, -1, 0);
    return kernel::uffd_register(memory.fault, address, op.length,
                                 UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP) == 0
               ? 0
               : errno;
  }
  // Atomic to stores of other threads, and what is moved here stays registered; waits until the daemon has read the event.
  if (kernel::remap(memory.staging + op.offset, op.length, op.length,
                    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, address) == MAP_FAILED) {
    return errno;
  }
  if (prot == (direct::kProtRead | direct::kProtWrite)) return 0;
  return kernel::protect(address, op.length, static_cast<int>(prot)) == 0 ? 0 : errno;
}

alignas(kernel::kPage) constexpr std::array<std::byte, kernel::kPage> kZeroes{};

int do_zero(const Memory& memory, const Op& op) {
  for (uint64_t at = 0; at < op.length; at += kernel::kPage) {
    uffdio_copy copy{};
    copy.dst = memory.base + op.offset + at;
    copy.src = kernel::to_address(kZeroes.data());
    copy.len = kernel::kPage;
    copy.mode = UFFDIO_COPY_MODE_WP;
    // It wakes who waits there. If it cannot be put in, they look again.
    if (kernel::control(memory.fault, UFFDIO_COPY, &copy) != 0 &&
        kernel::uffd_wake(memory.fault, copy.dst, kernel::kPage) != 0) {
      return errno;
    }
  }
  return 0;
}

void acknowledge(int stream, uint64_t sequence, int error = 0) {
  direct::Ack ack;
  ack.sequence = sequence;
  ack.error = static_cast<uint32_t>(error);
  iovec part{&ack, sizeof ack};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  // It fails if the daemon is gone: the next receive says so.
  static_cast<void>(kernel::send_message(stream, &message));
}

// From here on the range is the kernel's, whatever it maps there: the others are told before anybody is woken.
int do_kernel(const Memory& memory, const Op& op, int stream) {
  const uint64_t address = memory.base + op.offset;
  if (memory.shelf == nullptr || memory.handed_over == nullptr || memory.stack == nullptr) return EPROTO;
  KernelMapping mapping;
  mapping.address = address;
  mapping.length = op.length;
  mapping.prot = static_cast<int>(op.prot);
  mapping.file_offset = op.device;
  mapping.vault = memory.shelf->find(op.handle);
  const std::array<int, 2> spare{memory.pool, memory.empty};
  if (const int refused = map_by_mount(mapping, spare, *memory.stack); refused != 0) {
    acknowledge(stream, op.sequence, refused);  // at once: the next touch may be this process's end
    if (const int error = map_empty(memory, address, op.length); error != 0) return error;
  }
  if (!memory.handed_over->add({address, address + op.length})) return EPROTO;
  return kernel::uffd_wake(memory.fault, address, op.length) == 0 ? 0 : errno;
}

}  // namespace

int check_op(const Memory& memory, const Op& op, uint64_t sequence) {
  const bool is_map = op.type == static_cast<uint16_t>(OpType::kMap);
  if (op.sequence != sequence) return EPROTO;
  if ((op.flags & ~(direct::kOpAck | (is_map ? direct::kOpPopulate : 0))) != 0) return EPROTO;
  if ((op.prot & ~(direct::kProtRead | direct::kProtWrite)) != 0) return EPROTO;
  const bool is_kernel = op.type == static_cast<uint16_t>(OpType::kKernel);
  if (!is_map && !is_kernel && op.device != 0) return EPROTO;
  if ((!is_kernel && op.handle != 0) || op.reserved != 0) return EPROTO;
  switch (static_cast<OpType>(op.type)) {
    case OpType::kMap:
      if (!in_pages(op.device, op.length, memory.pool_size)) return EPROTO;
      break;
    case OpType::kKernel:
      if (!in_pages(op.device, op.length, uint64_t{INT64_MAX} & ~(kernel::kPage - 1))) return EPROTO;
      break;
    case OpType::kHole:
    case OpType::kProt: break;
    case OpType::kUnmap:
    case OpType::kBus:
    case OpType::kZero:
    case OpType::kWake:
      if (op.prot != 0) return EPROTO;
      break;
    case OpType::kSync: return op.offset == 0 && op.length == 0 && op.prot == 0 ? 0 : EPROTO;
    default: return EPROTO;
  }
  return in_pages(op.offset, op.length, memory.size) ? 0 : EPROTO;
}

int map_empty(const Memory& memory, uint64_t address, uint64_t length) {
  if (memory.is_for_io) {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    return kernel::map(address, length, PROT_READ | PROT_WRITE, kFlags, -1, 0) == MAP_FAILED ? errno : 0;
  }
  return kernel::map(address, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory.empty, 0) ==
                 MAP_FAILED
             ? errno
             : 0;
}

int apply_op(const Memory& memory, const Op& op, int stream) {
  const uint64_t address = memory.base + op.offset;
  switch (static_cast<OpType>(op.type)) {
    case OpType::kMap: return do_map(memory, op);
    case OpType::kHole: return do_hole(memory, op, op.prot);
    case OpType::kUnmap: return do_hole(memory, op, direct::kProtNone);
    case OpType::kProt: return kernel::protect(address, op.length, static_cast<int>(op.prot)) == 0 ? 0 : errno;
    case OpType::kBus:
      if (const int error = map_empty(memory, address, op.length); error != 0) return error;
      if (kernel::advise(address, op.length, MADV_DONTFORK) != 0) return errno;
      return kernel::uffd_wake(memory.fault, address, op.length) == 0 ? 0 : errno;
    case OpType::kWake: return kernel::uffd_wake(memory.fault, address, op.length) == 0 ? 0 : errno;
    case OpType::kZero: return do_zero(memory, op);
    case OpType::kKernel: return do_kernel(memory, op, stream);
    case OpType::kSync: return 0;
  }
  return EPROTO;
}

void run_mapper(const Memory& memory, int stream, const std::atomic<bool>& stopped) {
  std::array<Op, direct::kOpsMax> ops{};
  uint64_t sequence = 0;
  for (;;) {
    iovec part{ops.data(), sizeof ops};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t got = kernel::receive_message(stream, &message, MSG_CMSG_CLOEXEC);
    if (got <= 0 || stopped.load(std::memory_order_acquire)) return;
    const auto bytes = static_cast<size_t>(got);
    if (bytes % sizeof(Op) != 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
      give_up("the daemon sent a malformed packet", Op{}, EPROTO);
    }
    bool owed = false;
    for (size_t i = 0; i < bytes / sizeof(Op); ++i) {
      const Op& op = ops.at(i);
      if (stopped.load(std::memory_order_acquire)) return;
      if (check_op(memory, op, sequence + 1) != 0) give_up("the daemon sent a malformed op", op, EPROTO);
      if (UDAX_KNOB("client.acknowledge_first") && (op.flags & direct::kOpAck) != 0)
        acknowledge(stream, op.sequence);
      if (const int error = apply_op(memory, op, stream); error != 0) {
        give_up("an op of the daemon failed", op, error);
      }
      sequence = op.sequence;
      owed = owed || (op.flags & direct::kOpAck) != 0;
    }
    // One acknowledgement covers all before it.
    if (owed && !UDAX_KNOB("client.acknowledge_first")) acknowledge(stream, sequence);
  }
}

}  // namespace udax::client
