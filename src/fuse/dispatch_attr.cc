// SPDX-License-Identifier: BSD-3-Clause
//
// Attributes and extended attributes.
#include "fuse/call.h"
#include "fuse/dispatcher.h"

namespace udax::fuse {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kSectorsPerBlock = kBlockSize / 512;

// STATX_BASIC_STATS | STATX_BTIME
constexpr uint32_t kStatxMask = 0x7FFU | 0x800U;
// STATX_ATTR_... of <linux/stat.h>
constexpr uint64_t kStatxImmutable = 0x10;
constexpr uint64_t kStatxAppend = 0x20;
constexpr uint64_t kStatxNoDump = 0x40;

constexpr uint32_t device_number(uint32_t major, uint32_t minor) {
  return (minor & 0xFFU) | (major << 8) | ((minor & ~0xFFU) << 12);
}

wire::StatxTime statx_time(const format::TimeStamp& t) { return {t.seconds, t.nanoseconds, 0}; }

Result<format::TimeStamp> time_of(uint64_t seconds, uint32_t nanoseconds) {
  if (nanoseconds >= kNsPerSecond) return Error::kInvalid;
  return format::TimeStamp{static_cast<int64_t>(seconds), nanoseconds};
}

}  // namespace

void Dispatcher::fill_attr(const fs::Attr& attr, fuse_attr& out) const {
  out.ino = attr.ino.value;
  out.size = attr.size;
  out.blocks = attr.blocks * kSectorsPerBlock;
  out.atime = static_cast<uint64_t>(attr.atime.seconds);
  out.mtime = static_cast<uint64_t>(attr.mtime.seconds);
  out.ctime = static_cast<uint64_t>(attr.ctime.seconds);
  out.atimensec = attr.atime.nanoseconds;
  out.mtimensec = attr.mtime.nanoseconds;
  out.ctimensec = attr.ctime.nanoseconds;
  out.mode = attr.mode;
  out.nlink = attr.nlink;
  out.uid = attr.uid;
  out.gid = attr.gid;
  out.rdev = device_number(attr.rdev_major, attr.rdev_minor);
  out.blksize = kBlockSize;
  out.flags = 0;
}

Status Dispatcher::getattr(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_getattr_in>());
  (void)in;  // the handle adds nothing: the node is known as long as it is open
  UDAX_TRY(const fs::Attr attr, fs_.getattr(call.ino()));
  fuse_attr_out out{};
  out.attr_valid = options_.attr_timeout_ns / kNsPerSecond;
  out.attr_valid_nsec = static_cast<uint32_t>(options_.attr_timeout_ns % kNsPerSecond);
  fill_attr(attr, out.attr);
  (void)call.send(out);
  return {};
}

Status Dispatcher::statx(Call& call) {
  UDAX_TRY(const auto in, call.in.take<wire::StatxIn>());
  (void)in;
  UDAX_TRY(const fs::Attr attr, fs_.getattr(call.ino()));
  wire::StatxOut out{};
  out.attr_valid = options_.attr_timeout_ns / kNsPerSecond;
  out.attr_valid_nsec = static_cast<uint32_t>(options_.attr_timeout_ns % kNsPerSecond);
  wire::Statx& s = out.stat;
  s.mask = kStatxMask;
  s.blksize = kBlockSize;
  s.attributes_mask = kStatxImmutable | kStatxAppend | kStatxNoDump;
  if ((attr.flags & format::kFlagImmutable) != 0) s.attributes |= kStatxImmutable;
  if ((attr.flags & format::kFlagAppend) != 0) s.attributes |= kStatxAppend;
  if ((attr.flags & format::kFlagNoDump) != 0) s.attributes |= kStatxNoDump;
  s.nlink = attr.nlink;
  s.uid = attr.uid;
  s.gid = attr.gid;
  s.mode = static_cast<uint16_t>(attr.mode);
  s.ino = attr.ino.value;
  s.size = attr.size;
  s.blocks = attr.blocks * kSectorsPerBlock;
  s.atime = statx_time(attr.atime);
  s.btime = statx_time(attr.btime);
  s.ctime = statx_time(attr.ctime);
  s.mtime = statx_time(attr.mtime);
  s.rdev_major = attr.rdev_major;
  s.rdev_minor = attr.rdev_minor;
  (void)call.send(out);
  return {};
}

Status Dispatcher::setattr(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_setattr_in>());
  fs::SetAttr changes;
  if ((in.valid & FATTR_MODE) != 0) changes.mode = in.mode & 07777U;
  if ((in.valid & FATTR_UID) != 0) changes.uid = in.uid;
  if ((in.valid & FATTR_GID) != 0) changes.gid = in.gid;
  if ((in.valid & FATTR_SIZE) != 0) changes.size = in.size;
  if ((in.valid & FATTR_ATIME_NOW) != 0) {
    changes.atime_now = true;
  } else if ((in.valid & FATTR_ATIME) != 0) {
    UDAX_TRY(changes.atime, time_of(in.atime, in.atimensec));
  }
  if ((in.valid & FATTR_MTIME_NOW) != 0) {
    changes.mtime_now = true;
  } else if ((in.valid & FATTR_MTIME) != 0) {
    UDAX_TRY(changes.mtime, time_of(in.mtime, in.mtimensec));
  }
  if ((in.valid & FATTR_CTIME) != 0) {
    UDAX_TRY(changes.ctime, time_of(in.ctime, in.ctimensec));
  }
  // A request for nothing is what a kernel that leaves privileges to us makes of chown(2) to nobody else.
  constexpr uint32_t kHow = FATTR_FH | FATTR_LOCKOWNER;
  const bool is_empty = (in.valid & ~kHow) == 0;
  changes.kill_suidgid = is_empty || (in.valid & FATTR_KILL_SUIDGID) != 0;
  UDAX_TRY(const fs::Attr attr, fs_.setattr(call.ino(), changes, call.caller()));
  fuse_attr_out out{};
  out.attr_valid = options_.attr_timeout_ns / kNsPerSecond;
  out.attr_valid_nsec = static_cast<uint32_t>(options_.attr_timeout_ns % kNsPerSecond);
  fill_attr(attr, out.attr);
  (void)call.send(out);
  return {};
}

namespace {
constexpr std::string_view kOwnXattrs = "user.udax.";
}  // namespace

Status Dispatcher::setxattr(Call& call) {
  uint32_t size = 0;
  uint32_t flags = 0;
  bool kill_sgid = false;
  if ((negotiated() & wire::kSetxattrExt) != 0) {
    UDAX_TRY(const auto in, call.in.take<fuse_setxattr_in>());
    size = in.size;
    flags = in.flags;
    kill_sgid = (in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0;
  } else {
    UDAX_TRY(const auto in, call.in.take<wire::SetxattrInOld>());
    size = in.size;
    flags = in.flags;
  }
  UDAX_TRY(const std::string_view name, call.in.take_string());
  UDAX_TRY(const auto value, call.in.take_bytes(size));
  if (!name.starts_with(kOwnXattrs)) {
    return fs_.setxattr(call.ino(), name, value, flags, kill_sgid, call.caller());
  }
  // May flip the DAX flag.
  return change_later(
      call,
      [this, ino = call.ino(), name = std::string(name), value = std::vector(value.begin(), value.end()), flags,
       caller = call.caller()] { return fs_.setxattr(ino, name, value, flags, false, caller); },
      false);
}

Status Dispatcher::reply_xattr(Call& call, uint32_t room, std::span<const std::byte> value) {
  if (room == 0) {
    fuse_getxattr_out out{};
    out.size = static_cast<uint32_t>(value.size());
    (void)call.send(out);
    return {};
  }
  if (value.size() > room) return Error::kOutOfRange;
  (void)call.send_bytes(value);
  return {};
}

Status Dispatcher::getxattr(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_getxattr_in>());
  UDAX_TRY(const std::string_view name, call.in.take_string());
  UDAX_TRY(const auto value, fs_.getxattr(call.ino(), name));
  return reply_xattr(call, in.size, value);
}

Status Dispatcher::listxattr(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_getxattr_in>());
  UDAX_TRY(const std::string names, fs_.listxattr(call.ino(), call.caller()));
  return reply_xattr(call, in.size, std::as_bytes(std::span(names)));
}

Status Dispatcher::removexattr(Call& call) {
  UDAX_TRY(const std::string_view name, call.in.take_string());
  if (!name.starts_with(kOwnXattrs)) return fs_.removexattr(call.ino(), name, call.caller());
  return change_later(
      call,
      [this, ino = call.ino(), name = std::string(name), caller = call.caller()] {
        return fs_.removexattr(ino, name, caller);
      },
      false);
}

}  // namespace udax::fuse
