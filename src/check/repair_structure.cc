// SPDX-License-Identifier: BSD-3-Clause
//
// Repairs of structure and of connections: inodes, what they own, names; and what has no name.
//
// Names are judged by the inodes that are there. So as long as the inode file itself is not whole, nothing else is
// touched: an inode that comes back must still find its names.
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "check/writer.h"

namespace udax::check {
namespace {

constexpr const char* kLostAndFound = "lost+found";

void clear_inode(Writer& writer, Scan& scan, uint64_t ino) {
  format::Inode empty{};
  const format::Inode& old = *scan.inode(ino);
  // A handle to the old one must not open the next one.
  if (old.ino == ino) empty.generation = old.generation;
  writer.store_unit(scan.slot_offset(ino), format::Unit::kInode, &empty);
}

Status repair_inode(Writer& writer, Scan& scan, uint64_t ino, const InodeFix& fix) {
  if (fix.clear) {
    clear_inode(writer, scan, ino);
    return {};
  }
  format::Inode image = *scan.inode(ino);
  if (fix.reseal) {
    const bool is_orphan = image.nlink == 0 && scan.is_orphan(ino);
    mend_fields(&image);
    if (is_orphan) image.nlink = 0;
  }
  if (fix.drop_xattrs) image.xattr_block = 0;
  if (fix.map) UDAX_CHECK(write_map(writer, ino, *fix.map, &image));
  if (fix.rewrite_directory) UDAX_CHECK(write_directory(writer, ino, collect_entries(scan, ino), &image));
  writer.store_unit(scan.slot_offset(ino), format::Unit::kInode, &image);
  return {};
}

/// Rewrites a directory with what of its names can be kept, and more.
Status rewrite_directory(Writer& writer, Scan& scan, uint64_t ino, std::vector<NewEntry> more) {
  std::vector<NewEntry> entries = collect_entries(scan, ino);
  for (NewEntry& e : more) entries.push_back(std::move(e));
  format::Inode image = *scan.inode(ino);
  UDAX_CHECK(write_directory(writer, ino, std::move(entries), &image));
  writer.store_unit(scan.slot_offset(ino), format::Unit::kInode, &image);
  return writer.drain();
}

NewEntry make_entry(const Scan& scan, std::string name, uint64_t ino, uint8_t type) {
  return {name_hash(scan.geometry, name), ino, type, std::move(name)};
}

/// The directory for what has no name; made in the root if it is not there.
Result<uint64_t> find_lost_and_found(Writer& writer, Scan& scan) {
  const std::vector<NewEntry> entries = collect_entries(scan, kRootIno.value);
  for (ChunkNote& chunk : scan.chunks) {
    for (InodeNote& note : chunk.slots) note.reset(InodeNote::kPlaced);  // that was a look only
  }
  std::string name = kLostAndFound;
  for (uint32_t n = 1;; ++n) {
    const auto found =
        std::find_if(entries.begin(), entries.end(), [&](const NewEntry& e) { return e.name == name; });
    if (found == entries.end()) break;
    if (scan.find(found->ino)->is_dir()) return found->ino;
    name = std::string(kLostAndFound) + "." + std::to_string(n);
  }
  UDAX_TRY(const uint64_t made, make_directory_inode(writer, scan, kRootIno.value));
  UDAX_CHECK(rewrite_directory(writer, scan, kRootIno.value, {make_entry(scan, name, made, S_IFDIR >> 12)}));
  scan.find(made)->parent = kRootIno.value;
  return made;
}

}  // namespace

Status repair_structure(Writer& writer, Scan& scan) {
  const auto file = scan.plan.inodes.find(0);
  const bool file_broken = file != scan.plan.inodes.end() && file->second.is_structural();
  if (file_broken || scan.plan.find_lost_chunks || scan.plan.make_root || !scan.plan.chunks_to_drop.empty()) {
    return repair_inode_file(writer, scan);
  }
  for (const auto& [ino, fix] : scan.plan.inodes) {
    if (fix.is_structural()) UDAX_CHECK(repair_inode(writer, scan, ino, fix));
  }
  for (const uint64_t chunk : scan.plan.headers_to_rewrite) {
    const ChunkNote* const note = scan.find_chunk(chunk);
    if (note != nullptr) rewrite_header(writer, scan, *note);
  }
  return writer.drain();
}

Status repair_connections(Writer& writer, Scan& scan) {
  UDAX_TRY(const uint64_t home, find_lost_and_found(writer, scan));
  std::vector<NewEntry> found;
  for (const uint64_t ino : scan.plan.connect) {
    if (ino == home) continue;
    found.push_back(make_entry(scan, std::string("#").append(std::to_string(ino)), ino, scan.find(ino)->type));
  }
  // First the new names, then the old ones go: cut off in between, a directory has two, which is repaired again.
  UDAX_CHECK(rewrite_directory(writer, scan, home, std::move(found)));
  const std::set<uint64_t> cut(scan.plan.cut.begin(), scan.plan.cut.end());
  for (const uint64_t ino : cut) {
    if (ino != home && scan.find(ino) != nullptr && scan.find(ino)->is_dir()) {
      UDAX_CHECK(rewrite_directory(writer, scan, ino, {}));
    }
  }
  return writer.drain();
}

Status repair_counts(Writer& writer, Scan& scan) {
  for (const auto& [ino, fix] : scan.plan.inodes) {
    format::Inode image = *scan.inode(ino);
    if (fix.block_count) image.block_count = *fix.block_count;
    if (fix.size) image.size = *fix.size;
    if (fix.nlink) image.nlink = *fix.nlink;
    if (fix.parent) image.parent = *fix.parent;
    if (fix.entry_count) {
      format::DirRoot root{};
      if (image.payload_kind == format::kPayloadDirectory) std::memcpy(&root, image.payload, sizeof root);
      root.entry_count = *fix.entry_count;
      image.payload_kind = format::kPayloadDirectory;
      std::memcpy(image.payload, &root, sizeof root);
    }
    writer.store_unit(scan.slot_offset(ino), format::Unit::kInode, &image);
  }
  for (const uint64_t chunk : scan.plan.headers_to_rewrite) {
    const ChunkNote* const note = scan.find_chunk(chunk);
    if (note != nullptr) rewrite_header(writer, scan, *note);
  }
  UDAX_CHECK(repair_shards(writer, scan));
  return writer.drain();
}

}  // namespace udax::check
