// SPDX-License-Identifier: BSD-3-Clause
//
// The whole-filesystem check, and the repairs.
//
// What is found is computed from the format alone (src/format): nothing here uses the layers that write a pool, so
// that a mistake of theirs is not repeated.
//
// A check changes not a byte of the pool. A pool that was not unmounted cleanly is seen as replay would leave it: the
// records are laid over the medium in private memory.
//
// Repairs
// - go in rounds, each a whole check and the repair of what is lowest: structure first (inodes, trees, names), then
//   lists and counts, then free space. A round's result is judged by the next, until one finds nothing or mends nothing.
// - The journal is replayed first, and its control block says `live` until all is clean: a repair that is cut off is
//   followed by another check. What replaces something is written to free blocks and drained before anything points
//   to it.
//
// Cost: one pass over all metadata; about 30 bytes of memory an inode, 4 KiB a group of blocks in use in part.
//
// Locks: none. REQUIRES: nobody writes to the medium meanwhile.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "media/medium.h"

namespace udax::check {

/// What is wrong. In the order in which things are looked at.
enum class Code : uint8_t {
  kSuperblock,       // the one at block 0 is broken; the replica serves
  kReplica,          // broken, or differs from the superblock
  kJournalControl,   // neither slot is valid
  kJournalRecord,    // sealed, yet with an operation out of bounds
  kInodeFile,        // the inode table's root, or where it says that chunks are
  kShardLine,        // checksum, or a list's head or counter that cannot be
  kChunk,            // header of an inode chunk, or the whole chunk
  kUsedMask,         // a chunk's header and its slots disagree
  kInodeChecksum,    // of an inode that otherwise makes sense
  kInode,            // an inode that makes no sense
  kInodeField,       // flags, times, sizes out of range
  kExtentTree,       // a node of an extent tree
  kExtent,           // an extent out of bounds, out of order or overlapping
  kDuplicateBlock,   // a block that two claim
  kBehindEnd,        // written blocks behind the end of a file that nobody is truncating
  kXattr,            // a block, an entry or a value of extended attributes
  kSymlink,          // target
  kOrphanBlock,      // of the list of orphans
  kOrphanEntry,      // names an inode that cannot be one, or twice
  kOrphanMissing,    // an inode without links that is no orphan
  kDirectoryTree,    // a node or leaf of a directory
  kDirectoryEntry,   // hash, name, or type
  kDuplicateName,    // in one directory
  kEntryTarget,      // names a free or bad inode
  kSecondName,       // a second name of a directory
  kLoop,             // directories that hold each other
  kUnreachable,      // an inode without a name
  kRoot,             // no root directory
  kParent,           // ".." is another directory than the one that names it
  kEntryCount,       // entries a directory counts
  kDirectorySize,    // size of a directory
  kBlockCount,       // blocks an inode counts
  kLinkCount,        // links an inode counts
  kPartialList,      // chunks with free slots
  kInodesUsed,       // inodes a shard counts
  kGroupDescriptor,  // checksum, number or flags
  kBitmapChecksum,   // of a group's bitmap
  kLeaked,           // blocks marked in use that nothing uses
  kNotMarked,        // blocks in use that are marked free
  kFreeCount,        // free blocks a group counts
  kLostData,         // what a file or the journal held is lost to a media error; found by a scrub only
};
inline constexpr uint32_t kCodes = static_cast<uint32_t>(Code::kLostData) + 1;
/// A word for programs, such as "link-count".
[[nodiscard]] std::string_view to_string(Code code);

struct Problem {
  Code code{};
  std::string what;    // a sentence
  uint64_t ino = 0;    // 0: none
  uint64_t block = 0;  // 0: none
  bool repaired = false;
};

struct Report {
  // What is there, as far as it could be read.
  uint64_t inodes = 0;  // in use
  uint64_t files = 0;
  uint64_t directories = 0;
  uint64_t symlinks = 0;
  uint64_t specials = 0;  // devices, fifos, sockets
  uint64_t names = 0;     // directory entries
  uint64_t orphans = 0;
  uint64_t extents = 0;
  uint64_t blocks_total = 0;  // of the pool
  uint64_t blocks_used = 0;   // static areas included
  uint64_t blocks_data = 0;   // mapped by files
  uint64_t blocks_tree = 0;   // extent nodes
  uint64_t blocks_directory = 0;
  uint64_t blocks_xattr = 0;
  uint64_t blocks_inode = 0;  // chunks
  [[nodiscard]] uint64_t blocks_free() const { return blocks_total - blocks_used; }

  // Of a scrub.
  uint64_t blocks_scrubbed = 0;   // read: all in use
  uint64_t blocks_lost = 0;       // of them, with what they held
  uint64_t blocks_lost_idle = 0;  // in use by nothing, as far as is known, or unwritten

  bool was_clean = false;         // unmounted cleanly
  uint64_t replayed_records = 0;  // of the journal; in memory only unless repairing
  uint32_t rounds = 0;            // of checking

  std::vector<Problem> problems;  // CheckOptions::problems_max at most
  uint64_t problem_count = 0;     // all that were found
  uint64_t unrepaired_count = 0;  // all that are left
  [[nodiscard]] bool clean() const { return problem_count == 0; }
  [[nodiscard]] bool all_repaired() const { return unrepaired_count == 0; }
};

struct CheckOptions {
  enum Mode : uint8_t {
    kReportOnly,  // changes nothing
    kPreen,       // mends what cannot lose anything: superblocks, lists, counts, free space
    kRepairAll,   // and takes out what cannot be right
  };
  Mode mode = kReportOnly;
  /// Reads all blocks in use as well, and names the files that have lost some. kReportOnly only.
  bool scrub = false;
  uint32_t problems_max = 1000;
  /// Called now and then: what is being looked at, how far, of how much.
  std::function<void(const char* phase, uint64_t done, uint64_t total)> progress;
};

/// Checks the pool on `medium`, and repairs it as the options say. Errors are those of not being able to check: no pool
/// there (kNotAPool, kUnsupportedFormat, kCorrupted: no superblock to start from), kIo, kNoMemory, kReadOnly (asked to
/// repair a medium that is read-only). `why`, if given, gets a sentence for the user.
[[nodiscard]] Result<Report> check_pool(media::Medium& medium, const CheckOptions& options,
                                        std::string* why = nullptr);

/// The same without repairs. kInvalid: the options ask for some.
[[nodiscard]] Result<Report> check_pool(const media::Medium& medium, const CheckOptions& options,
                                        std::string* why = nullptr);

/// Whether the pool was unmounted cleanly and waits for no replay. False also where it cannot be told.
[[nodiscard]] bool is_unmounted_cleanly(const media::Medium& medium);

}  // namespace udax::check
