// SPDX-License-Identifier: BSD-3-Clause
#include "media/pool_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>

#include "base/types.h"

namespace udax::media {
namespace {

constexpr uint64_t kHugeSize = 2 << 20;

/// The block device that the file's filesystem is on, by its name in /sys ("pmem0", "pmem0p1"); empty: none.
std::string device_name(const struct stat& st) {
  const std::string link =
      "/sys/dev/block/" + std::to_string(::major(st.st_dev)) + ":" + std::to_string(::minor(st.st_dev));
  std::array<char, 4096> target{};
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  if (length <= 0 || length == static_cast<ssize_t>(target.size())) return "";
  const std::string_view path(target.data(), static_cast<size_t>(length));
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

bool is_dax_file(int fd) {
  struct statx facts {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &facts) != 0) return false;
  return (facts.stx_attributes_mask & facts.stx_attributes & STATX_ATTR_DAX) != 0;
}

bool takes_map_sync(int fd) {
  void* const page = ::mmap(nullptr, kBlockSize, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
  if (page == MAP_FAILED) return false;
  ::munmap(page, kBlockSize);
  return true;
}

/// Asks for extents of whole 2 MiB. xfs takes it of a file that is empty; who does not take it does without.
void hint_huge_extents(int fd) {
  fsxattr attributes{};
  if (::ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0) return;
  attributes.fsx_xflags |= FS_XFLAG_EXTSIZE;
  attributes.fsx_extsize = kHugeSize;
  (void)::ioctl(fd, FS_IOC_FSSETXATTR, &attributes);
}

}  // namespace

FileFacts look_at_file(int fd) {
  FileFacts facts;
  struct statfs fs {};
  if (::fstatfs(fd, &fs) == 0) {
    const auto magic = static_cast<uint64_t>(fs.f_type) & 0xFFFFFFFF;
    facts.is_memory = magic == TMPFS_MAGIC || magic == RAMFS_MAGIC || magic == 0x958458F6;  // hugetlbfs
  }
  facts.is_dax = is_dax_file(fd);
  facts.has_map_sync = takes_map_sync(fd);
  struct stat st {};
  if (::fstat(fd, &st) == 0) facts.pmem = device_name(st);
  if (!facts.pmem.starts_with("pmem")) facts.pmem.clear();
  return facts;
}

std::string advice(const FileFacts& facts, Granularity granularity, const std::string& path) {
  if (facts.is_memory) return "";
  if (granularity != Granularity::kPage) {
    if (facts.has_map_sync) return "";
    return path +
           " is flushed as persistent memory is, since PMEM2_FORCE_GRANULARITY says so, but it is none: what is "
           "stored "
           "survives the daemon, and not a power cut";
  }
  if (facts.pmem.empty()) return "";
  static constexpr const char* kCost = "; as it is, each operation costs an msync";
  if (facts.pmem.ends_with('s')) {
    return path + " is on /dev/" + facts.pmem +
           ", a namespace in sector mode, which cannot be mapped directly: make it fsdax or devdax" + kCost;
  }
  if (facts.is_dax) {
    return path +
           " is a DAX file, but its filesystem refuses MAP_SYNC, which stores that persist without msync need: "
           "use "
           "ext4 or xfs on a kernel that has it (Linux 4.15 and later)" +
           kCost;
  }
  return path + " is on /dev/" + facts.pmem +
         ", but its filesystem is not mounted with -o dax, or not able to: mount it so (xfs takes reflink=0 by "
         "mkfs.xfs, "
         "ext4 blocks of 4096 bytes by mkfs.ext4)" +
         kCost;
}

Status resize_file(int fd, uint64_t size) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return from_errno(errno);
  const bool is_dax = is_dax_file(fd);
  if (is_dax && st.st_blocks == 0) hint_huge_extents(fd);
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0) return from_errno(errno);
  if (!is_dax) return {};
  while (::fallocate(fd, 0, 0, static_cast<off_t>(size)) != 0) {
    if (errno == EINTR) continue;
    // A filesystem without fallocate allocates as it is stored to.
    if (errno == EOPNOTSUPP) return {};
    const Error error = from_errno(errno);
    return ::ftruncate(fd, st.st_size) == 0 ? error : Error::kIo;
  }
  return {};
}

}  // namespace udax::media
