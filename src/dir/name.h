// SPDX-License-Identifier: BSD-3-Clause
//
// Which names a directory may hold, and how they are hashed.
//
// Tests can turn the knob "dir.hash_first_byte" on: the hash is then kDirHashMin plus the name's first byte, which
// makes equal hashes, and neighbouring ones, at will.
#pragma once

#include <cstdint>
#include <string_view>

#include "format/format.h"

namespace udax::dir {

inline constexpr uint64_t kHashEnd = uint64_t{1} << 63;  // hashes are in [kDirHashMin, kHashEnd)

/// Hashes [low, high): what a subtree may hold.
struct HashRange {
  uint64_t low = 0;
  uint64_t high = kHashEnd;
  [[nodiscard]] constexpr bool holds(uint64_t hash) const { return hash >= low && hash < high; }
};

/// 1... 255 bytes, no '/' or NUL, neither "." nor "..".
[[nodiscard]] bool is_valid_name(std::string_view name);

/// Bytes of the DirName of a name that long, padding included.
[[nodiscard]] constexpr uint32_t record_bytes(uint32_t name_length) {
  return (format::kDirNameFixed + name_length + 7) & ~7U;
}

/// Bytes that a name that long takes of a leaf: slot and DirName.
[[nodiscard]] constexpr uint32_t entry_bytes(uint32_t name_length) {
  return static_cast<uint32_t>(sizeof(format::DirSlot)) + record_bytes(name_length);
}

}  // namespace udax::dir
