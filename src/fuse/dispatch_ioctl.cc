// SPDX-License-Identifier: BSD-3-Clause
//
// ioctl(2): inode flags in the two ways that Linux has for them, and our own commands (include/udax/ioctl.h).
//
// FS_IOC_GETFLAGS and SETFLAGS carry an int although their numbers say `long`: the kernel takes no other length from
// us than the 4 bytes that it asked for.
// After a change of flags the kernel is told, before the reply, to drop the attributes that it holds: ctime changed.
#include <linux/fs.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "fuse/call.h"
#include "fuse/dispatcher.h"
#include "media/superblock.h"
#include "udax/ioctl.h"

namespace udax::fuse {
namespace {

constexpr uint32_t kGetFlags32 = 0x80046601;  // FS_IOC32_GETFLAGS
constexpr uint32_t kSetFlags32 = 0x40046602;
constexpr uint32_t kFlagOfDax = 0x02000000;  // FS_DAX_FL; its name is missing in older headers

struct FlagPair {
  uint32_t inode_flag;
  uint32_t fl;     // FS_..._FL; 0: has none
  uint32_t xflag;  // FS_XFLAG_...; 0: has none
};
constexpr std::array<FlagPair, 8> kFlagPairs{{
    {format::kFlagDax, kFlagOfDax, FS_XFLAG_DAX},
    {format::kFlagAppend, FS_APPEND_FL, FS_XFLAG_APPEND},
    {format::kFlagImmutable, FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE},
    {format::kFlagNoAtime, FS_NOATIME_FL, FS_XFLAG_NOATIME},
    {format::kFlagNoDump, FS_NODUMP_FL, FS_XFLAG_NODUMP},
    {format::kFlagSync, FS_SYNC_FL, FS_XFLAG_SYNC},
    {format::kFlagDirSync, FS_DIRSYNC_FL, 0},
    {format::kFlagProjInherit, FS_PROJINHERIT_FL, FS_XFLAG_PROJINHERIT},
}};

uint32_t to_linux(uint32_t inode_flags, uint32_t FlagPair::*kind) {
  uint32_t out = 0;
  for (const FlagPair& pair : kFlagPairs) {
    if ((inode_flags & pair.inode_flag) != 0) out |= pair.*kind;
  }
  return out;
}

struct InodeFlags {
  uint32_t flags = 0;
  uint32_t mask = 0;  // those that the kind can express
};

// kNotSupported: a bit that has no meaning here.
Result<InodeFlags> from_linux(uint32_t linux_flags, uint32_t FlagPair::*kind) {
  InodeFlags out;
  for (const FlagPair& pair : kFlagPairs) {
    if (pair.*kind == 0) continue;
    out.mask |= pair.inode_flag;
    if ((linux_flags & pair.*kind) != 0) out.flags |= pair.inode_flag;
    linux_flags &= ~(pair.*kind);
  }
  if (linux_flags != 0) return Error::kNotSupported;
  return out;
}

}  // namespace

Status Dispatcher::ioctl(Call& call) {
  UDAX_TRY(const auto in, call.in.take<fuse_ioctl_in>());
  UDAX_TRY(const auto file, handles_.acquire(in.fh, call.ino(), (in.flags & FUSE_IOCTL_DIR) != 0));
  switch (in.cmd) {
    case static_cast<uint32_t>(FS_IOC_GETFLAGS):
    case kGetFlags32: return ioctl_get_flags(call, in);
    case static_cast<uint32_t>(FS_IOC_SETFLAGS):
    case kSetFlags32: return ioctl_set_flags(call, in);
    case static_cast<uint32_t>(FS_IOC_FSGETXATTR): return ioctl_get_xflags(call, in);
    case static_cast<uint32_t>(FS_IOC_FSSETXATTR): return ioctl_set_xflags(call, in);
    case static_cast<uint32_t>(UDAX_IOC_INFO): return ioctl_info(call, in);
    case static_cast<uint32_t>(UDAX_IOC_STAT): return ioctl_stat(call, in);
    case static_cast<uint32_t>(UDAX_IOC_EXTENTS): return ioctl_extents(call, in);
    case static_cast<uint32_t>(UDAX_IOC_DAX): return ioctl_dax_state(call, in);
    case static_cast<uint32_t>(UDAX_IOC_DIRECT): return ioctl_direct(call, in, *file);
    case static_cast<uint32_t>(UDAX_IOC_SYNC): return ioctl_sync(call);
    default: return Error::kNoTty;
  }
}

Status Dispatcher::ioctl_get_flags(Call& call, const fuse_ioctl_in& in) {
  if (in.out_size < sizeof(uint32_t)) return Error::kInvalid;
  UDAX_TRY(const fs::Attr attr, fs_.getattr(call.ino()));
  (void)call.send_two(fuse_ioctl_out{}, to_linux(attr.flags, &FlagPair::fl));
  return {};
}

Status Dispatcher::ioctl_set_flags(Call& call, const fuse_ioctl_in&) {
  UDAX_TRY(const auto wanted, call.in.take<uint32_t>());
  UDAX_TRY(const InodeFlags change, from_linux(wanted, &FlagPair::fl));
  return change_later(
      call,
      [this, change, ino = call.ino(), caller = call.caller()] {
        return fs_.set_flags(ino, change.flags, change.mask, std::nullopt, caller);
      },
      true);
}

Status Dispatcher::ioctl_get_xflags(Call& call, const fuse_ioctl_in& in) {
  if (in.out_size < sizeof(fsxattr)) return Error::kInvalid;
  UDAX_TRY(const fs::Attr attr, fs_.getattr(call.ino()));
  fsxattr out{};
  out.fsx_xflags = to_linux(attr.flags, &FlagPair::xflag);
  out.fsx_projid = attr.project_id;
  (void)call.send_two(fuse_ioctl_out{}, out);
  return {};
}

Status Dispatcher::ioctl_set_xflags(Call& call, const fuse_ioctl_in&) {
  UDAX_TRY(const auto wanted, call.in.take<fsxattr>());
  UDAX_TRY(const InodeFlags change, from_linux(wanted.fsx_xflags, &FlagPair::xflag));
  if (wanted.fsx_extsize != 0 || wanted.fsx_cowextsize != 0) return Error::kNotSupported;
  UDAX_TRY(const fs::Attr attr, fs_.getattr(call.ino()));
  std::optional<uint32_t> project_id;
  if (wanted.fsx_projid != attr.project_id) project_id = wanted.fsx_projid;
  return change_later(
      call,
      [this, change, project_id, ino = call.ino(), caller = call.caller()] {
        return fs_.set_flags(ino, change.flags, change.mask, project_id, caller);
      },
      true);
}

Status Dispatcher::ioctl_info(Call& call, const fuse_ioctl_in& in) {
  udax_ioc_info out{};
  if (in.out_size < sizeof(out)) return Error::kInvalid;
  UDAX_TRY(const media::LoadedSuperblock loaded, media::load_superblock(fs_.medium()));
  const format::Superblock& sb = loaded.raw;
  out.version_major = sb.version_major;
  out.version_minor = sb.version_minor;
  out.block_size = sb.block_size;
  out.compat = sb.compat;
  out.ro_compat = sb.ro_compat;
  out.incompat = sb.incompat;
  std::memcpy(out.uuid, sb.uuid, sizeof(out.uuid));
  std::memcpy(out.label, sb.label, sizeof(out.label));
  out.label[sizeof(out.label) - 1] = '\0';
  out.block_count = sb.block_count;
  out.blocks_free = fs_.statfs().blocks_free;
  out.journal_blocks = sb.journal_blocks;
  out.flags = fs_.read_only() ? UDAX_INFO_READ_ONLY : 0;
  switch (fs_.options().dax) {
    case fs::DaxMode::kInode: out.dax_mode = UDAX_DAX_INODE; break;
    case fs::DaxMode::kAlways: out.dax_mode = UDAX_DAX_ALWAYS; break;
    case fs::DaxMode::kNever: out.dax_mode = UDAX_DAX_NEVER; break;
  }
  switch (fs_.medium().granularity()) {
    case media::Granularity::kByte: out.granularity = UDAX_GRANULARITY_BYTE; break;
    case media::Granularity::kCacheLine: out.granularity = UDAX_GRANULARITY_CACHE_LINE; break;
    case media::Granularity::kPage: out.granularity = UDAX_GRANULARITY_PAGE; break;
  }
  (void)call.send_two(fuse_ioctl_out{}, out);
  return {};
}

Status Dispatcher::ioctl_stat(Call& call, const fuse_ioctl_in& in) {
  udax_ioc_stat out{};
  if (in.out_size < sizeof(out)) return Error::kInvalid;
  const std::string text = stats_json();
  if (text.size() >= sizeof(out.text)) return Error::kOverflow;
  out.length = static_cast<uint32_t>(text.size());
  std::memcpy(out.text, text.data(), text.size());
  (void)call.send_two(fuse_ioctl_out{}, out);
  return {};
}

Status Dispatcher::ioctl_sync(Call& call) {
  UDAX_CHECK(fs_.sync());
  (void)call.send(fuse_ioctl_out{});
  return {};
}

Status Dispatcher::ioctl_dax_state(Call& call, const fuse_ioctl_in& in) {
  udax_ioc_dax out{};
  if (in.out_size < sizeof(out)) return Error::kInvalid;
  UDAX_TRY(const fs::DaxState state, fs_.dax_state(call.ino()));
  out.flags = (state.flag ? UDAX_DAX_FLAG : 0U) | (state.is_dax ? UDAX_DAX_EFFECTIVE : 0U);
  // Not counted: the handle that asks.
  const bool is_directory = (in.flags & FUSE_IOCTL_DIR) != 0;
  UDAX_TRY(const auto file, handles_.acquire(in.fh, call.ino(), is_directory));
  out.open_dax = state.open_dax - (file->dax() ? 1U : 0U);
  out.open_cached = state.open_cached - (file->dax() ? 0U : 1U);
  (void)call.send_two(fuse_ioctl_out{}, out);
  return {};
}

Status Dispatcher::ioctl_direct(Call& call, const fuse_ioctl_in& in, fs::OpenFile& file) {
  if (in.out_size < sizeof(udax_ioc_direct)) return Error::kInvalid;
  if (options_.direct == nullptr) return Error::kNotSupported;
  UDAX_TRY(const udax_ioc_direct out, options_.direct->give_leave(file, call.caller().uid));
  (void)call.send_two(fuse_ioctl_out{}, out);
  return {};
}

Status Dispatcher::ioctl_extents(Call& call, const fuse_ioctl_in& in) {
  UDAX_TRY(auto request, call.in.take<udax_ioc_extents>());
  if (in.out_size < sizeof(request) || request.reserved != 0) return Error::kInvalid;
  udax_ioc_extents out{};
  out.start = request.start;
  UDAX_TRY(const auto extents, fs_.extents(call.ino(), request.start, UDAX_EXTENTS_MAX));
  const size_t count = std::min<size_t>(extents.size(), UDAX_EXTENTS_MAX);
  for (size_t i = 0; i < count; ++i) {
    const fs::ExtentInfo& e = extents[i];
    out.extents[i] = {e.file_offset, e.device_offset, e.length, e.unwritten ? UDAX_EXTENT_UNWRITTEN : 0, 0};
  }
  out.count = static_cast<uint32_t>(count);
  if (count < UDAX_EXTENTS_MAX) out.flags = UDAX_EXTENTS_LAST;
  (void)call.send_two(fuse_ioctl_out{}, out);
  return {};
}

}  // namespace udax::fuse
