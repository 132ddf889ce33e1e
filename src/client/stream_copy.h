// SPDX-License-Identifier: BSD-3-Clause
//
// Copies to the pool that go around the CPU's caches: the bytes that are written over are not read first, which is half the cost of a
// write of 4 KiB.
#pragma once

#include <cstddef>

namespace udax::client {

/// As memcpy. On return the stores come before any that follow.
void copy_to_pool(std::byte* to, const std::byte* from, size_t size);

}  // namespace udax::client
