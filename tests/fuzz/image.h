// SPDX-License-Identifier: BSD-3-Clause
//
// The image that fuzzers of the media format start from, with something of every kind on it; how it is used once an input
// has changed it; and what must hold whatever the input was.
//
// Each run starts from the same bytes, at the price of the pages that the last one changed.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "check/check.h"
#include "format/checksum.h"
#include "fs/filesystem.h"
#include "tests/fuzz/seed_pool.h"
#include "tests/support/cow_medium.h"

namespace udax::fuzz {

inline constexpr fs::Caller kRoot{0, 0, 1, 022};

inline std::span<const std::byte> bytes(std::string_view s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}

inline Ino make_file(fs::Filesystem& fs, Ino parent, const std::string& name, uint64_t pieces) {
  fs::Attr attr;
  auto file = fs.create(parent, name, 0644, O_RDWR, kRoot, &attr);
  must(file.has_value());
  for (uint64_t i = 0; i < pieces; ++i) must(fs.write(**file, i * 8192, bytes("piece"), false, false).has_value());
  return attr.ino;
}

/// The pool, as a power cut leaves it, and the blocks of it that hold metadata.
struct ImageSeed : SeedPool {
  std::vector<uint64_t> blocks;
  uint32_t checksum_seed = 0;

  ImageSeed() {
    auto shared = std::shared_ptr<media::Medium>(&medium, [](media::Medium*) {});
    auto mounted = fs::Filesystem::mount(shared, {}, nullptr);
    must(mounted.has_value());
    fs::Filesystem& fs = **mounted;
    const Ino file = make_file(fs, kRootIno, "file", 3);
    static_cast<void>(make_file(fs, kRootIno, "pieces", 400));
    const auto dir = fs.make(kRootIno, "dir", 0040755, 0, 0, kRoot);
    must(dir.has_value());
    for (int i = 0; i < 150; ++i)
      must(fs.link(file, dir->ino, "a name to fill a leaf with " + std::to_string(i)).has_value());
    must(fs.symlink(kRootIno, "link", std::string(2000, 't'), kRoot).has_value());
    must(fs.make(kRootIno, "device", 0020600, 1, 3, kRoot).has_value());
    must(fs.setxattr(file, "user.long", bytes(std::string(9000, 'v')), 0, false, kRoot).has_value());
    must(fs.setxattr(file, "user.short", bytes("v"), 0, false, kRoot).has_value());
    leave_orphan(fs, mounted.value());
    checksum_seed = format::checksum_seed(medium.as<format::Superblock>(0)->uuid);
    find_metadata();
  }

 private:
  /// Unlinked while open, and still open when the pool is copied.
  void leave_orphan(fs::Filesystem& fs, std::unique_ptr<fs::Filesystem>& mounted) {
    const Ino gone = make_file(fs, kRootIno, "gone", 20);
    auto open = fs.open(gone, O_RDWR, false);
    must(open.has_value() && fs.unlink(kRootIno, "gone").has_value());
    media::MemoryMedium copy(kPoolSize);
    copy.copy_from(medium);
    open->reset();
    must(mounted->unmount().has_value());
    medium.copy_from(copy);
  }
  void find_metadata() {
    const auto& super = *medium.as<format::Superblock>(0);
    const uint64_t ring_end = super.journal_start + super.journal_blocks;
    for (uint64_t b = 0; b < medium.block_count(); ++b) {
      if (b >= super.journal_start && b < ring_end) continue;
      const auto& header = *medium.as<format::BlockHeader>(b * kBlockSize);
      const auto& chunk = *medium.as<format::ChunkHeader>(b * kBlockSize);
      if (b < super.data_start || header.magic == format::kBlockMagic || chunk.magic == format::kChunkMagic) {
        blocks.push_back(b);
      }
    }
  }
};

inline const ImageSeed& image_seed() {
  static const ImageSeed seed;
  return seed;
}

/// The image, as it was at the start.
inline std::shared_ptr<test::CowMedium> fresh_image() {
  static const auto medium = std::make_shared<test::CowMedium>(image_seed().medium);
  medium->restore();
  return medium;
}

/// Makes the checksum right of what holds the byte at `offset`.
inline void reseal(media::MemoryMedium& medium, uint64_t offset, uint32_t seed) {
  std::byte* raw = medium.raw();
  const uint64_t block = offset / kBlockSize;
  std::byte* start = raw + block * kBlockSize;
  if (block == 0 || block == medium.block_count() - 1) return format::seal(seed, format::Unit::kSuperblock, start);
  if (block == format::kJournalControlBlock.value) {
    for (std::byte* at : {start, start + 2048}) {
      auto* slot = reinterpret_cast<format::JournalSlot*>(at);
      slot->checksum = format::checksum_without(seed, slot, sizeof *slot, offsetof(format::JournalSlot, checksum));
    }
    return;
  }
  const auto& super = *medium.as<format::Superblock>(0);
  if (block == format::kRootBlock.value && offset % kBlockSize >= 1024) {
    return format::seal(seed, format::Unit::kShard, raw + align_down(offset, 64));
  }
  if (block >= super.desc_start && block < super.bitmap_start) {
    return format::seal(seed, format::Unit::kGroupDesc, raw + align_down(offset, 64));
  }
  if (reinterpret_cast<const format::BlockHeader*>(start)->magic == format::kBlockMagic) {
    return format::seal(seed, format::Unit::kBlock, start);
  }
  const bool header = offset % kBlockSize < format::kInodeSize && block != format::kRootBlock.value;
  format::seal(seed, header ? format::Unit::kChunk : format::Unit::kInode,
               raw + align_down(offset, format::kInodeSize));
}

class Walker {
 public:
  explicit Walker(fs::Filesystem& fs) : fs_(fs) {}
  void walk(Ino dir, int depth) {
    if (!seen_.insert(dir.value).second) return;
    auto open = fs_.open(dir, O_RDONLY, false);
    if (!open) return;
    std::vector<std::pair<std::string, Ino>> found;
    static_cast<void>(fs_.readdir(**open, 0, [&](const fs::DirEntry& e) {
      if (e.name != "." && e.name != "..") found.emplace_back(e.name, e.ino);
      return found.size() < 300;
    }));
    open->reset();
    for (const auto& [name, ino] : found) {
      const auto attr = fs_.lookup(dir, name);
      if (!attr || seen_.size() > 200) continue;
      if ((attr->mode & 0170000U) == 0040000U && depth < 4) walk(attr->ino, depth + 1);
      if (seen_.insert(attr->ino.value).second) look_at(attr->ino);
    }
    look_at(dir);
  }
  void look_at(Ino ino) {
    static_cast<void>(fs_.getattr(ino));
    static_cast<void>(fs_.readlink(ino));
    static_cast<void>(fs_.extents(ino, 0, 1000));
    if (const auto names = fs_.listxattr(ino, kRoot)) {
      for (size_t at = 0; at < names->size();) {
        const std::string name = names->c_str() + at;
        static_cast<void>(fs_.getxattr(ino, name));
        at += name.size() + 1;
      }
    }
    auto file = fs_.open(ino, O_RDONLY, false);
    if (!file) return;
    uint64_t sum = 0;
    const auto sink = [&sum](std::span<const iovec> pieces, uint64_t) -> Status {
      for (const iovec& p : pieces) {
        const auto* b = static_cast<const uint8_t*>(p.iov_base);
        for (size_t i = 0; i < p.iov_len; i += kBlockSize) sum += b[i];
        if (p.iov_len != 0) sum += b[p.iov_len - 1];
      }
      return {};
    };
    for (uint64_t at = 0; at < (4U << 20); at += 1U << 20) static_cast<void>(fs_.read(**file, at, 1U << 20, sink));
    static_cast<void>(fs_.seek(**file, 0, true));
    static_cast<void>(fs_.seek(**file, 0, false));
  }
  void change(Ino dir) {
    fs::Attr attr;
    auto made = fs_.create(dir, "new", 0644, O_RDWR, kRoot, &attr);
    if (made) {
      static_cast<void>(fs_.write(**made, 0, bytes(std::string(20000, 'w')), false, false));
      static_cast<void>(fs_.setxattr(attr.ino, "user.x", bytes("y"), 0, false, kRoot));
    }
    static_cast<void>(fs_.make(dir, "newdir", 0040755, 0, 0, kRoot));
    for (const char* name : {"file", "pieces"}) {
      const auto there = fs_.lookup(dir, name);
      if (!there) continue;
      auto file = fs_.open(there->ino, O_RDWR, false);
      if (!file) continue;
      static_cast<void>(fs_.write(**file, 4096, bytes(std::string(30000, 'w')), false, false));
      static_cast<void>(fs_.fallocate(**file, fs::kFallocPunchHole | fs::kFallocKeepSize, 10000, 50000));
      static_cast<void>(fs_.fallocate(**file, fs::kFallocZeroRange, 100000, 50000));
      static_cast<void>(fs_.setxattr(there->ino, "user.x", bytes(std::string(5000, 'x')), 0, false, kRoot));
      fs::SetAttr s;
      s.size = 70000;
      static_cast<void>(fs_.setattr(there->ino, s, kRoot));
    }
    static_cast<void>(fs_.rename(dir, "file", dir, "renamed", 0));
    if (const auto sub = fs_.lookup(dir, "dir")) {
      for (int i = 0; i < 40; ++i) {
        static_cast<void>(fs_.unlink(sub->ino, "a name to fill a leaf with " + std::to_string(i)));
      }
      static_cast<void>(fs_.rename(dir, "renamed", sub->ino, "moved", 0));
      static_cast<void>(fs_.rename(dir, "dir", dir, "newdir", fs::kRenameExchange));
    }
    for (const char* name : {"pieces", "link", "new", "file"}) static_cast<void>(fs_.unlink(dir, name));
    static_cast<void>(fs_.rmdir(dir, "dir"));
  }

 private:
  fs::Filesystem& fs_;
  std::set<uint64_t> seen_;
};

inline void mount_and_use(const std::shared_ptr<media::Medium>& medium) {
  auto mounted = fs::Filesystem::mount(medium, {}, nullptr);
  if (!mounted) return;
  Walker(**mounted).walk(kRootIno, 0);
  Walker(**mounted).change(kRootIno);
  Walker(**mounted).walk(kRootIno, 0);
  static_cast<void>((*mounted)->statfs());
  static_cast<void>((*mounted)->unmount());
}

/// A check; then everything that is done with a pool; then a repair, after which a check finds nothing.
inline void use(const std::shared_ptr<test::CowMedium>& medium) {
  check::CheckOptions options;
  options.problems_max = 10;
  const auto& pool = static_cast<const media::Medium&>(*medium);
  static_cast<void>(check::check_pool(pool, options));
  mount_and_use(medium);
  options.mode = check::CheckOptions::kRepairAll;
  const auto repaired = check::check_pool(static_cast<media::Medium&>(*medium), options);
  if (!repaired || !repaired->all_repaired()) return;
  options.mode = check::CheckOptions::kReportOnly;
  const auto again = check::check_pool(pool, options);
  must(again.has_value());
  for (const check::Problem& problem : again->problems)
    std::fprintf(stderr, "after repair: %s\n", problem.what.c_str());
  must(again->clean());
}

}  // namespace udax::fuzz
