// SPDX-License-Identifier: BSD-3-Clause
//
// One look at the whole pool: what the parts of it share. Private to this folder.
//
// Order of the passes, each of which relies on those before:
//   inode table   static areas, the inode file, chunks, orphan lists, then every inode with what it owns
//   directories   names, against the inodes found
//   connections   from every directory up to the root; then link counts
//   shards        lists of chunks with free slots, counters
//   space         descriptors and bitmaps against the blocks seen
//
// Who claims a block first has it: static areas, the inode file, orphan lists, then inodes in the order of their
// numbers, and directories' trees last.
//
// Invariants
// - Every number that comes from the medium is checked before it is used as a place, an index or a count.
// - No walk is longer than the pool has blocks: what is walked is claimed, and nothing is claimed twice.
#pragma once

#include <charconv>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_set>
#include <vector>

#include "check/block_set.h"
#include "check/check.h"
#include "check/image.h"
#include "format/format.h"

namespace udax::check {

inline constexpr uint64_t kFileBlocksMax = uint64_t{1} << 51;
inline constexpr uint64_t kHashEnd = uint64_t{1} << 63;
inline constexpr uint32_t kXattrChainMax = 64;  // blocks: the entries of a listxattr(2) reply fit in fewer

/// When a problem is repaired: nothing of a later stage makes sense while an earlier one finds fault.
enum Stage : uint8_t {
  kStageFront = 1,      // superblocks, journal
  kStageStructure = 2,  // inodes, trees, names
  kStageConnect = 4,    // what has no name: names may have come back with the structure
  kStageCounts = 8,     // lists and counters
  kStageSpace = 16,     // descriptors and bitmaps
};
[[nodiscard]] Stage stage_of(Code code);

/// An extent in native types.
struct Run {
  uint64_t file = 0;
  uint64_t device = 0;
  uint64_t count = 0;  // blocks
  bool unwritten = false;
  [[nodiscard]] uint64_t end() const { return file + count; }
};

struct InodeNote {
  enum State : uint8_t {
    kOrphan = 1,      // stands in an orphan slot
    kReached = 2,     // the root is above it (or will be, after repair)
    kOnPath = 4,      // of the climb under way
    kUnreadable = 8,  // a part of it could not be read: its counts mean nothing
    kPlaced = 16,     // a rebuilt directory has its name already
    kCut = 32,        // the name that it has is to go
  };
  uint64_t parent = 0;   // directories: the one that names it; 0: none
  uint32_t nlink = 0;    // as it says itself
  uint32_t links = 0;    // names found
  uint32_t subdirs = 0;  // directories: those in it
  uint8_t type = 0;      // S_IFMT >> 12; 0: free
  uint8_t state = 0;
  [[nodiscard]] bool is(State s) const { return (state & s) != 0; }
  void set(State s) { state = static_cast<uint8_t>(state | s); }
  void reset(State s) { state = static_cast<uint8_t>(state & ~s); }
  [[nodiscard]] bool is_live() const { return type != 0; }
  [[nodiscard]] bool is_dir() const { return type == 4; }
};

struct ChunkNote {
  uint64_t chunk = 0;
  uint64_t block = 0;
  uint16_t header_mask = 0;  // as the header says
  uint16_t used_mask = 0;    // as the slots are
  bool header_good = false;
  std::array<InodeNote, format::kInodesPerChunk - 1> slots;
};

/// What repair is to do to one inode.
struct InodeFix {
  // Structure.
  bool clear = false;
  bool reseal = false;  // with fields put within bounds
  bool drop_xattrs = false;
  bool rewrite_directory = false;
  std::optional<std::vector<Run>> map;
  [[nodiscard]] bool is_structural() const {
    return clear || reseal || drop_xattrs || rewrite_directory || map.has_value();
  }
  // Counts.
  std::optional<uint64_t> block_count;
  std::optional<uint64_t> size;
  std::optional<uint64_t> entry_count;
  std::optional<uint64_t> parent;
  std::optional<uint32_t> nlink;
};

/// What repair is to do. Filled only when repairing.
struct Plan {
  std::map<uint64_t, InodeFix> inodes;              // 0: the inode file
  std::unordered_set<uint64_t> chunks_to_drop;      // by chunk number
  std::unordered_set<uint64_t> headers_to_rewrite;  // by chunk number
  bool find_lost_chunks = false;                    // the inode file could not be read in full
  bool make_root = false;
  std::vector<uint64_t> connect;  // inodes to be named in lost+found
  std::vector<uint64_t> cut;      // directories that name one of those, and are to forget it
  std::vector<uint64_t> orphans;  // what belongs on the orphan lists
  uint32_t shards_orphans = 0;    // mask of shards whose orphan list is to be rewritten
  uint32_t shards_lists = 0;      // ... whose list of chunks
  uint32_t shards_lines = 0;      // ... whose line
  std::vector<uint64_t> groups;   // whose bitmap and descriptor are to be rewritten
};

struct ShardNote {
  uint64_t used = 0;            // inodes
  uint64_t next_chunk_min = 0;  // above all chunks there are
  std::vector<uint64_t> orphan_blocks;
};

class Scan {
 public:
  Scan(const Image& pool, const CheckOptions& check_options);
  Scan(const Scan&) = delete;
  Scan& operator=(const Scan&) = delete;

  /// All passes. May throw std::bad_alloc.
  void run();

  const Image& image;
  const media::Geometry& geometry;
  const CheckOptions& options;
  const bool planning;  // fills in the plan
  Report report;
  uint32_t stages = 0;  // mask of Stage: where problems were found
  Plan plan;
  BlockSet seen;
  std::vector<ChunkNote> chunks;  // by number
  std::array<ShardNote, format::kInodeShards> shards;
  std::vector<uint64_t> orphans;  // sorted, each once

  /// Notes a problem. `parts`: strings and integers, joined to a sentence.
  template <typename... Parts>
  void add(Code code, uint64_t ino, uint64_t block, const Parts&... parts) {
    if (!count_problem(code)) return;
    std::string what;
    (append(what, parts), ...);
    report.problems.push_back({code, std::move(what), ino, block, false});
  }

  /// The note of `ino`; nullptr: there is no such slot.
  [[nodiscard]] InodeNote* find(uint64_t ino);
  [[nodiscard]] ChunkNote* find_chunk(uint64_t chunk);
  /// The inode as it is on the medium. REQUIRES: find(ino) != nullptr, or 0 for the inode file.
  [[nodiscard]] const format::Inode* inode(uint64_t ino);
  [[nodiscard]] uint64_t slot_offset(uint64_t ino);
  [[nodiscard]] const format::InodeShard* shard_line(uint32_t shard) const;
  [[nodiscard]] InodeFix& fix(uint64_t ino) { return plan.inodes[ino]; }
  [[nodiscard]] bool is_orphan(uint64_t ino) const;

  /// True if the run lies where files may be.
  [[nodiscard]] bool is_data(uint64_t start, uint64_t count) const {
    return geometry.is_data(DeviceBlock(start), count);
  }
  /// Takes the run for `ino`; false, with a problem noted, if a block of it is taken. REQUIRES: is_data.
  [[nodiscard]] bool claim(uint64_t start, uint64_t count, uint64_t ino, const char* what);
  /// The block if it is a sealed one of this kind and owner that knows its place; nullptr and why otherwise.
  [[nodiscard]] const std::byte* read(uint64_t b, format::BlockKind kind, uint64_t owner, const char** why) const;

  void progress(const char* phase, uint64_t done, uint64_t total) const {
    if (options.progress) options.progress(phase, done, total);
  }

 private:
  [[nodiscard]] bool count_problem(Code code);
  static void append(std::string& out, std::string_view text) { out.append(text); }
  template <typename T>
  requires std::is_integral_v<T>
  static void append(std::string& out, T value) { out.append(std::to_string(value)); }
};

/// What walking an extent map gives.
struct MapWalk {
  uint64_t blocks = 0;  // claimed: data and nodes
  uint64_t extents = 0;
  uint64_t written_end = 0;  // file block behind the last written one
  bool broken = false;       // something had to be left out
  std::vector<Run> runs;     // what was not, in order, if asked for
};

// The passes.
void check_inode_table(Scan& scan);
void check_directories(Scan& scan);
void check_connections(Scan& scan);
void check_shards(Scan& scan);
void check_space(Scan& scan);
/// Reads what the passes have not. After them.
void scrub(Scan& scan);

// Their parts.
/// Walks and claims the extents of `inode`.
[[nodiscard]] MapWalk walk_map(Scan& scan, uint64_t ino, const format::Inode& inode, bool keep_runs);
/// Walks and claims the xattrs. The number of blocks; nullopt: they are broken.
[[nodiscard]] std::optional<uint64_t> walk_xattrs(Scan& scan, uint64_t ino, const format::Inode& inode);
/// The orphan lists: claims their blocks and fills scan.orphans.
void read_orphans(Scan& scan);
/// Whether those are inodes, now that the inodes are known.
void check_orphans(Scan& scan);
/// What is wrong with the fields of an inode that is in use; nullptr: nothing. `fatal`: it cannot be mended.
[[nodiscard]] const char* inode_fault(uint64_t ino, const format::Inode& inode, bool* fatal);
/// Puts what inode_fault() minds, where not fatal, within bounds.
void mend_fields(format::Inode* inode);

/// An entry of a directory as it stands in a leaf.
struct EntryView {
  uint64_t hash = 0;
  uint64_t ino = 0;
  uint8_t type = 0;  // DT_...
  std::string_view name;
};
[[nodiscard]] bool is_valid_name(std::string_view name);
[[nodiscard]] uint64_t name_hash(const media::Geometry& geometry, std::string_view name);
/// The entry in `slot` of the leaf image; false if it does not lie within the heap or its name cannot be one.
[[nodiscard]] bool parse_entry(const std::byte* leaf, const format::DirSlot& slot, EntryView* out);

}  // namespace udax::check
