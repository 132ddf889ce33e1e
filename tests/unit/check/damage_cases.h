// SPDX-License-Identifier: BSD-3-Clause
//
// Kinds of damage, each with the code that it is to be found by.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "tests/unit/check/damage.h"

namespace udax::check {

struct Case {
  std::string name;
  Code code;  // that is to be among those found
  std::function<void(Damage&)> damage;
  std::vector<std::string> victims;  // paths, or directories ending in '/', that may be lost or changed
  bool preen = false;                // -p mends it
};

inline void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

inline void break_record(Damage& d) {
  auto* control = reinterpret_cast<format::JournalControl*>(d.raw_block(2));
  const format::JournalSlot& slot =
      control->slot_a.sequence > control->slot_b.sequence ? control->slot_a : control->slot_b;
  const uint64_t ring = offset_of(d.geometry().journal_start);
  struct Record {
    format::RecordHeader header;
    format::RecordOp op;
    le64 bytes[6];
  } record{};
  static_assert(sizeof record == 128);
  record.header.magic = format::kRecordMagic;
  record.header.lsn = slot.tail;
  record.header.epoch = slot.epoch;
  record.header.length = uint32_t{sizeof record};
  record.header.op_count = 1;
  record.op.offset = uint64_t{1} << 60;
  record.op.length = 8;
  record.header.checksum =
      format::checksum_without(d.seed(), &record, sizeof record, offsetof(format::RecordHeader, checksum));
  std::memcpy(d.raw(ring + slot.tail % (d.geometry().journal_blocks * kBlockSize)), &record, sizeof record);
}

inline void make_loop(Damage& d) {
  const uint64_t one = Damage::ino("one");
  const uint64_t deep = Damage::ino("one/two/three/deep");
  d.retarget(kRootIno.value, "one", deep, DT_REG);
  d.retarget(Damage::ino("one/two/three"), "deep", one, DT_DIR);
}

inline format::Extent first_extent(Damage& d, const std::string& path) {
  return d.payload<format::Extent>(Damage::ino(path));
}

inline std::vector<Case> front_cases() {
  return {
      {"Superblock", Code::kSuperblock, [](Damage& d) { std::memset(d.raw(0), 0, 64); }, {}, true},
      {"SuperblockChecksum", Code::kSuperblock, [](Damage& d) { d.flip(130); }, {}, true},
      {"Replica",
       Code::kReplica,
       [](Damage& d) { d.flip(d.geometry().replica().value * kBlockSize + 60); },
       {},
       true},
      {"JournalControl", Code::kJournalControl, [](Damage& d) { std::memset(d.raw_block(2), 0, kBlockSize); }, {}},
      {"JournalRecord", Code::kJournalRecord, break_record, {}},
  };
}

/// A shard that has chunks with free slots.
inline uint32_t listed_shard(Damage& d) {
  uint32_t shard = 0;
  while (shard < format::kInodeShards && d.shard_line(shard).partial_head == 0) ++shard;
  return shard;
}

inline std::vector<Case> table_cases() {
  return {
      {"InodeFileChecksum", Code::kInodeFile, [](Damage& d) { d.flip(d.inode_offset(0) + 64); }, {}},
      {"InodeFileWiped", Code::kInodeFile, [](Damage& d) { std::memset(d.raw_block(3), 0, 256); }, {}},
      {"InodeFileLosesExtent",
       Code::kUnreachable,
       [](Damage& d) {
         d.edit_inode(0, [](format::Inode& i) { i.size = i.size + kBlockSize; });
         d.retarget(kRootIno.value, "other", Damage::ino("plain"), DT_REG);
       },
       {"other"}},
      {"RootBlockWiped", Code::kInodeFile, [](Damage& d) { std::memset(d.raw_block(3), 0, kBlockSize); }, {}},
      {"ShardLine", Code::kShardLine, [](Damage& d) { d.flip(Damage::shard_offset(0) + 32); }, {}, true},
      {"ShardNextChunk",
       Code::kShardLine,
       [](Damage& d) { d.edit_shard(0, [](format::InodeShard& s) { s.next_chunk = 0; }); },
       {},
       true},
      {"ChunkHeader", Code::kChunk, [](Damage& d) { d.flip(d.chunk_block(0) * kBlockSize + 16); }, {}},
      {"ChunkNumber",
       Code::kChunk,
       [](Damage& d) { d.edit_chunk(Damage::ino("plain") / 16, [](format::ChunkHeader& h) { h.chunk = 77; }); },
       {}},
      {"UsedMask",
       Code::kUsedMask,
       [](Damage& d) {
         const uint64_t ino = Damage::ino("plain");
         d.edit_chunk(ino / 16, [&](format::ChunkHeader& h) {
           h.used_mask = static_cast<uint16_t>(h.used_mask & ~(1U << ino % 16));
         });
       },
       {},
       true},
      {"UsedMaskOfFree",
       Code::kUsedMask,
       [](Damage& d) {
         const uint64_t head = d.shard_line(listed_shard(d)).partial_head;
         d.edit_chunk(head - 1, [](format::ChunkHeader& h) { h.used_mask = uint16_t{0xFFFF}; });
       },
       {},
       true},
      {"PartialHead",
       Code::kPartialList,
       [](Damage& d) { d.edit_shard(listed_shard(d), [](format::InodeShard& s) { s.partial_head = 0; }); },
       {},
       true},
      {"PartialLoop",
       Code::kPartialList,
       [](Damage& d) {
         const uint64_t head = d.shard_line(listed_shard(d)).partial_head;
         d.edit_chunk(head - 1, [&](format::ChunkHeader& h) { h.partial_next = head; });
       },
       {},
       true},
      {"PartialBackwards",
       Code::kPartialList,
       [](Damage& d) {
         const uint64_t head = d.shard_line(listed_shard(d)).partial_head;
         d.edit_chunk(head - 1, [&](format::ChunkHeader& h) { h.partial_prev = head; });
       },
       {},
       true},
      {"InodesUsed",
       Code::kInodesUsed,
       [](Damage& d) { d.edit_shard(0, [](format::InodeShard& s) { s.inodes_used = 12345; }); },
       {},
       true},
  };
}

inline std::vector<Case> inode_cases() {
  return {
      {"InodeChecksum",
       Code::kInodeChecksum,
       [](Damage& d) { d.flip(d.inode_offset(Damage::ino("plain")) + 73); },
       {}},
      {"InodeNumber",
       Code::kInode,
       [](Damage& d) { d.edit_inode(Damage::ino("plain"), [](format::Inode& i) { i.ino = 5; }); },
       {"plain", "big/second"}},
      {"InodeType",
       Code::kInode,
       [](Damage& d) { d.edit_inode(Damage::ino("other"), [](format::Inode& i) { i.mode = uint16_t{0x9000}; }); },
       {"other"}},
      {"InodePayloadKind",
       Code::kInode,
       [](Damage& d) { d.edit_inode(Damage::ino("other"), [](format::Inode& i) { i.payload_kind = 3; }); },
       {"other"}},
      {"InodeOfDirectory",
       Code::kInode,
       [](Damage& d) { d.edit_inode(Damage::ino("big"), [](format::Inode& i) { i.payload_kind = 1; }); },
       {"big/", "big"}},
      {"InodeFlags",
       Code::kInodeField,
       [](Damage& d) { d.edit_inode(Damage::ino("other"), [](format::Inode& i) { i.flags = 0x100; }); },
       {}},
      {"InodeTime",
       Code::kInodeField,
       [](Damage& d) { d.edit_inode(Damage::ino("other"), [](format::Inode& i) { i.mtime_ns = 1'000'000'000; }); },
       {}},
      {"RootInode", Code::kRoot, [](Damage& d) { std::memset(d.raw(d.inode_offset(1)), 0, 256); }, {"/"}},
      {"RootIsFile",
       Code::kRoot,
       [](Damage& d) {
         d.edit_inode(1, [](format::Inode& i) {
           i.mode = uint16_t{0100644};
           i.payload_kind = 0;
         });
       },
       {"/"}},
      {"Parent",
       Code::kParent,
       [](Damage& d) { d.edit_inode(Damage::ino("one/two"), [](format::Inode& i) { i.parent = 1; }); },
       {},
       true},
      {"DirectorySize",
       Code::kDirectorySize,
       [](Damage& d) { d.edit_inode(Damage::ino("big"), [](format::Inode& i) { i.size = 4096; }); },
       {},
       true},
      {"BlockCount",
       Code::kBlockCount,
       [](Damage& d) { d.edit_inode(Damage::ino("holes"), [](format::Inode& i) { i.block_count = 3; }); },
       {},
       true},
      {"LinkCount",
       Code::kLinkCount,
       [](Damage& d) { d.edit_inode(Damage::ino("plain"), [](format::Inode& i) { i.nlink = 1; }); },
       {},
       true},
      {"LinkCountZero",
       Code::kLinkCount,
       [](Damage& d) { d.edit_inode(Damage::ino("plain"), [](format::Inode& i) { i.nlink = 0; }); },
       {},
       true},
      {"LinkCountOfDirectory",
       Code::kLinkCount,
       [](Damage& d) { d.edit_inode(Damage::ino("one"), [](format::Inode& i) { i.nlink = 9; }); },
       {},
       true},
      {"EntryCount",
       Code::kEntryCount,
       [](Damage& d) {
         d.edit_payload<format::DirRoot>(Damage::ino("big"), [](format::DirRoot& r) { r.entry_count = 9; });
       },
       {},
       true},
  };
}

inline std::vector<Case> contents_cases() {
  return {
      {"ExtentNode",
       Code::kExtentTree,
       [](Damage& d) { d.flip(d.find_block(format::kKindExtentNode, Damage::ino("holes")) * kBlockSize + 99); },
       {"holes"}},
      {"ExtentTreeLevel",
       Code::kExtentTree,
       [](Damage& d) {
         d.edit_payload<format::TreeRoot>(Damage::ino("holes"), [](format::TreeRoot& r) { r.level = 7; });
       },
       {"holes"}},
      {"ExtentTreeKeys",
       Code::kExtentTree,
       [](Damage& d) {
         d.edit_block<format::TreeNode>(d.find_block(format::kKindExtentNode, Damage::ino("holes"), 1),
                                        [](format::TreeNode& n) { n.entries[1].key = 0; });
       },
       {"holes"}},
      {"ExtentTreeOfAnother",
       Code::kExtentTree,
       [](Damage& d) {
         d.edit_block<format::TreeNode>(d.find_block(format::kKindExtentNode, Damage::ino("holes"), 1),
                                        [](format::TreeNode& n) { n.header.owner = 1; });
       },
       {"holes"}},
      {"ExtentBounds",
       Code::kExtent,
       [](Damage& d) {
         d.edit_payload<format::Extent>(Damage::ino("other"), [](format::Extent& e) { e.device_block = 2; });
       },
       {"other"}},
      {"ExtentOverlap",
       Code::kExtent,
       [](Damage& d) {
         d.edit_block<format::ExtentLeaf>(d.find_block(format::kKindExtentNode, Damage::ino("holes")),
                                          [](format::ExtentLeaf& l) { l.extents[3].file_block = 1; });
       },
       {"holes"}},
      {"Duplicate",
       Code::kDuplicateBlock,
       [](Damage& d) {
         const uint64_t device = first_extent(d, "plain").device_block;
         d.edit_payload<format::Extent>(Damage::ino("other"), [&](format::Extent& e) { e.device_block = device; });
       },
       {"plain", "big/second", "other"}},
      {"BehindEnd",
       Code::kBehindEnd,
       [](Damage& d) { d.edit_inode(Damage::ino("other"), [](format::Inode& i) { i.size = 5000; }); },
       {"other"}},
      {"XattrBlock",
       Code::kXattr,
       [](Damage& d) { d.flip(d.find_block(format::kKindXattr, Damage::ino("plain")) * kBlockSize + 60); },
       {}},
      {"XattrEntry",
       Code::kXattr,
       [](Damage& d) {
         d.edit_block<format::BlockHeader>(d.find_block(format::kKindXattr, Damage::ino("one")),
                                           [](format::BlockHeader& h) { reinterpret_cast<uint8_t*>(&h)[48] = 9; });
       },
       {}},
      {"XattrValue",
       Code::kXattr,
       [](Damage& d) {
         d.edit_block<format::BlockHeader>(d.find_block(format::kKindXattrValue, Damage::ino("plain")),
                                           [](format::BlockHeader& h) { h.count = uint16_t{5}; });
       },
       {}},
      {"Symlink",
       Code::kSymlink,
       [](Damage& d) { d.flip(d.payload<format::SymlinkRoot>(Damage::ino("link1000")).block * kBlockSize + 100); },
       {"link1000"}},
      {"SymlinkLength",
       Code::kSymlink,
       [](Damage& d) { d.edit_inode(Damage::ino("link7"), [](format::Inode& i) { i.size = 5; }); },
       {"link7"}},
  };
}

inline uint64_t orphan_block(Damage& d) {
  return d.find_block(format::kKindOrphan, Sample::get().orphan / 16 % format::kInodeShards);
}

inline std::vector<Case> orphan_cases() {
  return {
      {"OrphanBlock",
       Code::kOrphanBlock,
       [](Damage& d) { d.flip(orphan_block(d) * kBlockSize + 2000); },
       {},
       true},
      {"OrphanCount",
       Code::kOrphanBlock,
       [](Damage& d) {
         d.edit_block<format::OrphanBlock>(orphan_block(d),
                                           [](format::OrphanBlock& b) { b.header.count = uint16_t{9}; });
       },
       {},
       true},
      {"OrphanEntry",
       Code::kOrphanEntry,
       [](Damage& d) {
         d.edit_block<format::OrphanBlock>(orphan_block(d), [](format::OrphanBlock& b) {
           b.ino[500] = Sample::get().orphan + 16 * 16 * 1000;
           b.header.count = static_cast<uint16_t>(b.header.count + 1);
         });
       },
       {},
       true},
      {"OrphanDirectory",
       Code::kOrphanEntry,
       [](Damage& d) {
         const uint64_t other = Damage::ino("empty");
         d.edit_block<format::OrphanBlock>(
             d.find_block(format::kKindOrphan, Sample::get().orphan / 16 % format::kInodeShards),
             [&](format::OrphanBlock& b) {
               b.ino[500] = other;
               b.header.count = static_cast<uint16_t>(b.header.count + 1);
             });
       },
       {},
       true},
      {"OrphanTwice",
       Code::kOrphanEntry,
       [](Damage& d) {
         d.edit_block<format::OrphanBlock>(orphan_block(d), [](format::OrphanBlock& b) {
           b.ino[500] = Sample::get().orphan;
           b.header.count = static_cast<uint16_t>(b.header.count + 1);
         });
       },
       {},
       true},
      {"OrphanMissing",
       Code::kOrphanMissing,
       [](Damage& d) {
         d.edit_block<format::OrphanBlock>(orphan_block(d), [](format::OrphanBlock& b) {
           for (le64& ino : b.ino) {
             if (ino != Sample::get().orphan) continue;
             ino = 0;
             b.header.count = static_cast<uint16_t>(b.header.count - 1);
           }
         });
       },
       {},
       true},
  };
}

inline std::vector<Case> directory_cases() {
  return {
      {"DirectoryLeaf",
       Code::kDirectoryTree,
       [](Damage& d) { d.flip(d.find_block(format::kKindDirLeaf, Damage::ino("big")) * kBlockSize + 40); },
       {}},
      {"DirectoryLeafLost",
       Code::kUnreachable,
       [](Damage& d) {
         std::memset(d.raw_block(d.find_block(format::kKindDirLeaf, Damage::ino("big"))), 0, kBlockSize);
       },
       {"big/"}},
      {"DirectoryNode",
       Code::kDirectoryTree,
       [](Damage& d) { d.flip(d.find_block(format::kKindDirNode, Damage::ino("big"), 1) * kBlockSize + 4000); },
       {}},
      {"DirectoryNodeKeys",
       Code::kDirectoryTree,
       [](Damage& d) {
         d.edit_block<format::TreeNode>(d.find_block(format::kKindDirNode, Damage::ino("big"), 1),
                                        [](format::TreeNode& n) { n.entries[0].key = 5; });
       },
       {}},
      {"DirectoryHeap",
       Code::kDirectoryTree,
       [](Damage& d) {
         d.edit_block<format::DirLeafHeader>(d.find_block(format::kKindDirLeaf, Damage::ino("big")),
                                             [](format::DirLeafHeader& h) { (&h + 1)->heap_free = uint16_t{8}; });
       },
       {}},
      {"EntryHash",
       Code::kDirectoryEntry,
       [](Damage& d) {
         d.edit_entry(kRootIno.value, "other",
                      [](format::DirSlot& slot, format::DirName&) { slot.hash = slot.hash + 1; });
       },
       {"other"}},
      {"EntryName",
       Code::kDirectoryEntry,
       [](Damage& d) {
         d.edit_entry(kRootIno.value, "other", [](format::DirSlot&, format::DirName& n) { n.name[2] = '/'; });
       },
       {"other"}},
      {"EntryType",
       Code::kDirectoryEntry,
       [](Damage& d) { d.retarget(kRootIno.value, "other", Damage::ino("other"), DT_LNK); },
       {}},
      {"DuplicateName",
       Code::kDuplicateName,
       [](Damage& d) {
         d.edit_block<format::BlockHeader>(d.find_block(format::kKindDirLeaf, Damage::ino("big")),
                                           [](format::BlockHeader& h) {
                                             auto* slots = reinterpret_cast<format::DirSlot*>(&h + 2);
                                             slots[1] = slots[0];
                                           });
       },
       {"big/"}},
      {"EntryTarget",
       Code::kEntryTarget,
       [](Damage& d) { d.retarget(kRootIno.value, "other", 16 * 99999 + 3, DT_REG); },
       {"other"}},
      {"SecondName",
       Code::kSecondName,
       [](Damage& d) { d.retarget(kRootIno.value, "other", Damage::ino("one/two/three"), DT_DIR); },
       {"other", "one/", "one"}},
      {"RootNamed",
       Code::kSecondName,
       [](Damage& d) { d.retarget(Damage::ino("one/two/three"), "deep", kRootIno.value, DT_DIR); },
       {"one/two/three/deep"}},
      {"Loop", Code::kLoop, make_loop, {"one", "one/"}},
      {"DirectoryInItself",
       Code::kLoop,
       [](Damage& d) {
         d.retarget(Damage::ino("one/two/three"), "deep", Damage::ino("one/two/three"), DT_DIR);
         d.retarget(Damage::ino("one/two"), "three", Damage::ino("one/two/three/deep"), DT_REG);
       },
       {"one/"}},
      {"Unreachable",
       Code::kUnreachable,
       [](Damage& d) { d.retarget(kRootIno.value, "other", Damage::ino("plain"), DT_REG); },
       {"other"}},
      {"DirectoryUnreachable",
       Code::kUnreachable,
       [](Damage& d) { d.retarget(kRootIno.value, "one", Damage::ino("plain"), DT_REG); },
       {"one", "one/"}},
  };
}

inline std::vector<Case> space_cases() {
  return {
      {"DescriptorChecksum",
       Code::kGroupDescriptor,
       [](Damage& d) { d.flip(d.geometry().desc_offset(0) + 4); },
       {},
       true},
      {"DescriptorNumber",
       Code::kGroupDescriptor,
       [](Damage& d) { d.edit_desc(0, [](format::GroupDesc& g) { g.group = 4; }); },
       {},
       true},
      {"DescriptorUninit",
       Code::kNotMarked,
       [](Damage& d) { d.edit_desc(0, [](format::GroupDesc& g) { g.flags = format::kGroupUninit; }); },
       {},
       true},
      {"Bitmap",
       Code::kBitmapChecksum,
       [](Damage& d) { d.flip(d.geometry().bitmap_block(0).value * kBlockSize + 3000); },
       {},
       true},
      {"Leaked",
       Code::kLeaked,
       [](Damage& d) {
         uint64_t b = d.geometry().replica().value;
         while (d.in_use(b)) --b;
         d.edit_bitmap(b, true);
       },
       {},
       true},
      {"NotMarked",
       Code::kNotMarked,
       [](Damage& d) { d.edit_bitmap(first_extent(d, "plain").device_block, false); },
       {},
       true},
      {"StaticNotMarked", Code::kNotMarked, [](Damage& d) { d.edit_bitmap(3, false); }, {}, true},
      {"FreeCount",
       Code::kFreeCount,
       [](Damage& d) { d.edit_desc(0, [](format::GroupDesc& g) { g.free_blocks = 5; }); },
       {},
       true},
  };
}

inline std::vector<Case> all_cases() {
  std::vector<Case> all;
  for (auto* group :
       {front_cases, table_cases, inode_cases, contents_cases, orphan_cases, directory_cases, space_cases}) {
    for (Case& c : group()) all.push_back(std::move(c));
  }
  return all;
}

}  // namespace udax::check
