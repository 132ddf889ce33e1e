// SPDX-License-Identifier: BSD-3-Clause
//
// Opening and closing, of files and directories.
//
// How a file is opened decides how the kernel caches it, for as long as it is open: DAX files bypass the page cache,
// others use it and keep what is there, since every change of their bytes comes through the same kernel. A DAX open
// gives no KEEP_CACHE: pages left from before the flag was set go.
//
// Direct writes of one file could run in parallel, but not where DAX files can be mapped: in its mmap(2) the kernel waits for
// parallel writes, holding the process's memory lock, and a write of another thread waits for that lock if its buffer is not
// in memory (seen on Linux 6.18: fuse_file_cached_io_open). Programs would hang until killed.
#include <fcntl.h>
#include <sys/stat.h>

#include "fuse/call.h"
#include "fuse/dispatcher.h"

namespace udax::fuse {
namespace {

constexpr uint32_t kTypeMask = 0170000;
constexpr uint32_t kTypeDirectory = 0040000;
constexpr uint32_t kTypeRegular = 0100000;
// What the VFS has dealt with.
constexpr uint32_t kFlagsOfVfs = O_CREAT | O_EXCL | O_NOCTTY;

uint32_t type_of(const fs::OpenFile& file) { return file.inode().snapshot().mode & kTypeMask; }

}  // namespace

uint32_t Dispatcher::open_reply_flags(const fs::OpenFile& file) const {
  if (!file.dax()) return wire::kOpenKeepCache | wire::kOpenNoFlush;
  const bool may_be_mapped = ((negotiated() >> 32) & wire::kDirectIoAllowMmap) != 0;
  return wire::kOpenDirectIo | wire::kOpenNoFlush | (may_be_mapped ? 0U : wire::kOpenParallelDirectWrites);
}

Status Dispatcher::open(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_open_in>());
  const bool kill = (in.open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
  bool loses_setuid = false;
  if (kill) {
    UDAX_TRY(const fs::Attr before, fs_.getattr(call.ino()));
    loses_setuid = (before.mode & (S_ISUID | S_ISGID)) != 0;
  }
  UDAX_TRY(fs::OpenFilePtr file, fs_.open(call.ino(), in.flags & ~kFlagsOfVfs, kill));
  if (loses_setuid) invalidate_attributes(call.ino());
  const uint32_t type = type_of(*file);
  if (type != kTypeRegular) return type == kTypeDirectory ? Error::kIsDirectory : Error::kNoDevice;
  fuse_open_out out{};
  out.open_flags = open_reply_flags(*file);
  UDAX_TRY(out.fh, handles_.insert(std::move(file), false));
  if (call.send(out) != Delivery::kDelivered) (void)handles_.close(out.fh);
  return {};
}

Status Dispatcher::opendir(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_open_in>());
  UDAX_TRY(fs::OpenFilePtr file, fs_.open(call.ino(), (in.flags & ~kFlagsOfVfs) | O_DIRECTORY, false));
  if (type_of(*file) != kTypeDirectory) return Error::kNotDirectory;
  fuse_open_out out{};
  UDAX_TRY(out.fh, handles_.insert(std::move(file), true));
  if (call.send(out) != Delivery::kDelivered) (void)handles_.close(out.fh);
  return {};
}

Status Dispatcher::reply_created(Call& call, fs::OpenFilePtr file, const fs::Attr& attr) {
  fuse_open_out open{};
  open.open_flags = open_reply_flags(*file);
  const auto handle = handles_.insert(std::move(file), false);
  if (!handle) {
    fs_.forget(attr.ino, 1);
    return handle.error();
  }
  open.fh = *handle;
  fuse_entry_out entry{};
  fill_entry(attr, entry);
  if (call.send_two(entry, open) != Delivery::kDelivered) {
    (void)handles_.close(open.fh);
    fs_.forget(attr.ino, 1);
  }
  return {};
}

Status Dispatcher::create(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_create_in>());
  UDAX_TRY(const std::string_view name, call.in.take_name());
  const uint32_t mode = (in.mode & 07777U) | kTypeRegular;
  fs::Attr attr;
  auto file = fs_.create(call.ino(), name, mode, in.flags & ~kFlagsOfVfs, call.caller(in.umask), &attr);
  if (!file) {
    // The kernel took the name for free. Opening what is there instead would skip its permissions, which the kernel
    // checks; ESTALE makes it look the name up and start over.
    if (file.error() == Error::kExists && (in.flags & O_EXCL) == 0) return Error::kStale;
    return file.error();
  }
  return reply_created(call, std::move(*file), attr);
}

Status Dispatcher::tmpfile(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_create_in>());
  UDAX_TRY(const std::string_view ignored, call.in.take_string());  // "/", or nothing
  (void)ignored;
  const uint32_t mode = (in.mode & 07777U) | kTypeRegular;
  fs::Attr attr;
  UDAX_TRY(fs::OpenFilePtr file,
           fs_.tmpfile(call.ino(), mode, in.flags & ~kFlagsOfVfs, call.caller(in.umask), &attr));
  return reply_created(call, std::move(file), attr);
}

Status Dispatcher::release(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_release_in>());
  return handles_.close(in.fh);
}

Status Dispatcher::releasedir(Call& call) { return release(call); }

}  // namespace udax::fuse
