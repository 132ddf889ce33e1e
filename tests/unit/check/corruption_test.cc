// SPDX-License-Identifier: BSD-3-Clause
//
// Random corruption: whatever the bytes, the check ends, and so does the repair; what it calls repaired is clean, and
// can be mounted.
//
// UDAX_SEED=<n> runs one seed, the one that a failure names; UDAX_SEEDS=<n> runs that many.
#include <cstdlib>

#include "base/log.h"
#include "base/random.h"
#include "tests/support/pool.h"
#include "tests/unit/check/damage.h"

namespace udax::check {
namespace {

/// Offsets of metadata: what lies in front of the journal, and blocks with a header that says so.
std::vector<uint64_t> metadata_blocks(Damage& d) {
  std::vector<uint64_t> blocks;
  for (uint64_t b = 2; b < d.geometry().journal_start.value; ++b) blocks.push_back(b);
  for (uint64_t b = d.geometry().data_start.value; b < d.geometry().replica().value; ++b) {
    const auto* header = reinterpret_cast<const format::BlockHeader*>(d.raw_block(b));
    const auto* chunk = reinterpret_cast<const format::ChunkHeader*>(d.raw_block(b));
    if (header->magic == format::kBlockMagic || chunk->magic == format::kChunkMagic) blocks.push_back(b);
  }
  return blocks;
}

/// Gives what was changed the checksum that it should have, so that only the contents tell.
void reseal(Damage& d, uint64_t b, uint64_t offset) {
  auto* bytes = d.raw_block(b);
  const uint64_t in_block = offset % kBlockSize;
  const auto* header = reinterpret_cast<const format::BlockHeader*>(bytes);
  const media::Geometry& g = d.geometry();
  if (b == 2) return;
  if (b == 3) {
    if (in_block < 256) format::seal(d.seed(), format::Unit::kInode, bytes);
    if (in_block >= 1024 && in_block < 2048) {
      format::seal(d.seed(), format::Unit::kShard, bytes + align_down(in_block, 64));
    }
  } else if (b < g.bitmap_start.value) {
    format::seal(d.seed(), format::Unit::kGroupDesc, bytes + align_down(in_block, 64));
  } else if (b < g.journal_start.value) {
    const uint64_t group = b - g.bitmap_start.value;
    d.edit_desc(group,
                [&](format::GroupDesc& desc) { desc.bitmap_checksum = format::bitmap_checksum(d.seed(), bytes); });
  } else if (header->magic == format::kBlockMagic) {
    format::seal(d.seed(), format::Unit::kBlock, bytes);
  } else {
    format::seal(d.seed(), in_block < 256 ? format::Unit::kChunk : format::Unit::kInode,
                 bytes + align_down(in_block, 256));
  }
}

void corrupt(Damage& d, Random& random) {
  const std::vector<uint64_t> blocks = metadata_blocks(d);
  const uint64_t changes = 1 + random.below(12);
  for (uint64_t i = 0; i < changes; ++i) {
    const uint64_t b = blocks[random.below(blocks.size())];
    // Fields are at the front of their structures: half of the changes go there.
    const uint64_t in_block =
        random.one_in(2) ? random.below(kBlockSize) : random.below(16) * 256 + random.below(64);
    const uint64_t offset = b * kBlockSize + in_block;
    switch (random.below(4)) {
      case 0: *d.raw(offset) ^= static_cast<std::byte>(1U << random.below(8)); break;
      case 1: *d.raw(offset) = static_cast<std::byte>(random.below(256)); break;
      case 2: std::memset(d.raw(align_down(offset, 8)), random.one_in(2) ? 0 : 0xFF, 8); break;
      default: {
        // A number that is some block's or inode's.
        const uint64_t value = random.one_in(2) ? blocks[random.below(blocks.size())] : random.below(6000);
        std::memcpy(d.raw(align_down(offset, 8)), &value, sizeof value);
      }
    }
    if (random.below(3) != 0) reseal(d, b, offset);
  }
}

void run_seed(uint64_t seed) {
  SCOPED_TRACE("UDAX_SEED=" + std::to_string(seed));
  Damage damage;
  Random random(seed);
  corrupt(damage, random);
  std::string why;
  const auto found = check_pool(*damage.medium(), {}, &why);
  ASSERT_TRUE(found) << why;
  CheckOptions options;
  options.mode = seed % 4 == 0 ? CheckOptions::kPreen : CheckOptions::kRepairAll;
  const auto repaired = check_pool(*damage.medium(), options, &why);
  ASSERT_TRUE(repaired) << why;
  std::string list;
  for (const Problem& p : repaired->problems) {
    list += "\n  [" + std::string(to_string(p.code)) + "] " + p.what + (p.repaired ? " (repaired)" : "");
  }
  if (options.mode == CheckOptions::kRepairAll) {
    EXPECT_TRUE(repaired->all_repaired()) << list;
  }
  if (!repaired->all_repaired()) return;
  const auto again = check_pool(*damage.medium(), {}, &why);
  ASSERT_TRUE(again) << why;
  EXPECT_TRUE(again->clean()) << list;
  test::TestPool pool(damage.medium(), false);  // mounts, evicts orphans; checks when it goes
  // The root may have become immutable: that is nothing that a check could mind.
  ASSERT_TRUE(pool->set_flags(kRootIno, 0, format::kFlagsKnown, std::nullopt, test::kRoot));
  pool.file(kRootIno, "after", "after");
}

TEST(Corruption, EndsInAPoolThatIsClean) {
  static_cast<void>(log_init(LogLevel::kError, LogTarget::kStderr));
  if (const char* const text = std::getenv("UDAX_SEED"); text != nullptr) {
    return run_seed(std::strtoull(text, nullptr, 10));
  }
  const char* const count = std::getenv("UDAX_SEEDS");
  const uint64_t seeds = count == nullptr ? 300 : std::strtoull(count, nullptr, 10);
  for (uint64_t seed = 1; seed <= seeds && !testing::Test::HasFailure(); ++seed) run_seed(seed);
}

/// A medium that dies: after some stores it takes no more, and says so when drained.
class DyingMedium final : public media::MemoryMedium {
 public:
  DyingMedium(const media::Medium& from, uint64_t stores) : MemoryMedium(from.size()), left_(stores) {
    copy_from(from);
  }
  void store(uint64_t offset, const void* source, uint64_t size) override {
    if (spend()) MemoryMedium::store(offset, source, size);
  }
  void store_nt(uint64_t offset, const void* source, uint64_t size) override {
    if (spend()) MemoryMedium::store(offset, source, size);
  }
  void zero_nt(uint64_t offset, uint64_t size) override {
    if (spend()) MemoryMedium::zero_nt(offset, size);
  }
  [[nodiscard]] Status drain() override { return left_ > 0 ? Status() : Status(Error::kIo); }
  [[nodiscard]] bool died() const { return left_ == 0; }

 private:
  bool spend() {
    if (left_ == 0) return false;
    --left_;
    return true;
  }
  uint64_t left_;
};

TEST(Corruption, RepairThatIsCutOffIsGoneOnWith) {
  static_cast<void>(log_init(LogLevel::kError, LogTarget::kStderr));
  CheckOptions options;
  options.mode = CheckOptions::kRepairAll;
  for (uint64_t seed = 1001; seed <= 1012; ++seed) {
    Damage damage;
    Random random(seed);
    corrupt(damage, random);
    bool died = true;
    for (uint64_t stores = 1; died; stores += 1 + stores / 4) {
      SCOPED_TRACE("seed " + std::to_string(seed) + ", cut off after " + std::to_string(stores));
      DyingMedium medium(*damage.medium(), stores);
      const auto cut = check_pool(medium, options);
      died = medium.died();
      if (!died) {
        ASSERT_TRUE(cut && cut->all_repaired());
        break;
      }
      media::MemoryMedium after(Sample::kSize);
      after.copy_from(medium);
      std::string why;
      const auto again = check_pool(after, options, &why);
      ASSERT_TRUE(again) << why;
      EXPECT_TRUE(again->all_repaired());
    }
  }
}

}  // namespace
}  // namespace udax::check
