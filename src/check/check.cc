// SPDX-License-Identifier: BSD-3-Clause
#include "check/check.h"

#include <memory>
#include <new>

#include "check/repair.h"
#include "check/scan.h"
#include "media/sentence.h"
#include "media/superblock.h"

namespace udax::check {
using media::say;

std::string_view to_string(Code code) {
  switch (code) {
    case Code::kSuperblock: return "superblock";
    case Code::kReplica: return "replica";
    case Code::kJournalControl: return "journal-control";
    case Code::kJournalRecord: return "journal-record";
    case Code::kInodeFile: return "inode-file";
    case Code::kShardLine: return "shard-line";
    case Code::kChunk: return "inode-chunk";
    case Code::kUsedMask: return "used-mask";
    case Code::kInodeChecksum: return "inode-checksum";
    case Code::kInode: return "inode";
    case Code::kInodeField: return "inode-field";
    case Code::kExtentTree: return "extent-tree";
    case Code::kExtent: return "extent";
    case Code::kDuplicateBlock: return "duplicate-block";
    case Code::kBehindEnd: return "behind-end";
    case Code::kXattr: return "xattr";
    case Code::kSymlink: return "symlink";
    case Code::kOrphanBlock: return "orphan-block";
    case Code::kOrphanEntry: return "orphan-entry";
    case Code::kOrphanMissing: return "orphan-missing";
    case Code::kDirectoryTree: return "directory-tree";
    case Code::kDirectoryEntry: return "directory-entry";
    case Code::kDuplicateName: return "duplicate-name";
    case Code::kEntryTarget: return "entry-target";
    case Code::kSecondName: return "second-name";
    case Code::kLoop: return "loop";
    case Code::kUnreachable: return "unreachable";
    case Code::kRoot: return "root";
    case Code::kParent: return "parent";
    case Code::kEntryCount: return "entry-count";
    case Code::kDirectorySize: return "directory-size";
    case Code::kBlockCount: return "block-count";
    case Code::kLinkCount: return "link-count";
    case Code::kPartialList: return "partial-list";
    case Code::kInodesUsed: return "inodes-used";
    case Code::kGroupDescriptor: return "group-descriptor";
    case Code::kBitmapChecksum: return "bitmap-checksum";
    case Code::kLeaked: return "leaked-blocks";
    case Code::kNotMarked: return "blocks-not-marked";
    case Code::kFreeCount: return "free-count";
    case Code::kLostData: return "lost-data";
  }
  return "unknown";
}

Result<Report> check_pool(const media::Medium& medium, const CheckOptions& options, std::string* why) try {
  if (options.mode != CheckOptions::kReportOnly) {
    return say(why, Error::kInvalid, "a pool that must not be changed cannot be repaired");
  }
  UDAX_TRY(const media::LoadedSuperblock super, media::load_superblock(medium, why));
  Image image(medium, super.geometry);
  const JournalState journal = image.read_journal();
  image.replay(journal);
  const auto scan = std::make_unique<Scan>(image, options);
  check_front(*scan, super, journal);
  scan->run();
  Report report = std::move(scan->report);
  report.was_clean = journal.clean;
  report.replayed_records = journal.records;
  report.rounds = 1;
  report.unrepaired_count = report.problem_count;
  return report;
} catch (const std::bad_alloc&) {
  return say(why, Error::kNoMemory, "out of memory");
}

Result<Report> check_pool(media::Medium& medium, const CheckOptions& options, std::string* why) try {
  if (options.mode == CheckOptions::kReportOnly) {
    return check_pool(static_cast<const media::Medium&>(medium), options, why);
  }
  if (options.scrub) return say(why, Error::kInvalid, "a scrub repairs nothing");
  if (medium.read_only()) return say(why, Error::kReadOnly, "opened read-only");
  UDAX_TRY(const media::LoadedSuperblock super, media::load_superblock(medium, why));
  return Repair(medium, super, options).run(why);
} catch (const std::bad_alloc&) {
  return say(why, Error::kNoMemory, "out of memory");
}

bool is_unmounted_cleanly(const media::Medium& medium) try {
  const auto super = media::load_superblock(medium);
  if (!super || super->source != media::SuperblockSource::kPrimary) return false;
  return Image(medium, super->geometry).read_journal().clean;
} catch (const std::bad_alloc&) {
  return false;
}

}  // namespace udax::check
