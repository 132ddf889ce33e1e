// SPDX-License-Identifier: BSD-3-Clause
#include "direct/request_check.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace udax::direct {
namespace {

// The fields that a type uses.
enum Field : uint32_t {
  kHandle = 1,
  kRange = 2,
  kFileOffset = 4,
  kNewRange = 8,
  kCookieField = 16,
  kProt = 32,
};

struct Form {
  RequestType type;
  uint32_t fields;
  uint32_t flags;  // that it knows
};

constexpr std::array<Form, 10> kForms{{
    {RequestType::kOpen, kCookieField, kOpenOnBoard},
    {RequestType::kClose, kHandle, 0},
    {RequestType::kMap, kHandle | kRange | kFileOffset | kProt, kMapSync | kMapPopulate},
    {RequestType::kUnmap, kRange, 0},
    {RequestType::kRemap, kRange | kNewRange, 0},
    {RequestType::kProtect, kRange | kProt, 0},
    {RequestType::kSync, kRange, 0},
    {RequestType::kAdvise, kRange, kAdviseWillNeed},
    {RequestType::kQuery, kRange, 0},
    {RequestType::kDetach, 0, 0},
}};

bool is_prot(uint32_t prot) { return prot == kProtNone || prot == kProtRead || prot == (kProtRead | kProtWrite); }

}  // namespace

Status check_request(const Request& r, size_t descriptors) {
  const auto form = std::find_if(kForms.begin(), kForms.end(),
                                 [&](const Form& f) { return static_cast<uint32_t>(f.type) == r.type; });
  if (form == kForms.end() || descriptors != 0) return Error::kInvalid;
  const auto uses = [&](Field field) { return (form->fields & field) != 0; };
  const bool has_cookie = std::any_of(std::begin(r.cookie), std::end(r.cookie), [](uint8_t b) { return b != 0; });
  const bool is_clean =
      r.version == 0 && (r.flags & ~form->flags) == 0 && (uses(kProt) ? is_prot(r.prot) : r.prot == 0) &&
      (uses(kHandle) || r.handle == 0) && (uses(kRange) || (r.offset == 0 && r.length == 0)) &&
      (uses(kFileOffset) || r.file_offset == 0) && (uses(kNewRange) || (r.new_offset == 0 && r.new_length == 0)) &&
      (uses(kCookieField) || !has_cookie);
  return is_clean ? Status() : Status(Error::kInvalid);
}

}  // namespace udax::direct
