// SPDX-License-Identifier: BSD-3-Clause
//
// Bytes: read, write, sync, allocate, seek, copy.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "base/sync_point.h"
#include "fuse/call.h"
#include "fuse/dispatcher.h"

namespace udax::fuse {
namespace {

constexpr uint64_t kOffsetMax = std::numeric_limits<int64_t>::max();
// One request must not keep its caller, and the file's other users, for long; callers of copy_file_range go on.
constexpr uint64_t kCopyMax = 64U << 20;

constexpr bool fits(uint64_t offset, uint64_t length) {
  return offset <= kOffsetMax && length <= kOffsetMax - offset;
}
bool is_readable(const fs::OpenFile& file) { return (file.flags() & O_ACCMODE) != O_WRONLY; }
bool is_writable(const fs::OpenFile& file) { return (file.flags() & O_ACCMODE) != O_RDONLY; }
// What clears it tells the kernel, which otherwise goes on with the mode that it has cached, in execve(2) too.
bool has_setuid(const fs::OpenFile& file) { return (file.inode().snapshot().mode & (S_ISUID | S_ISGID)) != 0; }

}  // namespace

Status Dispatcher::read(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_read_in>());
  if (in.offset > kOffsetMax) return Error::kInvalid;
  UDAX_TRY(const auto file, handles_.acquire(in.fh, call.ino(), false));
  const fs::ReadSink reply = [&call](std::span<const iovec> pieces, uint64_t bytes) -> Status {
    if (call.send_pieces(pieces, bytes) == Delivery::kFailed) return Error::kIo;
    return {};
  };
  // Not checked: readability. Filling a page for a write to part of it reads through a write-only handle.
  const uint32_t size = std::min(in.size, kIoMax);
  // read(2) around the page cache comes with its lock owner; what comes without fills pages of it.
  const bool is_fill = (in.read_flags & FUSE_READ_LOCKOWNER) == 0;
  return is_fill ? fs_.fill(*file, in.offset, size, reply) : fs_.read(*file, in.offset, size, reply);
}

Status Dispatcher::write(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_write_in>());
  UDAX_TRY(const auto data, call.in.take_bytes(in.size));
  if (!fits(in.offset, in.size)) return Error::kFileTooBig;
  UDAX_TRY(auto file, handles_.acquire(in.fh, call.ino(), false));
  if (!is_writable(*file)) return Error::kBadHandle;
  fuse_write_out out{};
  out.size = in.size;
  if ((in.write_flags & FUSE_WRITE_CACHE) != 0) {
    while (UDAX_KNOB("fuse.write_back_hangs")) ::usleep(1000);
    if (UDAX_KNOB("fuse.write_back_late")) ::usleep(2'000'000);
    UDAX_CHECK(fs_.write_back(*file, in.offset, data));
    (void)call.send(out);
    return {};
  }
  if (!file->dax() && (in.flags & O_DIRECT) == 0) return write_through(call, in, data, std::move(file));
  const bool kill = (in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
  const bool loses_setuid = kill && has_setuid(*file);
  if (UDAX_KNOB("fuse.write_late")) ::usleep(1'000'000);
  // Only direct writes of DAX files are placed here.
  const bool append = file->dax() && (in.flags & O_APPEND) != 0;
  fs::StaleCopies stale;
  UDAX_TRY(const uint64_t written, fs_.write(*file, in.offset, data, append, kill, &stale));
  if (loses_setuid) invalidate_attributes(call.ino());
  if (file->dax() && (in.flags & O_DSYNC) != 0) {
    UDAX_CHECK(fs_.fsync(*file, (in.flags & O_SYNC) != O_SYNC));
  }
  out.size = static_cast<uint32_t>(written);
  if (stale.any()) {
    const auto kept = std::make_shared<HandleTable::Use>(std::move(file));
    if (finish_later(call, recalls_,
                     [this, kept, stale, out, unique = call.header().unique](ReplyChannel& channel) {
                       fs_.recall(**kept, stale);
                       Call::send_to(channel, unique, {}, std::as_bytes(std::span(&out, 1)));
                     })) {
      return {};
    }
    // No thread to do it, at the mount's end: the write has happened all the same.
  }
  (void)call.send(out);
  return {};
}

/// The kernel has put the bytes into its pages; a sync of O_SYNC follows as a request of its own.
Status Dispatcher::write_through(Call& call, const fuse_write_in& in, std::span<const std::byte> data,
                                 HandleTable::Use file) {
  if (UDAX_KNOB("fuse.write_late")) ::usleep(1'000'000);
  const bool kill = (in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
  const bool loses_setuid = kill && has_setuid(*file);
  fs::DoubtfulCopies doubtful;
  fuse_write_out out{};
  UDAX_TRY(const uint64_t written, fs_.write_through(*file, in.offset, data, kill, &doubtful));
  if (loses_setuid) invalidate_attributes(call.ino());
  out.size = static_cast<uint32_t>(written);
  if (doubtful.any()) {
    const auto kept = std::make_shared<HandleTable::Use>(std::move(file));
    const auto doubt = std::make_shared<const fs::DoubtfulCopies>(std::move(doubtful));
    if (finish_later(call, mends_, [this, kept, doubt, out, unique = call.header().unique](ReplyChannel& channel) {
          const bool all_mended = fs_.mend_copies(**kept, *doubt);
          Call::send_to(channel, unique, {}, std::as_bytes(std::span(&out, 1)));
          if (!all_mended) fs_.mend_copies_at_end(**kept, *doubt);
        })) {
      return {};
    }
  }
  (void)call.send(out);
  return {};
}

Status Dispatcher::flush(Call& call) {
  // Opened with NOFLUSH: comes from kernels older than 5.16 only. Nothing is held back until close.
  UDAX_TRY(const auto in, call.in.take<fuse_flush_in>());
  UDAX_TRY(const auto file, handles_.acquire(in.fh, call.ino(), false));
  (void)file;
  return {};
}

Status Dispatcher::fsync(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_fsync_in>());
  UDAX_TRY(const auto file, handles_.acquire(in.fh, call.ino(), false));
  return fs_.fsync(*file, (in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0);
}

Status Dispatcher::fallocate(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_fallocate_in>());
  if (in.length == 0 || in.offset > kOffsetMax) return Error::kInvalid;
  if (!fits(in.offset, in.length)) return Error::kFileTooBig;
  UDAX_TRY(auto file, handles_.acquire(in.fh, call.ino(), false));
  if (!is_writable(*file)) return Error::kBadHandle;
  const bool zeroes = (in.mode & (fs::kFallocPunchHole | fs::kFallocZeroRange)) != 0;
  if (!zeroes || ((in.offset | in.length) & (kBlockSize - 1)) == 0) {
    const bool loses_setuid = has_setuid(*file);
    UDAX_CHECK(fs_.fallocate(*file, in.mode, in.offset, in.length));
    if (loses_setuid) invalidate_attributes(call.ino());
    return {};
  }
  // The kernel zeroes the part of its page afterwards only. What others store to the rest of it meanwhile has the page
  // written back as it was, and brings the old bytes back. So the page goes first; nobody fills it again until the
  // kernel has its reply, since it holds the mapping's invalidate_lock.
  const auto kept = std::make_shared<HandleTable::Use>(std::move(file));
  const auto change = [this, kept, in]() -> Status {
    fs_.recall_edges(**kept, in.offset, in.offset + in.length);
    return fs_.fallocate(**kept, in.mode, in.offset, in.length);
  };
  const Status deferred = change_later(call, change, false);
  if (deferred || deferred.error() != Error::kBusy) return deferred;
  return fs_.fallocate(**kept, in.mode, in.offset, in.length);  // no thread to do it, at the mount's end
}

Status Dispatcher::lseek(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_lseek_in>());
  if (in.whence != SEEK_DATA && in.whence != SEEK_HOLE) return Error::kInvalid;
  if (in.offset > kOffsetMax) return Error::kNoDevice;
  UDAX_TRY(auto file, handles_.acquire(in.fh, call.ino(), false));
  const bool is_data = in.whence == SEEK_DATA;
  fuse_lseek_out out{};
  bool in_doubt = false;
  const auto found = fs_.seek(*file, in.offset, is_data, &in_doubt);
  if (in_doubt && !UDAX_KNOB("fuse.seek_trusts_extents")) {
    const auto kept = std::make_shared<HandleTable::Use>(std::move(file));
    if (finish_later(call, recalls_,
                     [this, kept, in, is_data, unique = call.header().unique](ReplyChannel& channel) {
                       fs_.recall_holes(**kept);
                       const auto sure = fs_.seek(**kept, in.offset, is_data);
                       const fuse_lseek_out reply{sure ? *sure : 0};
                       Call::send_to(channel, unique, sure ? Status() : Status(sure.error()),
                                     std::as_bytes(std::span(&reply, 1)));
                     })) {
      return {};
    }
    // No thread to do it, at the mount's end.
  }
  UDAX_TRY(out.offset, found);
  (void)call.send(out);
  return {};
}

Result<uint64_t> Dispatcher::do_copy(const fuse_copy_file_range_in& in, Call& call) {
  if (in.flags != 0) return Error::kInvalid;
  const uint64_t length = std::min(in.len, kCopyMax);
  if (!fits(in.off_in, length)) return Error::kInvalid;
  if (!fits(in.off_out, length)) return Error::kFileTooBig;
  UDAX_TRY(const auto from, handles_.acquire(in.fh_in, call.ino(), false));
  UDAX_TRY(const auto to, handles_.acquire(in.fh_out, Ino(in.nodeid_out), false));
  if (!is_readable(*from) || !is_writable(*to)) return Error::kBadHandle;
  // Afterwards the kernel drops the pages that were copied to, also of those at the edges what others stored there
  // through mappings meanwhile. Refused, it copies by reads and writes, which lose nothing.
  const bool loses_setuid = has_setuid(*to);
  UDAX_TRY(const uint64_t copied, fs_.copy_range(*from, in.off_in, *to, in.off_out, length, true));
  if (loses_setuid) invalidate_attributes(Ino(in.nodeid_out));
  return copied;
}

Status Dispatcher::copy_file_range(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_copy_file_range_in>());
  UDAX_TRY(const uint64_t copied, do_copy(in, call));
  fuse_write_out out{};
  out.size = static_cast<uint32_t>(copied);
  (void)call.send(out);
  return {};
}

Status Dispatcher::copy_file_range_64(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_copy_file_range_in>());
  wire::CopyFileRangeOut out{};
  UDAX_TRY(out.bytes_copied, do_copy(in, call));
  (void)call.send(out);
  return {};
}

}  // namespace udax::fuse
