// SPDX-License-Identifier: BSD-3-Clause
#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "check/check.h"
#include "mkfs/make_pool.h"
#include "tests/support/pool.h"
#include "tests/unit/check/campaign_image.h"

namespace udax::check {
namespace {

using test::bytes;
using test::kRoot;

std::string text_of(uint64_t seed, size_t size) {
  std::string s(size, '\0');
  uint64_t x = seed * 0x9E3779B97F4A7C15U + 1;
  for (char& c : s) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    c = static_cast<char>(x);
  }
  return s;
}

/// user: rwx, named user 1000: rw, group: r, mask: rw, other: none (acl(5), version 2)
std::string acl() {
  std::string s("\2\0\0\0", 4);
  const auto add = [&s](uint16_t tag, uint16_t perm, uint32_t id) {
    s.append(reinterpret_cast<const char*>(&tag), 2);
    s.append(reinterpret_cast<const char*>(&perm), 2);
    s.append(reinterpret_cast<const char*>(&id), 4);
  };
  add(0x01, 7, ~0U);
  add(0x02, 6, 1000);
  add(0x04, 4, ~0U);
  add(0x10, 6, ~0U);
  add(0x20, 0, ~0U);
  return s;
}

void set(test::TestPool& pool, Ino ino, const char* name, const std::string& value) {
  EXPECT_TRUE(pool->setxattr(ino, name, bytes(value), 0, false, kRoot));
}

void populate(test::TestPool& pool) {
  const Ino big = pool.mkdir(kRootIno, "big");
  for (uint64_t i = 0; i < 300; ++i) {
    static_cast<void>(pool.file(big, "a-name-of-some-length-" + std::to_string(i), text_of(i, i % 200)));
  }
  Ino deep = kRootIno;
  for (uint64_t i = 0; i < 8; ++i) deep = pool.mkdir(deep, "level" + std::to_string(i));
  const Ino plain = pool.file(deep, "bottom", text_of(1000, 50'000));
  EXPECT_TRUE(pool->link(plain, big, "second name"));
  // A tree of extents, of two levels.
  const Ino holes = pool.file(kRootIno, "holes");
  for (uint64_t i = 0; i < 500; ++i) pool.write(holes, 2 * i * kBlockSize, text_of(2000 + i, 40));
  const Ino kept = pool.file(kRootIno, "kept", "k");
  {
    auto open = pool->open(kept, O_RDWR, false);
    EXPECT_TRUE(open && pool->fallocate(**open, fs::kFallocKeepSize, 0, 100'000));
  }
  for (const size_t length : {size_t{7}, size_t{1000}, size_t{4000}}) {
    EXPECT_TRUE(pool->symlink(kRootIno, "link" + std::to_string(length), std::string(length, 't'), kRoot));
  }
  for (const uint32_t type : {0010000U, 0020000U, 0060000U, 0140000U}) {
    EXPECT_TRUE(pool->make(kRootIno, "special" + std::to_string(type), type | 0600, 1, 3, kRoot));
  }
  set(pool, plain, "user.small", "small");
  set(pool, plain, "user.large", text_of(3000, 20'000));
  set(pool, plain, "system.posix_acl_access", acl());
  set(pool, big, "system.posix_acl_default", acl());
  set(pool, holes, "security.s", text_of(3001, 500));
  EXPECT_TRUE(pool->set_flags(kept, format::kFlagDax | format::kFlagNoDump, format::kFlagsKnown, 42, kRoot));
}

/// Work whose records still wait when the power goes.
void work_late(test::TestPool& pool, Ino late) {
  for (uint64_t i = 0; i < 20; ++i) {
    static_cast<void>(pool.file(late, "file" + std::to_string(i), text_of(4000 + i, 3000)));
  }
  for (uint64_t i = 0; i < 20; i += 4) EXPECT_TRUE(pool->unlink(late, "file" + std::to_string(i)));
  EXPECT_TRUE(pool->rename(late, "file1", late, "renamed", 0));
  static_cast<void>(pool.mkdir(late, "dir"));
}

class Walker {
 public:
  explicit Walker(fs::Filesystem& fs) : fs_(fs) {}
  std::map<std::string, Seen> tree;
  std::vector<std::string> failed;  // what, at which path

  void walk(const std::string& path, Ino ino, uint32_t depth) {
    Seen& seen = tree[path];
    const auto attr = fs_.getattr(ino);
    if (!attr) return fail(path);
    seen.attr = *attr;
    read_xattrs(path, ino, seen);
    switch (attr->mode & 0170000U) {
      case 0040000U: return walk_dir(path, ino, depth, seen);
      case 0100000U: return read_file(path, ino, seen);
      case 0120000U: {
        const auto target = fs_.readlink(ino);
        if (!target) return fail(path);
        seen.content = *target;
        return;
      }
      default: return;
    }
  }

 private:
  void fail(const std::string& path) { failed.push_back(path); }

  void read_xattrs(const std::string& path, Ino ino, Seen& seen) {
    const auto names = fs_.listxattr(ino, kRoot);
    if (!names) return fail(path);
    for (size_t at = 0; at < names->size(); at += std::strlen(names->c_str() + at) + 1) {
      const std::string name = names->c_str() + at;
      const auto value = fs_.getxattr(ino, name);
      if (!value) {
        fail(path);
        continue;
      }
      seen.xattrs[name] = std::string(reinterpret_cast<const char*>(value->data()), value->size());
    }
  }

  void walk_dir(const std::string& path, Ino ino, uint32_t depth, Seen& seen) {
    if (depth > 20) return fail(path);
    auto open = fs_.open(ino, O_RDONLY, false);
    if (!open) return fail(path);
    std::vector<std::string> names;
    const Status done = fs_.readdir(**open, 0, [&](const fs::DirEntry& e) {
      if (e.name != "." && e.name != "..") names.emplace_back(e.name);
      return names.size() < 10'000;
    });
    if (!done) fail(path);
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      seen.content += name + "\n";
      const std::string below = (std::filesystem::path(path) / name).string();
      const auto attr = fs_.lookup(ino, name);
      if (!attr) {
        fail(below);
        continue;
      }
      walk(below, attr->ino, depth + 1);
    }
  }

  void read_file(const std::string& path, Ino ino, Seen& seen) {
    auto open = fs_.open(ino, O_RDONLY, false);
    if (!open) return fail(path);
    constexpr uint64_t kPart = 64 * 1024;
    constexpr uint64_t kMost = 8 << 20;
    for (uint64_t at = 0; at < std::min<uint64_t>(seen.attr.size, kMost); at += kPart) {
      const auto part = test::read_file(fs_, **open, at, kPart);
      if (!part) {
        fail(path);
        seen.content.resize(std::min<uint64_t>(at + kPart, seen.attr.size));
        continue;
      }
      seen.content += *part;
    }
  }

  fs::Filesystem& fs_;
};

bool is_below(const std::string& path, const std::string& dir) {
  return path == dir || path.starts_with(dir + "/");
}

/// What differs, or "".
std::string difference(const Seen& is, const Seen& was, bool spares_content, bool is_dir) {
  const auto& a = is.attr;
  const auto& b = was.attr;
  if (a.mode != b.mode || a.uid != b.uid || a.gid != b.gid) return "mode or owner";
  if (a.size != b.size) return "size";
  if (a.nlink != b.nlink) return "link count";
  if (a.rdev_major != b.rdev_major || a.rdev_minor != b.rdev_minor) return "device number";
  if (a.flags != b.flags || a.project_id != b.project_id) return "flags";
  if (is.xattrs != was.xattrs) return "extended attributes";
  if (!spares_content && is.content != was.content) return is_dir ? "names" : "content";
  return {};
}

}  // namespace

std::map<std::string, Seen> read_tree(fs::Filesystem& fs) {
  Walker walker(fs);
  walker.walk("", kRootIno, 0);
  EXPECT_TRUE(walker.failed.empty());
  return std::move(walker.tree);
}

Look look_at(fs::Filesystem& fs, const std::map<std::string, Seen>& tree, const std::vector<std::string>& spares,
             bool late_may_differ) {
  Walker walker(fs);
  walker.walk("", kRootIno, 0);
  Look look;
  look.errors = walker.failed.size();
  const auto has_failed = [&walker](const std::string& path) {
    return std::find(walker.failed.begin(), walker.failed.end(), path) != walker.failed.end();
  };
  const auto is_spared = [&](const std::string& path) {
    return late_may_differ && is_below(path, CampaignImage::kLate);
  };
  const auto tell = [&look](const std::string& path, std::string_view what) {
    look.wrong.push_back(std::string("/").append(path).append(": ").append(what));
  };
  std::vector<Ino> spared;  // a file may have many names
  for (const std::string& path : spares) spared.push_back(tree.at(path).attr.ino);
  for (const auto& [path, was] : tree) {
    if (is_spared(path)) continue;
    const auto found = walker.tree.find(path);
    if (has_failed(path)) continue;  // its names may be missing: of that it told
    if (found == walker.tree.end()) {
      bool told = false;
      for (size_t end = path.rfind('/'); !told; end = path.rfind('/', end - 1)) {
        const std::string above = end == std::string::npos ? "" : path.substr(0, end);
        told = has_failed(above);
        if (end == std::string::npos || end == 0) break;
      }
      if (!told) look.wrong.push_back(path + ": is gone");
      continue;
    }
    const bool spares_content = std::find(spared.begin(), spared.end(), was.attr.ino) != spared.end();
    if (spares_content && found->second.content != was.content) look.shows_data = true;
    const bool is_dir = (was.attr.mode & 0170000U) == 0040000U;
    const std::string what = difference(found->second, was, spares_content, is_dir);
    if (!what.empty()) tell(path, what);
  }
  for (const auto& [path, seen] : walker.tree) {
    if (!tree.contains(path) && !is_spared(path)) tell(path, "was not there");
  }
  return look;
}

CampaignImage::CampaignImage() : medium(std::make_unique<media::MemoryMedium>(kSize)) {
  const uint64_t blocks = kSize / kBlockSize;
  kinds.assign(blocks, Kind::kFree);
  owners.resize(blocks);
  auto work = std::make_shared<media::MemoryMedium>(kSize);
  // The same each time, as far as clocks allow, so that a seed means the same damage.
  mkfs::MakeOptions options;
  options.uuid.fill(1);
  options.hash_key.fill(2);
  options.journal_epoch = 1;
  EXPECT_TRUE(mkfs::make_pool(*work, options, nullptr));
  test::TestPool pool(work, false);
  populate(pool);
  const Ino late = pool.mkdir(kRootIno, kLate);
  const Ino doomed = pool.file(kRootIno, "doomed", std::string(8192, 'd'));
  pool.remount();  // what went before is not in the ring
  {
    auto open = pool->open(doomed, O_RDWR, false);
    EXPECT_TRUE(pool->unlink(kRootIno, "doomed"));
    fs::Attr attr;
    auto nameless = pool->tmpfile(kRootIno, 0600, O_RDWR, kRoot, &attr);
    EXPECT_TRUE(open && nameless);
    work_late(pool, late);
    medium->copy_from(*work);
  }
  // As a mount of it shows it, and where everything is.
  after_ = std::make_shared<media::MemoryMedium>(kSize);
  after_->copy_from(*medium);
  test::TestPool recovered(after_, false);
  EXPECT_GT(recovered->stats().replay.records, 20U);
  tree = read_tree(recovered.fs());
  for (const auto& [path, seen] : tree) {
    if ((seen.attr.mode & 0170000U) != 0100000U) continue;
    const auto extents = recovered->extents(seen.attr.ino, 0, 100'000);
    EXPECT_TRUE(extents);
    if (!extents) continue;
    for (const fs::ExtentInfo& e : *extents) {
      for (uint64_t b = e.device_offset / kBlockSize; b < (e.device_offset + e.length) / kBlockSize; ++b) {
        kinds[b] = Kind::kData;
        owners[b] = path;
      }
    }
  }
  const media::Geometry g = recovered->geometry();
  geometry_ = g;
  const uint64_t ring_bytes = g.journal_blocks * kBlockSize;
  const uint64_t used = recovered->stats().replay.bytes;
  replayed_bytes_ = used;
  for (uint64_t at = 0; at < used; at += 64) {
    kinds[g.journal_start.value + (tail().tail + at) % ring_bytes / kBlockSize] = Kind::kJournal;
  }
  for (uint64_t b = 0; b < blocks; ++b) {
    const bool is_static =
        (b < g.journal_start.value && b != format::kHolderBlock.value) || b == g.replica().value;
    const auto* header = medium->as<format::BlockHeader>(b * kBlockSize);
    const auto* chunk = medium->as<format::ChunkHeader>(b * kBlockSize);
    const bool is_block =
        b >= g.data_start.value && (header->magic == format::kBlockMagic || chunk->magic == format::kChunkMagic);
    if (kinds[b] == Kind::kFree && (is_static || is_block)) kinds[b] = Kind::kMetadata;
    // Targets of long symbolic links have no header.
    const bool is_target = std::memcmp(medium->at(b * kBlockSize), std::string(200, 't').data(), 200) == 0;
    if (kinds[b] == Kind::kFree && is_target) kinds[b] = Kind::kMetadata;
    if (kinds[b] == Kind::kMetadata) metadata.push_back(b);
    if (kinds[b] == Kind::kData) data.push_back(b);
    if (kinds[b] == Kind::kJournal) journal.push_back(b);
  }
}

const format::JournalSlot& CampaignImage::tail() const {
  const auto* control = medium->as<format::JournalControl>(offset_of(format::kJournalControlBlock));
  return control->slot_a.sequence > control->slot_b.sequence ? control->slot_a : control->slot_b;
}

bool CampaignImage::carries(uint64_t block, uint64_t byte) const {
  const media::Geometry& g = geometry_;
  const uint64_t offset = block * kBlockSize + byte;
  if (block == format::kJournalControlBlock.value) {
    const auto at = static_cast<uint64_t>(reinterpret_cast<const std::byte*>(&tail()) - medium->at(0));
    return offset >= at && offset < at + sizeof(format::JournalSlot);
  }
  if (block == format::kRootBlock.value) {
    const uint64_t shards = offsetof(format::RootBlock, shard);
    return byte < sizeof(format::Inode) || (byte >= shards && byte < offsetof(format::RootBlock, reserved));
  }
  if (block >= g.desc_start.value && block < g.bitmap_start.value) {
    return (block - g.desc_start.value) * format::kDescsPerBlock + byte / sizeof(format::GroupDesc) <
           g.group_count;
  }
  if (block >= g.journal_start.value && block < g.journal_start.value + g.journal_blocks) {
    const uint64_t ring_bytes = g.journal_blocks * kBlockSize;
    const uint64_t behind_tail =
        (offset - offset_of(g.journal_start) + ring_bytes - tail().tail % ring_bytes) % ring_bytes;
    return behind_tail < replayed_bytes_;
  }
  if (block < g.data_start.value || block == g.replica().value) return true;
  const std::byte bits = after_->at(offset_of(g.bitmap_start) + block / 8)[0];
  if ((bits >> (block % 8) & std::byte{1}) == std::byte{0}) return false;
  const auto* chunk = after_->as<format::ChunkHeader>(block * kBlockSize);
  if (chunk->magic == format::kChunkMagic) {
    const uint64_t slot = byte / format::kInodeSize;
    return slot == 0 || (chunk->used_mask >> slot & 1) != 0;
  }
  if (chunk->magic == format::kBlockMagic) return true;
  return medium->at(offset)[0] != std::byte{0};  // of a target, or of a file
}

}  // namespace udax::check
