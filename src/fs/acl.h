// SPDX-License-Identifier: BSD-3-Clause
//
// POSIX ACLs as the kernel passes them in system.posix_acl_access and _default (acl(5); the xattr form is version
// 2: a 4-byte version, then entries of tag, permissions, id). The kernel checks access by them; the duties left to a
// filesystem are here: validity, the mode that an ACL implies, chmod's effect on it, and inheritance.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"

namespace udax::fs {

class Acl {
 public:
  /// kInvalid: not an ACL, or one that acl_valid(3) would refuse.
  [[nodiscard]] static Result<Acl> parse(std::span<const std::byte> value);
  [[nodiscard]] std::vector<std::byte> serialize() const;

  /// Only owner, group and others: the mode says it all.
  [[nodiscard]] bool is_minimal() const { return entries_.size() == 3; }
  /// The nine permission bits that this access ACL implies (the mask stands for the group where there is one).
  [[nodiscard]] uint32_t mode() const;
  /// Sets owner, mask (or group) and others as chmod does.
  void chmod(uint32_t mode);
  /// Makes a default ACL the access ACL of something created with `mode` (nine bits): limits the entries by it, and
  /// gives the mode that results.
  uint32_t create_masq(uint32_t mode);

 private:
  struct Entry {
    uint16_t tag = 0;
    uint16_t perm = 0;
    uint32_t id = 0;
  };
  [[nodiscard]] Entry* find(uint16_t tag);
  [[nodiscard]] const Entry* find(uint16_t tag) const;
  std::vector<Entry> entries_;
};

}  // namespace udax::fs
