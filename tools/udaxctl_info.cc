// SPDX-License-Identifier: BSD-3-Clause
//
// info: what a pool is, read from the pool, or from the daemon that serves it.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "check/check.h"
#include "format/checksum.h"
#include "media/pool_medium.h"
#include "media/pool_name.h"
#include "media/superblock.h"
#include "media/uuid.h"
#include "udax/ioctl.h"
#include "udaxctl.h"

namespace udax::ctl {
namespace {

const char* granularity_text(uint32_t g) {
  switch (g) {
    case UDAX_GRANULARITY_BYTE: return "byte (eADR)";
    case UDAX_GRANULARITY_CACHE_LINE: return "cache line (flushed)";
    default: return "page (msync)";
  }
}

const char* dax_text(uint32_t mode) {
  switch (mode) {
    case UDAX_DAX_ALWAYS: return "always";
    case UDAX_DAX_NEVER: return "never";
    default: return "inode";
  }
}

nlohmann::json mount_json(const udax_ioc_info& info) {
  return {{"uuid", media::uuid_text(info.uuid)},
          {"label", std::string(info.label, strnlen(info.label, sizeof info.label))},
          {"version", std::to_string(info.version_major) + "." + std::to_string(info.version_minor)},
          {"block_size", info.block_size},
          {"blocks", info.block_count},
          {"blocks_free", info.blocks_free},
          {"journal_blocks", info.journal_blocks},
          {"compat", info.compat},
          {"ro_compat", info.ro_compat},
          {"incompat", info.incompat},
          {"mounted", true},
          {"read_only", (info.flags & UDAX_INFO_READ_ONLY) != 0},
          {"dax", dax_text(info.dax_mode)},
          {"granularity", granularity_text(info.granularity)}};
}

/// Sums the descriptors; those that cannot be read count as full, as they do for a mount.
uint64_t count_free(const media::Medium& medium, const media::Geometry& g) {
  uint64_t free = 0;
  for (uint64_t group = 0; group < g.group_count; ++group) {
    const auto* desc = medium.as<format::GroupDesc>(g.desc_offset(group));
    if (format::is_sealed(g.checksum_seed, format::Unit::kGroupDesc, desc)) free += desc->free_blocks;
  }
  return free;
}

nlohmann::json pool_json(const media::PoolMedium& medium, const media::LoadedSuperblock& super) {
  const format::Superblock& sb = super.raw;
  const media::Holder holder = media::PoolMedium::read_holder(medium);
  const char* const label = reinterpret_cast<const char*>(sb.label);
  nlohmann::json out = {{"uuid", media::uuid_text(sb.uuid)},
                        {"label", std::string(label, strnlen(label, sizeof sb.label))},
                        {"version", std::to_string(sb.version_major) + "." + std::to_string(sb.version_minor)},
                        {"block_size", sb.block_size.get()},
                        {"blocks", sb.block_count.get()},
                        {"blocks_free", count_free(medium, super.geometry)},
                        {"blocks_reserved", sb.reserved_blocks.get()},
                        {"groups", sb.group_count.get()},
                        {"journal_start", sb.journal_start.get()},
                        {"journal_blocks", sb.journal_blocks.get()},
                        {"data_start", sb.data_start.get()},
                        {"compat", sb.compat.get()},
                        {"ro_compat", sb.ro_compat.get()},
                        {"incompat", sb.incompat.get()},
                        {"created", time_text(static_cast<int64_t>(sb.created_s.get()), sb.created_ns)},
                        {"medium", medium.kind()},
                        {"from_replica", super.source == media::SuperblockSource::kReplica},
                        {"unmounted_cleanly", check::is_unmounted_cleanly(medium)}};
  if (holder.pid != 0) {
    out["holder"] = {{"pid", holder.pid}, {"program", holder.program}, {"mountpoint", holder.mountpoint}};
  }
  return out;
}

void print_common(const nlohmann::json& j) {
  const auto number = [&j](const char* key) { return j.at(key).get<uint64_t>(); };
  const auto text = [&j](const char* key) { return printable(j.at(key).get<std::string>()); };
  std::printf("uuid        %s\n", text("uuid").c_str());
  std::printf("label       \"%s\"\n", text("label").c_str());
  std::printf("format      %s\n", text("version").c_str());
  std::printf("size        %s, %" PRIu64 " blocks of 4096 bytes\n", size_text(number("blocks") * 4096).c_str(),
              number("blocks"));
  std::printf("free        %s, %" PRIu64 " blocks\n", size_text(number("blocks_free") * 4096).c_str(),
              number("blocks_free"));
  std::printf("journal     %s\n", size_text(number("journal_blocks") * 4096).c_str());
  if ((number("compat") | number("ro_compat") | number("incompat")) != 0) {
    std::printf("features    compat %#" PRIx64 ", ro-compat %#" PRIx64 ", incompat %#" PRIx64 "\n",
                number("compat"), number("ro_compat"), number("incompat"));
  }
}

}  // namespace

std::optional<nlohmann::json> ask_mount(const std::string& path) {
  const Fd fd(path, O_RDONLY | O_NONBLOCK);
  udax_ioc_info info{};
  if (!fd || ::ioctl(fd.get(), UDAX_IOC_INFO, &info) != 0) return std::nullopt;
  return mount_json(info);
}

namespace {

int info_of_mount(const std::string& path, bool json) {
  const auto info = ask_mount(path);
  if (!info) {
    return fail(path +
                (errno == ENOTTY ? " is not on a mounted udaxfs" : std::string(": ") + std::strerror(errno)));
  }
  const nlohmann::json& j = *info;
  if (json) {
    print(j);
    return kExitDone;
  }
  print_common(j);
  std::printf("mounted     %s, dax=%s\n", j.at("read_only").get<bool>() ? "read-only" : "read-write",
              j.at("dax").get<std::string>().c_str());
  std::printf("durable by  %s\n", j.at("granularity").get<std::string>().c_str());
  return kExitDone;
}

int info_of_pool(const std::string& path, bool json) {
  std::string why;
  auto opened = media::PoolMedium::open(path, {media::OpenMode::kReadOnly, {}}, &why);
  if (!opened) return fail(why.empty() ? std::string(to_string(opened.error())) : why);
  const auto super = media::load_superblock(**opened, &why);
  if (!super) return fail(path + ": " + why);
  const nlohmann::json j = pool_json(**opened, *super);
  if (json) {
    print(j);
    return kExitDone;
  }
  print_common(j);
  std::printf("layout      %" PRIu64 " groups, journal from block %" PRIu64 ", data from block %" PRIu64 "\n",
              super->raw.group_count.get(), super->raw.journal_start.get(), super->raw.data_start.get());
  std::printf("created     %s\n", j.at("created").get<std::string>().c_str());
  std::printf("medium      %s\n", j.at("medium").get<std::string>().c_str());
  if (super->source == media::SuperblockSource::kReplica) {
    std::printf("damage      the superblock is broken; this is its replica\n");
  }
  const media::Holder holder = media::PoolMedium::read_holder(**opened);
  if (holder.pid != 0) {
    std::printf("held by     %s (pid %" PRIu32 ")%s%s, by its own account\n", printable(holder.program).c_str(),
                holder.pid, holder.mountpoint.empty() ? "" : ", mounted on ",
                printable(holder.mountpoint).c_str());
  }
  std::printf("state       %s\n", j.at("unmounted_cleanly").get<bool>()
                                      ? "unmounted cleanly"
                                      : "mounted, or not unmounted cleanly: the next mount replays the journal");
  return kExitDone;
}

}  // namespace

int run_info(const std::string& given, bool json) {
  std::string why;
  const auto path = media::resolve_pool(given, &why);
  if (!path) return fail(why.empty() ? std::string(to_string(path.error())) : why);
  struct stat st {};
  if (::stat(path->c_str(), &st) != 0) return fail(*path + ": " + std::strerror(errno));
  return S_ISDIR(st.st_mode) ? info_of_mount(*path, json) : info_of_pool(*path, json);
}

}  // namespace udax::ctl
