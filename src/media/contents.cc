// SPDX-License-Identifier: BSD-3-Clause
#include "media/contents.h"

#include <blkid.h>
#include <fcntl.h>
#include <mntent.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "media/pool_lock.h"
#include "media/pool_mapping.h"
#include "media/superblock.h"
#include "media/uuid.h"

namespace udax::media {
namespace {

struct ProbeDeleter {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<blkid_struct_probe, ProbeDeleter>;

/// Copies [offset, offset + size) of the medium to the same place of `fd`.
bool copy_out(const Medium& medium, int fd, uint64_t offset, uint64_t size) {
  while (size > 0) {
    const ssize_t n = ::pwrite(fd, medium.at(offset), size, static_cast<off_t>(offset));
    if (n <= 0) return false;
    offset += static_cast<uint64_t>(n);
    size -= static_cast<uint64_t>(n);
  }
  return true;
}

std::string value_of(blkid_probe probe, const char* name) {
  const char* value = nullptr;
  if (blkid_probe_lookup_value(probe, name, &value, nullptr) != 0 || value == nullptr) return "";
  return value;
}

/// What a filesystem or partition table says of itself; kUnreadable: it cannot be told.
Contents probe_signatures(int fd) {
  Contents contents;
  const Probe probe(blkid_new_probe());
  if (probe == nullptr || blkid_probe_set_device(probe.get(), fd, 0, 0) != 0) return contents;
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID);
  blkid_probe_enable_partitions(probe.get(), 1);
  constexpr int kFound = 0;
  constexpr int kNothing = 1;
  constexpr int kSeveral = -2;
  const int found = blkid_do_safeprobe(probe.get());
  if (found != kFound && found != kNothing && found != kSeveral) return contents;
  contents.kind = found == kNothing ? Contents::Kind::kNothing : Contents::Kind::kForeign;
  if (found == kSeveral) contents.what = "several filesystems' signatures";
  if (found != kFound) return contents;
  const std::string type = value_of(probe.get(), "TYPE");
  const std::string table = value_of(probe.get(), "PTTYPE");
  contents.what = !type.empty()    ? type + " data"
                  : !table.empty() ? "a partition table (" + table + ")"
                                   : "data of a kind that is known";
  contents.label = value_of(probe.get(), "LABEL");
  contents.uuid = value_of(probe.get(), "UUID");
  return contents;
}

Contents find_foreign_contents(const Medium& medium) {
  const FileDescriptor fd(::memfd_create("udaxfs-probe", MFD_CLOEXEC));
  if (!fd.is_open()) return {};
  const uint64_t edge = std::min<uint64_t>(medium.size(), 1 << 20);
  if (::ftruncate(fd.get(), static_cast<off_t>(medium.size())) != 0 || !copy_out(medium, fd.get(), 0, edge) ||
      !copy_out(medium, fd.get(), medium.size() - edge, edge)) {
    return {};
  }
  return probe_signatures(fd.get());
}

/// Where a block device is mounted in this mount namespace: "mounted on /mnt (ext4)"; empty: nowhere.
std::string mount_of(const struct stat& device) {
  std::FILE* const table = ::setmntent("/proc/self/mounts", "re");
  if (table == nullptr) return "";
  std::string user;
  mntent entry{};
  std::array<char, 8192> buffer{};
  while (user.empty() && ::getmntent_r(table, &entry, buffer.data(), static_cast<int>(buffer.size())) != nullptr) {
    struct stat source {};
    if (entry.mnt_fsname[0] != '/' || ::stat(entry.mnt_fsname, &source) != 0) continue;
    if (!S_ISBLK(source.st_mode) || source.st_rdev != device.st_rdev) continue;
    user = std::string("mounted on ") + entry.mnt_dir + " (" + entry.mnt_type + ")";
  }
  ::endmntent(table);
  return user;
}

Contents identify_block_device(const std::string& path, const struct stat& st) {
  Contents contents;
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.is_open()) {
    contents.what = ::strerrordesc_np(errno);
  } else {
    contents = probe_signatures(fd.get());
    if (contents.kind == Contents::Kind::kUnreadable) contents.what = "it cannot be searched";
  }
  contents.user = mount_of(st);
  return contents;
}

Contents identify_pool(const std::string& path) {
  Contents contents;
  auto opened = PoolMedium::open(path, {OpenMode::kReadOnly, {}}, &contents.what);
  if (!opened) return contents;
  const PoolMedium& medium = **opened;
  const auto loaded = load_superblock(medium, &contents.what);
  if (!loaded && loaded.error() == Error::kNotAPool) {
    contents = find_foreign_contents(medium);
    if (contents.kind == Contents::Kind::kUnreadable) contents.what = "it cannot be searched";
    contents.user = describe_user(medium.fd(), {});
    return contents;
  }
  contents.kind = Contents::Kind::kPool;
  if (loaded) {
    const auto* const label = reinterpret_cast<const char*>(loaded->raw.label);
    contents.what.clear();
    contents.label.assign(label, ::strnlen(label, sizeof loaded->raw.label));
    contents.uuid = uuid_text(loaded->raw.uuid);
  }
  contents.user = describe_user(medium.fd(), PoolMedium::read_holder(medium));
  return contents;
}

}  // namespace

std::optional<std::string> find_foreign(const Medium& medium) {
  const Contents contents = find_foreign_contents(medium);
  if (contents.kind == Contents::Kind::kUnreadable) return std::nullopt;
  return contents.what;
}

Contents identify(const std::string& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) {
    Contents contents;
    contents.what = ::strerrordesc_np(errno);
    return contents;
  }
  return S_ISBLK(st.st_mode) ? identify_block_device(path, st) : identify_pool(path);
}

}  // namespace udax::media
