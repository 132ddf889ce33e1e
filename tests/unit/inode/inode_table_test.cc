// SPDX-License-Identifier: BSD-3-Clause
#include "inode/inode_table.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "tests/unit/inode/inode_pool.h"

namespace udax::inode {
namespace {

using format::Unit;

std::vector<Ino> make(Pool& pool, size_t count) {
  std::vector<Ino> made;
  for (size_t i = 0; i < count; ++i) {
    const Result<Ino> ino = pool.create();
    EXPECT_TRUE(ino);
    if (ino) made.push_back(*ino);
  }
  return made;
}

TEST(InodeTable, NewPoolHasTheRootAlone) {
  Pool pool(16 * kMiB);
  EXPECT_EQ(pool.check(), std::set<uint64_t>{1});
  uint64_t offset = 0;
  const Result<format::Inode> root = pool.table().read(kRootIno, &offset);
  ASSERT_TRUE(root);
  EXPECT_TRUE(S_ISDIR(root->mode));
  EXPECT_EQ(pool.table().find_slot(kRootIno).value(), offset);
  for (const uint64_t ino :
       {uint64_t{0}, uint64_t{2}, uint64_t{16}, uint64_t{17}, uint64_t{1} << 40, ~uint64_t{0}}) {
    EXPECT_EQ(pool.table().find_slot(Ino(ino)).error(), Error::kNotFound) << ino;
  }
  EXPECT_EQ(pool.remove(kRootIno).error(), Error::kInvalid);
}

TEST(InodeTable, AllocatedIsVisibleAfterCommitOnly) {
  Pool pool(16 * kMiB);
  Ino ino;
  {
    InodeTx tx(pool.table());
    const Result<InodeTx::Allocated> made = tx.allocate(kRootIno);
    ASSERT_TRUE(made);
    ino = made->ino;
    EXPECT_EQ(made->image->ino, ino.value);
    EXPECT_EQ(made->image->generation, 1U);
    made->image->mode = kFileMode;
    // The same shadow by its place, also in a chunk that is new.
    EXPECT_EQ(tx.edit(made->slot_offset).value(), made->image);
  }
  EXPECT_EQ(pool.table().find_slot(ino).error(), Error::kNotFound);
  EXPECT_EQ(pool.check(), std::set<uint64_t>{1});
  const Result<Ino> again = pool.create();
  ASSERT_TRUE(again);
  EXPECT_TRUE(pool.table().find_slot(*again));
  EXPECT_EQ(pool.check(), (std::set<uint64_t>{1, again->value}));
}

TEST(InodeTable, SeveralInOneTransaction) {
  Pool pool(16 * kMiB);
  std::set<uint64_t> expected{1};
  InodeTx tx(pool.table());
  for (int i = 0; i < 40; ++i) {
    const Result<InodeTx::Allocated> made = tx.allocate(kRootIno);
    ASSERT_TRUE(made);
    made->image->mode = kFileMode;
    EXPECT_TRUE(expected.insert(made->ino.value).second);
  }
  ASSERT_TRUE(tx.commit());
  EXPECT_EQ(pool.check(), expected);
}

TEST(InodeTable, GenerationsGrow) {
  Pool pool(16 * kMiB);
  std::map<uint64_t, uint32_t> last;
  int reused = 0;
  for (int i = 0; i < 200; ++i) {
    uint32_t generation = 0;
    const Result<Ino> ino = pool.create(&generation);
    ASSERT_TRUE(ino);
    EXPECT_EQ(generation, last[ino->value] + 1);
    reused += generation > 1 ? 1 : 0;
    last[ino->value] = generation;
    ASSERT_TRUE(pool.remove(*ino));
    EXPECT_EQ(pool.remove(*ino).error(), Error::kNotFound);
    if (i == 100) {
      ASSERT_TRUE(pool.remount());
    }
  }
  EXPECT_GT(reused, 150);
}

TEST(InodeTable, GenerationNeverIsZero) {
  Pool pool(16 * kMiB);
  const Result<Ino> ino = pool.create();
  ASSERT_TRUE(ino);
  auto* image = pool.at<format::Inode>(pool.table().find_slot(*ino).value());
  image->generation = ~0U;
  pool.reseal(Unit::kInode, image);
  ASSERT_TRUE(pool.remove(*ino));
  for (int i = 0; i < 100; ++i) {  // until the same slot comes again
    uint32_t generation = 0;
    const Result<Ino> next = pool.create(&generation);
    ASSERT_TRUE(next);
    EXPECT_NE(generation, 0U);
    if (*next == *ino) return;
  }
}

TEST(InodeTable, CreateAndUnlinkKeepOneChunk) {
  Pool pool(16 * kMiB);
  for (int i = 0; i < 300; ++i) {
    const Result<Ino> ino = pool.create();
    ASSERT_TRUE(ino);
    ASSERT_TRUE(pool.remove(*ino));
  }
  for (const format::InodeShard& shard : pool.root().shard) EXPECT_LE(shard.next_chunk, 1U);
  EXPECT_LE(pool.table().stats().chunks_empty, format::kInodeShards);
  pool.check();
}

TEST(InodeTable, BlocksComeBackExactly) {
  Pool pool(32 * kMiB);
  const uint64_t free_at_first = pool.blocks_free();
  std::vector<Ino> made = make(pool, 3000);
  EXPECT_EQ(pool.check().size(), 3001U);
  EXPECT_LE(pool.blocks_free(), free_at_first - 3000 / 15);
  Random random(5);
  std::shuffle(made.begin(), made.end(), random);
  for (const Ino ino : made) ASSERT_TRUE(pool.remove(ino));
  EXPECT_EQ(pool.check().size(), 1U);
  const InodeStats stats = pool.table().stats();
  EXPECT_GT(stats.chunks_empty, 0U);
  EXPECT_EQ(pool.blocks_free() + stats.chunks_empty, free_at_first);
  ASSERT_TRUE(pool.remount());  // known again
  EXPECT_EQ(pool.table().stats().chunks_empty, stats.chunks_empty);
  ASSERT_TRUE(pool.table().release_empty_chunks());
  EXPECT_EQ(pool.table().stats().chunks_empty, 0U);
  EXPECT_EQ(pool.blocks_free(), free_at_first);
  EXPECT_EQ(pool.root().inode_file.block_count, 1U);
  pool.check();
  // Numbers of a chunk that went are never used again.
  for (const Ino ino : make(pool, 100)) {
    if (ino.value >= 16) {
      EXPECT_FALSE(std::find(made.begin(), made.end(), ino) != made.end()) << ino.value;
    }
  }
}

TEST(InodeTable, PartlyFilledChunksAreFilledBeforeTheEmptyOne) {
  Pool pool(16 * kMiB);
  const std::vector<Ino> made = make(pool, 300);
  std::map<uint64_t, std::vector<Ino>> by_chunk;
  for (const Ino ino : made) by_chunk[ino.value / 16].push_back(ino);
  std::set<uint64_t> emptied;
  for (const auto& [chunk, inodes] : by_chunk) {
    const bool empty = chunk != 0 && chunk / 16 == 1;
    if (empty) emptied.insert(chunk);
    for (size_t i = empty ? 0 : 1; i < inodes.size(); ++i) ASSERT_TRUE(pool.remove(inodes[i]));
  }
  ASSERT_FALSE(emptied.empty());
  EXPECT_EQ(pool.table().stats().chunks_empty, emptied.size());
  pool.check();
  for (const Ino ino : make(pool, 30)) EXPECT_FALSE(emptied.contains(ino.value / 16));
  EXPECT_EQ(pool.table().stats().chunks_empty, emptied.size());
}

TEST(InodeTable, HeldNumbersAreNotReused) {
  Pool pool(16 * kMiB);
  const std::vector<Ino> made = make(pool, 400);
  for (const Ino ino : made) {
    pool.table().hold_number(ino);
    ASSERT_TRUE(pool.remove(ino));
  }
  const std::vector<Ino> others = make(pool, 400);
  for (const Ino ino : others) EXPECT_FALSE(std::find(made.begin(), made.end(), ino) != made.end()) << ino.value;
  pool.check();
  for (const Ino ino : others) ASSERT_TRUE(pool.remove(ino));
  for (const Ino ino : made) pool.table().release_number(ino);
  for (const Ino ino : made) pool.table().release_number(ino);  // harmless
  pool.check();
}

TEST(InodeTable, ReleasedNumbersAreReused) {
  Pool pool(16 * kMiB);
  const Result<Ino> ino = pool.create();
  ASSERT_TRUE(ino);
  pool.table().hold_number(*ino);
  ASSERT_TRUE(pool.remove(*ino));
  const Result<Ino> other = pool.create();
  ASSERT_TRUE(other);
  EXPECT_NE(*other, *ino);
  pool.table().release_number(*ino);
  bool reused = false;
  for (const Ino next : make(pool, 40)) reused = reused || next == *ino;  // the thread may be on another CPU now
  EXPECT_TRUE(reused);
}

TEST(InodeTable, ModelOverRemounts) {
  const uint64_t seed = test_seed(20240501);
  UDAX_TRACE_SEED(seed);
  Random random(seed);
  Pool pool(64 * kMiB);
  const uint64_t free_at_first = pool.blocks_free();
  std::map<uint64_t, uint32_t> live;  // generation by number
  std::map<uint64_t, uint32_t> seen;
  std::vector<uint64_t> order;
  for (int step = 0; step < 12000; ++step) {
    const bool growing = step / 1500 % 2 == 0;
    if (order.empty() || random.below(10) < (growing ? 7U : 3U)) {
      uint32_t generation = 0;
      const Result<Ino> ino = pool.create(&generation);
      ASSERT_TRUE(ino);
      ASSERT_TRUE(live.emplace(ino->value, generation).second) << "given out twice: " << ino->value;
      ASSERT_GT(generation, seen[ino->value]);
      seen[ino->value] = generation;
      order.push_back(ino->value);
    } else {
      const size_t at = random.below(order.size());
      std::swap(order[at], order.back());
      ASSERT_TRUE(pool.remove(Ino(order.back())));
      live.erase(order.back());
      order.pop_back();
    }
    if (step % 1000 != 999) continue;
    if (random.one_in(2)) {
      ASSERT_TRUE(pool.remount());
    }
    if (random.one_in(3)) {
      ASSERT_TRUE(pool.table().release_empty_chunks());
    }
    std::set<uint64_t> expected{1};
    for (const auto& [ino, generation] : live) {
      expected.insert(ino);
      const Result<format::Inode> image = pool.table().read(Ino(ino), nullptr);
      ASSERT_TRUE(image) << ino;
      EXPECT_EQ(image->generation, generation);
    }
    ASSERT_EQ(pool.check(), expected);
  }
  for (const uint64_t ino : order) ASSERT_TRUE(pool.remove(Ino(ino)));
  ASSERT_TRUE(pool.table().release_empty_chunks());
  EXPECT_EQ(pool.blocks_free(), free_at_first);
}

TEST(InodeTable, NoSpaceLeavesNothingBehind) {
  Pool pool(8 * kMiB);
  const uint64_t free_at_first = pool.blocks_free();
  std::vector<Ino> made = make(pool, 20);
  pool.fill();
  for (;;) {
    const Result<Ino> ino = pool.create();
    if (!ino) {
      EXPECT_EQ(ino.error(), Error::kNoSpace);
      break;
    }
    made.push_back(*ino);
  }
  // Every slot of every shard was used before that.
  EXPECT_EQ(pool.check().size() % 15, 0U);
  for (const format::InodeShard& shard : pool.root().shard) EXPECT_EQ(shard.partial_head, 0U);
  const format::RootBlock before = pool.root();
  const uint64_t free_before = pool.blocks_free();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(pool.create().error(), Error::kNoSpace);
  EXPECT_EQ(std::memcmp(&before, &pool.root(), sizeof before), 0);
  EXPECT_EQ(pool.blocks_free(), free_before);
  pool.check();
  // Freeing needs nothing; one slot free is one that can be had, wherever it is.
  for (const Ino ino : made) {
    ASSERT_TRUE(pool.remove(ino));
    ASSERT_TRUE(pool.create()) << ino.value;
  }
  for (const uint64_t ino : pool.check()) {
    if (ino != 1) {
      ASSERT_TRUE(pool.remove(Ino(ino)));
    }
  }
  ASSERT_TRUE(pool.table().release_empty_chunks());
  pool.give_back(~uint64_t{0});
  EXPECT_EQ(pool.blocks_free(), free_at_first);
}

// --- Threads ---------------------------------------------------------------------------------------------------------

TEST(InodeTable, ThreadsAllocateFreeAndLookUp) {
  const uint64_t seed = test_seed(77);
  UDAX_TRACE_SEED(seed);
  Pool pool(64 * kMiB);
  constexpr int kThreads = 4;
  std::atomic<bool> stop{false};
  std::array<std::set<uint64_t>, kThreads> left;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Random random(seed + static_cast<uint64_t>(t));
      std::vector<Ino> mine;
      for (int i = 0; i < 1500; ++i) {
        if (mine.empty() || random.below(5) < 3) {
          const Result<Ino> ino = pool.create();
          ASSERT_TRUE(ino);
          mine.push_back(*ino);
        } else {
          const size_t at = random.below(mine.size());
          const Result<format::Inode> image = pool.table().read(mine[at], nullptr);
          ASSERT_TRUE(image);
          ASSERT_EQ(image->mode, kFileMode);
          ASSERT_TRUE(pool.remove(mine[at]));
          mine[at] = mine.back();
          mine.pop_back();
        }
        if (i % 400 == 0) {
          ASSERT_TRUE(pool.table().release_empty_chunks());
        }
      }
      for (const Ino ino : mine) left.at(static_cast<size_t>(t)).insert(ino.value);
    });
  }
  // Numbers that come and go under the reader: found, or not, but never corrupted.
  std::thread reader([&] {
    Random random(seed + 100);
    while (!stop) {
      const Ino ino{random.below(16000) + 1};
      const Result<format::Inode> image = pool.table().read(ino, nullptr);
      if (!image) {
        ASSERT_EQ(image.error(), Error::kNotFound) << ino.value;
      }
    }
  });
  for (std::thread& t : threads) t.join();
  stop = true;
  reader.join();
  std::set<uint64_t> expected{1};
  for (const auto& set : left) expected.insert(set.begin(), set.end());
  EXPECT_EQ(pool.check(), expected);
  EXPECT_EQ(pool.meta().corruptions(), 0U);
  ASSERT_TRUE(pool.remount());
  EXPECT_EQ(pool.check(), expected);
}

// --- Hostile media ---------------------------------------------------------------------------------------------------

TEST(InodeTableCorruption, RootBlock) {
  const auto expect_corrupted = [](const char* what, const auto& change) {
    Pool pool(16 * kMiB);
    EXPECT_TRUE(pool.create());
    pool.fresh_meta();
    change(pool, pool.root());
    EXPECT_EQ(pool.load_again().error(), Error::kCorrupted) << what;
  };
  const auto shard = [&](const char* what, uint32_t index, const auto& change) {
    expect_corrupted(what, [&](Pool& pool, format::RootBlock& root) {
      change(root.shard[index]);
      pool.reseal(Unit::kShard, &root.shard[index]);
    });
  };
  const auto file = [&](const char* what, const auto& change) {
    expect_corrupted(what, [&](Pool& pool, format::RootBlock& root) {
      change(root.inode_file);
      pool.reseal(Unit::kInode, &root.inode_file);
    });
  };
  expect_corrupted("shard checksum", [](Pool&, format::RootBlock& r) { r.shard[3].next_chunk = 77; });
  expect_corrupted("file checksum", [](Pool&, format::RootBlock& r) { r.inode_file.size = 77; });
  shard("no root", 0, [](format::InodeShard& s) { s.next_chunk = 0; });
  shard("root not counted", 0, [](format::InodeShard& s) { s.inodes_used = 0; });
  shard("too many chunks", 5, [](format::InodeShard& s) { s.next_chunk = uint64_t{1} << 60; });
  shard("too many inodes", 5, [](format::InodeShard& s) { s.inodes_used = uint64_t{1} << 60; });
  shard("another's chunk", 5, [](format::InodeShard& s) { s.partial_head = 1; });
  shard("a chunk to come", 5, [](format::InodeShard& s) { s.partial_head = 16 * 1000 + 5 + 1; });
  shard("orphans nowhere", 5, [](format::InodeShard& s) { s.orphan_block = uint64_t{1} << 50; });
  shard("orphans in the bitmaps", 5, [](format::InodeShard& s) { s.orphan_block = 4; });
  file("number", [](format::Inode& i) { i.ino = 5; });
  file("mode", [](format::Inode& i) { i.mode = uint16_t{0040755}; });
  file("payload", [](format::Inode& i) { i.payload_kind = format::kPayloadDirectory; });
}

/// Each change is made to the chunk of the first inode, resealed; then the operations must say so and not crash.
void expect_chunk_corrupted(const char* what, const std::function<void(format::ChunkHeader&)>& change) {
  SCOPED_TRACE(what);
  Pool pool(16 * kMiB);
  Ino ino;
  do {
    ino = pool.create().value();
  } while (ino.value < 16 + 3);  // not the root's chunk, and not alone
  format::ChunkHeader* const header = pool.chunk(ino.value / 16);
  change(*header);
  pool.reseal(Unit::kChunk, header);
  ASSERT_TRUE(pool.remount());
  EXPECT_EQ(pool.table().find_slot(ino).error(), Error::kCorrupted);
  EXPECT_EQ(pool.remove(ino).error(), Error::kCorrupted);
  for (int i = 0; i < 50; ++i) static_cast<void>(pool.create());
}

TEST(InodeTableCorruption, ChunkHeader) {
  expect_chunk_corrupted("magic", [](format::ChunkHeader& h) { h.magic = 1; });
  expect_chunk_corrupted("index", [](format::ChunkHeader& h) { h.chunk = h.chunk + 16; });
  expect_chunk_corrupted("header bit", [](format::ChunkHeader& h) { h.used_mask = uint16_t{0xFE}; });
  expect_chunk_corrupted("itself next", [](format::ChunkHeader& h) { h.partial_next = h.chunk + 1; });
  expect_chunk_corrupted("itself before", [](format::ChunkHeader& h) { h.partial_prev = h.chunk + 1; });
  expect_chunk_corrupted("another shard", [](format::ChunkHeader& h) { h.partial_next = h.chunk + 2; });
  expect_chunk_corrupted("far", [](format::ChunkHeader& h) { h.partial_next = ~uint64_t{0}; });
}

TEST(InodeTableCorruption, ListsOfChunks) {
  const uint64_t seed = test_seed(31);
  UDAX_TRACE_SEED(seed);
  Random random(seed);
  for (int round = 0; round < 60; ++round) {
    Pool pool(16 * kMiB);
    std::vector<Ino> made = make(pool, 200);
    for (size_t i = 0; i < made.size(); i += 3) ASSERT_TRUE(pool.remove(made[i]));
    std::vector<format::ChunkHeader*> headers;
    for (uint64_t chunk = 0; chunk < 400; ++chunk) {
      if (auto* header = pool.chunk(chunk); header != nullptr) headers.push_back(header);
    }
    for (int i = 0; i < 3; ++i) {
      format::ChunkHeader* const header = headers[random.below(headers.size())];
      const uint64_t link = headers[random.below(headers.size())]->chunk + (random.one_in(8) ? 16 * 1000 : 0) + 1;
      switch (random.below(4)) {
        case 0: header->partial_next = random.one_in(3) ? 0 : link; break;
        case 1: header->partial_prev = random.one_in(3) ? 0 : link; break;
        case 2: header->used_mask = static_cast<uint16_t>(random.next() | 1); break;
        default: {
          format::InodeShard& line = pool.root().shard[header->chunk % format::kInodeShards];
          line.partial_head = header->chunk + 1;
          pool.reseal(Unit::kShard, &line);
        }
      }
      pool.reseal(Unit::kChunk, header);
    }
    if (!pool.remount()) continue;
    for (int i = 0; i < 300; ++i) {
      if (random.one_in(2)) {
        static_cast<void>(pool.create());
      } else {
        static_cast<void>(pool.remove(made[random.below(made.size())]));
      }
    }
    static_cast<void>(pool.table().release_empty_chunks());
  }
}

TEST(InodeTableCorruption, Inode) {
  const auto expect_corrupted = [](const char* what, const std::function<void(format::Inode&)>& change) {
    Pool pool(16 * kMiB);
    const Ino ino = pool.create().value();
    auto* image = pool.at<format::Inode>(pool.table().find_slot(ino).value());
    change(*image);
    pool.reseal(Unit::kInode, image);
    EXPECT_TRUE(pool.table().find_slot(ino));
    const Result<format::Inode> read = pool.table().read(ino, nullptr);
    ASSERT_FALSE(read) << what;
    EXPECT_EQ(read.error(), Error::kCorrupted) << what;
  };
  expect_corrupted("number", [](format::Inode& i) { i.ino = i.ino + 1; });
  expect_corrupted("free", [](format::Inode& i) { i.mode = uint16_t{0}; });
  expect_corrupted("type", [](format::Inode& i) { i.mode = uint16_t{0170644}; });
  expect_corrupted("payload kind", [](format::Inode& i) { i.payload_kind = format::kPayloadDirectory; });
  expect_corrupted("no payload kind", [](format::Inode& i) { i.payload_kind = 77; });
  expect_corrupted("extents", [](format::Inode& i) {
    i.payload_kind = format::kPayloadInlineExtents;
    i.payload_count = 6;
  });
  expect_corrupted("size", [](format::Inode& i) { i.size = uint64_t{1} << 63; });
  expect_corrupted("nlink", [](format::Inode& i) { i.nlink = 0x80000000U; });
  expect_corrupted("nanoseconds", [](format::Inode& i) { i.mtime_ns = 1'000'000'000U; });
  expect_corrupted("symlink", [](format::Inode& i) {
    i.mode = uint16_t{0120777};
    i.payload_kind = format::kPayloadInlineSymlink;
    i.size = 129;
  });
}

TEST(InodeTableCorruption, UnsealedInode) {
  Pool pool(16 * kMiB);
  const Ino ino = pool.create().value();
  pool.at<format::Inode>(pool.table().find_slot(ino).value())->uid = 7;
  EXPECT_EQ(pool.table().read(ino, nullptr).error(), Error::kCorrupted);
  EXPECT_EQ(pool.remove(ino).error(), Error::kCorrupted);
}

TEST(InodeTableCorruption, FreeSlotInUse) {
  Pool pool(16 * kMiB);
  for (int i = 0; i < 60; ++i) ASSERT_TRUE(pool.create());
  const std::set<uint64_t> used = pool.check();
  for (uint64_t chunk = 0; chunk < 100; ++chunk) {
    format::ChunkHeader* const header = pool.chunk(chunk);
    if (header == nullptr) continue;
    auto* slots = reinterpret_cast<format::Inode*>(header);
    for (uint32_t slot = 1; slot < 16; ++slot) {
      if (used.contains(chunk * 16 + slot)) continue;
      slots[slot].mode = kFileMode;
      pool.reseal(Unit::kInode, &slots[slot]);
    }
  }
  // Those of chunks to come are not affected; no create does harm.
  for (int i = 0; i < 20; ++i) {
    const Result<Ino> ino = pool.create();
    if (!ino) {
      EXPECT_EQ(ino.error(), Error::kCorrupted);
    }
  }
}

}  // namespace
}  // namespace udax::inode
