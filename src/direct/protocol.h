// SPDX-License-Identifier: BSD-3-Clause
//
// The protocol of direct mapping, between the daemon (src/direct) and a client's library (src/client). All structs are
// little-endian, of fixed size, without padding; every reserved field is 0 and is checked. docs/direct.md has the reasons.
//
// Sockets of one client (AF_UNIX, SOCK_SEQPACKET, one message a packet)
//   control  the client connects to the address that UDAX_IOC_DIRECT gave. Request (client) and reply (daemon), strictly one
//            after the other: a Request is answered by a Reply with its `id` before the next is read. End of file: the
//            client has gone (exit, exec, kill -9), or the daemon has cut it off.
//   stream   one end of a pair that the daemon makes and passes with WELCOME. Daemon to client: packets of 1 to kOpsMax Ops, in
//            the order in which they take effect. Client to daemon: Acks. Read by the client's mapper thread only.
//   life     likewise. Nothing is ever sent on it. The client's watchdog sleeps on it; its end of file says that the daemon
//            is dead, or has cut the client off. (As the other daemon-made end: both go with the daemon's process.)
//
// The client's memory, as the daemon assumes it
//   reservation  one range of anonymous, private, no-reserve memory of `size` bytes at `base`, both multiples of 2 MiB;
//                all mappings lie in it. Before READY it is PROT_NONE throughout; offsets in messages are relative to `base`.
//   staging      a second such range, PROT_READ | PROT_WRITE, of the same size at `staging`; never touched. HOLE moves its
//                (empty) pages over the reservation at the same offset.
//   Both are registered with the fault descriptor (userfaultfd, MISSING and WP; features EVENT_REMAP,
//   PAGEFAULT_FLAG_WP; O_NONBLOCK; not USER_MODE_ONLY, or system calls on mapped buffers give EFAULT) and MADV_DONTFORK. From
//   SETUP on the daemon alone reads the fault descriptor.
//   tracking     a second userfaultfd (features WP_ASYNC | WP_UNPOPULATED | WP_HUGETLBFS_SHMEM), with which the mapper registers
//                (WP only) each writable mapping of the pool right after mmap, before the wake. The daemon scans by the
//                pagemap descriptor (PAGEMAP_SCAN). Without one: see kSetupNoTracking.
//   One thread, the mapper, changes mappings in the reservation: it does what the stream says, in its order, and nothing
//   else does. It never allocates, takes no lock that another thread holds while it touches the reservation, and never
//   touches the reservation itself.
//
// Requests. Common errors: EPROTO (malformed: unknown type, reserved bits, wrong number of descriptors, wrong order; the
// daemon then closes the connection), ENOMEM. `offset` and `length` are whole pages within the reservation, else EINVAL.
//
//   type      carries / descriptors          reply: value / descriptors             errors
//   HELLO     version                        Welcome; stream, life and, if flagged, EPERM: not allowed by direct=, or a process
//             first of all                   /dev/userfaultfd                       that the daemon could not end;
//                                                                                   EPROTONOSUPPORT; EUSERS: too many clients
//   SETUP     base, size, staging, flags /   ready; the pool, opened as the daemon  EINVAL: not aligned, too large, overlapping,
//             fault, pagemap[, tracking]     has it[, the board]                    wrong descriptors
//   OPEN      cookie, flags                  handle in value[0]; kOpen... flags in  EACCES: unknown, used, expired or another
//                                            value[1]; slot in value[2]             user's cookie; EMFILE; EOPNOTSUPP: not DAX;
//                                                                                   EINVAL: no board was asked for
//   CLOSE     handle                         (mappings of it stay)                  EBADF
//   MAP       handle, offset, length,        value[0]: bytes mapped at once         EBADF; EACCES: prot against the open mode;
//             file_offset, prot, flags                                              EEXIST: overlaps a mapping; EOPNOTSUPP: the
//                                                                                   file is not DAX (use mmap(2)), kMapSync
//                                                                                   where the pool is page-granular; ENOMEM:
//                                                                                   too many mappings; EOVERFLOW: beyond 2^63
//   UNMAP     offset, length                 when it is done; nothing mapped: fine
//   REMAP     offset, length -> new_offset,  as MAP; the old range is unmapped      EINVAL: not one mapping throughout; EEXIST
//             new_length                     unless it is (part of) the new one
//   PROTECT   offset, length, prot           when it is done                        ENOMEM: not mapped throughout; EACCES
//   SYNC      offset, length                 when what was stored there is durable  ENOMEM: not mapped throughout; EIO
//   ADVISE    offset, length, flags          value[0]: bytes mapped at once;        ENOMEM: not mapped throughout
//                                            kAdviseWillNeed maps what is there
//   QUERY     offset, length                 value[0..3]: bytes mapped as pool      -
//                                            memory, as zeroes, in no mapping;
//                                            mappings in use of kMappingsMax
//   DETACH    -                              when no view is left; then closes      -
//
// Ops, on the stream. An Op with kOpAck is acknowledged when it and all before it are done.
//   MAP     mmap(base + offset, length, prot, MAP_SHARED | MAP_FIXED, pool, device) [MAP_POPULATE with kOpPopulate]; register with
//           the tracking descriptor if prot has PROT_WRITE and there is one; UFFDIO_WAKE of the range on the fault
//           descriptor
//   HOLE    mremap(staging + offset, length, length, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, base + offset), then
//           mprotect(prot) if that is not PROT_READ | PROT_WRITE. Atomic to concurrent stores; blocks until the daemon has
//           read the event. No wake: whoever waits there faults again when HOLE replaces the memory, or is woken later
//   PROT    mprotect(base + offset, length, prot): a range becomes a mapping, or changes
//   UNMAP   HOLE with PROT_NONE
//   BUS     mmap of an empty memfd, PROT_READ | PROT_WRITE, over the range, then wake: SIGBUS, EFAULT in system calls. Comes for
//           faults behind the end of the file, on lost media, without room; a HOLE follows when that is over. Of a file on the board
//           the client maps memory of its own instead: its slot has been closed before. No HOLE follows
//   WAKE    UFFDIO_WAKE of the range: nothing changed, fault again
//   SYNC    nothing; a barrier
//   KERNEL  the file is no DAX file any more: mmap of it (of `handle`, from byte `device` of it on) by the kernel, over the range, then
//           wake. From then on the range is no business of the daemon's; it has forgotten the mapping when it sends this, and
//           answers no request before this is done. If the mapping cannot be made, BUS, and an Ack with the reason
//   ZERO    a page of zeroes at base + offset, write-protected (UFFDIO_COPY), then wake; if something is there, or the mappings are
//           changing, wake alone: who waits faults again
// An op, but for KERNEL, that fails in the client is its own end: it must _exit (its mappings would no longer be what the daemon thinks).
//
// Waiting. The daemon waits for an Ack for kLateDeadlineMs, for room in the stream for kAckDeadlineMs. A client that does not answer is
// cut off: SIGKILL by pidfd, sockets shut. Its views count as gone when its memory is gone (its pagemap tells);
// until then no freed block is used again. The client waits for replies without a limit; end of file ends that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace udax::direct {

inline constexpr uint32_t kProtocolVersion = 3;
inline constexpr uint32_t kOpsMax = 64;                         // in one packet
inline constexpr uint32_t kAckDeadlineMs = 5000;                // for room in the stream
inline constexpr uint32_t kLateDeadlineMs = 20000;              // for an Ack
inline constexpr uint64_t kReservationMax = uint64_t{1} << 44;  // bytes: 16 TiB
inline constexpr uint64_t kReservationAlign = uint64_t{1} << 21;
inline constexpr uint32_t kCookieSize = 16;

enum class RequestType : uint32_t {
  kHello = 1,
  kSetup = 2,
  kOpen = 3,
  kClose = 4,
  kMap = 5,
  kUnmap = 6,
  kRemap = 7,
  kProtect = 8,
  kSync = 9,
  kAdvise = 10,
  kQuery = 11,
  kDetach = 12,
};

// Request::prot: those of <sys/mman.h>; no others, and never PROT_EXEC (EOPNOTSUPP: use mmap(2)).
inline constexpr uint32_t kProtNone = 0;
inline constexpr uint32_t kProtRead = 1;
inline constexpr uint32_t kProtWrite = 2;

// Request::flags of SETUP
inline constexpr uint32_t kSetupNoTracking =
    1;                                      // no third descriptor: what was mapped writable counts as stored to
inline constexpr uint32_t kSetupBoard = 2;  // the reply carries the board as well
// of MAP and REMAP
inline constexpr uint32_t kMapSync =
    1;  // MAP_SYNC: every fault returns with its metadata durable (it always does)
inline constexpr uint32_t kMapPopulate = 2;  // make what can be mapped present
// of OPEN
inline constexpr uint32_t kOpenOnBoard = 1;  // with a slot on the board, in value[2]
// of ADVISE
inline constexpr uint32_t kAdviseWillNeed = 1;

/// Client to daemon, on the control socket. What a type does not use is 0.
struct Request {
  uint32_t type = 0;     // RequestType
  uint32_t id = 0;       // comes back in the reply; the client's choice
  uint32_t version = 0;  // HELLO: the highest that the client speaks
  uint32_t flags = 0;
  uint32_t prot = 0;
  uint32_t handle = 0;
  uint64_t offset = 0;               // bytes, in the reservation; SETUP: base
  uint64_t length = 0;               // bytes; SETUP: size
  uint64_t file_offset = 0;          // bytes; SETUP: staging
  uint64_t new_offset = 0;           // REMAP
  uint64_t new_length = 0;           // REMAP
  uint8_t cookie[kCookieSize] = {};  // OPEN
};
static_assert(sizeof(Request) == 80 && offsetof(Request, offset) == 24 && offsetof(Request, cookie) == 64);

// value[1] of OPEN's reply
inline constexpr uint64_t kOpenReadable = 1;
inline constexpr uint64_t kOpenWritable = 2;

// WELCOME (the reply to HELLO) in Reply::value
inline constexpr uint32_t kWelcomePoolSize = 0;        // bytes
inline constexpr uint32_t kWelcomeGranularity = 1;     // UDAX_GRANULARITY_...
inline constexpr uint32_t kWelcomeMappingsMax = 2;     // kernel mappings that the daemon will keep at most
inline constexpr uint32_t kWelcomeReservationMax = 3;  // bytes
inline constexpr uint32_t kWelcomeFlags = 4;           // kWelcomeHas...
inline constexpr uint32_t kWelcomeVersion = 5;         // that both speak from now on
inline constexpr uint64_t kWelcomeHasUffdDevice =
    1;                                           // third descriptor: /dev/userfaultfd, for USERFAULTFD_IOC_NEW
inline constexpr uint64_t kWelcomeTracks = 4;    // else a tracking descriptor is taken, and not used
inline constexpr uint64_t kWelcomeReadOnly = 2;  // the pool's descriptor is read-only

/// Daemon to client, on the control socket.
struct Reply {
  uint32_t type = 0;         // that of the request
  uint32_t id = 0;           // that of the request
  uint32_t error = 0;        // errno, positive; 0: done
  uint32_t descriptors = 0;  // how many come with it
  uint64_t value[6] = {};
};
static_assert(sizeof(Reply) == 64 && offsetof(Reply, value) == 16);

enum class OpType : uint16_t {
  kMap = 1,
  kHole = 2,
  kProt = 3,
  kUnmap = 4,
  kBus = 5,
  kWake = 6,
  kSync = 7,
  kZero = 8,
  kKernel = 9,
};

// Op::flags
inline constexpr uint16_t kOpAck = 1;
inline constexpr uint16_t kOpPopulate = 2;

/// Daemon to client, on the stream. A packet holds 1 to kOpsMax of them.
struct Op {
  uint16_t type = 0;      // OpType
  uint16_t flags = 0;     // kOp...
  uint32_t prot = 0;      // kProt...
  uint64_t sequence = 0;  // counts ops, from 1
  uint64_t offset = 0;    // bytes, in the reservation
  uint64_t length = 0;    // bytes
  uint64_t device = 0;    // bytes; MAP: in the pool; KERNEL: in the file
  uint32_t handle = 0;    // KERNEL: of the file
  uint32_t reserved = 0;
};
static_assert(sizeof(Op) == 48 && offsetof(Op, sequence) == 8 && offsetof(Op, handle) == 40);

/// Client to daemon, on the stream: everything up to `sequence` is done; with an error: nothing is, but that KERNEL becomes BUS.
struct Ack {
  uint64_t sequence = 0;
  uint32_t error = 0;  // 0, or why: errno
  uint32_t reserved = 0;
};
static_assert(sizeof(Ack) == 16 && offsetof(Ack, error) == 8);
inline constexpr uint32_t kAckErrorMax = 4095;

/// What the daemon shows of a file on the board (memory that it alone can write). `sequence` is odd while something changes that a
/// client must not look past; it is raised when what a client has found may not have been the file's.
struct BoardSlot {
  uint64_t sequence = 0;
  uint64_t size = 0;      // bytes
  uint64_t blocks = 0;    // that the file owns
  uint64_t rights = 0;    // kBoard...
  uint64_t atime_ns = 0;  // since 1970; ~0: no time of any clock's
  uint64_t mtime_ns = 0;
  uint64_t ctime_ns = 0;
  uint64_t reserved = 0;
};
static_assert(sizeof(BoardSlot) == 64 && offsetof(BoardSlot, rights) == 24 && offsetof(BoardSlot, ctime_ns) == 48);
inline constexpr uint32_t kBoardSlots = 1024;

inline constexpr uint64_t kBoardRead = 1;   // may be read by the client itself
inline constexpr uint64_t kBoardWrite = 2;  // written, up to its size
inline constexpr uint64_t kBoardNoAtime = 4;
inline constexpr uint64_t kBoardStrictAtime = 8;  // neither: the rules of relatime, mount(8)
inline constexpr uint64_t kBoardClosed = 16;      // for good; unmap, close, open anew

static_assert(std::has_unique_object_representations_v<Request> &&
              std::has_unique_object_representations_v<Reply> && std::has_unique_object_representations_v<Op> &&
              std::has_unique_object_representations_v<Ack>);

}  // namespace udax::direct
