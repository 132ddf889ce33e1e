// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/handle_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "base/random.h"
#include "tests/support/pool.h"

namespace udax::fuse {
namespace {

class HandleTableTest : public ::testing::Test {
 protected:
  HandleTableTest() : pool(64U << 20), ino(pool.file(kRootIno, "file")) {}
  ~HandleTableTest() override { table.close_all(); }
  uint64_t insert() {
    auto file = pool->open(ino, 2, false);
    EXPECT_TRUE(file);
    const auto handle = table.insert(std::move(*file), false);
    EXPECT_TRUE(handle);
    return *handle;
  }
  udax::test::TestPool pool;
  Ino ino;
  HandleTable table;
};

TEST_F(HandleTableTest, NumbersAreNeverUsedTwice) {
  std::set<uint64_t> seen;
  for (int i = 0; i < 3000; ++i) {
    const uint64_t handle = insert();
    EXPECT_NE(handle, 0U);
    EXPECT_TRUE(seen.insert(handle).second);
    if (i % 3 != 0) {
      EXPECT_TRUE(table.close(handle));
    }
  }
  EXPECT_EQ(table.open_count(), 1000U);
}

TEST_F(HandleTableTest, AClosedFileLivesUntilItsLastUse) {
  const uint64_t handle = insert();
  {
    auto use = table.acquire(handle, ino, false);
    ASSERT_TRUE(use);
    EXPECT_TRUE(table.close(handle));
    EXPECT_FALSE(table.acquire(handle, ino, false));
    EXPECT_FALSE(table.close(handle));
    EXPECT_EQ((*use)->ino(), ino);
    EXPECT_EQ(table.open_count(), 1U);
  }
  EXPECT_EQ(table.open_count(), 0U);
}

TEST_F(HandleTableTest, KindAndInodeMustAgree) {
  const uint64_t handle = insert();
  EXPECT_TRUE(table.acquire(handle, ino, false));
  EXPECT_FALSE(table.acquire(handle, ino, true));
  EXPECT_FALSE(table.acquire(handle, kRootIno, false));
}

TEST_F(HandleTableTest, ClosingAgainstUsing) {
  std::atomic<uint64_t> current{insert()};
  std::atomic<bool> done{false};
  std::vector<std::thread> users;
  for (int i = 0; i < 3; ++i) {
    users.emplace_back([&] {
      while (!done.load()) {
        if (auto use = table.acquire(current.load(), ino, false)) {
          EXPECT_EQ((*use)->ino(), ino);
        }
      }
    });
  }
  for (int i = 0; i < 3000; ++i) {
    const uint64_t next = insert();
    EXPECT_TRUE(table.close(current.exchange(next)));
  }
  done = true;
  for (std::thread& user : users) user.join();
  EXPECT_EQ(table.open_count(), 1U);
}

}  // namespace
}  // namespace udax::fuse
