// SPDX-License-Identifier: BSD-3-Clause
//
// The image of the corruption campaign: something of every kind, unmounted as by a power cut, with records that wait for
// replay; and what a mount of it must show.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fs/filesystem.h"
#include "media/memory_medium.h"

namespace udax::check {

/// What can be seen of an inode.
struct Seen {
  fs::Attr attr;
  std::string content;  // of a file or symbolic link; of a directory: names, one a line
  std::map<std::string, std::string> xattrs;
};

struct CampaignImage {
  static constexpr uint64_t kSize = 16 * 1024 * 1024;
  /// Names below this directory come from records that still wait: where one of those is damaged they are as before.
  static constexpr const char* kLate = "late";

  enum class Kind : uint8_t { kFree, kData, kMetadata, kJournal };

  CampaignImage();
  std::unique_ptr<media::MemoryMedium> medium;
  std::map<std::string, Seen> tree;  // by path; "" is the root
  std::vector<Kind> kinds;           // of each block
  std::vector<std::string> owners;   // of blocks of data: the path
  std::vector<uint64_t> metadata;    // blocks in use
  std::vector<uint64_t> data;
  std::vector<uint64_t> journal;  // where records wait

  /// False for bytes that hold nothing, so that damage there is none: reserved ones, slots that are free, what is
  /// behind the last record, the journal's older tail, blocks that the recovery frees.
  [[nodiscard]] bool carries(uint64_t block, uint64_t byte) const;
  /// The byte as a recovery leaves it.
  [[nodiscard]] std::byte recovered(uint64_t block, uint64_t byte) const {
    return after_->at(block * kBlockSize)[byte];
  }
  /// Where the last record ends.
  [[nodiscard]] uint64_t last_journal_block() const {
    const uint64_t ring_bytes = geometry_.journal_blocks * kBlockSize;
    return geometry_.journal_start.value + (tail().tail + replayed_bytes_ - 1) % ring_bytes / kBlockSize;
  }

 private:
  [[nodiscard]] const format::JournalSlot& tail() const;

  std::shared_ptr<media::MemoryMedium> after_;  // recovered, and closed
  media::Geometry geometry_;
  uint64_t replayed_bytes_ = 0;
};

/// What is wrong with what a mounted filesystem shows, against a tree that is known.
struct Look {
  uint64_t errors = 0;             // operations that failed: a problem that is told
  bool shows_data = false;         // the bytes of a spared file differ
  std::vector<std::string> wrong;  // what was shown, and is not so: a sentence each
};

/// Walks everything by name and reads it. `spares`: the path of a file whose bytes may differ; `late_may_differ`: names
/// below kLate may, too.
[[nodiscard]] Look look_at(fs::Filesystem& fs, const std::map<std::string, Seen>& tree,
                           const std::vector<std::string>& spares, bool late_may_differ);
/// The tree as it is. Expects no error.
[[nodiscard]] std::map<std::string, Seen> read_tree(fs::Filesystem& fs);

}  // namespace udax::check
