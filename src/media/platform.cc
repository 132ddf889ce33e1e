// SPDX-License-Identifier: BSD-3-Clause
#include "media/platform.h"

#include <strings.h>

#include <algorithm>
#include <string_view>

#include "base/types.h"

namespace udax::media {

const char* to_string(NamespaceMode mode) {
  switch (mode) {
    case NamespaceMode::kRaw: return "raw";
    case NamespaceMode::kSector: return "sector";
    case NamespaceMode::kFsdax: return "fsdax";
    case NamespaceMode::kDevdax: return "devdax";
    case NamespaceMode::kSystemRam: return "system-ram";
    case NamespaceMode::kUnknown: break;
  }
  return "unknown";
}

const char* to_string(PersistenceDomain domain) {
  switch (domain) {
    case PersistenceDomain::kNone: return "none";
    case PersistenceDomain::kMemoryController: return "memory_controller";
    case PersistenceDomain::kCpuCache: return "cpu_cache";
    case PersistenceDomain::kUnknown: break;
  }
  return "unknown";
}

std::string device_path(const Namespace& ns) { return ns.device.empty() ? std::string() : "/dev/" + ns.device; }

std::string advice(const Namespace& ns) {
  const std::string make = "ndctl create-namespace -f -e " + ns.name;
  const std::string either = "`" + make + " -m devdax` makes a /dev/daxX.Y of it, or `" + make +
                             " -m fsdax` a block device for ext4 or xfs; both destroy what it holds";
  if (ns.device.empty()) return ns.name + " is disabled; `ndctl enable-namespace " + ns.name + "` enables it";
  switch (ns.mode) {
    case NamespaceMode::kDevdax: return "";
    case NamespaceMode::kFsdax:
      return ns.name + " is fsdax: put ext4 or xfs on /dev/" + ns.device +
             ", mount that with -o dax, and use a file there; or make it devdax (`" + make +
             " -m devdax`, which destroys what it holds)";
    case NamespaceMode::kSector:
      return ns.name + " is in sector mode, for atomic sectors, and cannot be mapped; " + either;
    case NamespaceMode::kRaw:
      return ns.name +
             " is raw: it has no place for the kernel's page structures, so that nothing there can be mapped "
             "safely; " +
             either;
    case NamespaceMode::kSystemRam:
      return ns.device + " is in use as ordinary memory; `daxctl reconfigure-device -m devdax " + ns.device +
             "` gives it back";
    case NamespaceMode::kUnknown: break;
  }
  return ns.name + " is of a mode that is not known here; " + either;
}

const Namespace* find_namespace(const Platform& platform, const std::string& name) {
  static constexpr std::string_view kFolder = "/dev/";
  const std::string_view device = name.starts_with(kFolder) ? std::string_view(name).substr(kFolder.size()) : name;
  if (device.empty()) return nullptr;
  for (const Bus& bus : platform.buses) {
    for (const Region& region : bus.regions) {
      for (const Namespace& ns : region.namespaces) {
        if (ns.name == name || ns.device == device) return &ns;
        if (!ns.uuid.empty() && ::strcasecmp(ns.uuid.c_str(), name.c_str()) == 0) return &ns;
      }
    }
  }
  return nullptr;
}

std::vector<LostRange> bad_ranges_within(std::span<const LostRange> physical, uint64_t start, uint64_t size,
                                         uint64_t unit) {
  std::vector<LostRange> cut;
  for (const LostRange& range : physical) {
    // What the kernel says may be anything: an end past 2^64 is the end of memory.
    const uint64_t end = range.size > UINT64_MAX - range.offset ? UINT64_MAX : range.end();
    const uint64_t first = std::max(range.offset, start);
    if (first >= end || first - start >= size) continue;
    const uint64_t from = align_down(first - start, unit);
    const uint64_t to = std::min(size, align_up(std::min(end - start, size), unit));
    if (from < to) cut.push_back({from, to - from});
  }
  std::sort(cut.begin(), cut.end(), [](const LostRange& a, const LostRange& b) { return a.offset < b.offset; });
  std::vector<LostRange> joined;
  for (const LostRange& range : cut) {
    if (!joined.empty() && range.offset <= joined.back().end()) {
      joined.back().size = std::max(joined.back().end(), range.end()) - joined.back().offset;
    } else {
      joined.push_back(range);
    }
  }
  return joined;
}

uint64_t bytes_of(std::span<const LostRange> ranges) {
  uint64_t sum = 0;
  for (const LostRange& range : ranges) sum += range.size;
  return sum;
}

}  // namespace udax::media
