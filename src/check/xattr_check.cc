// SPDX-License-Identifier: BSD-3-Clause
//
// Extended attributes: the chain of blocks, the entries packed in them, the chains of long values.
#include <algorithm>
#include <cstring>

#include "check/scan.h"

namespace udax::check {
namespace {

constexpr uint32_t kEntriesStart = sizeof(format::BlockHeader) + sizeof(format::XattrHeader);

/// Bytes of the prefix that a namespace stands for; 0: no such namespace.
uint32_t prefix_bytes(uint32_t name_space) {
  switch (name_space) {
    case format::kXattrUser: return 5;         // "user."
    case format::kXattrTrusted: return 8;      // "trusted."
    case format::kXattrSecurity: return 9;     // "security."
    case format::kXattrAclAccess: return 23;   // "system.posix_acl_access": the whole name
    case format::kXattrAclDefault: return 24;  // "system.posix_acl_default"
    default: return 0;
  }
}

bool is_name(uint32_t name_space, uint32_t name_length) {
  const uint32_t prefix = prefix_bytes(name_space);
  const bool is_acl = name_space == format::kXattrAclAccess || name_space == format::kXattrAclDefault;
  if (prefix == 0) return false;
  return is_acl ? name_length == 0 : name_length > 0 && prefix + name_length <= format::kNameMax;
}

class XattrWalker {
 public:
  XattrWalker(Scan& scan, uint64_t ino) : scan_(scan), ino_(ino) {}
  [[nodiscard]] bool walk(uint64_t head);
  uint64_t blocks = 0;

 private:
  [[nodiscard]] bool walk_entries(const std::byte* block, uint64_t b);
  [[nodiscard]] const char* walk_entry(const std::byte* at, uint32_t left, uint32_t* length);
  [[nodiscard]] bool walk_value(uint64_t head, uint32_t length);
  [[nodiscard]] bool take(uint64_t b) {
    if (!scan_.claim(b, 1, ino_, "an xattr block")) return false;
    ++blocks;
    return true;
  }
  bool broken(uint64_t b, const char* what, const char* why) {
    scan_.add(Code::kXattr, ino_, b, "inode ", ino_, ": ", what, " ", why);
    return false;
  }

  Scan& scan_;
  const uint64_t ino_;
  std::vector<std::string> names_;  // with the namespace as the first byte
};

bool XattrWalker::walk(uint64_t head) {
  uint32_t steps = 0;
  for (uint64_t b = head; b != 0;) {
    if (++steps > kXattrChainMax) return broken(b, "the chain of xattr blocks", "is too long");
    const char* why = nullptr;
    const std::byte* const block = scan_.read(b, format::kKindXattr, ino_, &why);
    if (block == nullptr) return broken(b, "an xattr block", why);
    if (!take(b) || !walk_entries(block, b)) return false;
    b = reinterpret_cast<const format::XattrHeader*>(block + sizeof(format::BlockHeader))->next;
  }
  std::sort(names_.begin(), names_.end());
  if (std::adjacent_find(names_.begin(), names_.end()) != names_.end()) {
    return broken(head, "an xattr", "is there twice");
  }
  return true;
}

bool XattrWalker::walk_entries(const std::byte* block, uint64_t b) {
  const auto* header = reinterpret_cast<const format::XattrHeader*>(block + sizeof(format::BlockHeader));
  const uint32_t used = header->used;
  if (used > format::kXattrSpace) return broken(b, "an xattr block", "says it has more entries than fit");
  uint32_t count = 0;
  for (uint32_t at = 0; at < used; ++count) {
    uint32_t length = 0;
    const char* const why = walk_entry(block + kEntriesStart + at, used - at, &length);
    if (why != nullptr) return *why == '\0' ? false : broken(b, "an xattr entry", why);
    at += length;
  }
  if (count != reinterpret_cast<const format::BlockHeader*>(block)->count) {
    return broken(b, "an xattr block", "has a wrong count");
  }
  return true;
}

/// What is wrong with the entry; empty: it has been told already.
const char* XattrWalker::walk_entry(const std::byte* at, uint32_t left, uint32_t* length) {
  if (left < sizeof(format::XattrEntry)) return "is cut short";
  format::XattrEntry entry;
  std::memcpy(&entry, at, sizeof entry);
  if (!is_name(entry.name_space, entry.name_length)) return "has an impossible name";
  const bool is_inline = entry.value_block == 0;
  const uint32_t value = entry.value_length;
  if (is_inline ? value > format::kXattrInlineMax : value == 0 || value > format::kXattrValueMax) {
    return "has an impossible length of value";
  }
  const uint64_t bytes = sizeof entry + entry.name_length + (is_inline ? value : 0);
  *length = entry.length;
  if (*length > left || *length != align_up(bytes, 8)) return "has an impossible length";
  std::string name(1, static_cast<char>(entry.name_space));
  name.append(reinterpret_cast<const char*>(at) + sizeof entry, entry.name_length);
  if (name.find('\0') != std::string::npos) return "has an impossible name";
  names_.push_back(std::move(name));
  if (!is_inline && !walk_value(entry.value_block, value)) return "";
  return nullptr;
}

bool XattrWalker::walk_value(uint64_t head, uint32_t length) {
  uint32_t left = length;
  for (uint64_t b = head; left > 0;) {
    const char* why = nullptr;
    const std::byte* const block = scan_.read(b, format::kKindXattrValue, ino_, &why);
    if (block == nullptr) return broken(b, "an xattr value block", why);
    if (!take(b)) return false;
    const uint32_t count = reinterpret_cast<const format::BlockHeader*>(block)->count;
    const uint64_t next =
        reinterpret_cast<const format::XattrValueHeader*>(block + sizeof(format::BlockHeader))->next;
    if (count == 0 || count > format::kXattrValueSpace || count > left) {
      return broken(b, "an xattr value block", "has a wrong count");
    }
    left -= count;
    if ((next == 0) != (left == 0)) return broken(b, "an xattr value", "is shorter or longer than it should be");
    b = next;
  }
  return true;
}

}  // namespace

std::optional<uint64_t> walk_xattrs(Scan& scan, uint64_t ino, const format::Inode& inode) {
  if (inode.xattr_block == 0) return 0;
  XattrWalker walker(scan, ino);
  const bool good = walker.walk(inode.xattr_block);
  scan.report.blocks_xattr += walker.blocks;
  if (good) return walker.blocks;
  if (scan.planning) scan.fix(ino).drop_xattrs = true;
  return std::nullopt;
}

}  // namespace udax::check
