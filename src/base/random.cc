// SPDX-License-Identifier: BSD-3-Clause
#include "base/random.h"

#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace udax {

void fill_random(void* data, size_t size) {
  auto* p = static_cast<unsigned char*>(data);
  while (size > 0) {
    const ssize_t n = getrandom(p, size, 0);
    if (n < 0) {
      UDAX_ASSERT(errno == EINTR);  // with valid memory and no flags nothing else happens (getrandom(2))
      continue;
    }
    p += n;
    size -= static_cast<size_t>(n);
  }
}

Random::Random(uint64_t seed) {
  for (uint64_t& word : state_) {
    seed += 0x9E3779B97F4A7C15ULL;
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    word = z ^ (z >> 31);
  }
}

uint64_t Random::next() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

uint64_t Random::below(uint64_t bound) {
  UDAX_ASSERT(bound > 0);
  // The numbers under 2^64 mod bound are thrown away, so that every remainder is as likely as any other.
  const uint64_t floor = (0 - bound) % bound;
  uint64_t value = next();
  while (value < floor) value = next();
  return value % bound;
}

uint64_t Random::between(uint64_t low, uint64_t high) {
  UDAX_ASSERT(low <= high);
  const uint64_t span = high - low;
  return span == max() ? next() : low + below(span + 1);
}

void Random::fill(void* data, size_t size) {
  auto* p = static_cast<unsigned char*>(data);
  while (size > 0) {
    const uint64_t value = next();
    const size_t n = std::min(size, sizeof value);
    std::memcpy(p, &value, n);
    p += n;
    size -= n;
  }
}

}  // namespace udax
