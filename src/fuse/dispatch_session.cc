// SPDX-License-Identifier: BSD-3-Clause
//
// What concerns the mount as a whole: INIT, STATFS, SYNCFS, DESTROY.
//
// What each flag of INIT obliges the daemon to:
//   ATOMIC_O_TRUNC       OPEN with O_TRUNC truncates
//   EXPORT_SUPPORT       LOOKUP of "." and ".."; node id and generation name a file for good
//   DONT_MASK            the umask is applied here (fs::Caller::umask), unless a default ACL takes its place
//   POSIX_ACL            ACLs come and go as xattrs; chmod and inheritance change them here (fs)
//   HANDLE_KILLPRIV_V2   setuid, setgid and file capabilities go on chown, on fallocate and copy, and where
//                        WRITE_KILL_SUIDGID, OPEN_KILL_SUIDGID, FATTR_KILL_SUIDGID say so
//   SETXATTR_EXT         SETXATTR_ACL_KILL_SGID is obeyed
//   CACHE_SYMLINKS, PARALLEL_DIROPS, READDIRPLUS, ASYNC_READ: nothing
// Left out on purpose: WRITEBACK_CACHE (would let the kernel answer for sizes and times), EXPLICIT_INVAL_DATA and
// AUTO_INVAL_DATA (all changes of size come through this kernel; one that did not must drop its pages),
// NO_OPEN_SUPPORT (an open file must keep its blocks), ASYNC_DIO (the thread that replies to a direct read then marks the
// pages of the reader's buffer dirty, and waits for their locks; if they are a mapping of a file of ours, their locks
// may wait for a write-back that only we can serve; without it the reader waits by itself), FLOCK and POSIX_LOCKS (see dispatcher.h).
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "base/sync_point.h"
#include "fuse/call.h"
#include "fuse/dispatcher.h"

namespace udax::fuse {
namespace {

constexpr uint32_t kFlagsWanted =
    wire::kAsyncRead | wire::kAtomicOTrunc | wire::kExportSupport | wire::kBigWrites | wire::kDontMask |
    wire::kIoctlDir | wire::kDoReaddirplus | wire::kReaddirplusAuto | wire::kParallelDirops | wire::kPosixAcl |
    wire::kMaxPages | wire::kCacheSymlinks | wire::kHandleKillprivV2 | wire::kSetxattrExt | wire::kInitExt;
constexpr uint32_t kFlags2Wanted = wire::kDirectIoAllowMmap;

constexpr uint16_t kMaxBackground = 64;
constexpr uint16_t kCongestionThreshold = 48;
constexpr uint32_t kPagesDefault = 32;  // what the kernel sends at most without MAX_PAGES

// What 7.31 sent: without flags2.
struct InitInShort {
  uint32_t major;
  uint32_t minor;
  uint32_t max_readahead;
  uint32_t flags;
};

}  // namespace

Status Dispatcher::init(Call& call) {
  Decoder again = call.in;
  UDAX_TRY(const auto in, call.in.take<InitInShort>());
  fuse_init_out out{};
  out.major = FUSE_KERNEL_VERSION;
  if (in.major > FUSE_KERNEL_VERSION) {  // it will come again, with the version told
    out.minor = wire::kMinorMax;
    (void)call.send(out);
    return {};
  }
  if (in.major < FUSE_KERNEL_VERSION || in.minor < wire::kMinorMin) {
    log::error("fuse: the kernel speaks protocol {}.{}; 7.{} (Linux 5.4) is the least that works", in.major,
               in.minor, wire::kMinorMin);
    return Error::kNotSupported;
  }
  uint32_t flags2_offered = 0;
  if ((in.flags & wire::kInitExt) != 0) {
    UDAX_TRY(const auto extended, again.take<fuse_init_in>());
    flags2_offered = extended.flags2;
  }
  out.minor = std::min(in.minor, wire::kMinorMax);
  out.max_readahead = std::min(in.max_readahead, kIoMax);
  out.flags = in.flags & kFlagsWanted;
  out.flags2 = flags2_offered & (kFlags2Wanted | (has_rings_ ? wire::kOverIoUring : 0U));
  out.max_background = kMaxBackground;
  out.congestion_threshold = kCongestionThreshold;
  const bool large = (in.flags & wire::kMaxPages) != 0;
  out.max_write = large ? kIoMax : kPagesDefault * kBlockSize;
  out.max_pages = static_cast<uint16_t>(large ? kIoMax / kBlockSize : 0);
  out.time_gran = 1;
  negotiated_.store(uint64_t{out.flags2} << 32 | out.flags, std::memory_order_relaxed);
  kernel_minor_.store(in.minor, std::memory_order_relaxed);
  initialized_.store(true, std::memory_order_release);
  if (call.send(out) != Delivery::kDelivered) {
    initialized_.store(false, std::memory_order_release);
    return {};
  }
  log::debug("fuse: protocol 7.{} (kernel 7.{}), flags {:#x} of {:#x}, flags2 {:#x} of {:#x}", out.minor, in.minor,
             out.flags, in.flags, out.flags2, flags2_offered);
  if ((out.flags2 & wire::kDirectIoAllowMmap) == 0) {
    log::warning("fuse: this kernel cannot map DAX files shared (Linux 6.6 can): mmap(MAP_SHARED) of them fails");
  }
  return {};
}

Status Dispatcher::destroy(Call&) { return {}; }

Status Dispatcher::notify_reply(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_notify_retrieve_in>());
  UDAX_TRY(const auto bytes, call.in.take_bytes(in.size));
  if (UDAX_KNOB("fuse.notify_reply_late")) ::usleep(5'000);
  if (retrieval_taker_ != nullptr) retrieval_taker_->take_retrieved(call.header().unique, bytes);
  return {};
}

Status Dispatcher::nothing(Call&) { return {}; }
Status Dispatcher::not_implemented(Call&) { return Error::kNotImplemented; }

Status Dispatcher::statfs(Call& call) {
  const fs::StatFs s = fs_.statfs();
  fuse_statfs_out out{};
  out.st.blocks = s.blocks;
  out.st.bfree = s.blocks_free;
  out.st.bavail = s.blocks_available;
  out.st.files = s.inodes;
  out.st.ffree = s.inodes_free;
  out.st.bsize = kBlockSize;
  out.st.frsize = kBlockSize;
  out.st.namelen = format::kNameMax;
  (void)call.send(out);
  return {};
}

Status Dispatcher::syncfs(Call&) { return fs_.sync(); }

}  // namespace udax::fuse
