// SPDX-License-Identifier: BSD-3-Clause
//
// How users name pools:
//
//   LABEL=name     the pool that has this label
//   UUID=text      the pool, or the namespace, that has this UUID
//   namespace0.0   the device of this namespace
//   anything else  a path; "./namespace0.0" is a file of that name
//
// Labels and UUIDs are looked for on the devdax devices, in the pools that are mounted, and in those that fstab names.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "media/platform.h"

namespace udax::media {

/// A pool, and what it says of itself.
struct KnownPool {
  std::string path;
  std::string label;
  std::string uuid;
};

/// True if `given` is to be looked up, and no path.
[[nodiscard]] bool is_pool_tag(const std::string& given);

/// The path that is meant by `given`, which is_pool_tag(). kNotFound; kInvalid: not unique, or a namespace that cannot be a pool.
/// `why` gets a sentence.
[[nodiscard]] Result<std::string> choose_pool(const std::string& given, const Platform& platform,
                                              std::span<const KnownPool> pools, std::string* why);

/// A path mentioned in a table such as /etc/fstab or /proc/self/mounts by entries of type fuse.udaxfs. May throw std::bad_alloc.
[[nodiscard]] std::vector<std::string> pools_in_table(const std::string& table);

/// The same for this machine: what is a path comes back as it is, and nothing is looked at.
[[nodiscard]] Result<std::string> resolve_pool(const std::string& given, std::string* why);

}  // namespace udax::media
