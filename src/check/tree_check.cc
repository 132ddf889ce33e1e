// SPDX-License-Identifier: BSD-3-Clause
//
// Connections: whether each inode can be reached from the root, and whether its count of links is right.
//
// A directory has one that names it, or none; so the way up from each is a path, which ends at the root, at a directory
// without a name, or in a circle. Each is climbed once.
#include <vector>

#include "check/scan.h"

namespace udax::check {
namespace {

class Climber {
 public:
  explicit Climber(Scan& scan) : scan_(scan) {}
  void climb(uint64_t ino);

 private:
  void connect(uint64_t ino, InodeNote& note);

  Scan& scan_;
  std::vector<InodeNote*> path_;
};

/// What has no name, and should have one.
void Climber::connect(uint64_t ino, InodeNote& note) {
  scan_.add(Code::kUnreachable, ino, 0, note.is_dir() ? "directory " : "inode ", ino, " has no name");
  if (scan_.planning) scan_.plan.connect.push_back(ino);
  note.set(InodeNote::kUnreadable);  // its counts will be other ones
}

void Climber::climb(uint64_t ino) {
  path_.clear();
  InodeNote* note = scan_.find(ino);
  while (!note->is(InodeNote::kReached)) {
    if (note->is(InodeNote::kOnPath)) {
      scan_.add(Code::kLoop, ino, 0, "directory ", ino, " is, by way of others, in itself");
      if (scan_.planning) {
        scan_.plan.connect.push_back(ino);
        scan_.plan.cut.push_back(note->parent);
      }
      note->parent = 0;
      note->links = 0;
      note->set(InodeNote::kCut);
      break;
    }
    note->set(InodeNote::kOnPath);
    path_.push_back(note);
    if (ino == kRootIno.value) break;
    if (note->parent == 0) {
      // A directory that was removed while it was open has no name, and is empty.
      if (!(note->nlink == 0 && note->is(InodeNote::kOrphan) && note->subdirs == 0)) connect(ino, *note);
      break;
    }
    ino = note->parent;
    note = scan_.find(ino);
  }
  for (InodeNote* const passed : path_) {
    passed->set(InodeNote::kReached);
    passed->reset(InodeNote::kOnPath);
  }
}

void check_parent(Scan& scan, uint64_t ino, const InodeNote& note) {
  const uint64_t expected = ino == kRootIno.value ? ino : note.parent;
  const uint64_t stored = scan.inode(ino)->parent;
  if (expected == 0 || stored == expected) return;
  scan.add(Code::kParent, ino, 0, "directory ", ino, " says that it is in ", stored, "; it is in ", expected);
  if (scan.planning) scan.fix(ino).parent = expected;
}

/// An inode that is no directory: by a name, or by being an orphan.
void check_named(Scan& scan, uint64_t ino, InodeNote& note) {
  if (note.links != 0) return;
  if (note.nlink == 0) {
    if (note.is(InodeNote::kOrphan)) return;
    scan.add(Code::kOrphanMissing, ino, 0, "inode ", ino, " has no links, and is not among the orphans");
    if (scan.planning) scan.plan.orphans.push_back(ino);
    scan.plan.shards_orphans |= 1U << (ino / format::kInodesPerChunk % format::kInodeShards);
    return;
  }
  scan.add(Code::kUnreachable, ino, 0, "inode ", ino, " has no name");
  if (scan.planning) scan.plan.connect.push_back(ino);
  note.set(InodeNote::kUnreadable);
}

void check_links(Scan& scan, uint64_t ino, const InodeNote& note) {
  uint64_t expected = note.links;
  if (note.is_dir()) {
    const bool named = note.parent != 0 || ino == kRootIno.value;
    if (!named) return;  // an orphan, or told already
    expected = uint64_t{2} + note.subdirs;
  } else if (note.links == 0) {
    return;
  }
  if (note.nlink == expected) return;
  scan.add(Code::kLinkCount, ino, 0, "inode ", ino, " counts ", note.nlink, " links; it has ", expected);
  if (scan.planning) scan.fix(ino).nlink = static_cast<uint32_t>(expected);
}

}  // namespace

void check_connections(Scan& scan) {
  Climber climber(scan);
  uint64_t done = 0;
  for (ChunkNote& chunk : scan.chunks) {
    for (uint32_t slot = 1; slot < format::kInodesPerChunk; ++slot) {
      InodeNote& note = chunk.slots[slot - 1];
      if (!note.is_live()) continue;
      const uint64_t ino = chunk.chunk * format::kInodesPerChunk + slot;
      if (note.is_dir()) {
        climber.climb(ino);
        check_parent(scan, ino, note);
      } else {
        check_named(scan, ino, note);
      }
      check_links(scan, ino, note);
    }
    if (++done % 1024 == 0) scan.progress("connections", done, scan.chunks.size());
  }
}

}  // namespace udax::check
