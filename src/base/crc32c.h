// SPDX-License-Identifier: BSD-3-Clause
//
// CRC32C (Castagnoli), by ISA-L.
#pragma once

#include <cstddef>
#include <cstdint>

namespace udax {

/// Extends `crc` over `size` bytes at `data`. Chains: crc32c(crc32c(s, a), b) == crc32c(s, ab). No final
/// inversion is applied; `crc` may be any seed.
[[nodiscard]] uint32_t crc32c(uint32_t crc, const void* data, size_t size);

}  // namespace udax
