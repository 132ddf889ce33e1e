// SPDX-License-Identifier: BSD-3-Clause
//
// Repairing a pool in rounds. Private to this folder; see check.h for the rules.
#pragma once

#include <memory>
#include <string>

#include "check/check.h"
#include "check/scan.h"
#include "journal/journal.h"
#include "media/medium.h"
#include "media/superblock.h"

namespace udax::check {

/// Notes what is wrong outside the reach of the passes: superblocks and journal.
void check_front(Scan& scan, const media::LoadedSuperblock& super, const JournalState& journal);

class Repair {
 public:
  Repair(media::Medium& medium, const media::LoadedSuperblock& super, const CheckOptions& options)
      : medium_(medium), super_(super), options_(options), meta_(medium, super.geometry), journal_(meta_) {}
  [[nodiscard]] Result<Report> run(std::string* why);

 private:
  static constexpr uint32_t kRoundsMax = 16;

  /// Whether the front could be mended, so that the pool can be replayed.
  [[nodiscard]] Result<bool> mend_front(Scan& scan, JournalState* journal);
  [[nodiscard]] Status write_control(const JournalState& journal);
  [[nodiscard]] Status write_superblocks();
  [[nodiscard]] Status rounds();
  /// One look. Empty out of rounds.
  void look();
  /// Mends the lowest stage; false: nothing (more) can be done.
  [[nodiscard]] Result<bool> mend();
  void conclude();

  media::Medium& medium_;
  const media::LoadedSuperblock& super_;
  const CheckOptions& options_;
  journal::MetaStore meta_;
  journal::Journal journal_;
  std::unique_ptr<Image> image_;
  std::unique_ptr<Scan> scan_;  // the last look
  Report first_;                // front, and the first look
};

}  // namespace udax::check
