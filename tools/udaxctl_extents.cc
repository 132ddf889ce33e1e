// SPDX-License-Identifier: BSD-3-Clause
//
// extents: where a file lies, and how much of it 2 MiB mappings can show.
#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/types.h"
#include "udax/ioctl.h"
#include "udaxctl.h"

namespace udax::ctl {
namespace {

/// False: errno says why.
bool read_extents(int fd, std::vector<udax_extent>* out) {
  const auto request = std::make_unique<udax_ioc_extents>();
  for (;;) {
    request->start = out->empty() ? 0 : out->back().file_offset + out->back().length;
    request->count = 0;
    request->flags = 0;
    if (::ioctl(fd, UDAX_IOC_EXTENTS, request.get()) != 0) return false;
    const uint32_t count = std::min<uint32_t>(request->count, UDAX_EXTENTS_MAX);
    for (uint32_t i = 0; i < count; ++i) {
      const udax_extent& e = request->extents[i];
      // One that is not behind the last would make this go on for ever.
      const uint64_t end = out->empty() ? 0 : out->back().file_offset + out->back().length;
      if (e.length == 0 || e.file_offset < end) {
        errno = EIO;
        return false;
      }
      out->push_back(e);
    }
    if ((request->flags & UDAX_EXTENTS_LAST) != 0 || count == 0) return true;
  }
}

/// Bytes of the extent that mappings of 2 MiB can show.
uint64_t huge_bytes(const udax_extent& e) {
  if ((e.file_offset ^ e.device_offset) % kHugeSize != 0) return 0;
  const uint64_t first = align_up(e.file_offset, kHugeSize);
  const uint64_t end = align_down(e.file_offset + e.length, kHugeSize);
  return first < end ? end - first : 0;
}

}  // namespace

int run_extents(const std::string& path, bool json) {
  const Fd fd(path, O_RDONLY | O_NONBLOCK);
  if (!fd) return fail(path + ": " + std::strerror(errno));
  std::vector<udax_extent> extents;
  if (!read_extents(fd.get(), &extents)) {
    return fail(path + (errno == ENOTTY ? " is not a file on a mounted udaxfs"
                                        : std::string(": ") + std::strerror(errno)));
  }
  uint64_t bytes = 0;
  uint64_t huge = 0;
  uint64_t unwritten = 0;
  nlohmann::json list = nlohmann::json::array();
  if (!json && !extents.empty()) std::printf("%16s %16s %16s  %s\n", "FILE OFFSET", "POOL OFFSET", "BYTES", "");
  for (const udax_extent& e : extents) {
    const bool is_unwritten = (e.flags & UDAX_EXTENT_UNWRITTEN) != 0;
    bytes += e.length;
    huge += huge_bytes(e);
    unwritten += is_unwritten ? e.length : 0;
    if (json) {
      list.push_back({{"file_offset", e.file_offset},
                      {"pool_offset", e.device_offset},
                      {"bytes", e.length},
                      {"unwritten", is_unwritten},
                      {"huge_bytes", huge_bytes(e)}});
    } else {
      std::printf("%16" PRIu64 " %16" PRIu64 " %16" PRIu64 "  %s%s\n", e.file_offset, e.device_offset, e.length,
                  is_unwritten ? "unwritten" : "", huge_bytes(e) != 0 ? (is_unwritten ? ", 2 MiB" : "2 MiB") : "");
    }
  }
  if (json) {
    print({{"path", path},
           {"extents", std::move(list)},
           {"bytes", bytes},
           {"unwritten_bytes", unwritten},
           {"huge_bytes", huge}});
    return kExitDone;
  }
  std::printf("%zu extents, %s; %s unwritten; %.1f%% can be mapped by 2 MiB\n", extents.size(),
              size_text(bytes).c_str(), size_text(unwritten).c_str(),
              bytes == 0 ? 0.0 : 100.0 * static_cast<double>(huge) / static_cast<double>(bytes));
  return kExitDone;
}

}  // namespace udax::ctl
