// SPDX-License-Identifier: BSD-3-Clause
//
// Everything that the libraries hand out is theirs, and goes with their contexts: it is copied at once.
#include "media/discovery.h"

#include <daxctl/libdaxctl.h>
#include <ndctl/libndctl.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <memory>
#include <new>
#include <set>

#include "base/types.h"
#include "media/uuid.h"

namespace udax::media {
namespace {

constexpr uint64_t kSector = 512;

struct NdctlUnref {
  void operator()(ndctl_ctx* ctx) const { ndctl_unref(ctx); }
};
struct DaxctlUnref {
  void operator()(daxctl_ctx* ctx) const { daxctl_unref(ctx); }
};

std::string text_or_empty(const char* text) { return text == nullptr ? std::string() : std::string(text); }

/// The libraries give zeroes for one that there is not.
std::string uuid_or_empty(const uuid_t& uuid) {
  const bool is_given = std::any_of(std::begin(uuid), std::end(uuid), [](uint8_t byte) { return byte != 0; });
  return is_given ? uuid_text(uuid) : std::string();
}

/// The libraries say 0, or all ones, for what they could not read.
uint64_t known_or_zero(unsigned long long value) { return value == ~0ULL ? 0 : value; }

/// The libraries have them in the order of folders in /sys. "region10" comes after "region9".
template <typename T>
void sort_by_name(std::vector<T>& all) {
  std::sort(all.begin(), all.end(),
            [](const T& a, const T& b) { return ::strverscmp(a.name.c_str(), b.name.c_str()) < 0; });
}

NamespaceMode to_mode(ndctl_namespace_mode mode) {
  switch (mode) {
    case NDCTL_NS_MODE_FSDAX: return NamespaceMode::kFsdax;
    case NDCTL_NS_MODE_SECTOR: return NamespaceMode::kSector;
    case NDCTL_NS_MODE_RAW: return NamespaceMode::kRaw;
    case NDCTL_NS_MODE_DEVDAX: return NamespaceMode::kDevdax;
    default: return NamespaceMode::kUnknown;
  }
}

PersistenceDomain to_domain(ndctl_persistence_domain domain) {
  switch (domain) {
    case PERSISTENCE_NONE: return PersistenceDomain::kNone;
    case PERSISTENCE_MEM_CTRL: return PersistenceDomain::kMemoryController;
    case PERSISTENCE_CPU_CACHE: return PersistenceDomain::kCpuCache;
    default: return PersistenceDomain::kUnknown;
  }
}

/// In bytes of physical memory; empty where the region's place may not be seen.
std::vector<LostRange> bad_of(ndctl_region* region) {
  std::vector<LostRange> bad;
  const uint64_t start = known_or_zero(ndctl_region_get_resource(region));
  if (start == 0) return bad;
  for (badblock* block = ndctl_region_get_first_badblock(region); block != nullptr;
       block = ndctl_region_get_next_badblock(region)) {
    bad.push_back({start + block->offset * kSector, block->len * kSector});
  }
  return bad;
}

/// A block device keeps a list of its own, from its own start.
std::vector<LostRange> bad_of(ndctl_namespace* ndns, uint64_t size) {
  std::vector<LostRange> bad;
  for (badblock* block = ndctl_namespace_get_first_badblock(ndns); block != nullptr;
       block = ndctl_namespace_get_next_badblock(ndns)) {
    bad.push_back({block->offset * kSector, block->len * kSector});
  }
  return bad_ranges_within(bad, 0, size, kBlockSize);
}

void describe_devdax(ndctl_dax* dax, const std::vector<LostRange>& bad_memory, Namespace& ns) {
  uuid_t uuid{};
  ndctl_dax_get_uuid(dax, uuid);
  ns.uuid = uuid_or_empty(uuid);
  ns.size = known_or_zero(ndctl_dax_get_size(dax));
  ns.alignment = ndctl_dax_get_align(dax);
  daxctl_region* const region = ndctl_dax_get_daxctl_region(dax);
  daxctl_dev* const device = region == nullptr ? nullptr : daxctl_dev_get_first(region);
  if (device == nullptr) return;
  ns.device = text_or_empty(daxctl_dev_get_devname(device));
  if (const uint64_t size = known_or_zero(daxctl_dev_get_size(device)); size != 0) ns.size = size;
  if (daxctl_dev_get_memory(device) != nullptr) ns.mode = NamespaceMode::kSystemRam;
  const uint64_t start = known_or_zero(ndctl_dax_get_resource(dax));
  if (start != 0) ns.bad = bad_ranges_within(bad_memory, start, ns.size, kBlockSize);
}

Namespace describe(ndctl_namespace* ndns, const std::vector<LostRange>& bad_memory) {
  Namespace ns;
  ns.name = text_or_empty(ndctl_namespace_get_devname(ndns));
  ns.mode = to_mode(ndctl_namespace_get_mode(ndns));
  ns.numa_node = ndctl_namespace_get_numa_node(ndns);
  ns.size = known_or_zero(ndctl_namespace_get_size(ndns));
  if (ndctl_dax* const dax = ndctl_namespace_get_dax(ndns); dax != nullptr) {
    describe_devdax(dax, bad_memory, ns);
    return ns;
  }
  uuid_t uuid{};
  if (ndctl_btt* const btt = ndctl_namespace_get_btt(ndns); btt != nullptr) {
    ndctl_btt_get_uuid(btt, uuid);
    ns.size = known_or_zero(ndctl_btt_get_size(btt));
    ns.device = text_or_empty(ndctl_btt_get_block_device(btt));
  } else if (ndctl_pfn* const pfn = ndctl_namespace_get_pfn(ndns); pfn != nullptr) {
    ndctl_pfn_get_uuid(pfn, uuid);
    ns.size = known_or_zero(ndctl_pfn_get_size(pfn));
    ns.alignment = ndctl_pfn_get_align(pfn);
    ns.device = text_or_empty(ndctl_pfn_get_block_device(pfn));
  } else {
    ndctl_namespace_get_uuid(ndns, uuid);
    if (ndctl_namespace_is_enabled(ndns) > 0) ns.device = text_or_empty(ndctl_namespace_get_block_device(ndns));
  }
  ns.uuid = uuid_or_empty(uuid);
  ns.bad = bad_of(ndns, ns.size);
  return ns;
}

/// nullopt: a module that cannot tell, or none at all.
std::optional<uint64_t> dirty_shutdowns_of(ndctl_region* region) {
  std::optional<uint64_t> sum;
  ndctl_dimm* dimm = nullptr;
  ndctl_dimm_foreach_in_region(region, dimm) {
    const long long count = ndctl_dimm_get_dirty_shutdown(dimm);
    if (count < 0) return std::nullopt;
    sum = sum.value_or(0) + static_cast<uint64_t>(count);
  }
  return sum;
}

Region describe(ndctl_region* from) {
  Region region;
  region.name = text_or_empty(ndctl_region_get_devname(from));
  region.type = text_or_empty(ndctl_region_get_type_name(from));
  region.size = known_or_zero(ndctl_region_get_size(from));
  region.available = known_or_zero(ndctl_region_get_available_size(from));
  region.numa_node = ndctl_region_get_numa_node(from);
  region.domain = to_domain(ndctl_region_get_persistence_domain(from));
  region.dirty_shutdowns = dirty_shutdowns_of(from);
  const std::vector<LostRange> bad_memory = bad_of(from);
  ndctl_namespace* ndns = nullptr;
  ndctl_namespace_foreach(from, ndns) {
    // Seeds, from which namespaces can be made, are none.
    if (!ndctl_namespace_is_active(ndns) && ndctl_namespace_get_size(ndns) == 0) continue;
    region.namespaces.push_back(describe(ndns, bad_memory));
  }
  sort_by_name(region.namespaces);
  return region;
}

void add_buses(ndctl_ctx* ctx, Platform& platform) {
  ndctl_bus* from = nullptr;
  ndctl_bus_foreach(ctx, from) {
    Bus bus;
    bus.name = text_or_empty(ndctl_bus_get_devname(from));
    bus.provider = text_or_empty(ndctl_bus_get_provider(from));
    ndctl_region* region = nullptr;
    ndctl_region_foreach(from, region) bus.regions.push_back(describe(region));
    sort_by_name(bus.regions);
    platform.buses.push_back(std::move(bus));
  }
}

std::set<std::string> devices_of(const Platform& platform) {
  std::set<std::string> names;
  for (const Bus& bus : platform.buses) {
    for (const Region& region : bus.regions) {
      for (const Namespace& ns : region.namespaces) names.insert(ns.device);
    }
  }
  return names;
}

/// Devices that no namespace shows.
void add_other_devices(daxctl_ctx* ctx, Platform& platform) {
  const std::set<std::string> known = devices_of(platform);
  Bus bus;
  bus.name = "dax";
  daxctl_region* from = nullptr;
  daxctl_region_foreach(ctx, from) {
    Region region;
    region.name = text_or_empty(daxctl_region_get_devname(from));
    region.type = "dax";
    region.size = known_or_zero(daxctl_region_get_size(from));
    daxctl_dev* device = nullptr;
    daxctl_dev_foreach(from, device) {
      Namespace ns;
      ns.name = text_or_empty(daxctl_dev_get_devname(device));
      ns.size = known_or_zero(daxctl_dev_get_size(device));
      if (ns.size == 0 || known.contains(ns.name)) continue;
      if (daxctl_dev_is_enabled(device) > 0) ns.device = ns.name;
      ns.mode = daxctl_dev_get_memory(device) != nullptr ? NamespaceMode::kSystemRam : NamespaceMode::kDevdax;
      ns.alignment = daxctl_dev_get_align(device);
      ns.numa_node = daxctl_dev_get_target_node(device);
      region.namespaces.push_back(std::move(ns));
    }
    if (!region.namespaces.empty()) bus.regions.push_back(std::move(region));
  }
  if (!bus.regions.empty()) platform.buses.push_back(std::move(bus));
}

}  // namespace

Result<Platform> discover_platform() try {
  Platform platform;
  ndctl_ctx* nd = nullptr;
  if (ndctl_new(&nd) != 0) return Error::kIo;
  const std::unique_ptr<ndctl_ctx, NdctlUnref> nd_owner(nd);
  add_buses(nd, platform);
  daxctl_ctx* dax = nullptr;
  if (daxctl_new(&dax) != 0) return Error::kIo;
  const std::unique_ptr<daxctl_ctx, DaxctlUnref> dax_owner(dax);
  add_other_devices(dax, platform);
  return platform;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
}

}  // namespace udax::media
