// SPDX-License-Identifier: BSD-3-Clause
#include "mapping/mapper.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace udax::mapping {
namespace {

class NotingMapper final : public Mapper {
 public:
  struct Call {
    Ino ino;
    uint64_t start = 0;
    uint64_t end = 0;
    bool protect = false;
    bool operator==(const Call&) const = default;
  };
  void invalidate(Ino ino, ByteRange range) override { calls.push_back({ino, range.start, range.end, false}); }
  void write_protect(Ino ino, ByteRange range) override { calls.push_back({ino, range.start, range.end, true}); }
  std::vector<Call> calls;
};

TEST(MapperRegistry, TellsEveryMapperOnce) {
  MapperRegistry registry;
  NotingMapper a;
  NotingMapper b;
  registry.invalidate(Ino(7), {0, 4096});  // nobody there
  registry.add(&a);
  registry.add(&b);
  registry.invalidate(Ino(7), {4096, 8192});
  registry.write_protect(Ino(8), {});
  const std::vector<NotingMapper::Call> expected{{Ino(7), 4096, 8192, false}, {Ino(8), 0, ~uint64_t{0}, true}};
  EXPECT_EQ(a.calls, expected);
  EXPECT_EQ(b.calls, expected);
}

TEST(MapperRegistry, TellsNobodyWhoHasLeft) {
  MapperRegistry registry;
  NotingMapper a;
  NotingMapper b;
  registry.add(&a);
  registry.add(&b);
  registry.remove(&a);
  registry.invalidate(Ino(1), {});
  EXPECT_TRUE(a.calls.empty());
  EXPECT_EQ(b.calls.size(), 1U);
}

/// Lets a mapper come and be called meanwhile.
class BusyHolder final : public CopyHolder {
 public:
  BusyHolder(MapperRegistry& registry, Mapper& mapper) : registry_(registry), mapper_(mapper) {}
  void drop_copies(Ino ino, ByteRange range) override {
    std::thread([this] { registry_.add(&mapper_); }).join();
    registry_.invalidate(ino, range);  // as the filesystem does when copies come back
  }
  void drop_copies_unlike(Ino, uint64_t, std::span<const std::byte>) override {}

 private:
  MapperRegistry& registry_;
  Mapper& mapper_;
};

struct LateHolder final : CopyHolder {
  void drop_copies(Ino, ByteRange) override {}
  void drop_copies_unlike(Ino, uint64_t, std::span<const std::byte>) override {}
  [[nodiscard]] bool returns_late() const override { return true; }
};

TEST(MapperRegistry, HoldersThatReturnLateAreKnown) {
  MapperRegistry registry;
  NotingMapper mapper;
  BusyHolder other(registry, mapper);
  LateHolder late;
  registry.add(&other);
  EXPECT_FALSE(registry.return_late());
  registry.add(&late);
  EXPECT_TRUE(registry.return_late());
  registry.remove(&other);
  EXPECT_TRUE(registry.return_late());
  registry.remove(&late);
  registry.remove(&late);
  EXPECT_FALSE(registry.return_late());
}

// Regression: one lock for both kinds, and who came for good while copies were dropped had everybody wait for ever.
TEST(MapperRegistry, MappersComeWhileCopiesAreDropped) {
  MapperRegistry registry;
  NotingMapper mapper;
  BusyHolder holder(registry, mapper);
  registry.add(&holder);
  EXPECT_FALSE(registry.has_mappers());
  registry.drop_copies(Ino(7), {0, 4096});
  EXPECT_TRUE(registry.has_mappers());
  EXPECT_EQ(mapper.calls.size(), 1U);
  registry.remove(&mapper);
  EXPECT_FALSE(registry.has_mappers());
}

/// Waits in its call until it is told to go on.
class SlowMapper final : public Mapper {
 public:
  void invalidate(Ino, ByteRange) override {
    entered = true;
    while (!go_on) std::this_thread::yield();
  }
  void write_protect(Ino, ByteRange) override {}
  std::atomic<bool> entered{false};
  std::atomic<bool> go_on{false};
};

TEST(MapperRegistry, RemovingWaitsForCallsInProgress) {
  MapperRegistry registry;
  SlowMapper slow;
  registry.add(&slow);
  std::thread caller([&registry] { registry.invalidate(Ino(1), {}); });
  while (!slow.entered) std::this_thread::yield();
  std::atomic<bool> removed{false};
  std::thread remover([&] {
    registry.remove(&slow);
    removed = true;
  });
  for (int i = 0; i < 50; ++i) {
    EXPECT_FALSE(removed);
    std::this_thread::yield();
  }
  slow.go_on = true;
  caller.join();
  remover.join();
  EXPECT_TRUE(removed);
}

}  // namespace
}  // namespace udax::mapping
