// SPDX-License-Identifier: BSD-3-Clause
#include "fs/acl.h"

#include <algorithm>
#include <cstring>

#include "base/endian.h"

namespace udax::fs {
namespace {

// acl(5), <linux/posix_acl.h>
constexpr uint16_t kUserObj = 0x01;
constexpr uint16_t kUser = 0x02;
constexpr uint16_t kGroupObj = 0x04;
constexpr uint16_t kGroup = 0x08;
constexpr uint16_t kMask = 0x10;
constexpr uint16_t kOther = 0x20;
constexpr uint32_t kUndefinedId = ~0U;
constexpr uint32_t kVersion = 2;

struct RawEntry {
  le16 tag;
  le16 perm;
  le32 id;
};
static_assert(sizeof(RawEntry) == 8);

}  // namespace

Result<Acl> Acl::parse(std::span<const std::byte> value) {
  if (value.size() < 4 || (value.size() - 4) % sizeof(RawEntry) != 0) return Error::kInvalid;
  le32 version;
  std::memcpy(&version, value.data(), sizeof version);
  if (version != kVersion) return Error::kInvalid;
  Acl acl;
  uint32_t seen = 0;
  bool named = false;
  for (size_t at = 4; at < value.size(); at += sizeof(RawEntry)) {
    RawEntry raw;
    std::memcpy(&raw, value.data() + at, sizeof raw);
    const Entry e{raw.tag, raw.perm, raw.id};
    if ((e.perm & ~7U) != 0) return Error::kInvalid;
    // Entries stand in the order of their tags, of which only those for named users and groups may repeat.
    if (!acl.entries_.empty()) {
      const Entry& last = acl.entries_.back();
      if (e.tag < last.tag) return Error::kInvalid;
      if (e.tag == last.tag && !(e.tag == kUser || e.tag == kGroup)) return Error::kInvalid;
    }
    switch (e.tag) {
      case kUser:
      case kGroup:
        if (e.id == kUndefinedId) return Error::kInvalid;
        named = true;
        break;
      case kUserObj:
      case kGroupObj:
      case kMask:
      case kOther: break;
      default: return Error::kInvalid;
    }
    seen |= e.tag;
    acl.entries_.push_back(e);
  }
  constexpr uint32_t kRequired = kUserObj | kGroupObj | kOther;
  if ((seen & kRequired) != kRequired) return Error::kInvalid;
  if (named && (seen & kMask) == 0) return Error::kInvalid;
  return acl;
}

std::vector<std::byte> Acl::serialize() const {
  std::vector<std::byte> out(4 + entries_.size() * sizeof(RawEntry));
  const le32 version = kVersion;
  std::memcpy(out.data(), &version, sizeof version);
  size_t at = 4;
  for (const Entry& e : entries_) {
    const RawEntry raw{e.tag, e.perm, e.id};
    std::memcpy(out.data() + at, &raw, sizeof raw);
    at += sizeof raw;
  }
  return out;
}

Acl::Entry* Acl::find(uint16_t tag) {
  const auto it = std::find_if(entries_.begin(), entries_.end(), [tag](const Entry& e) { return e.tag == tag; });
  return it == entries_.end() ? nullptr : &*it;
}

const Acl::Entry* Acl::find(uint16_t tag) const { return const_cast<Acl*>(this)->find(tag); }

uint32_t Acl::mode() const {
  const Entry* group = find(kMask);
  if (group == nullptr) group = find(kGroupObj);
  return (uint32_t{find(kUserObj)->perm} << 6) | (uint32_t{group->perm} << 3) | find(kOther)->perm;
}

void Acl::chmod(uint32_t mode) {
  Entry* group = find(kMask);
  if (group == nullptr) group = find(kGroupObj);
  find(kUserObj)->perm = static_cast<uint16_t>((mode >> 6) & 7U);
  group->perm = static_cast<uint16_t>((mode >> 3) & 7U);
  find(kOther)->perm = static_cast<uint16_t>(mode & 7U);
}

uint32_t Acl::create_masq(uint32_t mode) {
  Entry* group = find(kMask);
  if (group == nullptr) group = find(kGroupObj);
  Entry* owner = find(kUserObj);
  Entry* other = find(kOther);
  owner->perm = static_cast<uint16_t>(owner->perm & ((mode >> 6) & 7U));
  group->perm = static_cast<uint16_t>(group->perm & ((mode >> 3) & 7U));
  other->perm = static_cast<uint16_t>(other->perm & (mode & 7U));
  return (uint32_t{owner->perm} << 6) | (uint32_t{group->perm} << 3) | other->perm;
}

}  // namespace udax::fs
