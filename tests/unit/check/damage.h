// SPDX-License-Identifier: BSD-3-Clause
//
// A pool with something of everything on it, copies of which are then damaged.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/siphash.h"
#include "check/check.h"
#include "format/checksum.h"
#include "format/format.h"
#include "fs/filesystem.h"
#include "media/memory_medium.h"
#include "media/superblock.h"
#include "tests/support/pool.h"

namespace udax::check {

/// The pool, unmounted, with two orphans on it; made once a process.
struct Sample {
  static constexpr uint64_t kSize = 16 * 1024 * 1024;
  std::unique_ptr<media::MemoryMedium> medium;
  std::map<std::string, uint64_t> inos;         // by path, without the leading slash
  std::map<std::string, std::string> contents;  // of files
  uint64_t orphan = 0;                          // has 8 KiB
  Report report;

  static const Sample& get() {
    static const Sample sample;
    return sample;
  }

 private:
  Sample();
  Ino dir(test::TestPool& pool, Ino parent, const std::string& path);
  Ino file(test::TestPool& pool, Ino parent, const std::string& path, const std::string& content);
};

inline std::string base_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

inline Ino Sample::dir(test::TestPool& pool, Ino parent, const std::string& path) {
  const Ino ino = pool.mkdir(parent, base_of(path));
  inos[path] = ino.value;
  return ino;
}

inline Ino Sample::file(test::TestPool& pool, Ino parent, const std::string& path, const std::string& content) {
  const Ino ino = pool.file(parent, base_of(path), content);
  inos[path] = ino.value;
  contents[path] = content;
  return ino;
}

inline Sample::Sample() : medium(std::make_unique<media::MemoryMedium>(kSize)) {
  test::TestPool pool(kSize);
  const Ino big = dir(pool, kRootIno, "big");
  for (int i = 0; i < 300; ++i) {
    const std::string name = "big/a-name-of-some-length-" + std::to_string(i);
    file(pool, big, name, "content of " + name);
  }
  const Ino one = dir(pool, kRootIno, "one");
  const Ino two = dir(pool, one, "one/two");
  const Ino three = dir(pool, two, "one/two/three");
  file(pool, three, "one/two/three/deep", "deep");
  dir(pool, kRootIno, "empty");
  file(pool, kRootIno, "none", "");
  const Ino plain = file(pool, kRootIno, "plain", std::string(10'000, 'p'));
  file(pool, kRootIno, "other", std::string(20'000, 'o'));
  EXPECT_TRUE(pool->link(plain, big, "second"));
  inos["big/second"] = plain.value;
  contents["big/second"] = contents["plain"];

  // A tree of extents: every other block is a hole.
  const Ino holes = file(pool, kRootIno, "holes", "");
  std::string& sparse = contents["holes"];
  for (uint64_t i = 0; i < 400; ++i) {
    pool.write(holes, 2 * i * kBlockSize, std::string(100, static_cast<char>('a' + i % 26)));
    sparse.resize(2 * i * kBlockSize);
    sparse.append(100, static_cast<char>('a' + i % 26));
  }
  const Ino kept = file(pool, kRootIno, "kept", "k");
  {
    auto open = pool->open(kept, O_RDWR, false);
    EXPECT_TRUE(open && pool->fallocate(**open, fs::kFallocKeepSize, 0, 100'000));
  }
  for (const size_t length : {size_t{7}, size_t{1000}}) {
    const std::string name = "link" + std::to_string(length);
    const auto made = pool->symlink(kRootIno, name, std::string(length, 't'), test::kRoot);
    EXPECT_TRUE(made);
    inos[name] = made->ino.value;
  }
  for (const uint32_t type : {0010000U, 0020000U, 0140000U}) {
    EXPECT_TRUE(pool->make(kRootIno, "special" + std::to_string(type), type | 0600, 1, 3, test::kRoot));
  }
  const std::string value(10'000, 'v');
  EXPECT_TRUE(pool->setxattr(plain, "user.small", test::bytes("small"), 0, false, test::kRoot));
  EXPECT_TRUE(pool->setxattr(plain, "user.large", test::bytes(value), 0, false, test::kRoot));
  EXPECT_TRUE(pool->setxattr(one, "user.ofdir", test::bytes("x"), 0, false, test::kRoot));

  const Ino doomed = pool.file(kRootIno, "doomed", std::string(8192, 'd'));
  orphan = doomed.value;
  auto open = pool->open(doomed, O_RDWR, false);
  EXPECT_TRUE(pool->unlink(kRootIno, "doomed"));
  fs::Attr attr;
  auto nameless = pool->tmpfile(kRootIno, 0600, O_RDWR, test::kRoot, &attr);
  EXPECT_TRUE(open && nameless);

  // As it would be after a crash now; then replayed and closed.
  medium->copy_from(pool.medium());
  CheckOptions options;
  options.mode = CheckOptions::kRepairAll;
  auto checked = check_pool(*medium, options);
  EXPECT_TRUE(checked);
  if (checked) report = std::move(*checked);
}

/// A copy of the sample, to be damaged.
class Damage {
 public:
  Damage() : medium_(std::make_shared<media::MemoryMedium>(Sample::kSize)) {
    medium_->copy_from(*Sample::get().medium);
    const auto super = media::load_superblock(*medium_);
    EXPECT_TRUE(super);
    geometry_ = super->geometry;
  }

  [[nodiscard]] const std::shared_ptr<media::MemoryMedium>& medium() { return medium_; }
  [[nodiscard]] const media::Geometry& geometry() const { return geometry_; }
  [[nodiscard]] std::byte* raw(uint64_t offset) { return medium_->raw() + offset; }
  [[nodiscard]] std::byte* raw_block(uint64_t b) { return raw(b * kBlockSize); }
  void flip(uint64_t offset) { *raw(offset) ^= std::byte{0x10}; }

  [[nodiscard]] static uint64_t ino(const std::string& path) { return Sample::get().inos.at(path); }

  [[nodiscard]] uint64_t chunk_block(uint64_t chunk) {
    for (uint64_t b = geometry_.data_start.value; b < geometry_.replica().value; ++b) {
      const auto* header = reinterpret_cast<const format::ChunkHeader*>(raw_block(b));
      if (header->magic == format::kChunkMagic && header->chunk == chunk && in_use(b) &&
          format::is_sealed(seed(), format::Unit::kChunk, header)) {
        return b;
      }
    }
    ADD_FAILURE() << "no chunk " << chunk;
    return 0;
  }
  [[nodiscard]] uint64_t inode_offset(uint64_t ino) {
    if (ino == 0) return offset_of(format::kRootBlock);
    return chunk_block(ino / 16) * kBlockSize + ino % 16 * format::kInodeSize;
  }
  void edit_inode(uint64_t ino, const std::function<void(format::Inode&)>& edit) {
    auto* inode = reinterpret_cast<format::Inode*>(raw(inode_offset(ino)));
    edit(*inode);
    format::seal(seed(), format::Unit::kInode, inode);
  }
  template <typename T>
  void edit_payload(uint64_t ino, const std::function<void(T&)>& edit) {
    edit_inode(ino, [&](format::Inode& inode) {
      T payload;
      std::memcpy(&payload, inode.payload, sizeof payload);
      edit(payload);
      std::memcpy(inode.payload, &payload, sizeof payload);
    });
  }
  template <typename T>
  [[nodiscard]] T payload(uint64_t ino) {
    T out;
    std::memcpy(&out, reinterpret_cast<const format::Inode*>(raw(inode_offset(ino)))->payload, sizeof out);
    return out;
  }
  void edit_chunk(uint64_t chunk, const std::function<void(format::ChunkHeader&)>& edit) {
    edit_unit<format::ChunkHeader>(chunk_block(chunk) * kBlockSize, format::Unit::kChunk, edit);
  }
  void edit_shard(uint32_t shard, const std::function<void(format::InodeShard&)>& edit) {
    edit_unit<format::InodeShard>(shard_offset(shard), format::Unit::kShard, edit);
  }
  [[nodiscard]] const format::InodeShard& shard_line(uint32_t shard) {
    return *reinterpret_cast<const format::InodeShard*>(raw(shard_offset(shard)));
  }
  [[nodiscard]] static uint64_t shard_offset(uint32_t shard) {
    return offset_of(format::kRootBlock) + offsetof(format::RootBlock, shard) + shard * sizeof(format::InodeShard);
  }
  template <typename T>
  void edit_block(uint64_t b, const std::function<void(T&)>& edit) {
    edit_unit<T>(b * kBlockSize, format::Unit::kBlock, edit);
  }
  void edit_desc(uint64_t group, const std::function<void(format::GroupDesc&)>& edit) {
    edit_unit<format::GroupDesc>(geometry_.desc_offset(group), format::Unit::kGroupDesc, edit);
  }
  /// Changes a bit of the first group's bitmap, and all that is summed over it.
  void edit_bitmap(uint64_t block, bool used) {
    std::byte* const bitmap = raw_block(geometry_.bitmap_block(0).value);
    auto& word = reinterpret_cast<le64*>(bitmap)[block / 64];
    const uint64_t bit = uint64_t{1} << (block % 64);
    word = used ? word | bit : word & ~bit;
    edit_desc(0, [&](format::GroupDesc& desc) {
      desc.bitmap_checksum = format::bitmap_checksum(seed(), bitmap);
      desc.free_blocks = used ? desc.free_blocks - 1 : desc.free_blocks + 1;
    });
  }
  [[nodiscard]] bool in_use(uint64_t b) {
    const auto& word = reinterpret_cast<const le64*>(raw_block(geometry_.bitmap_block(0).value))[b / 64];
    return (word >> (b % 64) & 1) != 0;
  }
  /// The first block of a kind, owner and level.
  [[nodiscard]] uint64_t find_block(format::BlockKind kind, uint64_t owner, uint32_t level = 0) {
    for (uint64_t b = geometry_.data_start.value; b < geometry_.replica().value; ++b) {
      const auto* header = reinterpret_cast<const format::BlockHeader*>(raw_block(b));
      if (header->magic == format::kBlockMagic && header->block == b && header->kind == kind &&
          header->owner == owner && header->level == level && in_use(b)) {
        return b;
      }
    }
    ADD_FAILURE() << "no block of kind " << kind << " and owner " << owner;
    return 0;
  }
  /// Changes an entry: `edit` gets its slot and its name.
  void edit_entry(uint64_t dir, const std::string& name,
                  const std::function<void(format::DirSlot&, format::DirName&)>& edit) {
    for (uint64_t b = geometry_.data_start.value; b < geometry_.replica().value; ++b) {
      std::byte* const bytes = raw_block(b);
      auto* header = reinterpret_cast<format::BlockHeader*>(bytes);
      if (header->magic != format::kBlockMagic || header->block != b || header->kind != format::kKindDirLeaf ||
          header->owner != dir || !in_use(b)) {
        continue;
      }
      auto* slots = reinterpret_cast<format::DirSlot*>(bytes + format::kDirLeafFixed);
      for (uint32_t i = 0; i < header->count; ++i) {
        auto* stored = reinterpret_cast<format::DirName*>(bytes + slots[i].offset);
        const std::string text(reinterpret_cast<const char*>(stored) + format::kDirNameFixed, stored->name_length);
        if (text != name) continue;
        edit(slots[i], *stored);
        format::seal(seed(), format::Unit::kBlock, bytes);
        return;
      }
    }
    ADD_FAILURE() << "no entry " << name;
  }
  void retarget(uint64_t dir, const std::string& name, uint64_t ino, uint8_t type) {
    edit_entry(dir, name, [&](format::DirSlot&, format::DirName& stored) {
      stored.ino = ino;
      stored.type = type;
    });
  }
  [[nodiscard]] uint32_t seed() const { return geometry_.checksum_seed; }

 private:
  template <typename T>
  void edit_unit(uint64_t offset, format::Unit unit, const std::function<void(T&)>& edit) {
    auto* image = reinterpret_cast<T*>(raw(offset));
    edit(*image);
    format::seal(seed(), unit, image);
  }

  std::shared_ptr<media::MemoryMedium> medium_;
  media::Geometry geometry_;
};

}  // namespace udax::check
