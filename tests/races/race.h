// SPDX-License-Identifier: BSD-3-Clause
//
// What the race tests share: a pool whose free blocks hold stale bytes, two processes that have a file mapped, and threads
// that can be waited for.
//
// How a race is driven: a Gate stops one thread at a named point of the code; the other runs until it is done, or until it
// stands where it must wait. "Must wait" is seen by its not getting further for a moment: a machine too slow makes such a
// check pass in vain, and never fail.
//
// A negative control plays the same race with a knob that takes a safeguard away, and expects to see the damage. The
// pool is thrown away then, unchecked: it may be broken.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "base/sync_point.h"
#include "tests/support/check.h"
#include "tests/support/model_mapper.h"
#include "tests/support/pool.h"
#include "tests/support/power_medium.h"

namespace udax::races {

using namespace std::chrono_literals;
using sync_point::Gate;
using sync_point::ScopedKnob;
using test::bytes;
using test::kRoot;
using test::Mapping;
using test::ModelMapper;
using test::Touch;

/// One of the processes of a diagram. Declare it before the gates that it runs into: they are opened, then it is joined.
class Process {
 public:
  Process() = default;
  ~Process() { join(); }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  void run(std::function<void()> what) {
    thread_ = std::thread([this, run = std::move(what)] {
      run();
      done_.store(true);
    });
  }
  [[nodiscard]] bool is_done() const { return done_.load(); }
  /// It does not get to its end by itself. Where it should, in a control: `patience` so long that a busy machine is no reason.
  [[nodiscard]] bool must_wait(std::chrono::milliseconds patience = 50ms) const {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!is_done() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
    return !is_done();
  }
  void join() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::atomic<bool> done_{false};
  std::thread thread_;
};

/// A pool for one play of a race.
class Stage {
 public:
  explicit Stage(uint64_t size = 16 << 20, media::Granularity granularity = media::Granularity::kCacheLine)
      : medium(std::make_shared<test::PowerMedium>(size, granularity)) {
    std::string why;
    EXPECT_TRUE(mkfs_on(*medium, &why)) << why;
    auto mounted = fs::Filesystem::mount(medium, {}, &why);
    EXPECT_TRUE(mounted) << why;
    UDAX_ASSERT(mounted);
    fs_ = std::move(*mounted);
    small_ = std::make_unique<ModelMapper>(*fs_, ModelMapper::Pages::kSmall);
    huge_ = std::make_unique<ModelMapper>(*fs_, ModelMapper::Pages::kHuge);
  }
  /// A play that went well leaves a sound pool. After a control: call abandon() before.
  ~Stage() {
    small_.reset();
    huge_.reset();
    if (abandoned_) return;
    EXPECT_TRUE(fs_->unmount());
    fs_.reset();
    test::expect_clean(*medium);
  }
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  void abandon() { abandoned_ = true; }

  fs::Filesystem* operator->() { return fs_.get(); }
  [[nodiscard]] fs::Filesystem& fs() { return *fs_; }
  [[nodiscard]] ModelMapper& mapper() { return *small_; }
  [[nodiscard]] ModelMapper& huge_mapper() { return *huge_; }

  /// A file of `size` bytes without a block.
  Ino hole(const std::string& name, uint64_t size) {
    const auto made = fs_->make(kRootIno, name, 0100644, 0, 0, kRoot);
    EXPECT_TRUE(made);
    resize(made->ino, size);
    return made->ino;
  }
  Ino file(const std::string& name, const std::string& content) {
    const Ino ino = hole(name, 0);
    write(ino, 0, content);
    return ino;
  }
  void resize(Ino ino, uint64_t size) {
    fs::SetAttr s;
    s.size = size;
    EXPECT_TRUE(fs_->setattr(ino, s, kRoot));
  }
  void write(Ino ino, uint64_t offset, const std::string& content) {
    auto file = fs_->open(ino, O_RDWR, false);
    EXPECT_TRUE(file);
    const auto done = fs_->write(**file, offset, bytes(content), false, false);
    EXPECT_TRUE(done && *done == content.size());
  }
  void punch(Ino ino, uint64_t offset, uint64_t size) {
    auto file = fs_->open(ino, O_RDWR, false);
    EXPECT_TRUE(file);
    EXPECT_TRUE(fs_->fallocate(**file, fs::kFallocPunchHole | fs::kFallocKeepSize, offset, size));
  }
  [[nodiscard]] std::string read(Ino ino, uint64_t offset, uint64_t size) {
    auto file = fs_->open(ino, O_RDONLY, false);
    EXPECT_TRUE(file);
    const auto got = test::read_file(*fs_, **file, offset, size);
    EXPECT_TRUE(got);
    return got ? *got : std::string();
  }
  void fsync(Ino ino) {
    auto file = fs_->open(ino, O_RDWR, false);
    EXPECT_TRUE(file);
    EXPECT_TRUE(fs_->fsync(**file, false));
  }
  [[nodiscard]] uint64_t blocks(Ino ino) { return fs_->getattr(ino)->blocks; }
  /// What the file reads as, mounted after a power failure now.
  [[nodiscard]] std::string after_power_failure(Ino ino, uint64_t offset, uint64_t size) {
    auto fs = fs::Filesystem::mount(medium->after_power_failure(), {}, nullptr);
    if (!fs) return "not mountable";
    auto file = (*fs)->open(ino, O_RDONLY, false);
    if (!file) return "not there";
    const auto got = test::read_file(**fs, **file, offset, size);
    return got ? *got : "unreadable";
  }
  [[nodiscard]] mapping::EntryTree& entries(Mapping& mapping) { return mapping.file().inode().space()->entries; }
  [[nodiscard]] bool is_dirty(Mapping& mapping, uint64_t block) {
    return entries(mapping).any(FileBlock(block), FileBlock(block + 1), mapping::Mark::kDirty);
  }
  /// The device block under the file's block; kNoBlock: none.
  [[nodiscard]] DeviceBlock device_of(Ino ino, uint64_t block) {
    const auto extents = fs_->extents(ino, block << kBlockShift, 1);
    if (!extents || extents->empty() || extents->front().file_offset > block << kBlockShift) return kNoBlock;
    const uint64_t within = (block << kBlockShift) - extents->front().file_offset;
    return DeviceBlock((extents->front().device_offset + within) >> kBlockShift);
  }

  std::shared_ptr<test::PowerMedium> medium;

 private:
  static Status mkfs_on(media::Medium& medium, std::string* why);
  std::unique_ptr<fs::Filesystem> fs_;
  std::unique_ptr<ModelMapper> small_;
  std::unique_ptr<ModelMapper> huge_;
  bool abandoned_ = false;
};

/// Skips where sync points are compiled out.
class Race : public testing::Test {
 protected:
  void SetUp() override {
    if (!sync_point::kCompiledIn) GTEST_SKIP() << "sync points are not compiled in";
  }
};

}  // namespace udax::races
