// SPDX-License-Identifier: BSD-3-Clause
#include "tests/conformity/model/real.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <set>

namespace udax::vfs_model {
namespace {

constexpr size_t kBuffer = 1U << 18;

Outcome of(int64_t result) { return {result < 0 ? errno : 0, {}}; }

Outcome with_number(int64_t result) { return result < 0 ? of(result) : Outcome{0, std::to_string(result)}; }

Outcome describe_info(int result, const struct stat& info) {
  if (result != 0) return of(result);
  std::array<char, 100> text{};
  // Sizes of folders are a filesystem's own, and special files have none.
  const bool has_size = S_ISREG(info.st_mode) || S_ISLNK(info.st_mode);
  std::snprintf(text.data(), text.size(), "mode %o links %u owner %u:%u size %zu", info.st_mode,
                static_cast<unsigned>(info.st_nlink), info.st_uid, info.st_gid,
                has_size ? static_cast<size_t>(info.st_size) : 0U);
  return {0, text.data(), info.st_atim.tv_sec, info.st_mtim.tv_sec};
}

std::string join(const std::set<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += name + '\n';
  return all;
}

Outcome list_xattrs(const char* path) {
  std::string found(kBuffer, '\0');
  const ssize_t length = ::listxattr(path, found.data(), found.size());
  if (length < 0) return of(length);
  std::set<std::string> names;
  for (size_t at = 0; at < static_cast<size_t>(length);) {
    const std::string name = found.c_str() + at;
    if (name.starts_with("user.")) names.insert(name);
    at += name.size() + 1;
  }
  return {0, join(names)};
}

Outcome utimens(const Op& op) {
  const timespec now{0, UTIME_NOW};
  const timespec omit{0, UTIME_OMIT};
  const timespec first = op.mode == 0 ? timespec{op.offset, 0} : op.mode == 1 ? now : omit;
  const timespec second = op.mode == 1 ? now : op.mode == 2 ? omit : timespec{op.offset + 1, 0};
  const std::array<timespec, 2> times{first, second};
  return of(::utimensat(AT_FDCWD, op.path.c_str(), times.data(), 0));
}

Outcome bytes_of(const std::string& buffer, int64_t length) {
  if (length < 0) return of(length);
  return {0, buffer.substr(0, static_cast<size_t>(length))};
}

}  // namespace

Real::~Real() {
  for (const int fd : fds_) {
    if (fd >= 0) ::close(fd);
  }
}

// Of this thread, which is the only one. Root's capabilities on files go and come with it.
void Real::become(const Who& who) const {
  if (!switches_) return;
  ::setfsuid(0);
  if (::setgroups(1, &who.group) != 0) std::abort();
  ::setfsgid(who.gid);
  ::setfsuid(who.uid);
  if (static_cast<uint32_t>(::setfsuid(~0U)) != who.uid) std::abort();
}

void Real::keep(int slot, int fd) {
  int& held = fds_.at(static_cast<size_t>(slot));
  if (held >= 0) ::close(held);
  held = fd;
}

Outcome Real::apply(const Op& op) {
  become(op.who);
  Outcome outcome = op.call <= Call::kFstat ? on_slot(op) : on_path(op);
  become({});
  return outcome;
}

Outcome Real::describe(const std::string& path) {
  struct stat info {};
  return describe_info(::lstat(path.c_str(), &info), info);
}

Outcome Real::list(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | flags);
  if (fd < 0) return of(fd);
  DIR* const dir = ::fdopendir(fd);
  if (dir == nullptr) return of(-1);
  std::set<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(dir)) {
    if (!names.insert(entry->d_name).second) names.insert(std::string(entry->d_name) + " (twice)");
  }
  const int error = errno;
  ::closedir(dir);
  names.erase(".");
  names.erase("..");
  return {error, error == 0 ? join(names) : ""};
}

Outcome Real::copy_range(const Op& op) {
  const int from = fds_.at(static_cast<size_t>(op.slot));
  const int to = fds_.at(static_cast<size_t>(op.other_slot));
  loff_t in = op.offset;
  loff_t out = op.other_offset;
  return with_number(::copy_file_range(from, &in, to, &out, static_cast<size_t>(op.length), 0));
}

Outcome Real::on_slot(const Op& op) {
  const int fd = fds_.at(static_cast<size_t>(op.slot));
  const auto length = static_cast<size_t>(std::max<int64_t>(op.length, 0));
  struct stat info {};
  switch (op.call) {
    case Call::kOpen:
    case Call::kTmpfile: {
      const int flags = op.call == Call::kTmpfile ? O_TMPFILE | O_RDWR : op.flags | O_NONBLOCK;
      const int opened = ::open(op.path.c_str(), flags, op.mode);
      if (opened < 0) return of(opened);
      const bool stays = ::fstat(opened, &info) == 0 && (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode));
      if (stays) {
        keep(op.slot, opened);
      } else {
        ::close(opened);
      }
      return {};
    }
    case Call::kClose:
      if (fd < 0) return {EBADF, {}};
      keep(op.slot, -1);
      return {};
    case Call::kRead: {
      std::string buffer(length, '\0');
      return bytes_of(buffer, ::pread(fd, buffer.data(), length, op.offset));
    }
    case Call::kWrite: return with_number(::pwrite(fd, std::string(length, op.byte).data(), length, op.offset));
    case Call::kFtruncate: return of(::ftruncate(fd, op.offset));
    case Call::kFallocate: return of(::fallocate(fd, op.flags, op.offset, op.length));
    case Call::kSeekData:
    case Call::kSeekHole:
      if (::fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) return {EBADF, {}};
      return with_number(::lseek(fd, op.offset, op.call == Call::kSeekData ? SEEK_DATA : SEEK_HOLE));
    case Call::kCopyRange: return copy_range(op);
    case Call::kLinkFd: {
      if (fd < 0) return {EBADF, {}};
      static_cast<void>(::fstat(fd, &info));  // see kLink
      const std::string self = "/proc/self/fd/" + std::to_string(fd);
      return of(::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, op.path.c_str(), AT_SYMLINK_FOLLOW));
    }
    default: return describe_info(::fstat(fd, &info), info);
  }
}

Outcome Real::on_path(const Op& op) {
  const char* const path = op.path.c_str();
  const char* const other = op.other.c_str();
  switch (op.call) {
    case Call::kMkdir: return of(::mkdir(path, op.mode));
    case Call::kMknod: return of(::mknod(path, op.mode, 0));
    case Call::kSymlink: return of(::symlink(other, path));
    case Call::kLink:
      // fs.protected_hardlinks looks at the mode that the kernel has cached: setuid that a write has cleared is in it
      // until somebody asks (docs/testing.md).
      static_cast<void>(describe(op.path));
      return of(::link(path, other));
    case Call::kUnlink: return of(::unlink(path));
    case Call::kRmdir: return of(::rmdir(path));
    case Call::kRename: return of(::renameat2(AT_FDCWD, path, AT_FDCWD, other, static_cast<unsigned>(op.flags)));
    case Call::kChmod: return of(::chmod(path, op.mode));
    case Call::kChown: return of(::chown(path, op.uid, op.gid));
    case Call::kLchown: return of(::lchown(path, op.uid, op.gid));
    case Call::kUtimens: return utimens(op);
    case Call::kTruncate: return of(::truncate(path, op.offset));
    case Call::kAccess: return of(::faccessat(AT_FDCWD, path, op.flags, AT_EACCESS));
    case Call::kStat: return describe(op.path);
    case Call::kReadlink: {
      std::string buffer(4096, '\0');
      return bytes_of(buffer, ::readlink(path, buffer.data(), buffer.size()));
    }
    case Call::kList: return list(op.path, 0);
    case Call::kSetxattr: return of(::setxattr(path, other, op.value.data(), op.value.size(), op.flags));
    case Call::kGetxattr: {
      std::string buffer(kBuffer, '\0');
      return bytes_of(buffer, ::getxattr(path, other, buffer.data(), buffer.size()));
    }
    case Call::kRemovexattr: return of(::removexattr(path, other));
    default: return list_xattrs(path);
  }
}

}  // namespace udax::vfs_model
