// SPDX-License-Identifier: BSD-3-Clause
//
// What a device or a file holds: a pool of ours, somebody else's data (by libblkid's signatures), or nothing known.
#pragma once

#include <optional>
#include <string>

#include "media/medium.h"
#include "media/pool_medium.h"

namespace udax::media {

struct Contents {
  enum class Kind : uint8_t { kUnreadable, kNothing, kPool, kForeign };
  Kind kind = Kind::kUnreadable;
  std::string what;  // foreign: "ext4 data"; unreadable: the reason; pool: empty, or what is wrong with it
  std::string label;
  std::string uuid;
  std::string user;  // who has it in use ("udaxfs (pid 12), mounted on /mnt"); empty: nobody that can be seen
};

/// Names what others have put on the medium, by its signatures at both ends; empty: nothing known. nullopt: it cannot be
/// told. A devdax device cannot be read(2), hence this goes through the mapping.
[[nodiscard]] std::optional<std::string> find_foreign(const Medium& medium);

/// Of a devdax device, a block device or a file. Takes no lock and writes nothing. May throw std::bad_alloc.
[[nodiscard]] Contents identify(const std::string& path);

}  // namespace udax::media
