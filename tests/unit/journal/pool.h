// SPDX-License-Identifier: BSD-3-Clause
//
// A small pool for the journal's tests: 8 MiB, a ring of the least size, an empty control block, zeroes elsewhere.
// Its geometry is given by hand: no superblock is needed below mkfs.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <random>
#include <vector>

#include "base/random.h"
#include "journal/journal.h"
#include "journal/record.h"
#include "journal/tx.h"
#include "media/memory_medium.h"

namespace udax::journal::testing {

inline constexpr uint32_t kSeed = 0x5EED1234;
inline constexpr uint64_t kPoolBlocks = format::kPoolBlocksMin;
inline constexpr uint64_t kRingBlocks = kRingBytesMin / kBlockSize;
inline constexpr uint64_t kPoolBytes = kPoolBlocks * kBlockSize;
inline constexpr uint64_t kOwner = 77;

inline media::Geometry geometry() {
  auto planned = media::plan_geometry(kPoolBlocks, kRingBlocks);
  UDAX_ASSERT(planned.has_value());
  planned->checksum_seed = kSeed;
  return *planned;
}

inline uint64_t slot_offset(uint32_t which) {
  return offset_of(format::kJournalControlBlock) +
         (which == 0 ? offsetof(format::JournalControl, slot_a) : offsetof(format::JournalControl, slot_b));
}
inline uint64_t ring_offset() { return offset_of(geometry().journal_start); }
/// The n-th block of the data area.
inline DeviceBlock data_block(uint64_t n) { return geometry().data_start + n; }

inline format::JournalSlot make_slot(uint32_t state, uint64_t sequence, uint64_t tail, uint64_t epoch) {
  format::JournalSlot slot{};
  slot.state = state;
  slot.sequence = sequence;
  slot.tail = tail;
  slot.epoch = epoch;
  slot.checksum = format::checksum_without(kSeed, &slot, sizeof slot, offsetof(format::JournalSlot, checksum));
  return slot;
}

/// Makes the medium an empty pool. `tail`: where the journal begins.
inline void format_pool(media::MemoryMedium& medium, uint64_t tail = 0, uint64_t epoch = 1) {
  const format::JournalSlot slot = make_slot(format::kJournalClean, 1, tail, epoch);
  medium.store_flush(slot_offset(0), &slot, sizeof slot);
}

/// A metadata block on the medium, sealed, its bytes behind the header all `fill`.
inline void put_block(media::MemoryMedium& medium, DeviceBlock b, uint8_t fill = 0,
                      format::BlockKind kind = format::kKindDirLeaf, uint64_t owner = kOwner) {
  std::vector<std::byte> image(kBlockSize, std::byte{fill});
  format::BlockHeader header{};
  header.magic = format::kBlockMagic;
  header.block = b.value;
  header.owner = owner;
  header.kind = static_cast<uint16_t>(kind);
  std::memcpy(image.data(), &header, sizeof header);
  format::seal(kSeed, format::Unit::kBlock, image.data());
  medium.store_flush(offset_of(b), image.data(), image.size());
}

/// A journal over a medium that is somebody else's. recover() is the test's to call.
struct Stack {
  explicit Stack(media::Medium& medium) : meta(medium, geometry()), journal(meta) {}
  MetaStore meta;
  Journal journal;
};

/// A pool with its journal live.
template <typename M = media::MemoryMedium>
struct Pool {
  Pool() : medium(kPoolBytes), stack(medium) { format_pool(medium); }
  /// Blocks 0... count-1 of the data area become sealed metadata blocks; then the journal starts.
  void start(uint64_t count = 8) {
    for (uint64_t i = 0; i < count; ++i) put_block(medium, data_block(i));
    ASSERT_TRUE(stack.journal.recover().has_value());
  }
  Journal& journal() { return stack.journal; }
  MetaStore& meta() { return stack.meta; }

  M medium;
  Stack stack;
};

// Words of a metadata block, counted behind its header.
inline constexpr uint32_t kWords = (kBlockSize - sizeof(format::BlockHeader)) / 8;
inline uint64_t get_word(const std::byte* block, uint32_t index) {
  le64 word;
  std::memcpy(&word, block + sizeof(format::BlockHeader) + 8 * size_t{index}, sizeof word);
  return word;
}
inline void set_word(std::byte* block, uint32_t index, uint64_t value) {
  const le64 word = value;
  std::memcpy(block + sizeof(format::BlockHeader) + 8 * size_t{index}, &word, sizeof word);
}
inline uint64_t word_of(const media::Medium& medium, DeviceBlock b, uint32_t index) {
  return get_word(medium.block(b), index);
}

/// One transaction that sets one word in each of some blocks.
struct Edit {
  DeviceBlock block;
  uint32_t word;
  uint64_t value;
};
inline Result<Lsn> commit_edits(Journal& journal, const std::vector<Edit>& edits) {
  Tx tx(journal);
  for (const Edit& e : edits) {
    UDAX_TRY(std::byte* const image, tx.edit_block(e.block, format::kKindDirLeaf, kOwner));
    set_word(image, e.word, e.value);
  }
  return tx.commit();
}

/// The ring bytes of the record at `lsn` (not one that wraps).
inline std::vector<std::byte> ring_bytes(const media::Medium& medium, Lsn lsn) {
  const uint64_t at = ring_offset() + lsn.value % (kRingBlocks * kBlockSize);
  const uint32_t length = medium.as<format::RecordHeader>(at)->length;
  return {medium.at(at), medium.at(at) + length};
}
inline void put_ring(media::MemoryMedium& medium, Lsn lsn, const std::vector<std::byte>& bytes) {
  medium.store(ring_offset() + lsn.value % (kRingBlocks * kBlockSize), bytes.data(), bytes.size());
}

/// True if the two hold the same but for the journal's control block and ring.
inline bool same_outside_journal(const media::Medium& a, const media::Medium& b) {
  const media::Geometry g = geometry();
  for (uint64_t i = 0; i < kPoolBlocks; ++i) {
    if (i == format::kJournalControlBlock.value) continue;
    if (i >= g.journal_start.value && i < g.journal_start.value + g.journal_blocks) continue;
    if (std::memcmp(a.block(DeviceBlock(i)), b.block(DeviceBlock(i)), kBlockSize) != 0) return false;
  }
  return true;
}

/// The seed of a random test: UDAX_SEED, or a new one; printed.
inline uint64_t test_seed() {
  const char* given = std::getenv("UDAX_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device{}();
  std::cout << "UDAX_SEED=" << seed << std::endl;
  return seed;
}

/// A medium whose drains fail when a test says so.
class FailingMedium : public media::MemoryMedium {
 public:
  explicit FailingMedium(uint64_t size) : MemoryMedium(size) {}
  [[nodiscard]] Status drain() override {
    const int64_t left = countdown_.fetch_sub(1);
    if (left == 0) return Error::kIo;
    return MemoryMedium::drain();
  }
  /// The n-th drain from now on fails (0: the next), and that one only.
  void fail_drain(int64_t n) { countdown_ = n; }

 private:
  std::atomic<int64_t> countdown_{-1};
};

/// A medium that refuses, as a pool opened read-only does.
class FrozenMedium final : public media::MemoryMedium {
 public:
  explicit FrozenMedium(uint64_t size) : MemoryMedium(size) {}
  void freeze() { set(raw(), size(), granularity(), true); }
  void store(uint64_t offset, const void* source, uint64_t size) override {
    UDAX_ASSERT(!read_only());
    MemoryMedium::store(offset, source, size);
  }
  void store_nt(uint64_t offset, const void* source, uint64_t size) override {
    UDAX_ASSERT(!read_only());
    MemoryMedium::store_nt(offset, source, size);
  }
};

}  // namespace udax::journal::testing
