// SPDX-License-Identifier: BSD-3-Clause
#include "base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <limits>

namespace udax {

uint32_t crc32c(uint32_t crc, const void* data, size_t size) {
  // ISA-L takes a mutable pointer and an int; it writes to nothing.
  auto* p = const_cast<unsigned char*>(static_cast<const unsigned char*>(data));
  while (size > 0) {
    const int n = static_cast<int>(std::min<size_t>(size, std::numeric_limits<int>::max()));
    crc = crc32_iscsi(p, n, crc);
    p += n;
    size -= static_cast<size_t>(n);
  }
  return crc;
}

}  // namespace udax
