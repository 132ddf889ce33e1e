// SPDX-License-Identifier: BSD-3-Clause
#include "media/uuid.h"

#include <cstddef>

namespace udax::media {

std::string uuid_text(const uint8_t (&uuid)[16]) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < sizeof uuid; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += kDigits[uuid[i] >> 4];
    text += kDigits[uuid[i] & 15];
  }
  return text;
}

}  // namespace udax::media
