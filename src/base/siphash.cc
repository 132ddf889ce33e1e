// SPDX-License-Identifier: BSD-3-Clause
#include "base/siphash.h"

#include <bit>
#include <cstring>

namespace udax {
namespace {

struct State {
  uint64_t v0, v1, v2, v3;
  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
};

uint64_t load_le(const unsigned char* p, size_t n) {
  uint64_t v = 0;
  for (size_t i = 0; i < n; ++i) v |= uint64_t{p[i]} << (8 * i);
  return v;
}

}  // namespace

uint64_t siphash13(const std::array<uint64_t, 2>& key, const void* data, size_t size) {
  State s{0x736f6d6570736575ULL ^ key[0], 0x646f72616e646f6dULL ^ key[1], 0x6c7967656e657261ULL ^ key[0],
          0x7465646279746573ULL ^ key[1]};
  const auto* p = static_cast<const unsigned char*>(data);
  for (size_t left = size; left >= 8; left -= 8, p += 8) {
    const uint64_t m = load_le(p, 8);
    s.v3 ^= m;
    s.round();
    s.v0 ^= m;
  }
  const uint64_t last = (uint64_t{size} << 56) | load_le(p, size % 8);
  s.v3 ^= last;
  s.round();
  s.v0 ^= last;
  s.v2 ^= 0xFF;
  s.round();
  s.round();
  s.round();
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

}  // namespace udax
