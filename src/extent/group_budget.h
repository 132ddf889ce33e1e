// SPDX-License-Identifier: BSD-3-Clause
//
// Which allocation groups a transaction may still be made to touch.
//
// A transaction takes kGroupsPerTx groups and then says kAgain. For file data that is no harm: a removal stops there.
// For the node that the removal has just emptied it would be, since there is no going back. So data stops early
// enough for one whole tree path to be freed afterwards.
#pragma once

#include <array>
#include <cstdint>

#include "base/types.h"
#include "format/format.h"
#include "journal/limits.h"

namespace udax::extent {

class GroupBudget {
 public:
  /// True if data may be freed in `group`: it has been touched before, or there is room for one more.
  [[nodiscard]] bool admits(uint64_t group) const { return is_known(group) || has_room(); }
  /// True if data of another group may be freed and one tree path after it.
  [[nodiscard]] bool has_room() const { return used_ + path_ + kCallerGroups < groups_.size(); }
  [[nodiscard]] bool is_fresh() const { return used_ == 0; }

  /// How many nodes a path of the tree has. REQUIRES: nodes <= kTreeLevelsMax.
  void set_path(uint32_t nodes) { path_ = nodes; }
  /// Notes that a block of `group` has been freed or allocated.
  void note(uint64_t group) {
    if (used_ < groups_.size() && !is_known(group)) groups_[used_++] = group;
  }

  static constexpr uint64_t group_of(DeviceBlock b) { return b.value / format::kGroupBlocks; }

 private:
  // For whatever the caller puts into the same transaction (an orphan block, an xattr block).
  static constexpr uint32_t kCallerGroups = 2;
  static_assert(journal::kGroupsPerTx > format::kTreeLevelsMax + kCallerGroups);

  [[nodiscard]] bool is_known(uint64_t group) const {
    for (uint32_t i = 0; i < used_; ++i) {
      if (groups_[i] == group) return true;
    }
    return false;
  }

  std::array<uint64_t, journal::kGroupsPerTx> groups_{};
  uint32_t used_ = 0;
  uint32_t path_ = format::kTreeLevelsMax;
};

}  // namespace udax::extent
