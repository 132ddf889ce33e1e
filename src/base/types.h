// SPDX-License-Identifier: BSD-3-Clause
//
// Strong integer types for the quantities that must not be mixed up: inode numbers, file blocks, device
// blocks, journal positions. Byte offsets and lengths stay uint64_t, with the unit in the name.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace udax {

inline constexpr uint32_t kBlockShift = 12;
inline constexpr uint32_t kBlockSize = 1U << kBlockShift;  // bytes
inline constexpr uint32_t kCacheLine = 64;                 // bytes
inline constexpr uint32_t kHugeShift = 21;
inline constexpr uint64_t kHugeSize = uint64_t{1} << kHugeShift;  // bytes: one 2 MiB mapping
inline constexpr uint64_t kHugeBlocks = kHugeSize / kBlockSize;   // 512

/// An integer that only compares and subtracts with its own kind. `a + n` and `a - n` move it, `a - b` is a
/// distance.
template <typename Tag>
struct StrongInt {
  uint64_t value = 0;

  constexpr StrongInt() = default;
  constexpr explicit StrongInt(uint64_t v) : value(v) {}
  constexpr auto operator<=>(const StrongInt&) const = default;
  constexpr StrongInt operator+(uint64_t n) const { return StrongInt(value + n); }
  constexpr StrongInt operator-(uint64_t n) const { return StrongInt(value - n); }
  constexpr uint64_t operator-(StrongInt other) const { return value - other.value; }
  constexpr StrongInt& operator+=(uint64_t n) {
    value += n;
    return *this;
  }
  constexpr StrongInt& operator-=(uint64_t n) {
    value -= n;
    return *this;
  }
};

using Ino = StrongInt<struct InoTag>;                  // inode number; 0 is none
using FileBlock = StrongInt<struct FileBlockTag>;      // index of a 4 KiB block within a file
using DeviceBlock = StrongInt<struct DeviceBlockTag>;  // index of a 4 KiB block within the pool; 0 is none
using Lsn = StrongInt<struct LsnTag>;                  // position in the journal, bytes, never reused

/// A run of device blocks.
struct DeviceRun {
  DeviceBlock start;
  uint64_t count = 0;
  [[nodiscard]] constexpr DeviceBlock end() const { return start + count; }
  constexpr bool operator==(const DeviceRun&) const = default;
};

[[nodiscard]] constexpr uint64_t offset_of(DeviceBlock b) { return b.value << kBlockShift; }
[[nodiscard]] constexpr uint64_t blocks_for(uint64_t bytes) {
  return (bytes >> kBlockShift) + ((bytes & (kBlockSize - 1)) != 0 ? 1 : 0);
}
[[nodiscard]] constexpr uint64_t align_down(uint64_t v, uint64_t alignment) { return v & ~(alignment - 1); }
[[nodiscard]] constexpr uint64_t align_up(uint64_t v, uint64_t alignment) {
  return (v + alignment - 1) & ~(alignment - 1);
}

inline constexpr Ino kNoIno{0};
inline constexpr Ino kRootIno{1};
inline constexpr DeviceBlock kNoBlock{0};

}  // namespace udax

template <typename Tag>
struct std::hash<udax::StrongInt<Tag>> {
  size_t operator()(udax::StrongInt<Tag> v) const noexcept {
    uint64_t x = v.value * 0x9E3779B97F4A7C15ULL;  // Fibonacci hashing
    return static_cast<size_t>(x ^ (x >> 32));
  }
};
