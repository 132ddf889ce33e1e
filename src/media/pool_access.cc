// SPDX-License-Identifier: BSD-3-Clause
#include "media/pool_access.h"

#include <mntent.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <string_view>

namespace udax::media {
namespace {

constexpr std::chrono::milliseconds kPatience{5000};

/// In this mount namespace.
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

// The holder's word is only that; what it says decides on waiting and on nothing else.
bool holder_serves_a_mount(const std::string& path) {
  OpenOptions look;
  look.mode = OpenMode::kReadOnly;
  const auto medium = PoolMedium::open(path, look, nullptr);
  if (!medium) return false;
  const Holder holder = PoolMedium::read_holder(**medium);
  return holder.pid != 0 && !holder.mountpoint.empty() && is_udaxfs_mount(holder.mountpoint);
}

}  // namespace

Result<std::unique_ptr<PoolMedium>> open_when_free(const std::string& path, OpenMode mode, std::string* why) {
  OpenOptions options;
  options.mode = mode;
  auto medium = PoolMedium::open(path, options, why);
  if (medium || medium.error() != Error::kBusy || holder_serves_a_mount(path)) return medium;
  options.lock_wait = kPatience;
  return PoolMedium::open(path, options, why);
}

}  // namespace udax::media
