// SPDX-License-Identifier: BSD-3-Clause
//
// Storing to a pool under repair. Private to this folder.
//
// Persistence: what is stored is durable after drain(). Blocks come from allocate(): nothing that was seen uses them, so
// that what is written there harms nothing before something points to it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "check/scan.h"
#include "media/medium.h"

namespace udax::check {

class Writer {
 public:
  Writer(media::Medium& medium, Scan& scan)
      : medium_(medium), scan_(scan), cursor_(scan.geometry.data_start.value) {}

  void store(uint64_t offset, const void* bytes, uint64_t size) { medium_.store_nt(offset, bytes, size); }
  /// Seals the unit and stores it.
  void store_unit(uint64_t offset, format::Unit unit, void* image);
  /// The same for a block with a header, which is filled in but for its level and count.
  void store_block(uint64_t b, format::BlockKind kind, uint64_t owner, void* image);
  [[nodiscard]] Status drain() { return medium_.drain(); }

  /// A block that nothing uses: one that its bitmap calls free, as long as there are such; then
  /// one that holds no metadata. kNoSpace.
  [[nodiscard]] Result<uint64_t> allocate();

 private:
  [[nodiscard]] bool is_free_on_media(uint64_t b);
  [[nodiscard]] bool looks_like_metadata(uint64_t b) const;

  media::Medium& medium_;
  Scan& scan_;
  uint64_t cursor_;
  bool trust_bitmaps_ = true;  // until there are no more of those
  uint64_t known_group_ = ~uint64_t{0};
  const le64* known_words_ = nullptr;  // of its bitmap; nullptr: not to be used
  bool known_uninit_ = false;
};

/// Makes `runs`, in order, the map of the inode image. The image is not stored.
[[nodiscard]] Status write_map(Writer& writer, uint64_t ino, const std::vector<Run>& runs, format::Inode* inode);

/// A name to be put into a directory.
struct NewEntry {
  uint64_t hash = 0;
  uint64_t ino = 0;
  uint8_t type = 0;
  std::string name;
};
/// What of a directory's names can be kept: read from whatever leaves there are, each name judged by its hash.
[[nodiscard]] std::vector<NewEntry> collect_entries(Scan& scan, uint64_t ino);
/// Makes a tree of the entries and lets the inode image name it. The image is not stored.
[[nodiscard]] Status write_directory(Writer& writer, uint64_t ino, std::vector<NewEntry> entries,
                                     format::Inode* inode);

// The stages. Each may leave consequences to the next round.
[[nodiscard]] Status repair_structure(Writer& writer, Scan& scan);
[[nodiscard]] Status repair_connections(Writer& writer, Scan& scan);
[[nodiscard]] Status repair_counts(Writer& writer, Scan& scan);
[[nodiscard]] Status repair_space(Writer& writer, Scan& scan);

// Their parts.
/// Where the inode file is to lead: to the chunks found, to those that it has lost, to a first one with a root directory.
[[nodiscard]] Status repair_inode_file(Writer& writer, Scan& scan);
/// A new inode, without a name, in use in its slot and chunk. kNoSpace.
[[nodiscard]] Result<uint64_t> make_directory_inode(Writer& writer, Scan& scan, uint64_t parent);
/// The header as the chunk's slots want it; its links stay if they can be read.
void rewrite_header(Writer& writer, Scan& scan, const ChunkNote& chunk);
/// Orphan lists, chunk lists, lines.
[[nodiscard]] Status repair_shards(Writer& writer, Scan& scan);

}  // namespace udax::check
