// SPDX-License-Identifier: BSD-3-Clause
//
// Composing the one sentence that a failed call leaves for the user.
#pragma once

#include <initializer_list>
#include <new>
#include <string>
#include <string_view>

#include "base/error.h"

namespace udax::media {

/// Puts the parts, joined, into *why (which may be null) and returns `error`. Out of memory leaves it empty.
template <typename... Parts>
Error say(std::string* why, Error error, const Parts&... parts) noexcept {
  if (why != nullptr) {
    try {
      why->clear();
      (why->append(std::string_view(parts)), ...);
    } catch (const std::bad_alloc&) {
      why->clear();
    }
  }
  return error;
}

}  // namespace udax::media
