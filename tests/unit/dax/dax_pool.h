// SPDX-License-Identifier: BSD-3-Clause
//
// A pool whose free blocks hold stale bytes, and faults as a mapper makes them, one at a time.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

#include "dax/dax.h"
#include "tests/support/model_mapper.h"
#include "tests/support/pool.h"
#include "tests/support/power_medium.h"

namespace udax::test {

inline constexpr uint64_t kMiB = 1 << 20;

/// What a fault came to.
struct Faulted {
  Result<dax::FaultResult> result = Error::kNoTty;
  std::optional<dax::View> view;  // none: nothing was installed
};

class DaxPool : public testing::Test {
 protected:
  explicit DaxPool(uint64_t size = 32 * kMiB, media::Granularity granularity = media::Granularity::kCacheLine)
      : medium_(std::make_shared<PowerMedium>(size, granularity)), pool_(medium_, true) {}

  Ino hole(const std::string& name, uint64_t size) {
    const Ino ino = pool_.file(kRootIno, name);
    resize(ino, size);
    return ino;
  }
  void resize(Ino ino, uint64_t size) {
    fs::SetAttr s;
    s.size = size;
    EXPECT_TRUE(pool_->setattr(ino, s, kRoot));
  }
  fs::OpenFilePtr open(Ino ino) {
    auto file = pool_->open(ino, O_RDWR, false);
    EXPECT_TRUE(file);
    return std::move(*file);
  }
  void fallocate(Ino ino, uint32_t mode, uint64_t offset, uint64_t size) {
    EXPECT_TRUE(pool_->fallocate(*open(ino), mode, offset, size));
  }
  Faulted fault(fs::OpenFile& file, uint64_t at, dax::Access access, uint32_t order_max = mapping::kPageOrder) {
    Faulted out;
    out.result = pool_->dax().fault(file.inode(), FileBlock(at), access, order_max, [&](const dax::View& view) {
      out.view = view;
      return Status();
    });
    return out;
  }
  [[nodiscard]] dax::CounterValues counters() { return pool_->stats().dax; }
  static mapping::EntryTree& entries(fs::OpenFile& file) { return file.inode().space()->entries; }
  [[nodiscard]] std::string after_power_failure(Ino ino, uint64_t offset, uint64_t size) {
    auto fs = fs::Filesystem::mount(medium_->after_power_failure(), {}, nullptr);
    if (!fs) return "not mountable";
    auto file = (*fs)->open(ino, O_RDONLY, false);
    if (!file) return "not there";
    const auto got = read_file(**fs, **file, offset, size);
    return got ? *got : "unreadable";
  }

  std::shared_ptr<PowerMedium> medium_;
  TestPool pool_;
};

}  // namespace udax::test
