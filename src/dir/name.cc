// SPDX-License-Identifier: BSD-3-Clause
#include "dir/name.h"

#include <cstring>

#include "base/siphash.h"
#include "base/sync_point.h"
#include "dir/dir_index.h"

namespace udax::dir {

bool is_valid_name(std::string_view name) {
  if (name.empty() || name.size() > format::kNameMax) return false;
  if (name == "." || name == "..") return false;
  return std::memchr(name.data(), '/', name.size()) == nullptr &&
         std::memchr(name.data(), '\0', name.size()) == nullptr;
}

uint64_t name_hash(const media::Geometry& geometry, std::string_view name) {
  if (UDAX_KNOB("dir.hash_first_byte")) {
    return format::kDirHashMin + (name.empty() ? 0 : static_cast<uint8_t>(name.front()));
  }
  const uint64_t hash = siphash13(geometry.hash_key, name.data(), name.size()) >> 1;
  return hash < format::kDirHashMin ? hash + format::kDirHashMin : hash;
}

}  // namespace udax::dir
