// SPDX-License-Identifier: BSD-3-Clause
#include "extent/root.h"

#include <cstring>

namespace udax::extent {

Result<Root> read_root(const journal::MetaStore& meta, const format::Inode& inode) {
  Root root;
  switch (inode.payload_kind) {
    case format::kPayloadNone: return root;
    case format::kPayloadInlineExtents:
      root.inline_count = inode.payload_count;
      if (root.inline_count == 0 || root.inline_count > format::kInlineExtents) {
        return meta.corrupted("count of inline extents", inode.ino);
      }
      return root;
    case format::kPayloadExtentTree: {
      format::TreeRoot raw;
      std::memcpy(&raw, inode.payload, sizeof(raw));
      root.is_tree = true;
      root.block = DeviceBlock(raw.block);
      root.level = raw.level;
      if (root.level >= format::kTreeLevelsMax) return meta.corrupted("level of extent tree", inode.ino);
      return root;
    }
    default: return meta.corrupted("payload of inode is no extent map", inode.ino);
  }
}

void read_inline(const format::Inode& inode, uint32_t count, format::Extent (&out)[format::kInlineExtents]) {
  UDAX_ASSERT(count <= format::kInlineExtents);
  std::memcpy(out, inode.payload, count * sizeof(format::Extent));
}

void write_inline(format::Inode& inode, std::span<const format::Extent> extents) {
  UDAX_ASSERT(extents.size() <= format::kInlineExtents);
  std::memset(inode.payload, 0, sizeof(inode.payload));
  if (!extents.empty()) std::memcpy(inode.payload, extents.data(), extents.size_bytes());
  inode.payload_kind = extents.empty() ? format::kPayloadNone : format::kPayloadInlineExtents;
  inode.payload_count = static_cast<uint8_t>(extents.size());
}

void write_tree(format::Inode& inode, DeviceBlock block, uint32_t level) {
  format::TreeRoot raw{};
  raw.block = block.value;
  raw.level = level;
  std::memset(inode.payload, 0, sizeof(inode.payload));
  std::memcpy(inode.payload, &raw, sizeof(raw));
  inode.payload_kind = format::kPayloadExtentTree;
  inode.payload_count = 0;
}

}  // namespace udax::extent
