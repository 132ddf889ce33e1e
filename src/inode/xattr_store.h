// SPDX-License-Identifier: BSD-3-Clause
//
// Extended attributes on the medium: a chain of blocks of packed entries, long values in chains of their own.
// Every change writes the chain's blocks anew (long values that do not change are kept) and switches
// Inode::xattr_block, so a reader or a crash sees the old set or the new.
//
// On any error but kExists, kNoData, kTooBig and kAgain the transaction must be aborted.
//
// Names are (namespace, name behind the prefix); permission rules are the caller's.
//
// Locks: the inode's rwsem, shared to read, exclusive until commit has returned to change.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/block_allocator.h"
#include "base/error.h"
#include "format/format.h"

namespace udax::inode {

/// Blocks of entries that an inode may have (long values have theirs beside them), so that one transaction can write
/// them anew, and a circle on the medium is noticed.
inline constexpr uint32_t kXattrChainMax = 64;

struct XattrName {
  format::XattrNamespace name_space = format::kXattrUser;
  std::string_view name;
};

/// Splits "user.x", "trusted.x", "security.x", "system.posix_acl_access", "system.posix_acl_default".
/// kNotSupported: another prefix. kInvalid: nothing behind the prefix. kOutOfRange: longer than 255 bytes in all.
[[nodiscard]] Result<XattrName> parse_xattr_name(std::string_view full);
/// The name with its prefix.
[[nodiscard]] std::string full_xattr_name(const XattrName& name);

/// kNoData, kCorrupted, kNoMemory.
[[nodiscard]] Result<std::vector<std::byte>> xattr_get(const journal::MetaStore& meta, const format::Inode& inode,
                                                       const XattrName& name);
/// Calls `visit` for each name.
[[nodiscard]] Status xattr_list(const journal::MetaStore& meta, const format::Inode& inode,
                                const std::function<void(const XattrName&)>& visit);

enum class XattrSetMode : uint8_t { kEither, kCreate, kReplace };
/// Sets or replaces a value. kExists / kNoData by mode; kTooBig: value above 64 KiB (E2BIG); kNoSpace: no room, or the
/// names would exceed kXattrNamesMax, or the entries kXattrChainMax blocks.
[[nodiscard]] Status xattr_set(alloc::BlockTx& tx, format::Inode& inode, const XattrName& name,
                               std::span<const std::byte> value, XattrSetMode mode);
/// kNoData. Takes blocks from the reserve, so that it works on a full pool.
[[nodiscard]] Status xattr_remove(alloc::BlockTx& tx, format::Inode& inode, const XattrName& name);
/// Frees them all (the inode is going). kAgain: this transaction has all that it can hold; commit it and go on in a new
/// one (what is left is a sound set of attributes, some shorter; in a new transaction at least one block goes).
[[nodiscard]] Status xattr_free_all(alloc::BlockTx& tx, format::Inode& inode);

}  // namespace udax::inode
