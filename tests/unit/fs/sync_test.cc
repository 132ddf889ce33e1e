// SPDX-License-Identifier: BSD-3-Clause
//
// fsync on a medium whose granularity is a page: what it promises is durable when it returns, also when another fsync
// is at work on the same bytes. Each promise is tried with its safeguard taken away, too: it must break then.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "base/sync_point.h"
#include "media/memory_medium.h"
#include "tests/support/pool.h"

namespace udax {
namespace {

using namespace std::chrono_literals;
using test::bytes;
using test::TestPool;

constexpr uint64_t kPoolSize = 16 * 1024 * 1024;

/// Knows what is durable: the pages that were flushed (or stored around the cache) and drained by the same thread.
class PageMedium final : public media::MemoryMedium {
 public:
  PageMedium() : MemoryMedium(kPoolSize, media::Granularity::kPage), durable_(kPoolSize) {}

  void store_nt(uint64_t offset, const void* source, uint64_t size) override {
    MemoryMedium::store_nt(offset, source, size);
    note(offset, size);
  }
  void zero_nt(uint64_t offset, uint64_t size) override {
    MemoryMedium::zero_nt(offset, size);
    note(offset, size);
  }
  void flush(uint64_t offset, uint64_t size) override {
    MemoryMedium::flush(offset, size);
    note(offset, size);
  }
  [[nodiscard]] Status drain() override {
    if (const auto hook = take_hook()) hook();
    const std::lock_guard guard(mutex_);
    for (const auto& [start, end] : noted_[std::this_thread::get_id()]) {
      std::memcpy(durable_.raw() + start, at(start), end - start);
    }
    noted_.erase(std::this_thread::get_id());
    return MemoryMedium::drain();
  }
  [[nodiscard]] Status deep_flush(uint64_t offset, uint64_t size) override {
    note(offset, size);
    return drain();
  }

  /// Runs once, at the start of the next drain.
  void at_next_drain(std::function<void()> hook) {
    const std::lock_guard guard(mutex_);
    hook_ = std::move(hook);
  }
  /// What a power failure would leave now.
  [[nodiscard]] std::shared_ptr<media::MemoryMedium> after_power_failure() {
    auto copy = std::make_shared<media::MemoryMedium>(kPoolSize, media::Granularity::kPage);
    const std::lock_guard guard(mutex_);
    copy->copy_from(durable_);
    return copy;
  }

 private:
  void note(uint64_t offset, uint64_t size) {
    const std::lock_guard guard(mutex_);
    noted_[std::this_thread::get_id()].emplace_back(align_down(offset, kBlockSize),
                                                    align_up(offset + size, kBlockSize));
  }
  std::function<void()> take_hook() {
    const std::lock_guard guard(mutex_);
    return std::exchange(hook_, nullptr);
  }

  std::mutex mutex_;
  std::map<std::thread::id, std::vector<std::pair<uint64_t, uint64_t>>> noted_;
  std::function<void()> hook_;
  media::MemoryMedium durable_;
};

/// The content that the file has when the pool is mounted after a power failure now.
std::string content_after_power_failure(PageMedium& medium, Ino ino) {
  TestPool pool(medium.after_power_failure(), false);
  return pool.content(ino);
}

class Sync : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!sync_point::kCompiledIn) GTEST_SKIP() << "sync points are not compiled in";
    pool_ = std::make_unique<TestPool>(medium_, true);
  }
  fs::OpenFilePtr open(Ino ino) {
    auto file = (*pool_)->open(ino, O_RDWR, false);
    EXPECT_TRUE(file);
    return std::move(*file);
  }

  /// One fsync stands just before its drain; another comes. Gives what would be left if the power failed when that
  /// other one has returned. The first one goes on then, or after `patience`.
  std::string left_when_the_second_returns(std::chrono::milliseconds patience) {
    const Ino ino = pool_->file(kRootIno, "file", std::string(100, 'o'));
    const fs::OpenFilePtr file = open(ino);
    EXPECT_TRUE((*pool_)->fsync(*file, false));
    EXPECT_TRUE((*pool_)->write(*file, 0, bytes(std::string(100, 'n')), false, false));

    std::mutex mutex;
    std::condition_variable changed;
    bool arrived = false;
    bool returned = false;
    medium_->at_next_drain([&] {
      std::unique_lock lock(mutex);
      arrived = true;
      changed.notify_all();
      changed.wait_for(lock, patience, [&] { return returned; });
    });
    std::thread first([&] { EXPECT_TRUE((*pool_)->fsync(*file, false)); });
    {
      std::unique_lock lock(mutex);
      EXPECT_TRUE(changed.wait_for(lock, 30s, [&] { return arrived; })) << "fsync does not drain";
    }
    EXPECT_TRUE((*pool_)->fsync(*file, false));
    std::string left = content_after_power_failure(*medium_, ino);
    {
      const std::lock_guard lock(mutex);
      returned = true;
    }
    changed.notify_all();
    first.join();
    EXPECT_EQ(content_after_power_failure(*medium_, ino), std::string(100, 'n'));
    return left;
  }

  std::shared_ptr<PageMedium> medium_ = std::make_shared<PageMedium>();
  std::unique_ptr<TestPool> pool_;
};

TEST_F(Sync, WaitsForAnotherThatHasNotDrainedYet) {
  EXPECT_EQ(left_when_the_second_returns(200ms), std::string(100, 'n'));
}

TEST_F(Sync, ThatDoesNotWaitLosesWhatItPromised) {
  const sync_point::ScopedKnob knob("dax.writeback.skip_wait");
  EXPECT_EQ(left_when_the_second_returns(30s), std::string(100, 'o'));
}

TEST_F(Sync, MakesAnAppendIntoAnExistingBlockDurable) {
  const Ino ino = pool_->file(kRootIno, "file", "first,");
  const fs::OpenFilePtr file = open(ino);
  EXPECT_TRUE((*pool_)->fsync(*file, false));
  for (const char* piece : {"second,", "third"}) {
    EXPECT_TRUE((*pool_)->write(*file, 0, bytes(piece), true, false));
    EXPECT_TRUE((*pool_)->fsync(*file, false));
    EXPECT_EQ(content_after_power_failure(*medium_, ino), pool_->content(ino));
  }
  EXPECT_EQ(pool_->content(ino), "first,second,third");
}

/// Without an fsync an append may be lost, but what is there is no other bytes.
TEST_F(Sync, AnAppendWithoutItIsWholeOrNotThere) {
  const Ino ino = pool_->file(kRootIno, "file", "first,");
  const fs::OpenFilePtr file = open(ino);
  EXPECT_TRUE((*pool_)->fsync(*file, false));
  EXPECT_TRUE((*pool_)->write(*file, 0, bytes("second"), true, false));
  const std::string left = content_after_power_failure(*medium_, ino);
  EXPECT_TRUE(left == "first," || left == "first,second") << left;
}

TEST_F(Sync, MakesAnOverwriteDurable) {
  const Ino ino = pool_->file(kRootIno, "file", std::string(20'000, 'o'));
  const fs::OpenFilePtr file = open(ino);
  EXPECT_TRUE((*pool_)->fsync(*file, false));
  const std::string old = pool_->content(ino);
  EXPECT_TRUE((*pool_)->write(*file, 5000, bytes(std::string(100, 'n')), false, false));
  {
    // The control: one that does not flush promises what it does not keep.
    const sync_point::ScopedKnob knob("dax.writeback.skip_flush");
    EXPECT_TRUE((*pool_)->fsync(*file, false));
    EXPECT_EQ(content_after_power_failure(*medium_, ino), old);
  }
  EXPECT_TRUE((*pool_)->write(*file, 5000, bytes(std::string(100, 'n')), false, false));
  EXPECT_TRUE((*pool_)->fsync(*file, false));
  EXPECT_EQ(content_after_power_failure(*medium_, ino), pool_->content(ino));
}

// A sync of everything has no file open. One that is unlinked meanwhile is freed, but what the sync is flushing stays until it is let
// go of: the daemon ended there, whenever an unlink met the flush that comes every 30 s.
TEST_F(Sync, AFileThatIsUnlinkedBesideItGoesWhenItIsLetGoOf) {
  const Ino ino = pool_->file(kRootIno, "file", std::string(20'000, 'o'));
  EXPECT_TRUE((*pool_)->write(*open(ino), 0, bytes(std::string(20'000, 'n')), false, false));
  const uint64_t free_before = (*pool_)->statfs().blocks_free;
  std::atomic<bool> is_unlinked{false};
  {
    sync_point::Gate flushing("dax.writeback.locked");
    std::thread syncing([&] { EXPECT_TRUE((*pool_)->sync()); });
    ASSERT_TRUE(flushing.wait_reached());
    std::thread unlinking([&] {
      EXPECT_TRUE((*pool_)->unlink(kRootIno, "file"));
      is_unlinked = true;
    });
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    while ((*pool_)->statfs().blocks_free == free_before && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(1ms);
    }
    std::this_thread::sleep_for(20ms);
    EXPECT_FALSE(is_unlinked);
    flushing.open();
    syncing.join();
    unlinking.join();
  }
  EXPECT_GE((*pool_)->statfs().blocks_free, free_before + 5);
}

/// Has a client's stores to tell of, and unlinks the file as soon as it has told.
struct GoneWhenTold final : mapping::Mapper {
  void invalidate(Ino /*ino*/, mapping::ByteRange /*range*/) override {}
  void write_protect(Ino /*ino*/, mapping::ByteRange /*range*/) override {}
  void collect(Ino /*ino*/, mapping::ByteRange /*range*/, mapping::Stored& stored) override {
    stored.ranges.push_back({0, kBlockSize});
    stored.is_untimed = true;
    unlink();
  }
  std::function<void()> unlink;
};

// The times of what was stored are noted after the flush: not in the slot of an inode that has been freed in between.
TEST_F(Sync, MarksNoTimesOfAFileThatIsGone) {
  const Ino ino = pool_->file(kRootIno, "file", "old");
  const std::byte* slot = nullptr;
  {
    const fs::OpenFilePtr file = open(ino);
    EXPECT_TRUE((*pool_)->write(*file, 0, bytes("new"), false, false));
    file->inode().space()->trackers.fetch_add(1);
    slot = medium_->at(file->inode().slot_offset());
  }
  std::vector<std::byte> freed;
  GoneWhenTold mapper;
  mapper.unlink = [&] {
    std::this_thread::sleep_for(20ms);  // or the times would be those that it has
    EXPECT_TRUE((*pool_)->unlink(kRootIno, "file"));
    freed.assign(slot, slot + format::kInodeSize);
  };
  (*pool_)->mappers().add(&mapper);
  EXPECT_TRUE((*pool_)->sync());
  (*pool_)->mappers().remove(&mapper);
  ASSERT_EQ(freed.size(), format::kInodeSize);
  EXPECT_EQ(std::memcmp(freed.data(), slot, freed.size()), 0);
}

}  // namespace
}  // namespace udax
