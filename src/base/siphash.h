// SPDX-License-Identifier: BSD-3-Clause
//
// SipHash-1-3: the keyed hash of directory names. Keyed, because names are chosen by users, and a directory's
// shape must not be theirs to choose. (J.-P. Aumasson, D. J. Bernstein: SipHash, 2012; the 1-3 variant is the
// one used by hash tables in the field.)
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace udax {

[[nodiscard]] uint64_t siphash13(const std::array<uint64_t, 2>& key, const void* data, size_t size);

}  // namespace udax
