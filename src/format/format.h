// SPDX-License-Identifier: BSD-3-Clause
//
// The on-media structures of a udaxfs pool, and nothing else. docs/format.md is the same as a table of bytes.
//
// Pool layout, in 4 KiB blocks (all places are in the superblock):
//
//   0                superblock
//   1                holder block: who has the pool open (information only, not trusted)
//   2                journal control block: two slots for the journal's tail
//   3                root block: the inode file's inode, and one line per shard of the inode table
//   desc_start       group descriptors, 64 bytes each
//   bitmap_start     group bitmaps, one block each; bit set = in use
//   journal_start    journal ring
//   data_start ...   everything else: inode chunks, extent nodes, directory blocks, xattrs, file data
//   block_count - 1  replica of the superblock
//
// Invariants
// - Integers are little-endian. A reserved field is zero.
// - Every checksum is CRC32C (seed below) over the structure with its checksum field taken as zero.
//   Seed of everything but the superblock: crc32c(~0, uuid). The superblock: ~0.
// - A block number of 0 in a pointer means none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/endian.h"
#include "base/types.h"

namespace udax::format {

inline constexpr uint16_t kVersionMajor = 1;
inline constexpr uint16_t kVersionMinor = 0;

// Feature bits. Unknown compat: ignored. Unknown ro_compat: mounted read-only at most. Unknown incompat: refused.
inline constexpr uint64_t kCompatKnown = 0;
inline constexpr uint64_t kRoCompatKnown = 0;
inline constexpr uint64_t kIncompatKnown = 0;

inline constexpr uint64_t kSuperblockMagic = 0x3153465841445500ULL;  // "\0UDAXFS1"
inline constexpr uint32_t kBlockMagic = 0x4B4C4255;                  // "UBLK"
inline constexpr uint32_t kRecordMagic = 0x44524A55;                 // "UJRD"

inline constexpr DeviceBlock kSuperblockBlock{0};
inline constexpr DeviceBlock kHolderBlock{1};
inline constexpr DeviceBlock kJournalControlBlock{2};
inline constexpr DeviceBlock kRootBlock{3};
inline constexpr DeviceBlock kDescStart{4};

inline constexpr uint32_t kGroupBlocks = 32768;                // 128 MiB: as many as one bitmap block has bits
inline constexpr uint64_t kPoolBlocksMin = 2048;               // 8 MiB
inline constexpr uint64_t kPoolBlocksMax = uint64_t{1} << 35;  // 128 TiB

/// 4 KiB.
struct Superblock {
  le64 magic;
  le16 version_major;
  le16 version_minor;
  le32 checksum;
  le64 compat;
  le64 ro_compat;
  le64 incompat;
  uint8_t uuid[16];
  uint8_t label[64];  // NUL-padded
  le64 block_count;   // blocks of the pool, replica included
  le64 group_count;
  le64 desc_start;
  le64 desc_blocks;
  le64 bitmap_start;  // group_count blocks
  le64 journal_start;
  le64 journal_blocks;
  le64 data_start;
  le64 reserved_blocks;  // kept for operations that must not fail (unlink, truncate)
  le64 created_s;
  le32 created_ns;
  le32 block_size;       // 4096
  uint8_t hash_key[16];  // SipHash key of directory names
  uint8_t reserved[3872];
};
static_assert(sizeof(Superblock) == 4096);
static_assert(offsetof(Superblock, checksum) == 12);
static_assert(offsetof(Superblock, uuid) == 40);
static_assert(offsetof(Superblock, label) == 56);
static_assert(offsetof(Superblock, block_count) == 120);
static_assert(offsetof(Superblock, created_s) == 192);
static_assert(offsetof(Superblock, hash_key) == 208);
static_assert(offsetof(Superblock, reserved) == 224);
static_assert(std::is_trivially_copyable_v<Superblock>);

/// Who has the pool open. Information for messages; the lock on the pool's file is what excludes. 4 KiB.
struct HolderBlock {
  le32 checksum;
  le32 pid;             // 0: nobody
  le64 started_s;       // realtime
  uint8_t program[32];  // NUL-padded
  uint8_t mountpoint[2048];
  uint8_t reserved[2000];
};
static_assert(sizeof(HolderBlock) == 4096);

/// One of the two copies of the journal's tail; a torn one fails its checksum and the other holds. 64 bytes.
struct JournalSlot {
  le32 checksum;
  le32 state;     // kJournalClean or kJournalLive
  le64 sequence;  // the valid slot with the higher sequence counts
  le64 tail;      // Lsn of the oldest record that is not yet known to be in place
  le64 epoch;     // records of another epoch are not replayed
  le64 mount_count;
  le64 mounted_s;
  uint8_t reserved[16];
};
static_assert(sizeof(JournalSlot) == 64);
inline constexpr uint32_t kJournalClean = 0x434C4541;  // unmounted cleanly: nothing to replay, free counts right
inline constexpr uint32_t kJournalLive = 0x4C495645;

/// 4 KiB: slots 2 KiB apart, so that one bad line or one torn write cannot take both.
struct JournalControl {
  JournalSlot slot_a;
  uint8_t reserved_a[1984];
  JournalSlot slot_b;
  uint8_t reserved_b[1984];
};
static_assert(sizeof(JournalControl) == 4096);
static_assert(offsetof(JournalControl, slot_b) == 2048);

/// Opens a journal record. A record is this header, then `op_count` operations, each a RecordOp and its
/// bytes padded to 8. Records start at multiples of 64; one may run over the ring's end and go on at its start.
/// 64 bytes.
struct RecordHeader {
  le32 magic;
  le32 checksum;  // over all `length` bytes
  le64 lsn;       // its own position
  le64 epoch;
  le32 length;  // bytes, header included, a multiple of 64
  le32 op_count;
  le64 time_ns;
  uint8_t reserved[24];
};
static_assert(sizeof(RecordHeader) == 64);

/// Redo: store the `length` bytes that follow at `offset` of the pool. 16 bytes.
struct RecordOp {
  le64 offset;
  le32 length;  // bytes, 1... 4096; the run stays within one 4 KiB block
  le32 reserved;
};
static_assert(sizeof(RecordOp) == 16);

/// 64 bytes.
struct GroupDesc {
  le32 checksum;
  le32 free_blocks;
  le32 bitmap_checksum;  // of the group's bitmap block; not used while kGroupUninit
  le32 flags;
  le64 group;  // its own index
  uint8_t reserved[40];
};
static_assert(sizeof(GroupDesc) == 64);
inline constexpr uint32_t kGroupUninit = 1;  // bitmap never written: all blocks free
inline constexpr uint32_t kDescsPerBlock = 64;

/// One line of the root block: a shard of the inode table. Chunk c belongs to shard c % kInodeShards. 64 bytes.
struct InodeShard {
  le32 checksum;
  le32 reserved0;
  le64 next_chunk;    // the next chunk this shard will make is next_chunk * kInodeShards + shard
  le64 partial_head;  // first chunk with a free slot, plus 1; 0 is none
  le64 orphan_block;  // first orphan block; 0 is none
  le64 inodes_used;
  uint8_t reserved[24];
};
static_assert(sizeof(InodeShard) == 64);
inline constexpr uint32_t kInodeShards = 16;

struct TimeStamp {  // not aligned: seconds and nanoseconds are apart in Inode
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;  // below 10^9
  constexpr auto operator<=>(const TimeStamp&) const = default;
};

/// What Inode::payload holds.
enum PayloadKind : uint8_t {
  kPayloadNone = 0,           // empty file, empty directory, fifo, socket
  kPayloadInlineExtents = 1,  // payload_count Extent entries
  kPayloadExtentTree = 2,     // TreeRoot
  kPayloadDirectory = 3,      // DirRoot
  kPayloadInlineSymlink = 4,  // `size` bytes of target
  kPayloadSymlinkBlock = 5,   // SymlinkRoot
  kPayloadDevice = 6,         // DeviceNumber
};

inline constexpr uint32_t kInodeSize = 256;
inline constexpr uint32_t kPayloadSize = 128;

/// 256 bytes. Inode number i is slot i % 16 of chunk i / 16; slot 0 is the chunk's header. mode 0: free.
struct Inode {
  le32 checksum;
  le16 mode;  // S_IFMT and permission bits
  uint8_t payload_kind;
  uint8_t payload_count;
  le64 ino;
  le32 generation;
  le32 nlink;
  le32 uid;
  le32 gid;
  le64 size;         // bytes; a directory: 4096 times its blocks
  le64 block_count;  // blocks it owns: data, extent nodes, directory blocks, xattr blocks
  le32 flags;        // kFlag...
  le32 project_id;
  le64 xattr_block;  // head of the xattr chain; 0 is none
  le64 atime_s;
  le64 mtime_s;
  le64 ctime_s;
  le64 btime_s;
  le32 atime_ns;
  le32 mtime_ns;
  le32 ctime_ns;
  le32 btime_ns;
  le64 parent;  // directories: the inode that ".." names; else 0
  le64 reserved;
  uint8_t payload[kPayloadSize];
};
static_assert(sizeof(Inode) == kInodeSize);
static_assert(offsetof(Inode, ino) == 8);
static_assert(offsetof(Inode, size) == 32);
static_assert(offsetof(Inode, flags) == 48);
static_assert(offsetof(Inode, xattr_block) == 56);
static_assert(offsetof(Inode, atime_s) == 64);
static_assert(offsetof(Inode, atime_ns) == 96);
static_assert(offsetof(Inode, parent) == 112);
static_assert(offsetof(Inode, payload) == 128);
static_assert(std::is_trivially_copyable_v<Inode>);

// Inode flags.
inline constexpr uint32_t kFlagDax = 1U << 0;
inline constexpr uint32_t kFlagAppend = 1U << 1;
inline constexpr uint32_t kFlagImmutable = 1U << 2;
inline constexpr uint32_t kFlagNoAtime = 1U << 3;
inline constexpr uint32_t kFlagNoDump = 1U << 4;
inline constexpr uint32_t kFlagSync = 1U << 5;
inline constexpr uint32_t kFlagDirSync = 1U << 6;
inline constexpr uint32_t kFlagProjInherit = 1U << 7;
inline constexpr uint32_t kFlagsKnown = 0xFF;

inline constexpr uint64_t kInodesPerChunk = 16;  // slot 0 is the header: 15 of use
inline constexpr uint32_t kNlinkMax = 0x7FFFFFFF;

/// Slot 0 of an inode chunk. Chunk c is block c of the inode file. 256 bytes.
struct ChunkHeader {
  le32 checksum;
  le32 magic;      // kChunkMagic
  le64 chunk;      // its own index
  le16 used_mask;  // bit s: slot s is in use; bit 0 always set
  le16 reserved0;
  le32 reserved1;
  le64 partial_next;  // chunk + 1 of the next with a free slot in this shard; 0 is none
  le64 partial_prev;  // chunk + 1; 0: this is the head, or it is not on the list
  uint8_t reserved[216];
};
static_assert(sizeof(ChunkHeader) == kInodeSize);
inline constexpr uint32_t kChunkMagic = 0x4B4E4843;  // "CHNK"

/// What the root block holds. 4 KiB.
struct RootBlock {
  Inode inode_file;  // ino 0; its extents place the inode chunks
  uint8_t reserved0[768];
  InodeShard shard[kInodeShards];
  uint8_t reserved[2048];
};
static_assert(sizeof(RootBlock) == 4096);
static_assert(offsetof(RootBlock, shard) == 1024);

/// Opens every block of the kinds below. 32 bytes.
struct BlockHeader {
  le32 magic;     // kBlockMagic
  le32 checksum;  // of the whole block
  le64 block;     // its own place
  le64 owner;     // the inode it belongs to (orphan blocks: the shard)
  le16 kind;      // BlockKind
  le16 level;     // trees: 0 is a leaf
  le16 count;     // entries
  le16 reserved;
};
static_assert(sizeof(BlockHeader) == 32);

enum BlockKind : uint16_t {
  kKindExtentNode = 1,
  kKindDirLeaf = 2,
  kKindDirNode = 3,
  kKindXattr = 4,
  kKindXattrValue = 5,
  kKindOrphan = 6,
};

/// File blocks [file_block, +count) are device blocks [device_block, +count). 24 bytes.
struct Extent {
  le64 file_block;  // below 2^51
  le64 device_block;
  le32 count;  // blocks, 1... kExtentBlocksMax
  le32 flags;  // kExtentUnwritten
};
static_assert(sizeof(Extent) == 24);
inline constexpr uint32_t kExtentUnwritten = 1;  // allocated, reads as zeroes
inline constexpr uint32_t kExtentBlocksMax = 1U << 30;
inline constexpr uint32_t kInlineExtents = kPayloadSize / sizeof(Extent);  // 5
inline constexpr uint64_t kFileSizeMax = 0x7FFFFFFFFFFFFFFFULL;            // bytes

/// Payload of kPayloadExtentTree. 16 bytes.
struct TreeRoot {
  le64 block;
  le32 level;  // of the root node; 0: the root is a leaf
  le32 reserved;
};
static_assert(sizeof(TreeRoot) == 16);

/// Entry of an extent node above the leaves: the child holds keys from `file_block` on. 16 bytes.
struct TreeEntry {
  le64 key;
  le64 child;
};
static_assert(sizeof(TreeEntry) == 16);

inline constexpr uint32_t kExtentsPerLeaf = (kBlockSize - sizeof(BlockHeader)) / sizeof(Extent);     // 169
inline constexpr uint32_t kEntriesPerNode = (kBlockSize - sizeof(BlockHeader)) / sizeof(TreeEntry);  // 254
inline constexpr uint32_t kTreeLevelsMax = 8;

/// Extent leaf: sorted by file_block, no overlaps.
struct ExtentLeaf {
  BlockHeader header;
  Extent extents[kExtentsPerLeaf];
  uint8_t reserved[kBlockSize - sizeof(BlockHeader) - kExtentsPerLeaf * sizeof(Extent)];
};
static_assert(sizeof(ExtentLeaf) == kBlockSize);

/// Inner node of an extent tree or a directory tree: sorted by key; the first key is a lower bound of all.
struct TreeNode {
  BlockHeader header;
  TreeEntry entries[kEntriesPerNode];
};
static_assert(sizeof(TreeNode) == kBlockSize);

/// Payload of kPayloadDirectory. The tree is keyed by the name's hash. 24 bytes.
struct DirRoot {
  le64 block;        // 0: no entries
  le64 entry_count;  // "." and ".." are not stored and not counted
  le32 level;
  le32 reserved;
};
static_assert(sizeof(DirRoot) == 24);

/// Directory leaf: slots grow up from the header, not sorted; names grow down from the block's end.
/// All names of equal hash are in one leaf.
struct DirSlot {
  le64 hash;    // kDirHashMin... 2^63-1; also the entry's seekdir cookie
  le16 offset;  // of its DirName, bytes from the block's start
  le16 length;  // bytes of its DirName, padding included (a multiple of 8)
  le32 reserved;
};
static_assert(sizeof(DirSlot) == 16);
struct DirName {
  le64 ino;
  uint8_t type;         // DT_... of dirent.h
  uint8_t name_length;  // 1... 255
  uint8_t name[6];      // and on, padded with zeroes to a multiple of 8
};
static_assert(sizeof(DirName) == 16);
inline constexpr uint32_t kDirNameFixed = 10;  // bytes before the name
inline constexpr uint64_t kDirHashMin = 16;    // cookies below: 0 start, 1 ".", 2 ".."
inline constexpr uint32_t kNameMax = 255;

/// A directory leaf's header: BlockHeader, then this. 32 bytes.
struct DirLeafHeader {
  le16 heap_start;  // lowest offset in use by names
  le16 heap_free;   // bytes of dead names above heap_start
  le32 reserved0;
  uint8_t reserved[24];
};
static_assert(sizeof(DirLeafHeader) == 32);
inline constexpr uint32_t kDirLeafFixed = sizeof(BlockHeader) + sizeof(DirLeafHeader);  // 64

/// Xattr block: BlockHeader, XattrHeader, then entries packed one after another. A chain; every change
/// writes a new chain and switches Inode::xattr_block.
struct XattrHeader {
  le64 next;  // next block of the chain; 0 ends it
  le16 used;  // bytes of entries
  le16 reserved0;
  le32 reserved1;
};
static_assert(sizeof(XattrHeader) == 16);
struct XattrEntry {
  uint8_t name_space;   // XattrNamespace
  uint8_t name_length;  // of the name behind the prefix; 0 for the ACLs
  le16 length;          // bytes of the entry: this, name, value if inline, padded to 8
  le32 value_length;    // bytes, 0... 65536
  le64 value_block;     // head of a chain of value blocks; 0: the value follows the name
};
static_assert(sizeof(XattrEntry) == 16);
enum XattrNamespace : uint8_t {
  kXattrUser = 1,
  kXattrTrusted = 2,
  kXattrSecurity = 3,
  kXattrAclAccess = 4,
  kXattrAclDefault = 5,
};
inline constexpr uint32_t kXattrValueMax = 65536;
inline constexpr uint32_t kXattrInlineMax = 1024;  // longer values go to value blocks
inline constexpr uint32_t kXattrNamesMax = 65536;  // bytes of a listxattr(2) reply
inline constexpr uint32_t kXattrSpace = kBlockSize - sizeof(BlockHeader) - sizeof(XattrHeader);

/// Value block: BlockHeader (count = bytes here), then this, then the bytes.
struct XattrValueHeader {
  le64 next;
};
static_assert(sizeof(XattrValueHeader) == 8);
inline constexpr uint32_t kXattrValueSpace = kBlockSize - sizeof(BlockHeader) - sizeof(XattrValueHeader);  // 4056

/// Payload of kPayloadSymlinkBlock: the target is the first `size` bytes of the block, the rest zero. 16 bytes.
struct SymlinkRoot {
  le64 block;
  le32 checksum;  // of the whole block
  le32 reserved;
};
static_assert(sizeof(SymlinkRoot) == 16);
inline constexpr uint32_t kSymlinkInlineMax = kPayloadSize;  // bytes
inline constexpr uint32_t kSymlinkMax = 4095;                // bytes

/// Payload of kPayloadDevice. 8 bytes.
struct DeviceNumber {
  le32 major;
  le32 minor;
};

/// Orphan block: inodes with no name left that were open, or are being truncated step by step.
inline constexpr uint32_t kOrphansPerBlock = (kBlockSize - sizeof(BlockHeader) - 8) / 8;  // 507
struct OrphanBlock {
  BlockHeader header;          // count: slots in use
  le64 next;                   // next orphan block of the shard; 0 ends it
  le64 ino[kOrphansPerBlock];  // 0: free slot
};
static_assert(sizeof(OrphanBlock) == kBlockSize);

}  // namespace udax::format
