// SPDX-License-Identifier: BSD-3-Clause
//
// Random changes against a std::map.
#include "base/sync_point.h"
#include "tests/unit/dir/dir_fixture.h"

namespace udax::dir {
namespace {

class Walk {
 public:
  Walk(Pool& pool, uint64_t seed, size_t name_max) : pool_(pool), random_(seed), name_max_(name_max) {}

  // One transaction of a few operations, committed or dropped.
  void step(bool grow) {
    Model after = model_;
    const bool commit = !random_.one_in(8);
    const uint64_t count = random_.between(1, 6);
    bool full = false;
    const auto body = [&](Editor& e) -> Status {
      for (uint64_t i = 0; i < count; ++i) {
        if (const Status s = operate(e, after, grow); !s) {
          full = s.error() == Error::kNoSpace;
          return s;
        }
      }
      return {};
    };
    if (!commit) {
      pool_.change_and_abort([&](Editor& e) { EXPECT_TRUE(body(e) || full); });
    } else if (pool_.change(body)) {
      model_ = std::move(after);
    } else {
      EXPECT_TRUE(full);
    }
  }

  void check() {
    pool_.check_tree();
    expect_same(pool_, model_);
  }

  void empty() {
    while (!model_.empty()) {
      const auto victim = pick(model_);
      ASSERT_TRUE(pool_.remove(victim->first));
      model_.erase(victim);
      if (model_.size() % 500 == 0) pool_.check_tree();
    }
    check();
  }

  [[nodiscard]] const Model& model() const { return model_; }

 private:
  Model::iterator pick(Model& from) {
    auto at = from.lower_bound(random_name(random_, 3));
    return at == from.end() ? from.begin() : at;
  }

  Status operate(Editor& e, Model& after, bool grow) {
    const uint64_t dice = random_.below(10);
    const Dentry dentry{Ino(random_.between(1, 1U << 30)), static_cast<uint8_t>(random_.below(15))};
    if (after.empty() || dice < (grow ? 6U : 2U)) {
      const size_t size = random_.one_in(3) ? random_.between(1, name_max_) : random_.between(1, 20);
      const std::string name = random_name(random_, std::min(size, name_max_));
      const Status s = e.insert(name, dentry);
      const bool had = after.contains(name);
      EXPECT_EQ(!s && s.error() == Error::kExists, had);
      if (s) after.emplace(name, dentry);
      if (!s && !had) return s;
    } else if (dice < 8) {
      const auto victim = pick(after);
      const Status s = e.remove(victim->first);
      EXPECT_TRUE(s);
      if (!s) return s;
      EXPECT_EQ(e.lookup(victim->first).error(), Error::kNotFound);
      after.erase(victim);
    } else if (dice < 9) {
      const auto victim = pick(after);
      const Status s = e.replace(victim->first, dentry);
      EXPECT_TRUE(s);
      victim->second = dentry;
    } else {
      const auto there = pick(after);
      const auto found = e.lookup(there->first);
      EXPECT_TRUE(found && *found == there->second);
      EXPECT_EQ(e.remove(there->first + "?").error(),
                after.contains(there->first + "?") ? Error{} : Error::kNotFound);
    }
    return {};
  }

  Pool& pool_;
  Random random_;
  size_t name_max_;
  Model model_;
};

void run(uint64_t seed, size_t name_max, int steps) {
  UDAX_TRACE_SEED(seed);
  Pool pool(64 * kMiB);
  Walk walk(pool, seed, name_max);
  for (int i = 0; i < steps; ++i) {
    walk.step(i % 1000 < 600);
    if (testing::Test::HasFailure()) return;
    if (i % 250 == 0) walk.check();
    if (i % 500 == 0) pool.mount();
  }
  walk.check();
  walk.empty();
  EXPECT_EQ(pool.free_blocks(), pool.free_at_start());
  EXPECT_EQ(pool.inode().block_count, 0U);
}

TEST(DirModel, NamesOfAllLengths) { run(test_seed(1), 255, 5000); }
TEST(DirModel, ShortNames) { run(test_seed(2), 12, 5000); }

// Nearly all hashes are shared, and neighbours are one apart.
TEST(DirModel, CollidingHashes) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "sync points are not compiled in";
  const sync_point::ScopedKnob knob("dir.hash_first_byte");
  run(test_seed(3), 40, 5000);
}

}  // namespace
}  // namespace udax::dir
