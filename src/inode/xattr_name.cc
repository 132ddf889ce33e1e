// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <cstddef>

#include "inode/xattr_name.h"

namespace udax::inode {
namespace {

struct Prefix {
  format::XattrNamespace name_space;
  std::string_view text;
  bool is_whole;  // the name itself: nothing follows
};
constexpr std::array<Prefix, 5> kPrefixes{{
    {format::kXattrUser, "user.", false},
    {format::kXattrTrusted, "trusted.", false},
    {format::kXattrSecurity, "security.", false},
    {format::kXattrAclAccess, "system.posix_acl_access", true},
    {format::kXattrAclDefault, "system.posix_acl_default", true},
}};

const Prefix* prefix_of(uint32_t name_space) {
  for (const Prefix& p : kPrefixes) {
    if (p.name_space == name_space) return &p;
  }
  return nullptr;
}

}  // namespace

Result<XattrName> parse_xattr_name(std::string_view full) {
  if (full.size() > format::kNameMax) return Error::kOutOfRange;
  for (const Prefix& p : kPrefixes) {
    if (p.is_whole ? full != p.text : !full.starts_with(p.text)) continue;
    if (!p.is_whole && full.size() == p.text.size()) return Error::kInvalid;
    return XattrName{p.name_space, full.substr(p.text.size())};
  }
  return Error::kNotSupported;
}

std::string full_xattr_name(const XattrName& name) {
  const Prefix* const prefix = prefix_of(name.name_space);
  std::string full(prefix == nullptr ? std::string_view() : prefix->text);
  full.append(name.name);
  return full;
}

bool is_xattr_name(uint32_t name_space, size_t name_size) {
  const Prefix* const prefix = prefix_of(name_space);
  if (prefix == nullptr || prefix->is_whole != (name_size == 0)) return false;
  return prefix->text.size() + name_size <= format::kNameMax;
}

size_t xattr_list_bytes(const XattrName& name) {
  const Prefix* const prefix = prefix_of(name.name_space);
  return (prefix == nullptr ? 0 : prefix->text.size()) + name.name.size() + 1;
}

}  // namespace udax::inode
