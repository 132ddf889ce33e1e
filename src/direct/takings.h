// SPDX-License-Identifier: BSD-3-Clause
//
// What ops that are on their way take from a client. The table of views (view_table.h) has forgotten it, the client may still load and
// store there: whoever needs it gone waits for the op that somebody else has sent.
//
// Thread safety: none; the client's mutex.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/types.h"
#include "mapping/mapper.h"

namespace udax::direct {

class Takings {
 public:
  /// `sequence`, not below those before, takes what is shown of the range.
  void note(Ino ino, mapping::ByteRange range, uint64_t sequence) noexcept {
    if (count_ == all_.size()) {
      // Without room, the older half is of everything.
      const auto middle = all_.begin() + kMax / 2;
      of_everything_ = (middle - 1)->sequence;
      std::move(middle, all_.end(), all_.begin());
      count_ -= kMax / 2;
    }
    all_[count_++] = {ino, range, sequence};
  }
  /// The last op that takes some of the range; 0: none. `acknowledged`: the client has done all up to this one; they are forgotten.
  [[nodiscard]] uint64_t last(Ino ino, mapping::ByteRange range, uint64_t acknowledged) noexcept {
    const auto end = all_.begin() + static_cast<std::ptrdiff_t>(count_);
    const auto first = std::find_if(all_.begin(), end, [&](const Taking& t) { return t.sequence > acknowledged; });
    count_ = static_cast<size_t>(std::move(first, end, all_.begin()) - all_.begin());
    uint64_t found = of_everything_ > acknowledged ? of_everything_ : 0;
    for (const Taking& t : std::span(all_).first(count_)) {
      if (t.ino == ino && t.range.start < range.end && range.start < t.range.end) found = t.sequence;
    }
    return found;
  }

 private:
  struct Taking {
    Ino ino;
    mapping::ByteRange range;
    uint64_t sequence = 0;
  };
  static constexpr size_t kMax = 64;
  std::array<Taking, kMax> all_{};  // in order
  size_t count_ = 0;
  uint64_t of_everything_ = 0;
};

}  // namespace udax::direct
