// SPDX-License-Identifier: BSD-3-Clause
//
// Many threads commit; the power goes at any moment; what recovery makes of any image that this could leave is a
// state between two transactions, and has every transaction that was acknowledged. Each safeguard is then taken
// away, and the same checks must find it missing.
#include <optional>
#include <string>
#include <thread>

#include "base/log.h"
#include "base/mutex.h"
#include "base/sync_point.h"
#include "tests/unit/journal/crash_walk.h"

namespace udax::journal {
namespace {

using namespace testing;
using format::Unit;

constexpr uint64_t kThreads = 4;
constexpr uint64_t kTransactions = 800;  // of each thread
constexpr format::BlockKind kKind = format::kKindDirLeaf;

// Thread t has two blocks, an inode slot that shares its block with those of the others, and blocks for fresh use.
DeviceBlock first_of(uint64_t t) { return data_block(2 * t); }
DeviceBlock second_of(uint64_t t) { return data_block(2 * t + 1); }
uint64_t inode_of(uint64_t t) { return offset_of(data_block(2 * kThreads + 2)) + (t + 1) * format::kInodeSize; }
constexpr uint64_t kFreshMax = 420;
DeviceBlock fresh_of(uint64_t t, uint64_t n) { return data_block(16 + kFreshMax * t + n); }
// All threads share two more.
DeviceBlock shared_first() { return data_block(2 * kThreads); }
DeviceBlock shared_second() { return data_block(2 * kThreads + 1); }

// Words.
constexpr uint32_t kValue = 0;       // of a first block
constexpr uint32_t kFreshBlock = 1;  // 0: none yet
constexpr uint32_t kFreshValue = 2;
constexpr uint32_t kFiller = 8;
constexpr uint32_t kFarValue = 450;  // of a second block

class Workload {
 public:
  explicit Workload(uint64_t seed) : seed_(seed), medium_(kPoolBytes), stack_(medium_) {
    format_pool(medium_);
    for (uint64_t i = 0; i < 2 * kThreads + 2; ++i) put_block(medium_, data_block(i));
    UDAX_ASSERT(stack_.journal.recover().has_value());
    shared_log_.emplace_back(0, 0);
  }

  void run() {
    medium_.start();
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < kThreads; ++t) threads.emplace_back([this, t] { work(t); });
    for (auto& t : threads) t.join();
    medium_.stop();
    EXPECT_GT(stack_.journal.head().value, 3 * kRingBytesMin) << "laps of the ring";
  }

  const media::RecordingMedium& medium() const { return medium_; }

  /// Recovers `image`, and says what is wrong with it, if anything is.
  std::optional<std::string> check(media::MemoryMedium& image, const CrashWalk& walk) const {
    Stack stack(image);
    const auto replay = stack.journal.recover();
    if (!replay) return "recovery failed";
    std::array<uint64_t, kThreads> value{};
    for (uint64_t t = 0; t < kThreads; ++t) {
      if (auto wrong = check_thread(stack, t, walk.marked(t), value[t])) return wrong;
    }
    return check_shared(stack, value);
  }

 private:
  void work(uint64_t t) {
    Random random(seed_ + t);
    uint64_t fresh_used = 0;
    for (uint64_t v = 1; v <= kTransactions; ++v) {
      Tx tx(stack_.journal);
      const auto first = tx.edit_block(first_of(t), kKind, kOwner);
      const auto second = tx.edit_block(second_of(t), kKind, kOwner);
      const auto inode =
          v == 1 ? tx.reset_unit(inode_of(t), Unit::kInode) : tx.edit_unit(inode_of(t), Unit::kInode);
      UDAX_ASSERT(first && second && inode);
      set_word(*first, kValue, v);
      set_word(*second, kFarValue, v);
      reinterpret_cast<format::Inode*>(*inode)->size = v;
      const uint64_t filler = random.one_in(2) ? random.below(490) : random.below(8);
      for (uint32_t i = 0; i < filler; ++i) set_word(*first, kFiller + i, v);
      if (random.one_in(2) && fresh_used < kFreshMax) {
        const DeviceBlock b = fresh_of(t, fresh_used++);
        const auto image = tx.create_block(b, kKind, kOwner);
        UDAX_ASSERT(image.has_value());
        for (uint32_t w = 0; w < kWords; w += 50) set_word(*image, w, v);
        set_word(*first, kFreshBlock, b.value);
        set_word(*first, kFreshValue, v);
      }
      if (random.one_in(4)) {
        LockGuard guard(shared_mutex_);
        commit_shared(tx, t, v);
      } else {
        UDAX_ASSERT(tx.commit().has_value());
      }
      medium_.mark((t << 32) | v);
      if (random.one_in(60)) UDAX_ASSERT(stack_.journal.advance_tail_to(stack_.journal.head()).has_value());
    }
  }

  void commit_shared(Tx& tx, uint64_t t, uint64_t v) UDAX_REQUIRES(shared_mutex_) {
    const uint64_t s = shared_log_.size();
    shared_log_.emplace_back(t, v);
    const auto first = tx.edit_block(shared_first(), kKind, kOwner);
    const auto second = tx.edit_block(shared_second(), kKind, kOwner);
    UDAX_ASSERT(first && second);
    set_word(*first, kValue, s);
    set_word(*second, kFarValue, s);
    UDAX_ASSERT(tx.commit().has_value());
  }

  static std::optional<std::string> check_thread(const Stack& stack, uint64_t t, uint64_t acknowledged,
                                                 uint64_t& value) {
    const std::string who = "thread " + std::to_string(t) + ": ";
    const auto first = stack.meta.read(first_of(t), kKind, kOwner);
    const auto second = stack.meta.read(second_of(t), kKind, kOwner);
    if (!first || !second) return who + "a block is broken";
    const std::byte* inode = stack.meta.medium().at(inode_of(t));
    value = get_word(*first, kValue);
    if (value > 0 && !format::is_sealed(kSeed, Unit::kInode, inode)) return who + "the inode is broken";
    if (get_word(*second, kFarValue) != value || reinterpret_cast<const format::Inode*>(inode)->size != value) {
      return who + "half a transaction";
    }
    if (value < acknowledged) return who + "an acknowledged transaction is lost";
    if (value > acknowledged + 1) return who + "a transaction from nowhere";
    const uint64_t fresh = get_word(*first, kFreshBlock);
    if (fresh == 0) return std::nullopt;
    const auto block = stack.meta.read(DeviceBlock(fresh), kKind, kOwner);
    if (!block || get_word(*block, 0) != get_word(*first, kFreshValue)) return who + "a fresh block is not there";
    return std::nullopt;
  }

  std::optional<std::string> check_shared(const Stack& stack, const std::array<uint64_t, kThreads>& value) const
      UDAX_NO_THREAD_SAFETY_ANALYSIS {  // the threads are gone
    const auto first = stack.meta.read(shared_first(), kKind, kOwner);
    const auto second = stack.meta.read(shared_second(), kKind, kOwner);
    if (!first || !second) return "a shared block is broken";
    const uint64_t s = get_word(*first, kValue);
    if (get_word(*second, kFarValue) != s || s >= shared_log_.size()) return "half a shared transaction";
    if (value[shared_log_[s].first] < shared_log_[s].second) return "a shared change without its transaction";
    if (s + 1 < shared_log_.size() && value[shared_log_[s + 1].first] >= shared_log_[s + 1].second) {
      return "a transaction without its shared change";
    }
    return std::nullopt;
  }

  const uint64_t seed_;
  media::RecordingMedium medium_;
  Stack stack_;
  Mutex shared_mutex_;
  std::vector<std::pair<uint64_t, uint64_t>> shared_log_ UDAX_GUARDED_BY(shared_mutex_);  // thread, its value
};

/// Crashes at `moments` random moments of the run, each way, until an image is wrong. True if none was; `tell`s
/// what was wrong otherwise.
bool survives(const Workload& workload, uint64_t seed, uint64_t moments, bool tell, bool drop_drains = false) {
  Random random(seed);
  CrashWalk walk(workload.medium(), drop_drains);
  std::vector<size_t> at(moments);
  for (size_t& a : at) a = random.below(walk.event_count() + 1);
  std::sort(at.begin(), at.end());
  media::MemoryMedium image(kPoolBytes);
  for (const size_t a : at) {
    walk.advance(a);
    for (const Choice choice : kChoices) {
      walk.build(image, choice, random);
      const auto what = workload.check(image, walk);
      if (!what) continue;
      if (tell) ADD_FAILURE() << *what << ", event " << a << ", choice " << static_cast<int>(choice);
      return false;
    }
  }
  return true;
}

class CrashTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Every recovery would tell of itself.
    static_cast<void>(log_init(LogLevel::kError, LogTarget::kStderr));
  }
  void TearDown() override { static_cast<void>(log_init(LogLevel::kInfo, LogTarget::kStderr)); }

  /// A run without the safeguard must not pass. Which moments matter is chance: several runs, if need be.
  static void expect_caught(const char* knob_name) {
    if (!sync_point::kCompiledIn) GTEST_SKIP() << "needs UDAX_SYNC_POINTS";
    const uint64_t seed = test_seed();
    bool survived = true;
    for (uint64_t round = 0; round < 5 && survived; ++round) {
      Workload workload(seed + round);
      {
        const sync_point::ScopedKnob knob(knob_name);
        workload.run();
      }
      survived = survives(workload, seed + round, 100, false);
    }
    EXPECT_FALSE(survived) << knob_name << " was not missed";
  }
};

TEST_F(CrashTest, AnyCrashLeavesAStateBetweenTransactions) {
  const uint64_t seed = test_seed();
  Workload workload(seed);
  workload.run();
  EXPECT_TRUE(survives(workload, seed, 100, true));
}

TEST_F(CrashTest, NegativeControlAMediumThatDropsDrainsIsCaught) {
  const uint64_t seed = test_seed();
  Workload workload(seed);
  workload.run();
  EXPECT_FALSE(survives(workload, seed, 20, false, true));
}

TEST_F(CrashTest, NegativeControlRecordDrain) { expect_caught("journal.skip_record_drain"); }
TEST_F(CrashTest, NegativeControlApplyFlush) { expect_caught("journal.skip_apply_flush"); }

/// T1 has its place in the ring and no record there yet; T2, behind it, goes as far as it gets. Crashes at every
/// moment until then; how many leave half of T2.
uint64_t prefix_scenario(bool waits) {
  media::RecordingMedium medium(kPoolBytes);
  format_pool(medium);
  for (uint64_t i = 0; i < 4; ++i) put_block(medium, data_block(i));
  Stack stack(medium);
  EXPECT_TRUE(stack.journal.recover());
  medium.start();
  sync_point::Gate gate("journal.append.reserved");
  std::thread first([&] { EXPECT_TRUE(commit_edits(stack.journal, {{data_block(0), 0, 1}})); });
  EXPECT_TRUE(gate.wait_reached());
  std::thread second([&] {
    EXPECT_TRUE(commit_edits(stack.journal, {{data_block(1), 0, 2}, {data_block(2), 450, 2}}));
  });
  if (waits) {
    while (stack.journal.stats().waits == 0) std::this_thread::yield();
  } else {
    second.join();
  }
  gate.open();
  first.join();
  if (second.joinable()) second.join();
  medium.stop();

  uint64_t halves = 0;
  Random random(1);
  CrashWalk walk(medium);
  media::MemoryMedium image(kPoolBytes);
  for (size_t at = 0; at <= walk.event_count(); ++at) {
    walk.advance(at);
    for (const Choice choice : kChoices) {
      walk.build(image, choice, random);
      Stack recovered(image);
      EXPECT_TRUE(recovered.journal.recover());
      const auto a = recovered.meta.read(data_block(1), kKind, kOwner);
      const auto b = recovered.meta.read(data_block(2), kKind, kOwner);
      if (!a || !b || get_word(*a, 0) != get_word(*b, 450)) ++halves;
    }
  }
  return halves;
}

/// One transaction makes a block and points at it; crashes at every moment. How many leave a pointer to no such
/// block.
uint64_t fresh_scenario() {
  media::RecordingMedium medium(kPoolBytes);
  format_pool(medium);
  put_block(medium, data_block(0));
  Stack stack(medium);
  EXPECT_TRUE(stack.journal.recover());
  medium.start();
  {
    Tx tx(stack.journal);
    const auto first = tx.edit_block(data_block(0), kKind, kOwner);
    const auto fresh = tx.create_block(data_block(9), kKind, kOwner);
    UDAX_ASSERT(first && fresh);
    set_word(*first, kFreshBlock, data_block(9).value);
    for (uint32_t w = 0; w < kWords; ++w) set_word(*fresh, w, 7);
    EXPECT_TRUE(tx.commit());
  }
  medium.stop();

  uint64_t dangling = 0;
  Random random(1);
  CrashWalk walk(medium);
  media::MemoryMedium image(kPoolBytes);
  for (size_t at = 0; at <= walk.event_count(); ++at) {
    walk.advance(at);
    for (const Choice choice : kChoices) {
      walk.build(image, choice, random);
      Stack recovered(image);
      EXPECT_TRUE(recovered.journal.recover());
      const auto first = recovered.meta.read(data_block(0), kKind, kOwner);
      if (!first || get_word(*first, kFreshBlock) == 0) continue;
      if (!recovered.meta.read(data_block(9), kKind, kOwner)) ++dangling;
    }
  }
  return dangling;
}

TEST_F(CrashTest, NothingPointsAtAFreshBlockThatIsNotDurable) { EXPECT_EQ(fresh_scenario(), 0U); }

TEST_F(CrashTest, NegativeControlFreshDrain) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "needs UDAX_SYNC_POINTS";
  const sync_point::ScopedKnob knob("journal.skip_fresh_drain");
  EXPECT_GT(fresh_scenario(), 0U);
}

TEST_F(CrashTest, ARecordIsAppliedOnlyWhenAllBeforeItAreWritten) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "needs UDAX_SYNC_POINTS";
  EXPECT_EQ(prefix_scenario(true), 0U);
}

TEST_F(CrashTest, NegativeControlPrefixWait) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "needs UDAX_SYNC_POINTS";
  const sync_point::ScopedKnob knob("journal.skip_prefix_wait");
  EXPECT_GT(prefix_scenario(false), 0U);
}

}  // namespace
}  // namespace udax::journal
