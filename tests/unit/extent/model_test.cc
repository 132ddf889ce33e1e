// SPDX-License-Identifier: BSD-3-Clause
//
// Random operations on a map, against a model, through commits, aborts and new mounts.
#include <gtest/gtest.h>

#include "base/random.h"
#include "mkfs/make_pool.h"
#include "tests/unit/extent/extent_model.h"
#include "tests/unit/extent/extent_pool.h"

namespace udax::extent {
namespace {

struct Shape {
  const char* name;
  std::vector<uint64_t> regions;  // first blocks; each is kRegionBlocks long
  uint64_t run_max;               // blocks of an insert
  int transactions;
};
void PrintTo(const Shape& shape, std::ostream* os) { *os << shape.name; }  // NOLINT(readability-identifier-naming)
constexpr uint64_t kRegionBlocks = 6000;

class Fuzz {
 public:
  Fuzz(const Shape& shape, uint64_t seed) : shape_(shape), random_(seed) {}

  void run() {
    const uint64_t free_before = pool_.blocks_free();
    for (int i = 0; i < shape_.transactions && !testing::Test::HasFailure(); ++i) {
      transaction();
      // Grow and shrink in turns, so that trees come and go.
      if (random_.one_in(150)) growing_ = !growing_;
      if (random_.one_in(100)) {
        pool_.remount();
        compare();
      }
    }
    remove_all();
    EXPECT_EQ(pool_.inode().payload_kind, format::kPayloadNone);
    EXPECT_EQ(pool_.inode().block_count, 0U);
    EXPECT_EQ(pool_.blocks_free(), free_before);
    pool_.remount();
    EXPECT_EQ(pool_.blocks_free(), free_before);
    EXPECT_EQ(pool_.meta().corruptions(), 0U);
    EXPECT_GT(levels_most_, 1U);
  }

 private:
  void transaction() {
    alloc::BlockTx tx(pool_.allocator());
    work_ = committed_;
    const uint64_t ops = random_.between(1, 6);
    bool alive = true;
    for (uint64_t i = 0; i < ops && alive && !tx.nearly_full(); ++i) {
      Editor editor(tx, pool_.inode_of(tx));
      alive = step(tx, editor);
      if (alive) check_lookup(editor);
    }
    if (!alive || random_.one_in(8)) {
      tx.abort();
    } else {
      const Result<Lsn> lsn = tx.commit();
      ASSERT_TRUE(lsn) << to_string(lsn.error());
      committed_ = work_;
    }
    if (random_.one_in(4)) compare();
  }

  uint64_t place() {
    const uint64_t region = shape_.regions[random_.below(shape_.regions.size())];
    return std::min(region + random_.below(kRegionBlocks), kFileBlockEnd.value - 1);
  }

  /// One operation; false if the transaction cannot go on.
  bool step(alloc::BlockTx& tx, Editor& editor) {
    const uint64_t at = place();
    const uint64_t kind = random_.below(growing_ ? 10 : 16);
    if (kind < 6) return insert(tx, editor, at);
    const uint64_t span = random_.one_in(30) ? random_.below(2 * kRegionBlocks) : random_.below(40);
    const uint64_t end = std::min(at + span, kFileBlockEnd.value);
    const bool flag = random_.one_in(2);
    if (kind < 8) {
      const Result<FileBlock> done = editor.set_unwritten(FileBlock(at), FileBlock(end), flag);
      if (!expect_done(done)) return false;
      EXPECT_LE(done->value, end);
      work_.mark(at, done->value, flag);
      return true;
    }
    if (kind == 8) return replace(tx, editor, at, flag);
    const Result<FileBlock> left = editor.remove(FileBlock(at), FileBlock(end));
    if (!expect_done(left)) return false;
    EXPECT_GE(left->value, at);
    work_.erase(left->value, end);
    return true;
  }

  bool insert(alloc::BlockTx& tx, Editor& editor, uint64_t at) {
    const uint64_t hole = work_.hole_at(at);
    if (hole == 0) return true;
    const uint64_t most = random_.one_in(20) ? 50 * shape_.run_max : shape_.run_max;
    const Result<DeviceRun> run = tx.allocate(blocks(std::min(hole, random_.between(1, most)), 1));
    if (!run) return run.error() == Error::kAgain ? false : expect_done(run);
    const bool flag = random_.one_in(3);
    if (!expect_done(editor.insert(FileBlock(at), *run, flag))) return false;
    work_.put(at, *run, flag);
    return true;
  }

  bool replace(alloc::BlockTx& tx, Editor& editor, uint64_t at, bool flag) {
    const uint64_t most = std::min(kFileBlockEnd.value - at, random_.one_in(10) ? uint64_t{600} : uint64_t{12});
    const Result<DeviceRun> run = tx.allocate(blocks(random_.between(1, most), 1));
    if (!run) return run.error() == Error::kAgain ? false : expect_done(run);
    if (!expect_done(editor.replace(FileBlock(at), *run, flag))) return false;
    work_.erase(at, at + run->count);
    work_.put(at, *run, flag);
    return true;
  }

  template <typename T>
  bool expect_done(const Result<T>& result) {
    if (result) return true;
    EXPECT_EQ(result.error(), Error::kAgain) << to_string(result.error());
    return false;
  }

  void check_lookup(const Editor& editor) {
    const uint64_t at = place();
    const Result<Mapping> m = editor.lookup(FileBlock(at), ~uint64_t{0});
    ASSERT_TRUE(m);
    EXPECT_EQ(m->is_hole() ? m->count : 0, work_.hole_at(at));
  }

  void compare() {
    const std::vector<Mapping> expected = committed_.extents();
    std::vector<Mapping> seen;
    ASSERT_TRUE(pool_.reader().for_each(FileBlock(0), kFileBlockEnd, [&seen](const Mapping& m) {
      Model::append(seen, m);
      return true;
    }));
    ASSERT_EQ(seen.size(), expected.size());
    for (size_t i = 0; i < seen.size(); ++i) ASSERT_EQ(seen[i], expected[i]) << "extent " << i;
    const TreeFacts facts = check_tree(pool_);
    levels_most_ = std::max(levels_most_, facts.levels);
    EXPECT_EQ(*pool_.reader().count(), facts.extents.size());
    for (int i = 0; i < 20; ++i) {
      const uint64_t at = place();
      const Result<Mapping> m = pool_.reader().lookup(FileBlock(at), ~uint64_t{0});
      ASSERT_TRUE(m);
      if (m->is_hole()) {
        ASSERT_EQ(m->count, committed_.hole_at(at));
        continue;
      }
      const auto after = std::upper_bound(expected.begin(), expected.end(), FileBlock(at),
                                          [](FileBlock b, const Mapping& e) { return b < e.start; });
      ASSERT_NE(after, expected.begin());
      const Mapping& e = after[-1];
      ASSERT_EQ(m->device, e.device + (at - e.start.value));
      ASSERT_EQ(m->unwritten, e.unwritten);
      ASSERT_LE(m->end(), e.end());
    }
  }

  void remove_all() {
    uint64_t to = kFileBlockEnd.value;
    while (to > 0) {
      alloc::BlockTx tx(pool_.allocator());
      const Result<FileBlock> left = Editor(tx, pool_.inode_of(tx)).remove(FileBlock(0), FileBlock(to));
      ASSERT_TRUE(left);
      ASSERT_LT(left->value, to);
      to = left->value;
      ASSERT_TRUE(tx.commit());
    }
  }

  const Shape& shape_;
  Random random_;
  Pool pool_{uint64_t{4} << 30};
  Model committed_;
  Model work_;
  bool growing_ = true;
  uint32_t levels_most_ = 0;
};

class ExtentModel : public testing::TestWithParam<Shape> {};

TEST_P(ExtentModel, MapSaysWhatTheModelSays) { Fuzz(GetParam(), test_seed()).run(); }

INSTANTIATE_TEST_SUITE_P(
    Shapes, ExtentModel,
    testing::Values(Shape{"Start", {0}, 8, 4000},
                    Shape{"Spread", {0, 1 << 20, uint64_t{1} << 40, kFileBlockEnd.value - kRegionBlocks}, 4, 4000},
                    Shape{"Single", {12345}, 1, 4000}),
    [](const testing::TestParamInfo<Shape>& info) { return info.param.name; });

}  // namespace
}  // namespace udax::extent
