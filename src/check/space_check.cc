// SPDX-License-Identifier: BSD-3-Clause
//
// Free space: group descriptors and bitmaps against the blocks that were seen in use.
#include <algorithm>
#include <bit>
#include <cstring>

#include "check/scan.h"

namespace udax::check {
namespace {

using format::kGroupBlocks;

class GroupCheck {
 public:
  GroupCheck(Scan& scan, uint64_t group)
      : scan_(scan),
        group_(group),
        base_(group * kGroupBlocks),
        blocks_(scan.geometry.blocks_in_group(group)),
        desc_(*scan.image.as<format::GroupDesc>(scan.geometry.desc_offset(group))) {}
  void run();

 private:
  template <typename... Parts>
  void broken(Code code, const Parts&... parts) {
    broken_ = true;
    scan_.add(code, 0, bitmap_block(), "group ", group_, ": ", parts...);
  }
  [[nodiscard]] uint64_t bitmap_block() const { return scan_.geometry.bitmap_block(group_).value; }
  void check_uninit();
  void check_bitmap();
  void tell_difference(Code code, const BlockSet::Words& a, const BlockSet::Words& b, const char* what);

  Scan& scan_;
  const uint64_t group_;
  const uint64_t base_;
  const uint32_t blocks_;  // of the pool, in this group
  const format::GroupDesc& desc_;
  bool broken_ = false;
};

void GroupCheck::run() {
  if (!format::is_sealed(scan_.image.seed(), format::Unit::kGroupDesc, &desc_)) {
    broken(Code::kGroupDescriptor, "its descriptor has a wrong checksum");
  } else if (desc_.group != group_) {
    broken(Code::kGroupDescriptor, "its descriptor belongs to another");
  } else if ((desc_.flags & ~format::kGroupUninit) != 0) {
    broken(Code::kGroupDescriptor, "its descriptor has unknown flags");
  } else {
    if ((desc_.flags & format::kGroupUninit) != 0) {
      check_uninit();
    } else {
      check_bitmap();
    }
    const uint32_t free = blocks_ - scan_.seen.used_in(group_);
    if (!broken_ && desc_.free_blocks != free) {
      broken(Code::kFreeCount, "counts ", desc_.free_blocks.get(), " free blocks; it has ", free);
    }
  }
  if (broken_ && scan_.planning) scan_.plan.groups.push_back(group_);
}

void GroupCheck::check_uninit() {
  const uint32_t used = scan_.seen.used_in(group_);
  if (used != 0) broken(Code::kNotMarked, used, " blocks are in use; it says that none ever was");
  if (blocks_ != kGroupBlocks) broken(Code::kGroupDescriptor, "a part of a group says that all of it is free");
}

/// Tells of the blocks that are in a, not in b.
void GroupCheck::tell_difference(Code code, const BlockSet::Words& a, const BlockSet::Words& b, const char* what) {
  uint64_t count = 0;
  uint64_t first = 0;
  for (uint32_t w = 0; w < BlockSet::kWords; ++w) {
    const uint64_t bits = a[w] & ~b[w];
    if (bits == 0) continue;
    if (count == 0) first = base_ + w * 64 + static_cast<uint32_t>(std::countr_zero(bits));
    count += static_cast<uint64_t>(std::popcount(bits));
  }
  if (count == 0) return;
  broken(code, count, count == 1 ? " block is " : " blocks are ", what, " (",
         count == 1 ? "" : "the first: ", first, ")");
}

void GroupCheck::check_bitmap() {
  const std::byte* const image = scan_.image.block(bitmap_block());
  if (format::bitmap_checksum(scan_.image.seed(), image) != desc_.bitmap_checksum) {
    return broken(Code::kBitmapChecksum, "its bitmap has a wrong checksum");
  }
  BlockSet::Words stored;
  for (uint32_t w = 0; w < BlockSet::kWords; ++w) stored[w] = reinterpret_cast<const le64*>(image)[w];
  BlockSet::Words found;
  scan_.seen.copy_words(group_, &found);
  for (uint32_t bit = blocks_; bit < kGroupBlocks; ++bit) found[bit / 64] |= uint64_t{1} << (bit % 64);
  if (stored == found) return;
  tell_difference(Code::kLeaked, stored, found, "marked in use, but nothing uses them");
  tell_difference(Code::kNotMarked, found, stored, "in use, but marked free");
}

}  // namespace

void check_space(Scan& scan) {
  for (uint64_t group = 0; group < scan.geometry.group_count; ++group) {
    GroupCheck(scan, group).run();
    if (group % 4096 == 4095) scan.progress("free space", group, scan.geometry.group_count);
  }
}

}  // namespace udax::check
