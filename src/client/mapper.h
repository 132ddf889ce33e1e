// SPDX-License-Identifier: BSD-3-Clause
//
// The one thread that changes what is mapped in the reservation: it takes the daemon's stream in its order, does each op, and
// acknowledges (direct/protocol.h). So no late answer to a fault can meet a range that has been given to something else.
//
// Invariants: it allocates nothing, takes no lock, and never touches the reservation; a thread that waits in a fault may hold
// any lock of the program, the allocator's too. (KERNEL opens a file of the mount: it waits for the daemon, which waits
// for this thread for a short time only, and never with what that needs.) Every op is checked before it is done. One that is malformed, or fails, ends
// the process: its memory is no longer what the daemon thinks that it is.
#pragma once

#include <atomic>
#include <cstdint>

#include "client/handover.h"
#include "direct/protocol.h"

namespace udax::client {

/// What the ops work on. Set before the mapper runs, and constant then.
struct Memory {
  uint64_t base = 0;       // address of the reservation
  uint64_t size = 0;       // bytes of it
  uint64_t staging = 0;    // address
  uint64_t pool_size = 0;  // bytes
  int fault = -1;          // descriptors
  int tracking = -1;       // -1: stores are not tracked
  int pool = -1;
  int empty = -1;          // a file of no bytes: touching a mapping of it is SIGBUS
  bool is_for_io = false;  // a touch must be no signal: memory instead (client_board.cc)
  // For KERNEL; without them it fails.
  const Shelf* shelf = nullptr;
  HandedOver* handed_over = nullptr;
  ErrandStack* stack = nullptr;  // nobody else's
};

/// 0, or EPROTO: the op is not one that may come, of `sequence`.
[[nodiscard]] int check_op(const Memory& memory, const direct::Op& op, uint64_t sequence);
/// Does it; a KERNEL that is to become SIGBUS is told of on `stream` first. 0, or an errno. REQUIRES: checked.
[[nodiscard]] int apply_op(const Memory& memory, const direct::Op& op, int stream);

/// Maps the empty file over the range: SIGBUS, EFAULT in system calls; or memory, where it is for I/O. An errno, or 0.
[[nodiscard]] int map_empty(const Memory& memory, uint64_t address, uint64_t length);

/// The mapper's loop: until the stream ends or `stopped` is set. Ends the process where it must.
void run_mapper(const Memory& memory, int stream, const std::atomic<bool>& stopped);

}  // namespace udax::client
