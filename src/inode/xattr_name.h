// SPDX-License-Identifier: BSD-3-Clause
//
// What xattr_store.cc needs to know about names; private to this folder.
#pragma once

#include <cstddef>
#include <cstdint>

#include "inode/xattr_store.h"

namespace udax::inode {

/// Whether a name of `name_size` bytes behind its prefix can be in the namespace.
[[nodiscard]] bool is_xattr_name(uint32_t name_space, size_t name_size);
/// Bytes that `name` takes in a listxattr(2) reply: prefix, name, NUL.
[[nodiscard]] size_t xattr_list_bytes(const XattrName& name);

}  // namespace udax::inode
