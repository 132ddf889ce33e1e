// SPDX-License-Identifier: BSD-3-Clause
//
// Little-endian integers for on-media structures: byte arrays with value semantics and alignment 1... 8 as
// their width, so that structures of them have the same layout on every ABI.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>

namespace udax {

template <std::unsigned_integral T>
class alignas(T) LittleEndian {
 public:
  constexpr LittleEndian() = default;
  constexpr LittleEndian(T v) : raw_(swap(v)) {}       // NOLINT(google-explicit-constructor)
  constexpr operator T() const { return swap(raw_); }  // NOLINT(google-explicit-constructor)
  [[nodiscard]] constexpr T get() const { return swap(raw_); }
  constexpr LittleEndian& operator=(T v) {
    raw_ = swap(v);
    return *this;
  }

 private:
  static constexpr T swap(T v) {
    if constexpr (std::endian::native == std::endian::little) {
      return v;
    } else {
      T out = 0;
      for (unsigned i = 0; i < sizeof(T); ++i) out = static_cast<T>((out << 8) | ((v >> (8 * i)) & 0xFF));
      return out;
    }
  }

  T raw_ = 0;
};

using le16 = LittleEndian<uint16_t>;
using le32 = LittleEndian<uint32_t>;
using le64 = LittleEndian<uint64_t>;

}  // namespace udax
