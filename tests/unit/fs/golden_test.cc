// SPDX-License-Identifier: BSD-3-Clause
//
// Pools of format 1.0 that earlier builds made must stay readable: tests/golden/ holds two, and README there says how
// they were made (by this program, from the same operations). Their contents are checked name by name, not byte by byte.
// What make_pool() writes with every choice given is checked byte by byte.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <isa-l/igzip_lib.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "base/crc32c.h"
#include "media/memory_medium.h"
#include "mkfs/make_pool.h"
#include "tests/support/check.h"
#include "tests/support/pool.h"

namespace udax {
namespace {

using test::bytes;
using test::kRoot;
using test::kUser;
using test::TestPool;

constexpr uint64_t kPoolSize = 8 * 1024 * 1024;
constexpr int kManyNames = 500;
constexpr uint64_t kPieces = 200;  // more than one leaf of extents
constexpr uint32_t kSetGid = 02000;

mkfs::MakeOptions golden_options() {
  mkfs::MakeOptions options;
  options.label = "golden";
  options.uuid = {0x0f, 0x1e, 0x2d, 0x3c, 0x4b, 0x5a, 0x69, 0x78, 0x87, 0x96, 0xa5, 0xb4, 0xc3, 0xd2, 0xe1, 0xf0};
  options.hash_key = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  options.journal_epoch = 77;
  options.journal_blocks = 256;
  options.root_uid = 0;
  options.root_gid = 0;
  options.root_mode = 0755;
  options.time = {1'700'000'000, 123'456'789};
  return options;
}

/// user: rwx, named user 1000: rw, group: r, mask: rw, other: none (acl(5), version 2)
const std::string& default_acl() {
  static const std::string acl = [] {
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
  }();
  return acl;
}

std::string large_value() {
  std::string value(65536, '\0');
  for (size_t i = 0; i < value.size(); ++i) value[i] = static_cast<char>('a' + i % 23);
  return value;
}

void set(TestPool& pool, Ino ino, const std::string& name, const std::string& value) {
  ASSERT_TRUE(pool->setxattr(ino, name, bytes(value), 0, false, kRoot)) << name;
}

void set_flags(TestPool& pool, Ino ino, uint32_t flags, std::optional<uint32_t> project = {}) {
  ASSERT_TRUE(pool->set_flags(ino, flags, flags, project, kRoot));
}

/// What both images hold.
void make_tree(TestPool& pool) {
  static_cast<void>(pool.file(kRootIno, "empty"));
  const Ino small = pool.file(kRootIno, "small", "a few bytes\n");
  ASSERT_TRUE(pool->link(small, kRootIno, "small-again"));
  fs::SetAttr owner;
  owner.uid = 1000;
  owner.gid = 100;
  ASSERT_TRUE(pool->setattr(small, owner, kRoot));
  owner = {};
  owner.mode = 06755;
  ASSERT_TRUE(pool->setattr(small, owner, kRoot));

  const Ino holes = pool.file(kRootIno, "holes", "head");
  pool.write(holes, 1 << 20, "tail");
  const Ino pieces = pool.file(kRootIno, "pieces");
  for (uint64_t i = 0; i < kPieces; ++i) pool.write(pieces, i * 8192, std::to_string(i));
  const Ino unwritten = pool.file(kRootIno, "unwritten");
  {
    auto file = pool->open(unwritten, O_RDWR, false);
    ASSERT_TRUE(file);
    ASSERT_TRUE(pool->fallocate(**file, 0, 0, 40960));
    ASSERT_TRUE(pool->write(**file, 12288, bytes("written"), false, false));
    ASSERT_TRUE(pool->fallocate(**file, fs::kFallocKeepSize, 40960, 40960));
  }

  ASSERT_TRUE(pool->symlink(kRootIno, "short-link", "small", kRoot));
  ASSERT_TRUE(pool->symlink(kRootIno, "long-link", std::string(3000, 'l'), kRoot));
  ASSERT_TRUE(pool->make(kRootIno, "fifo", 0010600, 0, 0, kRoot));
  ASSERT_TRUE(pool->make(kRootIno, "device", 0020600, 11, 300000, kRoot));

  const Ino many = pool.mkdir(kRootIno, "many");
  for (int i = 0; i < kManyNames; ++i) {
    ASSERT_TRUE(pool->link(small, many, "a name of some length, number " + std::to_string(i)));
  }
  const Ino deep = pool.mkdir(pool.mkdir(pool.mkdir(kRootIno, "d"), "e"), "f");
  static_cast<void>(pool.file(deep, std::string(255, 'n'), "at the bottom"));

  const Ino shared = pool.mkdir(kRootIno, "shared", 02775);
  set(pool, shared, "system.posix_acl_default", default_acl());
  set_flags(pool, shared, format::kFlagNoDump | format::kFlagProjInherit, 4242);
  ASSERT_TRUE(pool->make(shared, "heir", 0100666, 0, 0, kUser));
  const Ino dax = pool.file(kRootIno, "dax");
  set_flags(pool, dax, format::kFlagDax | format::kFlagSync | format::kFlagNoAtime);

  set(pool, small, "user.short", "value");
  set(pool, small, "user.long", large_value());
  set(pool, small, "trusted.t", "");
  set(pool, small, "security.s", std::string(1000, 's'));
}

Ino find(TestPool& pool, Ino dir, const std::string& name) {
  const auto attr = pool->lookup(dir, name);
  EXPECT_TRUE(attr) << name;
  return attr ? attr->ino : kNoIno;
}

std::string value_of(TestPool& pool, Ino ino, const std::string& name) {
  const auto value = pool->getxattr(ino, name);
  EXPECT_TRUE(value) << name;
  return value ? std::string(reinterpret_cast<const char*>(value->data()), value->size()) : std::string();
}

void expect_files(TestPool& pool) {
  EXPECT_EQ(pool.content(find(pool, kRootIno, "empty")), "");
  const Ino small = find(pool, kRootIno, "small");
  EXPECT_EQ(pool.content(small), "a few bytes\n");
  const auto attr = pool->getattr(small);
  ASSERT_TRUE(attr);
  EXPECT_EQ(attr->mode, 0106755U);
  EXPECT_EQ(attr->uid, 1000U);
  EXPECT_EQ(attr->gid, 100U);
  EXPECT_EQ(attr->nlink, 2U + kManyNames);
  EXPECT_GT(attr->btime.seconds, 1'700'000'000);
  EXPECT_EQ(find(pool, kRootIno, "small-again"), small);

  const Ino holes = find(pool, kRootIno, "holes");
  EXPECT_EQ(pool.content(holes), "head" + std::string((1 << 20) - 4, '\0') + "tail");
  EXPECT_EQ(pool->getattr(holes)->blocks, 2U);
  const Ino pieces = find(pool, kRootIno, "pieces");
  EXPECT_EQ(pool->extents(pieces, 0, 10000)->size(), kPieces);
  for (uint64_t i = 0; i < kPieces; ++i) {
    const std::string digits = std::to_string(i);
    EXPECT_EQ(pool.read(pieces, i * 8192, digits.size()), digits);
  }
  const Ino unwritten = find(pool, kRootIno, "unwritten");
  std::string content(40960, '\0');
  content.replace(12288, 7, "written");
  EXPECT_EQ(pool.content(unwritten), content);
  EXPECT_EQ(pool->getattr(unwritten)->blocks, 20U);
  const auto extents = pool->extents(unwritten, 0, 100);
  ASSERT_TRUE(extents);
  for (const fs::ExtentInfo& e : *extents) EXPECT_EQ(e.unwritten, e.file_offset != 12288);
}

void expect_names(TestPool& pool) {
  EXPECT_EQ(*pool->readlink(find(pool, kRootIno, "short-link")), "small");
  EXPECT_EQ(*pool->readlink(find(pool, kRootIno, "long-link")), std::string(3000, 'l'));
  EXPECT_EQ(pool->lookup(kRootIno, "fifo")->mode, 0010600U);
  const auto device = pool->lookup(kRootIno, "device");
  ASSERT_TRUE(device);
  EXPECT_EQ(device->mode, 0020600U);
  EXPECT_EQ(device->rdev_major, 11U);
  EXPECT_EQ(device->rdev_minor, 300000U);
  const Ino many = find(pool, kRootIno, "many");
  const Ino small = find(pool, kRootIno, "small");
  EXPECT_EQ(pool.list(many).size(), size_t{kManyNames});
  for (int i = 0; i < kManyNames; ++i) {
    EXPECT_EQ(find(pool, many, "a name of some length, number " + std::to_string(i)), small);
  }
  const Ino deep = find(pool, find(pool, find(pool, kRootIno, "d"), "e"), "f");
  EXPECT_EQ(pool.content(find(pool, deep, std::string(255, 'n'))), "at the bottom");
  EXPECT_EQ(pool.list(kRootIno),
            (std::vector<std::string>{"d", "dax", "device", "empty", "fifo", "holes", "long-link", "many",
                                      "pieces", "shared", "short-link", "small", "small-again", "unwritten"}));
}

void expect_attributes(TestPool& pool) {
  const Ino shared = find(pool, kRootIno, "shared");
  EXPECT_EQ(value_of(pool, shared, "system.posix_acl_default"), default_acl());
  const auto heir = pool->lookup(shared, "heir");
  ASSERT_TRUE(heir);
  EXPECT_EQ(heir->mode, 0100660U);
  EXPECT_EQ(heir->gid, pool->getattr(shared)->gid);
  EXPECT_EQ(heir->project_id, 4242U);
  EXPECT_EQ(heir->flags, format::kFlagNoDump);
  EXPECT_EQ(value_of(pool, heir->ino, "system.posix_acl_access").size(), default_acl().size());
  EXPECT_EQ(pool->getattr(shared)->flags, format::kFlagNoDump | format::kFlagProjInherit);
  EXPECT_NE(pool->getattr(shared)->mode & kSetGid, 0U);
  EXPECT_EQ(pool->getattr(find(pool, kRootIno, "dax"))->flags,
            format::kFlagDax | format::kFlagSync | format::kFlagNoAtime);
  const Ino small = find(pool, kRootIno, "small");
  EXPECT_EQ(value_of(pool, small, "user.short"), "value");
  EXPECT_EQ(value_of(pool, small, "user.long"), large_value());
  EXPECT_EQ(value_of(pool, small, "trusted.t"), "");
  EXPECT_EQ(value_of(pool, small, "security.s"), std::string(1000, 's'));
}

void expect_tree(TestPool& pool) {
  expect_files(pool);
  expect_names(pool);
  expect_attributes(pool);
}

// --- Images: gzip of (block number, 8 bytes little-endian; the block) for each block that is not all zero ------------

std::string golden_path(const std::string& name) {
  const std::string here = __FILE__;
  return here.substr(0, here.rfind("/unit/")) + "/golden/" + name + ".gz";
}

std::vector<uint8_t> inflate(const std::vector<uint8_t>& packed) {
  std::vector<uint8_t> out(kPoolSize * 2);
  inflate_state state;
  isal_inflate_init(&state);
  state.crc_flag = ISAL_GZIP;
  state.next_in = const_cast<uint8_t*>(packed.data());  // read only
  state.avail_in = static_cast<uint32_t>(packed.size());
  state.next_out = out.data();
  state.avail_out = static_cast<uint32_t>(out.size());
  EXPECT_EQ(isal_inflate(&state), ISAL_DECOMP_OK);
  out.resize(state.total_out);
  return out;
}

std::shared_ptr<media::MemoryMedium> load_golden(const std::string& name) {
  std::ifstream file(golden_path(name), std::ios::binary);
  EXPECT_TRUE(file) << golden_path(name);
  const std::vector<uint8_t> packed{std::istreambuf_iterator<char>(file), {}};
  const std::vector<uint8_t> image = inflate(packed);
  auto medium = std::make_shared<media::MemoryMedium>(kPoolSize);
  constexpr size_t kEntry = sizeof(le64) + kBlockSize;
  EXPECT_EQ(image.size() % kEntry, 0U);
  for (size_t at = 0; at + kEntry <= image.size(); at += kEntry) {
    le64 block;
    std::memcpy(&block, image.data() + at, sizeof block);
    EXPECT_LT(block, medium->block_count());
    if (block >= medium->block_count()) break;
    medium->store(block * kBlockSize, image.data() + at + sizeof block, kBlockSize);
  }
  return medium;
}

void dump(const media::Medium& medium, const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  static const std::vector<char> zeroes(kBlockSize);
  for (uint64_t b = 0; b < medium.block_count(); ++b) {
    const std::byte* block = medium.block(DeviceBlock(b));
    if (std::memcmp(block, zeroes.data(), kBlockSize) == 0) continue;
    const le64 number = b;
    file.write(reinterpret_cast<const char*>(&number), sizeof number);
    file.write(reinterpret_cast<const char*>(block), kBlockSize);
  }
  ASSERT_TRUE(file.flush()) << path;
}

std::shared_ptr<media::MemoryMedium> make_golden_pool() {
  auto medium = std::make_shared<media::MemoryMedium>(kPoolSize);
  std::string why;
  EXPECT_TRUE(mkfs::make_pool(*medium, golden_options(), &why)) << why;
  return medium;
}

TEST(Golden, WritesImages) {
  const char* folder = std::getenv("UDAX_WRITE_GOLDEN");
  if (folder == nullptr) GTEST_SKIP() << "UDAX_WRITE_GOLDEN does not name a folder: nothing to write";
  const auto medium = make_golden_pool();
  media::MemoryMedium live(kPoolSize);
  {
    TestPool pool(medium, false);
    make_tree(pool);
    pool.unmount();
    dump(*medium, std::string(folder) + "/v1.0-clean");
    pool.mount();
    // Two orphans: unlinked while open, and one that never had a name.
    static_cast<void>(pool.file(kRootIno, "gone", std::string(30000, 'g')));
    auto gone = pool->open(find(pool, kRootIno, "gone"), O_RDWR, false);
    ASSERT_TRUE(pool->unlink(kRootIno, "gone"));
    fs::Attr attr;
    auto nameless = pool->tmpfile(kRootIno, 0600, O_RDWR, kRoot, &attr);
    ASSERT_TRUE(gone && nameless);
    live.copy_from(*medium);
  }
  dump(live, std::string(folder) + "/v1.0-live");
}

TEST(Golden, ATreeMadeNowIsWhatTheImagesHold) {
  TestPool pool(make_golden_pool(), false);
  make_tree(pool);
  expect_tree(pool);
  pool.remount();
  expect_tree(pool);
}

TEST(Golden, CleanPoolOfVersion1_0) {
  const auto medium = load_golden("v1.0-clean");
  test::expect_clean(*medium);
  TestPool pool(medium, false);
  EXPECT_TRUE(pool->stats().replay.was_clean);
  expect_tree(pool);
  // And it can still be changed.
  EXPECT_TRUE(pool->unlink(kRootIno, "pieces"));
  static_cast<void>(pool.file(kRootIno, "new", "new"));
  pool.remount();
  EXPECT_EQ(pool.content(find(pool, kRootIno, "new")), "new");
}

TEST(Golden, LivePoolOfVersion1_0IsReplayedAndItsOrphansGo) {
  const auto medium = load_golden("v1.0-live");
  TestPool pool(medium, false);
  EXPECT_FALSE(pool->stats().replay.was_clean);
  EXPECT_GT(pool->stats().replay.records, 0U);
  EXPECT_EQ(pool->stats().evicted_orphans, 2U);
  expect_tree(pool);
}

TEST(Golden, MakingAPoolGivesTheSameBytesEveryTime) {
  const auto medium = make_golden_pool();
  const uint32_t sum = crc32c(~0U, medium->at(0), medium->size());
  EXPECT_EQ(sum, 0x542105dcU) << std::hex << sum
                              << ": a pool made with the same options has other bytes than 1.0's";
}

}  // namespace
}  // namespace udax
