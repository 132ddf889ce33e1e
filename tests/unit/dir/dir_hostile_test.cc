// SPDX-License-Identifier: BSD-3-Clause
//
// Directory blocks that carry the right checksum and the wrong contents. Nothing may crash, hang or read out of
// bounds (run under ASan and UBSan).
#include "tests/unit/dir/dir_fixture.h"

namespace udax::dir {
namespace {

class Hostile : public testing::Test {
 protected:
  static constexpr int kNames = 12000;
  static std::string name_of(int i) { return "a-name-that-is-longer-" + std::to_string(i); }

  Hostile() : pool_(16 * kMiB) {
    for (int i = 0; i < kNames; i += 8) {
      EXPECT_TRUE(pool_.change([&](Editor& e) -> Status {
        for (int k = i; k < i + 8; ++k) UDAX_CHECK(e.insert(name_of(k), {Ino(5), 8}));
        return {};
      }));
    }
    blocks_ = pool_.blocks();
    good_inode_ = pool_.inode();
    EXPECT_EQ(load_root(good_inode_).level, 1U);
  }

  std::byte* raw(DeviceBlock b) { return pool_.medium().raw() + offset_of(b); }
  format::TreeNode& node(DeviceBlock b) { return *reinterpret_cast<format::TreeNode*>(raw(b)); }
  format::BlockHeader& header(DeviceBlock b) { return *reinterpret_cast<format::BlockHeader*>(raw(b)); }
  format::DirLeafHeader& leaf_header(DeviceBlock b) {
    return *reinterpret_cast<format::DirLeafHeader*>(raw(b) + sizeof(format::BlockHeader));
  }
  format::DirSlot& slot(DeviceBlock b, uint32_t i) {
    return reinterpret_cast<format::DirSlot*>(raw(b) + format::kDirLeafFixed)[i];
  }

  void seal(DeviceBlock b) {
    format::seal(pool_.geometry().checksum_seed, format::Unit::kBlock, raw(b));
    pool_.meta().forget(b);
  }

  // With `b` changed by `change`: what a full listing says. All is put back afterwards.
  Status list_with(DeviceBlock b, const std::function<void()>& change) {
    const BlockCopy saved(raw(b));
    change();
    seal(b);
    const Status listed = pool_.reader().iterate(0, [](const Listed&) { return true; });
    use(3);
    std::memcpy(raw(b), saved.bytes.data(), kBlockSize);
    pool_.meta().forget(b);
    pool_.inode() = good_inode_;
    return listed;
  }
  void expect_corrupted(DeviceBlock b, const std::function<void()>& change) {
    const Status listed = list_with(b, change);
    EXPECT_TRUE(!listed && listed.error() == Error::kCorrupted);
  }

  static void expect_sane(const Status& s) {
    if (s) return;
    EXPECT_TRUE(s.error() == Error::kCorrupted || s.error() == Error::kNotFound || s.error() == Error::kExists ||
                s.error() == Error::kNoSpace)
        << to_string(s.error());
  }

  // Some of everything, with what is there now. Nothing is committed.
  void use(uint64_t seed) {
    Random random(seed);
    uint64_t seen = 0;
    expect_sane(pool_.reader().iterate(0, [&](const Listed& e) {
      EXPECT_TRUE(is_valid_name(e.name));
      return ++seen < uint64_t{kNames} * 2;
    }));
    EXPECT_LT(seen, uint64_t{kNames} * 2);
    for (int i = 0; i < 30; ++i) {
      const auto found = pool_.reader().lookup(name_of(static_cast<int>(random.below(kNames))));
      if (!found) expect_sane(found.error());
    }
    pool_.change_and_abort([&](Editor& e) {
      for (int i = 0; i < 30; ++i) {
        const std::string name = name_of(static_cast<int>(random.below(kNames)));
        Status s = e.remove(name);
        expect_sane(s);
        if (!s && s.error() != Error::kNotFound) return;
        s = e.insert("new" + std::to_string(random.next()), {Ino(9), 8});
        expect_sane(s);
        if (!s && s.error() != Error::kExists) return;
        s = e.replace(name_of(static_cast<int>(random.below(kNames))), {Ino(7), 4});
        expect_sane(s);
      }
    });
  }

  // Names of the leaf, inserted and removed: the changes meet this block for sure.
  void use_leaf(DeviceBlock b) {
    std::vector<std::string> names;
    const LeafView leaf(raw(b));
    if (!leaf.header_holds()) return;
    for (uint32_t i = 0; i < leaf.count(); ++i) {
      const format::DirSlot s = leaf.slot(i);
      if (leaf.slot_holds(s)) names.emplace_back(leaf.name(s));
    }
    pool_.change_and_abort([&](Editor& e) {
      for (const std::string& name : names) {
        const Status s = e.remove(name);
        expect_sane(s);
        if (!s && s.error() != Error::kNotFound) return;
      }
    });
  }

  Pool pool_;
  std::vector<DeviceBlock> blocks_;
  format::Inode good_inode_;
};

TEST_F(Hostile, CraftedNodes) {
  const DeviceBlock root = blocks_[0];
  const uint32_t last = node(root).header.count - 1U;
  ASSERT_GT(last, 4U);
  expect_corrupted(root, [&] { header(root).count = 0; });
  expect_corrupted(root, [&] { header(root).count = 255; });
  expect_corrupted(root, [&] { header(root).count = 0xFFFF; });
  expect_corrupted(root, [&] { header(root).level = 2; });
  expect_corrupted(root, [&] { header(root).level = 0; });
  expect_corrupted(root, [&] { header(root).kind = format::kKindDirLeaf; });
  expect_corrupted(root, [&] { node(root).entries[2].child = root.value; });
  expect_corrupted(root, [&] { node(root).entries[2].child = 0; });
  expect_corrupted(root, [&] { node(root).entries[2].child = ~uint64_t{0}; });
  expect_corrupted(root, [&] { node(root).entries[2].child = node(root).entries[3].child; });
  expect_corrupted(root, [&] { node(root).entries[0].key = 1; });
  expect_corrupted(root, [&] { node(root).entries[2].key = node(root).entries[3].key; });
  expect_corrupted(root, [&] { std::swap(node(root).entries[2], node(root).entries[3]); });
  expect_corrupted(root, [&] { node(root).entries[last].key = ~uint64_t{0}; });
  expect_corrupted(root, [&] { node(root).entries[last].key = kHashEnd; });
}

TEST_F(Hostile, CraftedLeaves) {
  const DeviceBlock b = blocks_[3];
  expect_corrupted(b, [&] { header(b).count = 0; });
  expect_corrupted(b, [&] { header(b).count = 127; });
  expect_corrupted(b, [&] { header(b).level = 1; });
  expect_corrupted(b, [&] { header(b).owner = 78; });
  expect_corrupted(b, [&] { leaf_header(b).heap_start = 64; });
  expect_corrupted(b, [&] { leaf_header(b).heap_free = 0xFFF8; });
  expect_corrupted(b, [&] { slot(b, 0).offset = 4096; });
  expect_corrupted(b, [&] { slot(b, 0).hash = slot(b, 0).hash + 1; });
  expect_corrupted(b, [&] { slot(b, 0).hash = kHashEnd - 1; });
  expect_corrupted(b, [&] { slot(b, 0).hash = 16; });
  expect_corrupted(b, [&] { raw(b)[slot(b, 0).offset + format::kDirNameFixed] = std::byte{'/'}; });
  expect_corrupted(b, [&] { raw(b)[slot(b, 0).offset + format::kDirNameFixed] = std::byte{0}; });
}

TEST_F(Hostile, CraftedRoots) {
  const auto expect_bad = [&](const std::function<void(format::Inode&, format::DirRoot&)>& change) {
    format::DirRoot root = load_root(good_inode_);
    change(pool_.inode(), root);
    std::memcpy(pool_.inode().payload, &root, sizeof(root));
    const Status listed = pool_.reader().iterate(0, [](const Listed&) { return true; });
    EXPECT_TRUE(!listed && listed.error() == Error::kCorrupted);
    EXPECT_EQ(pool_.reader().lookup("x").error(), Error::kCorrupted);
    EXPECT_EQ(pool_.insert("x", 5).error(), Error::kCorrupted);
    EXPECT_EQ(pool_.remove(name_of(1)).error(), Error::kCorrupted);
    pool_.inode() = good_inode_;
  };
  expect_bad([](auto&, auto& root) { root.level = 0; });
  expect_bad([](auto&, auto& root) { root.level = 2; });
  expect_bad([](auto&, auto& root) { root.level = 8; });
  expect_bad([](auto&, auto& root) { root.level = ~0U; });
  expect_bad([](auto&, auto& root) { root.block = 1; });
  expect_bad([](auto&, auto& root) { root.block = ~uint64_t{0}; });
  expect_bad([](auto& inode, auto&) { inode.payload_kind = format::kPayloadInlineExtents; });
  expect_bad([](auto& inode, auto&) { inode.ino = 78; });
  // Counts that say less than there is.
  format::DirRoot root = load_root(good_inode_);
  root.entry_count = 0;
  store_root(pool_.inode(), root);
  EXPECT_EQ(pool_.remove(name_of(1)).error(), Error::kCorrupted);
  pool_.inode() = good_inode_;
  pool_.inode().block_count = 0;
  for (int i = 0; i < kNames; ++i) {
    const Status s = pool_.remove(name_of(i));
    if (s) continue;
    EXPECT_EQ(s.error(), Error::kCorrupted);
    return;
  }
  ADD_FAILURE() << "more blocks were freed than counted";
}

TEST_F(Hostile, RandomBytes) {
  const uint64_t seed = test_seed(6);
  UDAX_TRACE_SEED(seed);
  Random random(seed);
  for (int round = 0; round < 400; ++round) {
    const DeviceBlock b = random.one_in(3) ? blocks_[0] : blocks_[random.below(blocks_.size())];
    const BlockCopy saved(raw(b));
    const uint64_t count = random.between(1, 8);
    for (uint64_t i = 0; i < count; ++i) {
      // Headers and slots more often than their share of the bytes.
      const uint64_t at = random.one_in(2) ? random.between(28, 80) : random.between(24, kBlockSize - 1);
      raw(b)[at] = static_cast<std::byte>(random.next());
    }
    seal(b);
    use(random.next());
    use_leaf(b);
    std::memcpy(raw(b), saved.bytes.data(), kBlockSize);
    pool_.meta().forget(b);
  }
  EXPECT_EQ(pool_.list().size(), size_t{kNames});
  pool_.check_tree();
}

// What the random changes let through is committed as well, and met again.
TEST_F(Hostile, RandomBytesThenCommits) {
  const uint64_t seed = test_seed(7);
  UDAX_TRACE_SEED(seed);
  Random random(seed);
  media::MemoryMedium saved(pool_.medium().size());
  saved.copy_from(pool_.medium());
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 4; ++i) {
      const DeviceBlock b = blocks_[random.below(blocks_.size())];
      raw(b)[random.between(28, 400)] = static_cast<std::byte>(random.next());
      seal(b);
    }
    for (int i = 0; i < 150; ++i) {
      expect_sane(pool_.remove(name_of(static_cast<int>(random.below(kNames)))));
      expect_sane(pool_.insert("new" + std::to_string(random.below(200)), 5));
    }
    use(random.next());
    pool_.medium().copy_from(saved);
    pool_.inode() = good_inode_;
    pool_.mount();
  }
  pool_.check_tree();
}

}  // namespace
}  // namespace udax::dir
