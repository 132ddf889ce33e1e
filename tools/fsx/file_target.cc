// SPDX-License-Identifier: BSD-3-Clause
#include "tools/fsx/file_target.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace udax::fsx {
namespace {

constexpr uint64_t kPage = 4096;

sigjmp_buf* volatile guard = nullptr;  // where a SIGBUS goes

void on_sigbus(int) {
  if (guard != nullptr) siglongjmp(*guard, 1);
  static_cast<void>(std::signal(SIGBUS, SIG_DFL));
  static_cast<void>(std::raise(SIGBUS));
}

void catch_sigbus() {
  static bool done = false;
  if (done) return;
  struct sigaction action {};
  action.sa_handler = on_sigbus;
  done = ::sigaction(SIGBUS, &action, nullptr) == 0;
}

// memcpy between memory and a mapping; -EFAULT if that raised SIGBUS.
int64_t copy_guarded(std::byte* to, const std::byte* from, size_t length) {
  sigjmp_buf here;
  if (sigsetjmp(here, 1) != 0) {
    guard = nullptr;
    return -EFAULT;
  }
  guard = &here;
  std::memcpy(to, from, length);
  asm volatile("" ::: "memory");  // the loads and stores stay between the two
  guard = nullptr;
  return 0;
}

int64_t result_of(int64_t result) { return result < 0 ? -errno : result; }

// A mapping of a range of bytes, for one use.
class Window {
 public:
  Window(int fd, uint64_t offset, uint64_t length, int flags) {
    const uint64_t begin = offset / kPage * kPage;
    length_ = offset - begin + length;
    void* const map = ::mmap(nullptr, length_, PROT_READ | PROT_WRITE, flags, fd, static_cast<off_t>(begin));
    error_ = map == MAP_FAILED ? -errno : 0;
    if (error_ == 0) map_ = static_cast<std::byte*>(map);
    skip_ = offset - begin;
  }
  ~Window() {
    if (map_ != nullptr) ::munmap(map_, length_);
  }
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;

  [[nodiscard]] int64_t error() const { return error_; }
  [[nodiscard]] std::byte* bytes() const { return map_ + skip_; }

 private:
  std::byte* map_ = nullptr;
  uint64_t length_ = 0;
  uint64_t skip_ = 0;
  int64_t error_ = 0;
};

}  // namespace

// Memory as O_DIRECT wants it.
class FileTarget::Aligned {
 public:
  explicit Aligned(size_t length)
      : bytes_(static_cast<std::byte*>(std::aligned_alloc(kPage, (length + kPage - 1) / kPage * kPage))) {}
  ~Aligned() { std::free(bytes_); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  [[nodiscard]] std::byte* bytes() const { return bytes_; }

 private:
  std::byte* const bytes_;
};

std::string other_name(const std::string& path) { return path + ".renamed"; }

FileTarget::FileTarget(std::string path, FileOptions options)
    : path_(std::move(path)), options_(std::move(options)) {
  catch_sigbus();
  fds_.fill(-1);
  second_ = ::open(options_.second_path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (second_ < 0) error_ = errno;
  for (int fd = 0; fd < kFds; ++fd) {
    const int64_t opened = open_one(fd);
    if (opened < 0 && fd != kDirectFd && error_ == 0) error_ = static_cast<int>(-opened);
  }
}

FileTarget::~FileTarget() {
  if (held_ != nullptr) ::munmap(held_, hold_length());
  for (const int fd : fds_) {
    if (fd >= 0) ::close(fd);
  }
  if (second_ >= 0) ::close(second_);
}

uint64_t FileTarget::hold_length() const { return (options_.max_size + kPage - 1) / kPage * kPage + 2 * kPage; }

int64_t FileTarget::open_one(int fd) {
  int flags = O_RDWR | O_CLOEXEC;
  if (fd == kAppendFd) flags |= O_APPEND;
  if (fd == kDirectFd) flags |= O_DIRECT;
  const std::string name = renamed_ ? other_name(path_) : path_;
  int& place = fds_[static_cast<size_t>(fd)];
  if (place >= 0 && ::close(place) != 0) {
    place = -1;
    return -errno;
  }
  place = ::open(name.c_str(), flags);
  return result_of(place);
}

int64_t FileTarget::read(int fd, uint64_t offset, std::span<std::byte> out) {
  if (fd != kDirectFd) return result_of(::pread(fd_of(fd), out.data(), out.size(), static_cast<off_t>(offset)));
  const Aligned buffer(out.size());
  const int64_t got = result_of(::pread(fd_of(fd), buffer.bytes(), out.size(), static_cast<off_t>(offset)));
  if (got > 0) std::memcpy(out.data(), buffer.bytes(), static_cast<size_t>(got));
  return got;
}

int64_t FileTarget::write(int fd, uint64_t offset, std::span<const std::byte> data) {
  if (fd == kAppendFd) return result_of(::write(fd_of(fd), data.data(), data.size()));
  if (fd != kDirectFd) return result_of(::pwrite(fd_of(fd), data.data(), data.size(), static_cast<off_t>(offset)));
  const Aligned buffer(data.size());
  std::memcpy(buffer.bytes(), data.data(), data.size());
  return result_of(::pwrite(fd_of(fd), buffer.bytes(), data.size(), static_cast<off_t>(offset)));
}

int64_t FileTarget::map_load(int fd, uint64_t offset, std::span<std::byte> out) {
  const Window window(fd_of(fd), offset, out.size(), MAP_SHARED);
  return window.error() < 0 ? window.error() : copy_guarded(out.data(), window.bytes(), out.size());
}

int64_t FileTarget::map_store(int fd, uint64_t offset, std::span<const std::byte> data) {
  const Window window(fd_of(fd), offset, data.size(), MAP_SHARED);
  return window.error() < 0 ? window.error() : copy_guarded(window.bytes(), data.data(), data.size());
}

int64_t FileTarget::map_private(int fd, uint64_t offset, std::span<std::byte> before,
                                std::span<const std::byte> data, std::span<std::byte> after) {
  const Window window(fd_of(fd), offset, data.size(), MAP_PRIVATE);
  int64_t done = window.error();
  if (done >= 0) done = copy_guarded(before.data(), window.bytes(), before.size());
  if (done >= 0) done = copy_guarded(window.bytes(), data.data(), data.size());
  if (done >= 0) done = copy_guarded(after.data(), window.bytes(), after.size());
  return done;
}

int64_t FileTarget::hold(int fd) {
  if (held_ != nullptr) ::munmap(held_, hold_length());
  held_ = nullptr;
  void* const map = ::mmap(nullptr, hold_length(), PROT_READ | PROT_WRITE, MAP_SHARED, fd_of(fd), 0);
  if (map == MAP_FAILED) return -errno;
  held_ = static_cast<std::byte*>(map);
  return 0;
}

int64_t FileTarget::hold_load(uint64_t offset, std::span<std::byte> out) {
  const int64_t made = held_ == nullptr ? hold(0) : 0;
  return held_ == nullptr ? made : copy_guarded(out.data(), held_ + offset, out.size());
}

int64_t FileTarget::hold_store(uint64_t offset, std::span<const std::byte> data) {
  const int64_t made = held_ == nullptr ? hold(0) : 0;
  return held_ == nullptr ? made : copy_guarded(held_ + offset, data.data(), data.size());
}

int64_t FileTarget::hold_sync(uint64_t offset, uint64_t length) {
  const int64_t made = held_ == nullptr ? hold(0) : 0;
  return held_ == nullptr ? made : result_of(::msync(held_ + offset, length, MS_SYNC));
}

int64_t FileTarget::truncate(int fd, uint64_t size) {
  return result_of(::ftruncate(fd_of(fd), static_cast<off_t>(size)));
}

int64_t FileTarget::truncate_path(uint64_t size) {
  const std::string name = renamed_ ? other_name(path_) : path_;
  return result_of(::truncate(name.c_str(), static_cast<off_t>(size)));
}

int64_t FileTarget::fallocate(int fd, int mode, uint64_t offset, uint64_t length) {
  return result_of(::fallocate(fd_of(fd), mode, static_cast<off_t>(offset), static_cast<off_t>(length)));
}

int64_t FileTarget::copy(bool from_second, int fd, uint64_t from, bool to_second, uint64_t to, uint64_t length) {
  auto in = static_cast<off_t>(from);
  auto out = static_cast<off_t>(to);
  // Within the file by two descriptors, as two programs would.
  const int source = from_second ? second_ : fd_of(fd);
  const int target = to_second ? second_ : fd_of((fd + 1) % kPlainFds);
  return result_of(::copy_file_range(source, &in, target, &out, length, 0));
}

int64_t FileTarget::read_second(uint64_t offset, std::span<std::byte> out) {
  return result_of(::pread(second_, out.data(), out.size(), static_cast<off_t>(offset)));
}

int64_t FileTarget::sync(int fd, bool data_only) {
  return result_of(data_only ? ::fdatasync(fd_of(fd)) : ::fsync(fd_of(fd)));
}

int64_t FileTarget::drop(int fd) { return -::posix_fadvise(fd_of(fd), 0, 0, POSIX_FADV_DONTNEED); }

int64_t FileTarget::reopen(int fd) {
  const int64_t opened = open_one(fd);
  return fd == kDirectFd && opened == -EINVAL ? 0 : opened;  // a filesystem without O_DIRECT
}

int64_t FileTarget::rename() {
  const std::string other = other_name(path_);
  const int64_t done =
      result_of(renamed_ ? ::rename(other.c_str(), path_.c_str()) : ::rename(path_.c_str(), other.c_str()));
  if (done == 0) renamed_ = !renamed_;
  return done;
}

int64_t FileTarget::seek(int fd, uint64_t offset, int whence) {
  return result_of(::lseek(fd_of(fd), static_cast<off_t>(offset), whence));
}

int64_t FileTarget::size(int fd) {
  struct statx info {};
  const int descriptor = fd_of(fd) >= 0 ? fd_of(fd) : fds_[0];
  if (::statx(descriptor, "", AT_EMPTY_PATH, STATX_SIZE, &info) != 0) return -errno;
  return static_cast<int64_t>(info.stx_size);
}

FlipResult FileTarget::flip(int fd, bool dax) {
  FlipResult out;
  out.result = set_dax_flag(fd_of(fd), dax);
  if (out.result == 0 && options_.verify_flips) out.complaint = check_flip(fd_of(fd), dax, options_.dax_states);
  return out;
}

}  // namespace udax::fsx
