// SPDX-License-Identifier: BSD-3-Clause
#include "direct/policy.h"

#include <algorithm>
#include <charconv>

namespace udax::direct {

Result<Policy> Policy::parse(std::string_view text) {
  constexpr std::string_view kPrefix = "uid:";
  constexpr uint32_t kNoUid = ~uint32_t{0};  // (uid_t)-1 is nobody's
  Policy out;
  if (text == "off") return out;
  if (text == "owner") {
    out.mode_ = Mode::kOwner;
    return out;
  }
  if (!text.starts_with(kPrefix)) return Error::kInvalid;
  out.mode_ = Mode::kUids;
  for (text.remove_prefix(kPrefix.size());;) {
    const size_t colon = std::min(text.find(':'), text.size());
    uint32_t uid = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + colon, uid);
    if (error != std::errc() || end != text.data() + colon || uid == kNoUid) return Error::kInvalid;
    if (out.uids_.size() == kUidsMax) return Error::kInvalid;
    out.uids_.push_back(uid);
    if (colon == text.size()) return out;
    text.remove_prefix(colon + 1);
  }
}

bool Policy::allows(uid_t uid, uid_t daemon) const {
  switch (mode_) {
    case Mode::kOff: return false;
    case Mode::kOwner: return uid == daemon || uid == 0;
    case Mode::kUids: return std::find(uids_.begin(), uids_.end(), uid) != uids_.end();
  }
  return false;
}

}  // namespace udax::direct
