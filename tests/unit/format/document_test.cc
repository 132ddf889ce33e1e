// SPDX-License-Identifier: BSD-3-Clause
//
// docs/format.md says where every field is. Here each offset that its tables give is held against the structs: a field
// that moves, or a line of the document that is wrong, fails.
#include <gtest/gtest.h>

#include <cstddef>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "format/format.h"

namespace udax::format {
namespace {

struct Field {
  uint64_t offset = 0;
  uint64_t size = 0;
};
/// A table of the document: the heading or line before it, and the rows whose first cell is an offset.
struct Table {
  std::string title;
  std::vector<Field> fields;
};

std::string trim(const std::string& s) {
  const size_t from = s.find_first_not_of(' ');
  if (from == std::string::npos) return {};
  return s.substr(from, s.find_last_not_of(' ') - from + 1);
}

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  for (size_t at = 1; at < line.size();) {
    const size_t end = line.find('|', at);
    if (end == std::string::npos) break;
    cells.push_back(trim(line.substr(at, end - at)));
    at = end + 1;
  }
  return cells;
}

/// "8 + 4" and "4 x 8" are sizes of fields that stand together; "…" is none.
uint64_t size_of(const std::string& cell) {
  uint64_t total = 0;
  size_t used = 0;
  if (cell.empty() || cell[0] < '0' || cell[0] > '9') return 0;
  total = std::stoull(cell, &used);
  if (cell.find(" x ") != std::string::npos) return total * std::stoull(cell.substr(cell.find(" x ") + 3));
  for (size_t plus = cell.find('+'); plus != std::string::npos; plus = cell.find('+', plus + 1)) {
    total += std::stoull(cell.substr(plus + 1));
  }
  return total;
}

/// The tables headed "offset | size | ...", in order.
std::vector<Table> read_tables() {
  const std::string here = __FILE__;  // the build names sources by their full paths
  const std::string path = here.substr(0, here.rfind("/tests/unit/")) + "/docs/format.md";
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::vector<Table> tables;
  std::string line;
  std::string title;
  bool in_table = false;
  while (std::getline(file, line)) {
    if (line.empty() || line[0] != '|') {
      in_table = false;
      if (!line.empty() && line[0] == '#') title = line;
      continue;
    }
    const auto cells = cells_of(line);
    if (cells.size() >= 3 && cells[0] == "offset" && cells[1] == "size") {
      tables.push_back({title + " / " + cells[2], {}});
      in_table = true;
      continue;
    }
    if (!in_table || cells.size() < 3 || cells[0].empty() || cells[0][0] < '0' || cells[0][0] > '9') continue;
    tables.back().fields.push_back({std::stoull(cells[0]), size_of(cells[1])});
  }
  return tables;
}

using Layout = std::map<uint64_t, uint64_t>;  // offset -> size

#define FIELD(type, name) \
  { offsetof(type, name), sizeof(type::name) }

struct Known {
  const char* name;
  uint64_t size;  // bytes of the struct
  Layout fields;
};

std::vector<Known> known_structs() {
  return {
      {"Superblock",
       sizeof(Superblock),
       {FIELD(Superblock, magic),
        FIELD(Superblock, version_major),
        FIELD(Superblock, version_minor),
        FIELD(Superblock, checksum),
        FIELD(Superblock, compat),
        FIELD(Superblock, ro_compat),
        FIELD(Superblock, incompat),
        FIELD(Superblock, uuid),
        FIELD(Superblock, label),
        FIELD(Superblock, block_count),
        FIELD(Superblock, group_count),
        FIELD(Superblock, desc_start),
        FIELD(Superblock, desc_blocks),
        FIELD(Superblock, bitmap_start),
        FIELD(Superblock, journal_start),
        FIELD(Superblock, journal_blocks),
        FIELD(Superblock, data_start),
        FIELD(Superblock, reserved_blocks),
        {offsetof(Superblock, created_s), 12},
        FIELD(Superblock, block_size),
        FIELD(Superblock, hash_key),
        FIELD(Superblock, reserved)}},
      {"JournalSlot",
       sizeof(JournalSlot),
       {FIELD(JournalSlot, checksum), FIELD(JournalSlot, state), FIELD(JournalSlot, sequence),
        FIELD(JournalSlot, tail), FIELD(JournalSlot, epoch), FIELD(JournalSlot, mount_count),
        FIELD(JournalSlot, mounted_s), FIELD(JournalSlot, reserved)}},
      {"RecordHeader",
       sizeof(RecordHeader),
       {FIELD(RecordHeader, magic),
        FIELD(RecordHeader, checksum),
        FIELD(RecordHeader, lsn),
        FIELD(RecordHeader, epoch),
        FIELD(RecordHeader, length),
        FIELD(RecordHeader, op_count),
        FIELD(RecordHeader, time_ns),
        FIELD(RecordHeader, reserved),
        {64, 0}}},
      {"GroupDesc",
       sizeof(GroupDesc),
       {FIELD(GroupDesc, checksum), FIELD(GroupDesc, free_blocks), FIELD(GroupDesc, bitmap_checksum),
        FIELD(GroupDesc, flags), FIELD(GroupDesc, group), FIELD(GroupDesc, reserved)}},
      {"InodeShard",
       sizeof(InodeShard),
       {FIELD(InodeShard, checksum), FIELD(InodeShard, next_chunk), FIELD(InodeShard, partial_head),
        FIELD(InodeShard, orphan_block), FIELD(InodeShard, inodes_used)}},
      {"ChunkHeader",
       sizeof(ChunkHeader),
       {FIELD(ChunkHeader, checksum), FIELD(ChunkHeader, magic), FIELD(ChunkHeader, chunk),
        FIELD(ChunkHeader, used_mask), FIELD(ChunkHeader, partial_next), FIELD(ChunkHeader, partial_prev)}},
      {"Inode",
       sizeof(Inode),
       {FIELD(Inode, checksum),
        FIELD(Inode, mode),
        FIELD(Inode, payload_kind),
        FIELD(Inode, payload_count),
        FIELD(Inode, ino),
        FIELD(Inode, generation),
        FIELD(Inode, nlink),
        {offsetof(Inode, uid), 8},
        FIELD(Inode, size),
        FIELD(Inode, block_count),
        FIELD(Inode, flags),
        FIELD(Inode, project_id),
        FIELD(Inode, xattr_block),
        {offsetof(Inode, atime_s), 32},
        {offsetof(Inode, atime_ns), 16},
        FIELD(Inode, parent),
        FIELD(Inode, reserved),
        FIELD(Inode, payload)}},
      {"BlockHeader",
       sizeof(BlockHeader),
       {FIELD(BlockHeader, magic), FIELD(BlockHeader, checksum), FIELD(BlockHeader, block),
        FIELD(BlockHeader, owner), FIELD(BlockHeader, kind), FIELD(BlockHeader, level), FIELD(BlockHeader, count),
        FIELD(BlockHeader, reserved)}},
  };
}

TEST(FormatDocument, TablesSayWhatTheStructsSay) {
  const std::vector<Table> tables = read_tables();
  // The tables of the document stand in the order of the pool; a title may be reworded, so they are told apart by order.
  const std::vector<Known> structs = known_structs();
  ASSERT_GE(tables.size(), structs.size());
  for (size_t i = 0; i < structs.size(); ++i) {
    const Known& known = structs[i];
    SCOPED_TRACE(std::string(known.name) + ": " + tables[i].title);
    EXPECT_FALSE(tables[i].fields.empty());
    Layout documented;
    for (const Field& f : tables[i].fields) documented[f.offset] = f.size;
    EXPECT_EQ(documented, known.fields);
  }
}

TEST(FormatDocument, NoFieldRunsIntoTheNext) {
  for (const Table& table : read_tables()) {
    SCOPED_TRACE(table.title);
    for (size_t i = 1; i < table.fields.size(); ++i) {
      EXPECT_LE(table.fields[i - 1].offset + table.fields[i - 1].size, table.fields[i].offset);
    }
  }
}

TEST(FormatDocument, SizesOfTheStructs) {
  EXPECT_EQ(sizeof(Superblock), 4096U);
  EXPECT_EQ(sizeof(JournalControl), 4096U);
  EXPECT_EQ(sizeof(JournalSlot), 64U);
  EXPECT_EQ(sizeof(RecordHeader), 64U);
  EXPECT_EQ(sizeof(RecordOp), 16U);
  EXPECT_EQ(sizeof(GroupDesc), 64U);
  EXPECT_EQ(sizeof(InodeShard), 64U);
  EXPECT_EQ(sizeof(RootBlock), 4096U);
  EXPECT_EQ(sizeof(ChunkHeader), 256U);
  EXPECT_EQ(sizeof(Inode), 256U);
  EXPECT_EQ(sizeof(BlockHeader), 32U);
  EXPECT_EQ(sizeof(Extent), 24U);
  EXPECT_EQ(kExtentsPerLeaf, 169U);
  EXPECT_EQ(kEntriesPerNode, 254U);
  EXPECT_EQ(kOrphansPerBlock, 507U);
  EXPECT_EQ(kXattrValueSpace, 4056U);
  EXPECT_EQ(kInlineExtents, 5U);
}

}  // namespace
}  // namespace udax::format
