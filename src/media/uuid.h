// SPDX-License-Identifier: BSD-3-Clause
//
// UUIDs of pools and namespaces, as people see them.
#pragma once

#include <cstdint>
#include <string>

namespace udax::media {

/// 16 bytes as 36 characters: lower-case digits with dashes. May throw std::bad_alloc.
[[nodiscard]] std::string uuid_text(const uint8_t (&uuid)[16]);

}  // namespace udax::media
