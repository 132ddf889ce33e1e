// SPDX-License-Identifier: BSD-3-Clause
//
// Hostile media: a small sound pool is changed as the input says, with checksums made right again where it says so;
// then mounted, walked, read, written to and unmounted. Whatever is wrong must come out as an error.
//
// Input: edits of 8 bytes: place (4: of the metadata in use, or anywhere), what to do (1), argument (1), value (2).
#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "check/check.h"
#include "format/checksum.h"
#include "fs/filesystem.h"
#include "tests/fuzz/seed_pool.h"

namespace udax {
namespace {

using fuzz::kPoolSize;
using fuzz::must;
constexpr fs::Caller kRoot{0, 0, 1, 022};

std::span<const std::byte> bytes(std::string_view s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}

Ino make_file(fs::Filesystem& fs, Ino parent, const std::string& name, uint64_t pieces) {
  fs::Attr attr;
  auto file = fs.create(parent, name, 0644, O_RDWR, kRoot, &attr);
  must(file.has_value());
  for (uint64_t i = 0; i < pieces; ++i) must(fs.write(**file, i * 8192, bytes("piece"), false, false).has_value());
  return attr.ino;
}

/// The pool that every run starts from, and the blocks of it that hold metadata.
struct Seed : fuzz::SeedPool {
  std::vector<uint64_t> blocks;
  uint32_t checksum_seed = 0;

  Seed() {
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
    must(fs.setxattr(file, "user.long", bytes(std::string(9000, 'v')), 0, false, kRoot).has_value());
    must(fs.setxattr(file, "user.short", bytes("v"), 0, false, kRoot).has_value());
    {
      // An orphan: it is still open when the pool is copied.
      const Ino gone = make_file(fs, kRootIno, "gone", 20);
      auto open = fs.open(gone, O_RDWR, false);
      must(open.has_value() && fs.unlink(kRootIno, "gone").has_value());
      media::MemoryMedium copy(kPoolSize);
      copy.copy_from(medium);
      open->reset();
      must(fs.unmount().has_value());
      medium.copy_from(copy);
    }
    checksum_seed = format::checksum_seed(medium.as<format::Superblock>(0)->uuid);
    find_metadata();
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

void reseal(media::MemoryMedium& medium, uint64_t offset, uint32_t seed) {
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

void edit(media::MemoryMedium& medium, const Seed& seed, const uint8_t* in) {
  uint32_t place = 0;
  uint16_t value = 0;
  std::memcpy(&place, in, 4);
  std::memcpy(&value, in + 6, 2);
  const uint8_t what = in[4];
  uint64_t offset = 0;
  if ((what & 0x80) != 0) {
    offset = place % kPoolSize;
  } else {
    offset = seed.blocks[place / kBlockSize % seed.blocks.size()] * kBlockSize + place % kBlockSize;
  }
  std::byte* at = medium.raw() + align_down(offset, 8);
  uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  const uint32_t shift = in[5] % 64;
  switch (what & 7) {
    case 0: word ^= uint64_t{1} << shift; break;
    case 1: word = value; break;
    case 2: word += static_cast<uint64_t>(static_cast<int64_t>(static_cast<int16_t>(value))); break;
    case 3: word = ~uint64_t{0}; break;
    case 4: word = (word & ~(uint64_t{0xFFFF} << (shift & 48))) | (uint64_t{value} << (shift & 48)); break;
    case 5: word = uint64_t{1} << shift; break;
    case 6: word = seed.blocks[value % seed.blocks.size()]; break;
    default: std::memcpy(&word, medium.raw() + align_down(value * 8ULL, 8) % kPoolSize, sizeof word); break;
  }
  std::memcpy(at, &word, sizeof word);
  if ((what & 0x40) == 0) reseal(medium, offset, seed.checksum_seed);
}

// --- Use -------------------------------------------------------------------------------------------------------------

class Walker {
 public:
  explicit Walker(fs::Filesystem& fs) : fs_(fs) {}
  void walk(Ino dir, int depth) {
    auto open = fs_.open(dir, O_RDONLY, false);
    if (!open) return;
    std::vector<std::pair<std::string, Ino>> found;
    static_cast<void>(fs_.readdir(**open, 0, [&](const fs::DirEntry& e) {
      if (e.name != "." && e.name != "..") found.emplace_back(e.name, e.ino);
      return found.size() < 300;
    }));
    open->reset();
    for (const auto& [name, ino] : found) {
      if (++visits_ > 600) return;
      const auto attr = fs_.lookup(dir, name);
      if (!attr) continue;
      look_at(attr->ino);
      if ((attr->mode & 0170000U) == 0040000U && depth < 4) walk(attr->ino, depth + 1);
    }
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
        for (size_t i = 0; i < p.iov_len; i += 64) sum += b[i];
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
  int visits_ = 0;
};

void use(const std::shared_ptr<media::Medium>& medium) {
  auto mounted = fs::Filesystem::mount(medium, {}, nullptr);
  if (!mounted) return;
  Walker walker(**mounted);
  walker.walk(kRootIno, 0);
  walker.change(kRootIno);
  walker.walk(kRootIno, 0);
  static_cast<void>((*mounted)->statfs());
  static_cast<void>((*mounted)->unmount());
}

}  // namespace
}  // namespace udax

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace udax;
  static Seed seed;
  static auto medium = std::make_shared<media::MemoryMedium>(kPoolSize);
  constexpr size_t kEdit = 8;
  constexpr size_t kEditsMax = 32;
  if (size < kEdit) return 0;
  medium->copy_from(seed.medium);
  for (size_t i = 0; i + kEdit <= std::min(size, kEdit * kEditsMax); i += kEdit) edit(*medium, seed, data + i);
  {
    check::CheckOptions options;
    options.problems_max = 10;
    static_cast<void>(check::check_pool(static_cast<const media::Medium&>(*medium), options));
  }
  use(medium);
  return 0;
}
