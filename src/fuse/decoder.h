// SPDX-License-Identifier: BSD-3-Clause
//
// Taking a message's body apart. Every length is checked: what is too short, or a name without its NUL, is
// kInvalid. Structures are copied out, so the body may lie at any address.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "base/error.h"

namespace udax::fuse {

class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> body) : left_(body) {}

  template <typename T>
  requires std::is_trivially_copyable_v<T>
  [[nodiscard]] Result<T> take() {
    if (left_.size() < sizeof(T)) return Error::kInvalid;
    T value;
    std::memcpy(&value, left_.data(), sizeof(T));
    left_ = left_.subspan(sizeof(T));
    return value;
  }

  /// A string ended by NUL; may be empty.
  [[nodiscard]] Result<std::string_view> take_string() {
    const auto* start = reinterpret_cast<const char*>(left_.data());
    const void* end = left_.empty() ? nullptr : std::memchr(start, 0, left_.size());
    if (end == nullptr) return Error::kInvalid;
    const auto length = static_cast<size_t>(static_cast<const char*>(end) - start);
    left_ = left_.subspan(length + 1);
    return std::string_view(start, length);
  }

  /// A directory entry's name: not empty, no slash in it.
  [[nodiscard]] Result<std::string_view> take_name() {
    UDAX_TRY(const std::string_view name, take_string());
    if (name.empty() || name.find('/') != std::string_view::npos) return Error::kInvalid;
    return name;
  }

  [[nodiscard]] Result<std::span<const std::byte>> take_bytes(size_t size) {
    if (left_.size() < size) return Error::kInvalid;
    const auto bytes = left_.first(size);
    left_ = left_.subspan(size);
    return bytes;
  }

  [[nodiscard]] std::span<const std::byte> left() const { return left_; }

 private:
  std::span<const std::byte> left_;
};

}  // namespace udax::fuse
