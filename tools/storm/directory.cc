// SPDX-License-Identifier: BSD-3-Clause
#include "tools/storm/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace udax::storm {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr size_t kListBuffer = 32 * 1024;
constexpr size_t kScanBuffer = 600;  // a few entries each time
constexpr std::string_view kOurs = "user.udax.";

int result_of(int64_t result) { return result < 0 ? -errno : 0; }

class File {
 public:
  File(const std::string& path, int flags, mode_t mode = 0) : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {
    error_ = fd_ < 0 ? -errno : 0;
  }
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] int error() const { return error_; }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
  int error_;
};

int write_all(int fd, uint64_t offset, std::span<const std::byte> data) {
  const ssize_t wrote = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
  if (wrote < 0) return -errno;
  return static_cast<size_t>(wrote) == data.size() ? 0 : -EIO;
}

int read_all(int fd, std::vector<std::byte>& out) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return -errno;
  out.resize(static_cast<size_t>(info.st_size) + 1);  // one more must not come
  const ssize_t got = ::pread(fd, out.data(), out.size(), 0);
  if (got < 0) return -errno;
  out.resize(static_cast<size_t>(got));
  return 0;
}

void fill(const struct stat& info, Attributes& out) {
  out = {};
  out.mode = info.st_mode;
  out.nlink = info.st_nlink;
  out.uid = info.st_uid;
  out.gid = info.st_gid;
  out.size = S_ISREG(info.st_mode) || S_ISLNK(info.st_mode) ? static_cast<uint64_t>(info.st_size) : 0;
  out.rdev = S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode) ? info.st_rdev : 0;
  out.ino = info.st_ino;
  out.mtime_ns = info.st_mtim.tv_sec * kSecond + info.st_mtim.tv_nsec;
  out.ctime_ns = info.st_ctim.tv_sec * kSecond + info.st_ctim.tv_nsec;
}

}  // namespace

Directory::Directory(std::string top) : top_(std::move(top)) {
  ::umask(0);
  slots_.fill(-1);
}

Directory::~Directory() {
  for (uint8_t slot = 0; slot < kSlots; ++slot) static_cast<void>(Directory::slot_close(slot));
  Directory::scan_end();
}

int Directory::create(const std::string& path, uint32_t mode) {
  return File(full(path), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode).error();
}
int Directory::mkdir(const std::string& path, uint32_t mode) {
  return result_of(::mkdir(full(path).c_str(), mode));
}
int Directory::mknod(const std::string& path, uint32_t mode, uint64_t rdev) {
  return result_of(::mknod(full(path).c_str(), mode, rdev));
}
int Directory::symlink(const std::string& target, const std::string& path) {
  return result_of(::symlink(target.c_str(), full(path).c_str()));
}
int Directory::link(const std::string& from, const std::string& to) {
  return result_of(::link(full(from).c_str(), full(to).c_str()));
}
int Directory::unlink(const std::string& path) { return result_of(::unlink(full(path).c_str())); }
int Directory::rmdir(const std::string& path) { return result_of(::rmdir(full(path).c_str())); }
int Directory::rename(const std::string& from, const std::string& to, unsigned flags) {
  if (flags == 0) return result_of(::rename(full(from).c_str(), full(to).c_str()));
  return result_of(::renameat2(AT_FDCWD, full(from).c_str(), AT_FDCWD, full(to).c_str(), flags));
}

int Directory::write(const std::string& path, uint64_t offset, std::span<const std::byte> data) {
  const File file(full(path), O_WRONLY | O_NOFOLLOW);
  return file.error() != 0 ? file.error() : write_all(file.fd(), offset, data);
}
int Directory::truncate(const std::string& path, uint64_t size) {
  const File file(full(path), O_WRONLY | O_NOFOLLOW);
  return file.error() != 0 ? file.error() : result_of(::ftruncate(file.fd(), static_cast<off_t>(size)));
}
int Directory::chmod(const std::string& path, uint32_t mode) {
  return result_of(::chmod(full(path).c_str(), mode));
}
int Directory::chown(const std::string& path, uint32_t uid, uint32_t gid) {
  return result_of(::lchown(full(path).c_str(), uid, gid));
}
int Directory::utimens(const std::string& path, int64_t mtime_ns) {
  const timespec times[2] = {{0, UTIME_OMIT}, {mtime_ns / kSecond, mtime_ns % kSecond}};
  return result_of(::utimensat(AT_FDCWD, full(path).c_str(), times, AT_SYMLINK_NOFOLLOW));
}
int Directory::setxattr(const std::string& path, const std::string& name, const std::string& value, int flags) {
  return result_of(::lsetxattr(full(path).c_str(), name.c_str(), value.data(), value.size(), flags));
}
int Directory::removexattr(const std::string& path, const std::string& name) {
  return result_of(::lremovexattr(full(path).c_str(), name.c_str()));
}

int Directory::set_dax(const std::string& path, bool dax) {
  const File file(full(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (file.error() != 0) return file.error();
  fsxattr attributes{};
  if (::ioctl(file.fd(), FS_IOC_FSGETXATTR, &attributes) != 0) return -errno;
  const auto flag = static_cast<uint32_t>(FS_XFLAG_DAX);
  attributes.fsx_xflags = dax ? attributes.fsx_xflags | flag : attributes.fsx_xflags & ~flag;
  return result_of(::ioctl(file.fd(), FS_IOC_FSSETXATTR, &attributes));
}
int Directory::get_dax(const std::string& path) {
  const File file(full(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (file.error() != 0) return file.error();
  fsxattr attributes{};
  if (::ioctl(file.fd(), FS_IOC_FSGETXATTR, &attributes) != 0) return -errno;
  return (attributes.fsx_xflags & FS_XFLAG_DAX) != 0 ? 1 : 0;
}
int Directory::fsync(const std::string& path) {
  const File file(full(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  return file.error() != 0 ? file.error() : result_of(::fsync(file.fd()));
}

int Directory::slot_open(uint8_t slot, const std::string& path) {
  static_cast<void>(slot_close(slot));
  slots_[slot] = ::open(full(path).c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  return result_of(slots_[slot]);
}
int Directory::slot_tmpfile(uint8_t slot, const std::string& directory, uint32_t mode) {
  static_cast<void>(slot_close(slot));
  slots_[slot] = ::open(full(directory).c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, mode);
  return result_of(slots_[slot]);
}
int Directory::slot_write(uint8_t slot, uint64_t offset, std::span<const std::byte> data) {
  return write_all(slots_[slot], offset, data);
}
int Directory::slot_link(uint8_t slot, const std::string& path) {
  const std::string open_file = "/proc/self/fd/" + std::to_string(slots_[slot]);
  return result_of(::linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, full(path).c_str(), AT_SYMLINK_FOLLOW));
}
int Directory::slot_close(uint8_t slot) {
  const int fd = std::exchange(slots_[slot], -1);
  return fd < 0 ? 0 : result_of(::close(fd));
}
int Directory::slot_stat(uint8_t slot, Attributes& out) {
  struct stat info {};
  if (::fstat(slots_[slot], &info) != 0) return -errno;
  fill(info, out);
  return 0;
}
int Directory::slot_read(uint8_t slot, std::vector<std::byte>& out) { return read_all(slots_[slot], out); }

int Directory::stat(const std::string& path, Attributes& out) {
  struct stat info {};
  if (::lstat(full(path).c_str(), &info) != 0) return -errno;
  fill(info, out);
  return 0;
}
int Directory::read(const std::string& path, std::vector<std::byte>& out) {
  const File file(full(path), O_RDONLY | O_NOFOLLOW);
  return file.error() != 0 ? file.error() : read_all(file.fd(), out);
}
int Directory::readlink(const std::string& path, std::string& out) {
  out.resize(8192);
  const ssize_t got = ::readlink(full(path).c_str(), out.data(), out.size());
  if (got < 0) return -errno;
  out.resize(static_cast<size_t>(got));
  return 0;
}

int Directory::xattrs(const std::string& path, Xattrs& out) {
  const std::string name = full(path);
  std::string names(64 * 1024, '\0');
  const ssize_t length = ::llistxattr(name.c_str(), names.data(), names.size());
  if (length < 0) return -errno;
  out.clear();
  for (size_t begin = 0; begin < static_cast<size_t>(length);) {
    const std::string one(names.c_str() + begin);
    begin += one.size() + 1;
    if (!one.starts_with("user.") || one.starts_with(kOurs)) continue;
    std::string value(64 * 1024, '\0');
    const ssize_t got = ::lgetxattr(name.c_str(), one.c_str(), value.data(), value.size());
    if (got < 0) return -errno;
    value.resize(static_cast<size_t>(got));
    out[one] = value;
  }
  return 0;
}

// Listings, by getdents64(2): readdir(3) would read ahead.

int Directory::next_entries(std::span<std::byte> buffer, std::vector<Entry>& out) {
  out.clear();
  const int64_t got = ::syscall(SYS_getdents64, scan_, buffer.data(), buffer.size());
  if (got < 0) return -errno;
  for (size_t at = 0; at < static_cast<size_t>(got);) {
    dirent64 head{};
    std::memcpy(&head, &buffer[at], offsetof(dirent64, d_name));
    const std::string name(reinterpret_cast<const char*>(&buffer[at + offsetof(dirent64, d_name)]));
    at += head.d_reclen;
    if (name == "." || name == "..") {
      ++dots_;
    } else {
      out.push_back({name, head.d_ino, head.d_type});
    }
  }
  return got > 0 ? 1 : 0;
}

int Directory::list(const std::string& path, std::vector<Entry>& out) {
  out.clear();
  int result = scan_begin(path);
  std::vector<std::byte> buffer(kListBuffer);
  std::vector<Entry> piece;
  while (result == 0 || result == 1) {
    result = next_entries(buffer, piece);
    if (result != 1) break;
    out.insert(out.end(), piece.begin(), piece.end());
  }
  scan_end();
  if (result == 0 && dots_ != 2) return -EIO;
  return result;
}

int Directory::scan_begin(const std::string& path) {
  scan_end();
  dots_ = 0;
  scan_ = ::open(full(path).c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  return result_of(scan_);
}

int Directory::scan_next(std::vector<Entry>& out) {
  std::array<std::byte, kScanBuffer> buffer;
  int result = 1;
  do {
    result = next_entries(buffer, out);
  } while (result == 1 && out.empty());  // a piece of "." and ".." only is not the end
  return result < 0 ? result : 0;
}

void Directory::scan_end() {
  if (scan_ >= 0) ::close(scan_);
  scan_ = -1;
}

// Probing.

namespace {

bool is_refusal(int result) {
  switch (result) {
    case -EOPNOTSUPP:
    case -ENOSYS:
    case -EINVAL:
    case -EISDIR:  // O_TMPFILE that is not known
    case -ENOENT:
    case -ENOTTY:
    case -EPERM:
    case -EACCES: return true;
    default: return false;
  }
}

void probe_flag(Directory& tree, Traits& out) {
  int result = tree.set_dax("d", true);
  if (result == 0 && tree.get_dax("d") != 1) result = -EOPNOTSUPP;  // ignored without a word
  if (result < 0) {
    out.left_out.push_back({Kind::kFlip, std::strerror(-result)});
    return;
  }
  out.dax = true;
  static_cast<void>(tree.create("d/inherits", 0600));
  out.dax_inherits = tree.get_dax("d/inherits") == 1;
}

}  // namespace

Traits probe(const std::string& path) {
  Traits out;
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
  if (::mkdir(path.c_str(), 0700) != 0) {
    out.error = path + ": " + std::strerror(errno);
    return out;
  }
  {
    Directory tree(path);
    const int made = tree.create("f", 0600);
    if (made != 0) out.error = path + "/f: " + std::strerror(-made);
    static_cast<void>(tree.mkdir("d", 0700));
    static_cast<void>(tree.mkdir("d/sub", 0700));
    const auto attempt = [&out](Kind kind, int result) {
      if (is_refusal(result)) out.left_out.push_back({kind, std::strerror(-result)});
    };
    attempt(Kind::kMknod, tree.mknod("fifo", S_IFIFO | 0600, 0));
    attempt(Kind::kSymlink, tree.symlink("f", "symlink"));
    attempt(Kind::kLink, tree.link("f", "link"));
    attempt(Kind::kNoReplace, tree.rename("f", "f2", RENAME_NOREPLACE));
    static_cast<void>(tree.rename("f2", "f", 0));
    attempt(Kind::kExchange, tree.rename("f", "d", RENAME_EXCHANGE));
    Attributes now;
    if (tree.stat("f", now) == 0 && S_ISDIR(now.mode)) static_cast<void>(tree.rename("f", "d", RENAME_EXCHANGE));
    attempt(Kind::kWhiteout, tree.rename("link", "link2", RENAME_WHITEOUT));
    attempt(Kind::kSetxattr, tree.setxattr("f", "user.probe", "1", 0));
    if (is_refusal(tree.setxattr("f", "user.probe", "2", 0))) attempt(Kind::kRemovexattr, -EOPNOTSUPP);
    attempt(Kind::kTmpfile, tree.slot_tmpfile(0, "d", 0600));
    // The others are told by chown to oneself nothing new; only root may give files away.
    if (::geteuid() != 0) out.left_out.push_back({Kind::kChown, "only root may"});
    out.devices = tree.mknod("null", S_IFCHR | 0600, makedev(1, 3)) == 0;
    out.counts_subdirs = tree.stat("d", now) == 0 && now.nlink == 3;
    const int64_t time = 1'000'000'000 * kSecond + 123'456'789;
    static_cast<void>(tree.utimens("f", time));
    while (tree.stat("f", now) == 0 && out.time_unit_ns < 2 * kSecond &&
           now.mtime_ns != time / out.time_unit_ns * out.time_unit_ns) {
      out.time_unit_ns *= 10;
    }
    probe_flag(tree, out);
  }
  std::filesystem::remove_all(path, ignored);
  return out;
}

}  // namespace udax::storm
