// SPDX-License-Identifier: BSD-3-Clause
#include "inode/inode_cache.h"

#include <atomic>
#include <thread>
#include <unordered_map>

#include "inode/flat_table.h"
#include "tests/unit/inode/inode_pool.h"

namespace udax::inode {
namespace {

TEST(FlatTable, ModelTest) {
  const uint64_t seed = test_seed(3);
  UDAX_TRACE_SEED(seed);
  Random random(seed);
  FlatTable<uint64_t> table;
  std::unordered_map<uint64_t, uint64_t> model;
  for (int step = 0; step < 200000; ++step) {
    const uint64_t key = 1 + random.below(step / 20000 % 2 == 0 ? 20000 : 500) * (random.one_in(2) ? 1 : 16);
    uint64_t* const found = table.find(key);
    ASSERT_EQ(found != nullptr, model.contains(key));
    if (found != nullptr) {
      ASSERT_EQ(*found, model.at(key));
      table.erase(key);
      model.erase(key);
    } else {
      table.insert(key, random.next());
      model[key] = *table.find(key);
    }
    ASSERT_EQ(table.size(), model.size());
    ASSERT_LE(table.size() * 4, table.entries().size() * 3);
  }
  for (const auto& [key, value] : model) ASSERT_EQ(*table.find(key), value);
  while (!model.empty()) {
    table.erase(model.begin()->first);
    table.erase(model.begin()->first);
    model.erase(model.begin());
  }
  EXPECT_LE(table.entries().size(), 16U);  // the memory is back
}

TEST(FlatTable, RoomThatIsReservedIsNotTakenByOthers) {
  FlatTable<uint64_t> table;
  for (uint64_t key = 1; key <= 100; ++key) table.reserve_one();
  for (uint64_t key = 1001; key <= 1200; ++key) table.insert(key, key);
  for (uint64_t key = 1001; key <= 1200; ++key) table.erase(key);  // nor given back
  const size_t room = table.entries().size();
  EXPECT_GE(room * 3, 100U * 4);
  for (uint64_t key = 1; key <= 99; ++key) table.insert_reserved(key, key);
  table.unreserve_one();
  EXPECT_EQ(table.entries().size(), room);
  for (uint64_t key = 1; key <= 99; ++key) EXPECT_EQ(*table.find(key), key);
}

TEST(InodeCache, LoadsOnceAndShares) {
  Pool pool(16 * kMiB);
  InodeCache cache(pool.table(), 1000);
  const Ino ino = pool.create().value();
  Result<InodeRef> a = cache.get(ino);
  Result<InodeRef> b = cache.get(ino);
  ASSERT_TRUE(a);
  ASSERT_TRUE(b);
  EXPECT_EQ(a->get(), b->get());
  EXPECT_EQ((*a)->ino(), ino);
  EXPECT_EQ((*a)->slot_offset(), pool.table().find_slot(ino).value());
  EXPECT_EQ((*a)->mode(), kFileMode);
  const InodeRef c = a->share();
  EXPECT_EQ(c.get(), a->get());
  EXPECT_EQ(cache.stats().inodes, 1U);
  EXPECT_EQ(cache.stats().misses, 1U);
  EXPECT_EQ(cache.stats().hits, 1U);
  EXPECT_EQ(cache.get(Ino(5000)).error(), Error::kStale);
  EXPECT_EQ(cache.get(kNoIno).error(), Error::kStale);
  EXPECT_EQ(cache.stats().inodes, 1U);
}

TEST(InodeCache, InsertGivesTheOneThatIsThere) {
  Pool pool(16 * kMiB);
  InodeCache cache(pool.table(), 1000);
  const Ino ino = pool.create().value();
  uint64_t offset = 0;
  const format::Inode image = pool.table().read(ino, &offset).value();
  const Result<InodeRef> loaded = cache.get(ino);
  Result<FreshInode> fresh = cache.prepare(ino, offset, image);
  ASSERT_TRUE(loaded);
  ASSERT_TRUE(fresh);
  const InodeRef inserted = cache.insert(std::move(*fresh));
  EXPECT_EQ(loaded->get(), inserted.get());
  const Ino other = pool.create().value();
  Result<FreshInode> fresh_other = cache.prepare(other, offset + 256, image);
  ASSERT_TRUE(fresh_other);
  const InodeRef first = cache.insert(std::move(*fresh_other));
  EXPECT_EQ(cache.get(other)->get(), first.get());
}

TEST(InodeCache, WhatIsPreparedAndNotInsertedLeavesNothing) {
  Pool pool(16 * kMiB);
  InodeCache cache(pool.table(), 1000);
  const Ino ino = pool.create().value();
  uint64_t offset = 0;
  const format::Inode image = pool.table().read(ino, &offset).value();
  {
    const Result<FreshInode> fresh = cache.prepare(ino, offset, image);
    ASSERT_TRUE(fresh);
    EXPECT_EQ(cache.stats().inodes, 0U);
  }
  EXPECT_EQ(cache.stats().inodes, 0U);
  EXPECT_TRUE(cache.get(ino));
}

TEST(InodeCache, EvictsBeyondCapacity) {
  Pool pool(32 * kMiB);
  constexpr uint64_t kCapacity = 256;
  InodeCache cache(pool.table(), kCapacity);
  std::vector<Ino> made;
  for (int i = 0; i < 3000; ++i) made.push_back(pool.create().value());
  std::vector<InodeRef> kept;
  for (size_t i = 0; i < made.size(); ++i) {
    Result<InodeRef> ref = cache.get(made[i]);
    ASSERT_TRUE(ref);
    if (i % 100 == 0) kept.push_back(std::move(*ref));
    ASSERT_LE(cache.stats().inodes, kCapacity + kept.size() + 2 * 64) << i;
  }
  EXPECT_LE(cache.stats().inodes, kCapacity + kept.size() + 64);
  EXPECT_GT(cache.stats().inodes, kCapacity / 2);
  const uint64_t misses = cache.stats().misses;
  for (size_t i = 0; i < made.size(); i += 100) EXPECT_EQ(cache.get(made[i])->get(), kept[i / 100].get());
  EXPECT_EQ(cache.stats().misses, misses);
  for (const Ino ino : made) EXPECT_EQ((*cache.get(ino))->ino(), ino);
}

void make_dirty(Inode& inode) {
  ASSERT_TRUE((*inode.make_space())->entries.mark_dirty_run(FileBlock(3), DeviceBlock(100), 1));
}

TEST(InodeCache, KeepsWhatMustBeKept) {
  Pool pool(32 * kMiB);
  InodeCache cache(pool.table(), 0);
  const Ino dirty = pool.create().value();
  const Ino open = pool.create().value();
  const Ino orphan = pool.create().value();
  const Ino plain = pool.create().value();
  ASSERT_TRUE(pool.add_orphan(orphan));
  make_dirty(**cache.get(dirty));
  (*cache.get(open))->open_count = 1;
  EXPECT_TRUE((*cache.get(orphan))->orphan);  // known from the table
  EXPECT_FALSE((*cache.get(plain))->orphan);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(cache.get(pool.create().value()));
  EXPECT_TRUE((*cache.get(dirty))->has_dirty_data());
  EXPECT_EQ((*cache.get(open))->open_count, 1U);
  EXPECT_EQ(cache.stats().misses, 1004U);
  EXPECT_LE(cache.stats().inodes, 3U + 64U);
}

TEST(InodeCache, CountsLookups) {
  Pool pool(16 * kMiB);
  InodeCache cache(pool.table(), 0);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(cache.add_lookup(Ino(40)));
  ASSERT_TRUE(cache.add_lookup(Ino(41)));
  EXPECT_EQ(cache.lookup_count(Ino(40)), 3U);
  EXPECT_EQ(cache.stats().lookups, 2U);
  cache.forget(Ino(40), 2);
  EXPECT_EQ(cache.lookup_count(Ino(40)), 1U);
  cache.forget(Ino(40), 0);
  cache.forget(Ino(40), 5);  // too many: cut, logged
  EXPECT_EQ(cache.lookup_count(Ino(40)), 0U);
  cache.forget(Ino(40), 1);
  cache.forget_all();
  EXPECT_EQ(cache.stats().lookups, 0U);
  EXPECT_EQ(cache.lookup_count(Ino(41)), 0U);
}

TEST(InodeCache, GoesWithItsLastLookupUnlessInUse) {
  Pool pool(16 * kMiB);
  InodeCache cache(pool.table(), 100000);
  const Ino orphan = pool.create().value();
  const Ino dirty = pool.create().value();
  const Ino open = pool.create().value();
  const Ino held = pool.create().value();
  const Ino plain = pool.create().value();
  ASSERT_TRUE(pool.add_orphan(orphan));
  for (const Ino ino : {orphan, dirty, open, held, plain}) {
    ASSERT_TRUE(cache.get(ino));
    ASSERT_TRUE(cache.add_lookup(ino));
    ASSERT_TRUE(cache.add_lookup(ino));
  }
  make_dirty(**cache.get(dirty));
  (*cache.get(open))->open_count = 1;
  InodeRef reference = cache.get(held).value();
  for (const Ino ino : {orphan, dirty, open, held, plain}) cache.forget(ino, 1);
  EXPECT_EQ(cache.stats().inodes, 5U);
  for (const Ino ino : {orphan, dirty, open, held, plain}) cache.forget(ino, 1);
  EXPECT_EQ(cache.stats().inodes, 4U);
  const uint64_t misses = cache.stats().misses;
  for (const Ino ino : {orphan, dirty, open, held}) EXPECT_TRUE(cache.get(ino));
  EXPECT_EQ(cache.stats().misses, misses);
  EXPECT_TRUE(cache.get(plain));
  EXPECT_EQ(cache.stats().misses, misses + 1);
  reference.reset();
}

/// As inode::Change does it: hold, free, mark.
void kill(Pool& pool, Inode& inode) {
  const LockGuard guard(inode.rwsem);
  pool.table().hold_number(inode.ino());
  ASSERT_TRUE(pool.remove(inode.ino()));
  inode.dead = true;
}

/// Whether the number can be given out: all others of its chunk's shard are taken until it is.
bool is_reusable(Pool& pool, Ino ino) {
  for (int i = 0; i < 60; ++i) {
    const Ino made = pool.create().value();
    if (made == ino) return true;
  }
  return false;
}

TEST(InodeCache, DeadInodeLivesUntilForgotten) {
  Pool pool(16 * kMiB);
  InodeCache cache(pool.table(), 0);
  const Ino ino = pool.create().value();
  ASSERT_TRUE(cache.add_lookup(ino));
  kill(pool, *cache.get(ino).value());
  {
    const Result<InodeRef> ghost = cache.get(ino);
    ASSERT_TRUE(ghost);
    EXPECT_TRUE((*ghost)->dead);
    EXPECT_EQ((*ghost)->mode(), kFileMode);  // its last attributes
  }
  EXPECT_FALSE(is_reusable(pool, ino));
  cache.forget(ino, 1);
  EXPECT_EQ(cache.stats().inodes, 0U);
  EXPECT_EQ(cache.get(ino).error(), Error::kStale);
  EXPECT_TRUE(is_reusable(pool, ino));
}

TEST(InodeCache, DeadInodeLivesUntilLetGo) {
  Pool pool(16 * kMiB);
  InodeCache cache(pool.table(), 0);
  const Ino ino = pool.create().value();
  Result<InodeRef> ref = cache.get(ino);
  ASSERT_TRUE(ref);
  kill(pool, **ref);
  EXPECT_FALSE(is_reusable(pool, ino));
  EXPECT_TRUE(cache.get(ino));
  ref->reset();
  EXPECT_EQ(cache.get(ino).error(), Error::kStale);
  EXPECT_TRUE(is_reusable(pool, ino));
}

TEST(InodeCache, ForgetAllBuriesTheDead) {
  Pool pool(16 * kMiB);
  InodeCache cache(pool.table(), 100000);
  std::vector<Ino> made;
  for (int i = 0; i < 500; ++i) {
    made.push_back(pool.create().value());
    ASSERT_TRUE(cache.add_lookup(made.back()));
  }
  std::vector<InodeRef> kept;
  for (size_t i = 0; i < made.size(); ++i) {
    Result<InodeRef> ref = cache.get(made[i]);
    ASSERT_TRUE(ref);
    if (i % 5 != 0) kill(pool, **ref);
    if (i % 50 == 1) kept.push_back(std::move(*ref));
  }
  cache.forget_all();
  EXPECT_EQ(cache.stats().lookups, 0U);
  EXPECT_EQ(cache.stats().inodes, 100U + kept.size());
  kept.clear();
  EXPECT_EQ(cache.stats().inodes, 100U);
}

TEST(InodeCache, Threads) {
  const uint64_t seed = test_seed(123);
  UDAX_TRACE_SEED(seed);
  Pool pool(32 * kMiB);
  InodeCache cache(pool.table(), 64);
  std::vector<Ino> made;
  for (int i = 0; i < 300; ++i) made.push_back(pool.create().value());
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Random random(seed + static_cast<uint64_t>(t));
      for (int i = 0; i < 5000; ++i) {
        const Ino ino = made[random.below(made.size())];
        Result<InodeRef> a = cache.get(ino);
        ASSERT_TRUE(a);
        ASSERT_EQ((*a)->ino(), ino);
        Result<InodeRef> b = cache.get(ino);
        ASSERT_TRUE(b);
        ASSERT_EQ(a->get(), b->get());  // one object
        ASSERT_EQ((*a)->snapshot().ino, ino.value);
        ASSERT_TRUE(cache.add_lookup(ino));
        a->reset();
        cache.forget(ino, 1);
        if (i % 10 != 0) continue;
        // One of its own: made, found, killed.
        const Result<Ino> own = pool.create();
        ASSERT_TRUE(own);
        ASSERT_TRUE(cache.add_lookup(*own));
        Result<InodeRef> ref = cache.get(*own);
        ASSERT_TRUE(ref);
        kill(pool, **ref);
        ref->reset();
        ASSERT_TRUE(cache.get(*own));
        cache.forget(*own, 1);
        const Result<InodeRef> gone = cache.get(*own);  // unless somebody was given the number meanwhile
        if (!gone) {
          ASSERT_EQ(gone.error(), Error::kStale);
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(cache.stats().lookups, 0U);
  for (const Ino ino : made) EXPECT_EQ(cache.lookup_count(ino), 0U);
}

}  // namespace
}  // namespace udax::inode
