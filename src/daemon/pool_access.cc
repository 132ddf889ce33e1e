// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/pool_access.h"

#include <mntent.h>

#include <array>
#include <cstdio>

namespace udax::daemon {
namespace {

constexpr std::chrono::milliseconds kPatience{5000};

// The holder's word is only that; what it says decides on waiting and on nothing else.
bool holder_serves_a_mount(const std::string& path) {
  media::OpenOptions look;
  look.mode = media::OpenMode::kReadOnly;
  const auto medium = media::PoolMedium::open(path, look, nullptr);
  if (!medium) return false;
  const media::Holder holder = media::PoolMedium::read_holder(**medium);
  return holder.pid != 0 && !holder.mountpoint.empty() && is_udaxfs_mount(holder.mountpoint);
}

}  // namespace

bool is_udaxfs_mount(const std::string& mountpoint) {
  std::FILE* table = ::setmntent("/proc/self/mounts", "re");
  if (table == nullptr) return false;
  bool found = false;
  mntent entry{};
  std::array<char, 8192> buffer{};
  while (!found && ::getmntent_r(table, &entry, buffer.data(), static_cast<int>(buffer.size())) != nullptr) {
    found = mountpoint == entry.mnt_dir && std::string_view(entry.mnt_type) == "fuse.udaxfs";
  }
  ::endmntent(table);
  return found;
}

Result<std::unique_ptr<media::PoolMedium>> open_pool(const std::string& path, bool read_only, std::string* why) {
  media::OpenOptions options;
  options.mode = read_only ? media::OpenMode::kReadOnlyExclusive : media::OpenMode::kExclusive;
  auto medium = media::PoolMedium::open(path, options, why);
  if (medium || medium.error() != Error::kBusy || holder_serves_a_mount(path)) return medium;
  options.lock_wait = kPatience;
  return media::PoolMedium::open(path, options, why);
}

}  // namespace udax::daemon
