// SPDX-License-Identifier: BSD-3-Clause
#include "media/pool_name.h"

#include <mntent.h>
#include <strings.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <new>
#include <string_view>

#include "media/contents.h"
#include "media/discovery.h"
#include "media/sentence.h"

namespace udax::media {
namespace {

constexpr std::string_view kLabelTag = "LABEL=";
constexpr std::string_view kUuidTag = "UUID=";
constexpr std::string_view kNamespace = "namespace";

/// "namespace0.0": digits, a point, digits.
bool is_namespace_name(std::string_view text) {
  if (!text.starts_with(kNamespace)) return false;
  text.remove_prefix(kNamespace.size());
  const size_t point = text.find('.');
  if (point == std::string_view::npos || point == 0 || point + 1 == text.size()) return false;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(point), is_digit) &&
         std::all_of(text.begin() + static_cast<std::ptrdiff_t>(point) + 1, text.end(), is_digit);
}

Result<std::string> device_of(const Namespace& ns, std::string* why) {
  if (const std::string say_how = advice(ns); !say_how.empty()) return say(why, Error::kInvalid, say_how);
  return device_path(ns);
}

void add_pool(const std::string& path, std::vector<KnownPool>& pools) {
  const auto is_same = [&path](const KnownPool& known) { return known.path == path; };
  if (std::any_of(pools.begin(), pools.end(), is_same)) return;
  const Contents contents = identify(path);
  if (contents.kind == Contents::Kind::kPool) pools.push_back({path, contents.label, contents.uuid});
}

std::vector<KnownPool> known_pools(const Platform& platform) {
  std::vector<KnownPool> pools;
  for (const Bus& bus : platform.buses) {
    for (const Region& region : bus.regions) {
      for (const Namespace& ns : region.namespaces) {
        if (ns.mode == NamespaceMode::kDevdax && !ns.device.empty()) add_pool(device_path(ns), pools);
      }
    }
  }
  for (const char* const table : {"/proc/self/mounts", "/etc/fstab"}) {
    for (const std::string& path : pools_in_table(table)) add_pool(path, pools);
  }
  return pools;
}

}  // namespace

bool is_pool_tag(const std::string& given) {
  return given.starts_with(kLabelTag) || given.starts_with(kUuidTag) || is_namespace_name(given);
}

Result<std::string> choose_pool(const std::string& given, const Platform& platform,
                                std::span<const KnownPool> pools, std::string* why) {
  const bool by_label = given.starts_with(kLabelTag);
  const bool by_uuid = given.starts_with(kUuidTag);
  const std::string value = given.substr(by_label ? kLabelTag.size() : by_uuid ? kUuidTag.size() : 0);
  if (value.empty()) return say(why, Error::kInvalid, given, " names nothing");
  const KnownPool* found = nullptr;
  for (const KnownPool& pool : pools) {
    const bool fits =
        (by_label && pool.label == value) || (by_uuid && ::strcasecmp(pool.uuid.c_str(), value.c_str()) == 0);
    if (!fits) continue;
    if (found != nullptr) {
      return say(why, Error::kInvalid, given, " is not unique: ", found->path, " and ", pool.path,
                 " have it; name one by its path");
    }
    found = &pool;
  }
  if (found != nullptr) return found->path;
  if (!by_label) {
    if (const Namespace* const ns = find_namespace(platform, value); ns != nullptr) return device_of(*ns, why);
  }
  if (!by_label && !by_uuid) {
    return say(why, Error::kNotFound, "there is no ", given, "; `udaxctl list` shows what there is");
  }
  return say(
      why, Error::kNotFound, "no pool with ", given,
      " is on a devdax device that may be read, mounted, or in /etc/fstab; `udaxctl list` shows what there is");
}

std::vector<std::string> pools_in_table(const std::string& table) {
  std::vector<std::string> paths;
  std::FILE* const file = ::setmntent(table.c_str(), "re");
  if (file == nullptr) return paths;
  mntent entry{};
  std::array<char, 8192> buffer{};
  while (::getmntent_r(file, &entry, buffer.data(), static_cast<int>(buffer.size())) != nullptr) {
    if (std::string_view(entry.mnt_type) == "fuse.udaxfs" && entry.mnt_fsname[0] == '/') {
      paths.emplace_back(entry.mnt_fsname);
    }
  }
  ::endmntent(file);
  return paths;
}

Result<std::string> resolve_pool(const std::string& given, std::string* why) try {
  if (!is_pool_tag(given)) return given;
  UDAX_TRY(const Platform platform, discover_platform());
  if (is_namespace_name(given)) return choose_pool(given, platform, {}, why);
  return choose_pool(given, platform, known_pools(platform), why);
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

}  // namespace udax::media
