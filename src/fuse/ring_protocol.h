// SPDX-License-Identifier: BSD-3-Clause
//
// FUSE over io_uring (Linux 6.14, protocol 7.42) as it is spoken between the kernel and a ring's queue.
//
// Each possible CPU has a queue; each entry of a queue is a pair of buffers that the daemon registers once: headers
// (HeaderArea) and payload. A request arrives in an entry and its reply leaves in the same one, with the command that
// fetches the next request into it.
//
// Source of the layouts: include/uapi/linux/fuse.h of Linux 6.18.
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>

namespace udax::fuse::wire {

inline constexpr uint32_t kOverIoUring = 1U << 9;  // fuse_init_in/out.flags2

inline constexpr uint32_t kRingRegister = 1;        // sqe->cmd_op: here are the buffers, give me a request
inline constexpr uint32_t kRingCommitAndFetch = 2;  // the reply is in them; give me another

struct RingEntryInfo {
  uint64_t flags;
  uint64_t commit_id;     // to be handed back with the reply
  uint32_t payload_size;  // bytes used of the payload, either way
  uint32_t padding;
  uint64_t reserved;
};

struct RingHeaderArea {
  std::byte in_out[128];     // fuse_in_header comes, fuse_out_header goes
  std::byte arguments[128];  // the fixed-size structure of the opcode; names and data are in the payload
  RingEntryInfo info;
};
static_assert(sizeof(RingHeaderArea) == 288);
static_assert(offsetof(RingHeaderArea, info) == 256);

/// In the second half of an SQE of 128 bytes.
struct RingCommand {
  uint64_t flags;
  uint64_t commit_id;
  uint16_t queue;
  uint8_t padding[6];
};
static_assert(sizeof(RingCommand) == 24);
inline constexpr size_t kRingCommandOffset = 48;  // of an SQE

}  // namespace udax::fuse::wire
