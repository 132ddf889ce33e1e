// SPDX-License-Identifier: BSD-3-Clause
//
// list: the persistent memory of this machine, what is on it and who uses it; and the pools that are mounted.
#include <fcntl.h>
#include <mntent.h>

#include <array>
#include <cinttypes>
#include <cstdio>

#include "media/contents.h"
#include "media/discovery.h"
#include "udaxctl.h"

namespace udax::ctl {
namespace {

using nlohmann::json;

// --- facts as JSON -----------------------------------------------------------------------------------------------

json contents_json(const media::Contents& contents) {
  json out = json::object();
  switch (contents.kind) {
    case media::Contents::Kind::kNothing: out["kind"] = "nothing"; break;
    case media::Contents::Kind::kPool: out["kind"] = "udaxfs"; break;
    case media::Contents::Kind::kForeign: out["kind"] = "foreign"; break;
    case media::Contents::Kind::kUnreadable: out["kind"] = "unreadable"; break;
  }
  if (!contents.what.empty()) out["what"] = contents.what;
  if (!contents.label.empty()) out["label"] = contents.label;
  if (!contents.uuid.empty()) out["uuid"] = contents.uuid;
  return out;
}

json bad_json(const std::vector<media::LostRange>& bad) {
  json out = json::array();
  for (const media::LostRange& range : bad) {
    out.push_back({{"offset_bytes", range.offset}, {"length_bytes", range.size}});
  }
  return out;
}

json namespace_json(const media::Namespace& ns) {
  json out = {{"dev", ns.name},
              {"mode", media::to_string(ns.mode)},
              {"size", ns.size},
              {"numa_node", ns.numa_node},
              {"bad_bytes", media::bytes_of(ns.bad)},
              {"bad", bad_json(ns.bad)}};
  if (ns.alignment != 0) out["align"] = ns.alignment;
  if (!ns.uuid.empty()) out["uuid"] = ns.uuid;
  if (ns.device.empty()) return out;
  out["device"] = media::device_path(ns);
  if (ns.mode == media::NamespaceMode::kSystemRam) return out;
  const media::Contents contents = media::identify(media::device_path(ns));
  out["holds"] = contents_json(contents);
  if (!contents.user.empty()) out["used_by"] = contents.user;
  return out;
}

json region_json(const media::Region& region) {
  json out = {{"dev", region.name},
              {"type", region.type},
              {"size", region.size},
              {"available_size", region.available},
              {"numa_node", region.numa_node},
              {"persistence_domain", media::to_string(region.domain)},
              {"namespaces", json::array()}};
  out["dirty_shutdowns"] = region.dirty_shutdowns ? json(*region.dirty_shutdowns) : json(nullptr);
  for (const media::Namespace& ns : region.namespaces) out["namespaces"].push_back(namespace_json(ns));
  return out;
}

json platform_json(const media::Platform& platform) {
  json out = json::array();
  for (const media::Bus& bus : platform.buses) {
    json one = {{"dev", bus.name}, {"provider", bus.provider}, {"regions", json::array()}};
    for (const media::Region& region : bus.regions) one["regions"].push_back(region_json(region));
    out.push_back(std::move(one));
  }
  return out;
}

/// What the daemon knows of media errors; 0 where it cannot be asked.
uint64_t lost_pages_of(const std::string& mountpoint) {
  const Fd fd(mountpoint, O_RDONLY | O_NONBLOCK);
  const auto stat = fd ? read_stat(fd.get()) : std::nullopt;
  const json::json_pointer at("/media/lost_pages");
  if (!stat || !stat->contains(at) || !stat->at(at).is_number_unsigned()) return 0;
  return stat->at(at).get<uint64_t>();
}

json mounts_json() {
  json out = json::array();
  std::FILE* const table = ::setmntent("/proc/self/mounts", "re");
  if (table == nullptr) return out;
  mntent entry{};
  std::array<char, 8192> buffer{};
  while (::getmntent_r(table, &entry, buffer.data(), static_cast<int>(buffer.size())) != nullptr) {
    if (std::string_view(entry.mnt_type) != "fuse.udaxfs") continue;
    json one = {{"mountpoint", entry.mnt_dir}, {"pool", entry.mnt_fsname}, {"options", entry.mnt_opts}};
    if (const auto info = ask_mount(entry.mnt_dir)) {
      one["info"] = *info;
      one["lost_pages"] = lost_pages_of(entry.mnt_dir);
    }
    out.push_back(std::move(one));
  }
  ::endmntent(table);
  return out;
}

// --- tables ------------------------------------------------------------------------------------------------------

/// The text at `key`, or another if it is not there.
std::string text_at(const json& j, const char* key, const char* otherwise = "-") {
  const auto found = j.find(key);
  return found == j.end() || !found->is_string() ? otherwise : printable(found->get<std::string>());
}

std::string size_at(const json& j, const char* key, const char* if_none) {
  const uint64_t bytes = j.value(key, uint64_t{0});
  return bytes == 0 ? if_none : size_text(bytes);
}

std::string holds_text(const json& ns) {
  if (!ns.contains("holds")) return "-";
  const json& holds = ns.at("holds");
  const std::string kind = holds.at("kind").get<std::string>();
  if (kind == "nothing") return "nothing known";
  if (kind == "unreadable") return "? (" + text_at(holds, "what", "not readable") + ")";
  std::string text = kind == "foreign" ? text_at(holds, "what") : "udaxfs";
  if (holds.contains("label")) text += " \"" + text_at(holds, "label") + "\"";
  if (kind == "udaxfs" && holds.contains("what")) text += " (damaged: " + text_at(holds, "what") + ")";
  return text;
}

/// Columns as wide as their widest cell, two spaces between them.
void print_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
    }
    std::printf("%s\n", line.c_str());
  }
}

void print_platform(const json& buses) {
  std::vector<std::vector<std::string>> regions = {
      {"REGION", "BUS", "PROVIDER", "SIZE", "FREE", "NODE", "PERSISTENCE", "DIRTY SHUTDOWNS"}};
  std::vector<std::vector<std::string>> namespaces = {
      {"NAMESPACE", "DEVICE", "MODE", "SIZE", "ALIGN", "NODE", "UUID", "BAD", "HOLDS", "USED BY"}};
  for (const json& bus : buses) {
    for (const json& region : bus.at("regions")) {
      const json& dirty = region.at("dirty_shutdowns");
      regions.push_back({text_at(region, "dev"), text_at(bus, "dev"), text_at(bus, "provider"),
                         size_at(region, "size", "?"), size_at(region, "available_size", "none"),
                         region.at("numa_node").dump(), text_at(region, "persistence_domain"),
                         dirty.is_null() ? "not counted" : dirty.dump()});
      for (const json& ns : region.at("namespaces")) {
        namespaces.push_back({text_at(ns, "dev"), text_at(ns, "device", "disabled"), text_at(ns, "mode"),
                              size_at(ns, "size", "?"), size_at(ns, "align", "-"), ns.at("numa_node").dump(),
                              text_at(ns, "uuid"), size_at(ns, "bad_bytes", "none"), holds_text(ns),
                              text_at(ns, "used_by", "nobody")});
      }
    }
  }
  if (buses.empty()) {
    std::printf("No nvdimm bus: this machine's kernel knows of no persistent memory.\n");
    return;
  }
  print_table(regions);
  std::printf("\n");
  print_table(namespaces);
}

void print_mounts(const json& mounts) {
  if (mounts.empty()) {
    std::printf("No pool is mounted.\n");
    return;
  }
  std::vector<std::vector<std::string>> rows = {{"POOL", "MOUNTPOINT", "SIZE", "FREE", "LOST", "LABEL"}};
  for (const json& one : mounts) {
    const bool known = one.contains("info");
    const auto blocks = [&](const char* key) {
      return known ? size_text(one.at("info").at(key).get<uint64_t>() * 4096) : std::string("?");
    };
    const uint64_t lost = one.value("lost_pages", uint64_t{0});
    rows.push_back({text_at(one, "pool"), text_at(one, "mountpoint"), blocks("blocks"), blocks("blocks_free"),
                    !known      ? "?"
                    : lost == 0 ? "none"
                                : size_text(lost * 4096),
                    known ? text_at(one.at("info"), "label") : ""});
  }
  print_table(rows);
}

}  // namespace

int run_list(bool json_wanted) {
  const auto platform = media::discover_platform();
  if (!platform) return fail("the persistent memory of this machine cannot be listed");
  const json buses = platform_json(*platform);
  const json mounts = mounts_json();
  if (json_wanted) {
    print({{"buses", buses}, {"mounts", mounts}});
    return kExitDone;
  }
  print_platform(buses);
  std::printf("\n");
  print_mounts(mounts);
  return kExitDone;
}

}  // namespace udax::ctl
