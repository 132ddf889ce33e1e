// SPDX-License-Identifier: BSD-3-Clause
//
// What persistent memory a machine has, as plain facts: buses, their regions, the namespaces in these. Gathered by
// discover_platform(); here is what can be said of them without asking the machine again.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "media/medium.h"

namespace udax::media {

enum class NamespaceMode : uint8_t { kUnknown, kRaw, kSector, kFsdax, kDevdax, kSystemRam };

/// What a store has to reach to survive a power cut.
enum class PersistenceDomain : uint8_t { kUnknown, kNone, kMemoryController, kCpuCache };

struct Namespace {
  std::string name;    // "namespace0.0"; of a devdax device without one (CXL, hmem) the device's
  std::string device;  // "dax0.0", "pmem0", "pmem0s"; empty: disabled
  NamespaceMode mode = NamespaceMode::kUnknown;
  uint64_t size = 0;       // bytes that a user gets
  uint64_t alignment = 0;  // bytes, of mappings; 0: there are none
  std::string uuid;        // empty: none
  int numa_node = -1;
  std::vector<LostRange> bad;  // bytes of the device, in order
};

struct Region {
  std::string name;  // "region0"
  std::string type;  // "pmem"
  uint64_t size = 0;
  uint64_t available = 0;  // bytes in no namespace
  int numa_node = -1;
  PersistenceDomain domain = PersistenceDomain::kUnknown;
  std::optional<uint64_t> dirty_shutdowns;  // of all its modules; nullopt: some module does not count them
  std::vector<Namespace> namespaces;
};

struct Bus {
  std::string name;      // "ndbus0"; "dax" for devices of no nvdimm bus
  std::string provider;  // "ACPI.NFIT"
  std::vector<Region> regions;
};

struct Platform {
  std::vector<Bus> buses;
};

[[nodiscard]] const char* to_string(NamespaceMode mode);
/// The words of ndctl(1): "none", "memory_controller", "cpu_cache", "unknown".
[[nodiscard]] const char* to_string(PersistenceDomain domain);

/// "/dev/dax0.0"; empty if it is disabled.
[[nodiscard]] std::string device_path(const Namespace& ns);

/// What to do to have a pool on a namespace of this mode; empty where it can be one as it is.
[[nodiscard]] std::string advice(const Namespace& ns);

/// By name, by device with or without "/dev/", by UUID (in any case). nullptr: none.
[[nodiscard]] const Namespace* find_namespace(const Platform& platform, const std::string& name);

/// The bad ranges of a device that holds the bytes [start, start + size) of physical memory, from those of its region, all in
/// bytes of physical memory: cut to it, moved to its own offsets, widened to `unit`, sorted and joined.
[[nodiscard]] std::vector<LostRange> bad_ranges_within(std::span<const LostRange> physical, uint64_t start,
                                                       uint64_t size, uint64_t unit);

[[nodiscard]] uint64_t bytes_of(std::span<const LostRange> ranges);

}  // namespace udax::media
