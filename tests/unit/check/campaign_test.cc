// SPDX-License-Identifier: BSD-3-Clause
//
// The corruption campaign: an image with something of everything is damaged at random, mounted, walked and read in full;
// then checked, repaired, and checked again. No crash, no hang; nothing that damage of metadata may change is shown as if it
// were right; and the second check is clean.
//
// Bytes of files carry no checksum: damage there shows, and is counted apart. So is damage whose checksums were made right
// again: that is a forgery, which nothing can tell from the truth, and must only do no harm.
//
// UDAX_FULL=1: a thousand cases of each kind. UDAX_SEED=<n>: the one that a failure names.
#include <chrono>
#include <cinttypes>
#include <cstdlib>

#include "base/log.h"
#include "base/random.h"
#include "base/sync_point.h"
#include "check/check.h"
#include "format/checksum.h"
#include "tests/support/cow_medium.h"
#include "tests/support/pool.h"
#include "tests/unit/check/campaign_image.h"

namespace udax::check {
namespace {

using Kind = CampaignImage::Kind;

const CampaignImage& image() {
  static const CampaignImage image;
  return image;
}

enum class What : uint8_t { kBitFlip, kRandom, kZeroes, kCopy, kSwap };
constexpr const char* kNames[] = {"bit flip", "random bytes", "zeroes", "another's content", "two swapped"};

struct Case {
  What what{};
  bool is_resealed = false;
  std::vector<uint64_t> blocks;     // damaged
  std::vector<std::string> owners;  // of blocks of data among them
  bool hits_journal = false;
  bool hits_metadata = false;
};

struct Row {
  uint64_t cases = 0;
  uint64_t refused = 0;  // by mount
  uint64_t told = 0;     // mounted, and an operation failed
  uint64_t found = 0;    // by fsck -n
  uint64_t idle = 0;     // nothing was there, or recovery does without it; and nobody noticed
  uint64_t unseen = 0;   // by anything, and something was there
  uint64_t data = 0;     // showed in the bytes of the file that was hit
  uint64_t differs = 0;  // something else was shown, without an error
  uint64_t unclean = 0;  // second check
};

class Campaign : public testing::Test {
 protected:
  Campaign() : medium_(std::make_shared<test::CowMedium>(*image().medium)) {
    static_cast<void>(log_init(LogLevel::kError, LogTarget::kStderr));
    seed_ = format::checksum_seed(image().medium->as<format::Superblock>(0)->uuid);
  }

  [[nodiscard]] std::byte* raw(uint64_t block) { return medium_->raw() + block * kBlockSize; }

  uint64_t pick(Random& random) {
    const CampaignImage& i = image();
    const uint64_t die = random.below(10);
    if (die < 7) return i.metadata[random.below(i.metadata.size())];
    if (die < 8) return i.journal[random.below(i.journal.size())];
    return i.data[random.below(i.data.size())];
  }

  void note(Case& c, uint64_t block) {
    c.blocks.push_back(block);
    const Kind kind = image().kinds[block];
    if (kind == Kind::kData) c.owners.push_back(image().owners[block]);
    c.hits_journal = c.hits_journal || kind == Kind::kJournal;
    c.hits_metadata = c.hits_metadata || kind == Kind::kMetadata;
  }

  /// As far as what is there can have checksums.
  void reseal(uint64_t block) {
    std::byte* const bytes = raw(block);
    const auto* super = image().medium->as<format::Superblock>(0);
    if (block == 0 || block == medium_->block_count() - 1) {
      format::seal(seed_, format::Unit::kSuperblock, bytes);
    } else if (block == format::kJournalControlBlock.value) {
      for (std::byte* at : {bytes, bytes + 2048}) {
        auto* slot = reinterpret_cast<format::JournalSlot*>(at);
        slot->checksum =
            format::checksum_without(seed_, slot, sizeof *slot, offsetof(format::JournalSlot, checksum));
      }
    } else if (block >= super->desc_start && block < super->bitmap_start) {
      for (uint32_t i = 0; i < kBlockSize; i += 64) format::seal(seed_, format::Unit::kGroupDesc, bytes + i);
    } else if (reinterpret_cast<const format::BlockHeader*>(bytes)->magic == format::kBlockMagic) {
      reinterpret_cast<format::BlockHeader*>(bytes)->block = block;
      format::seal(seed_, format::Unit::kBlock, bytes);
    } else if (reinterpret_cast<const format::ChunkHeader*>(bytes)->magic == format::kChunkMagic ||
               block == format::kRootBlock.value) {
      for (uint32_t i = 0; i < kBlockSize; i += format::kInodeSize) {
        const bool is_header = i == 0 && block != format::kRootBlock.value;
        if (block == format::kRootBlock.value && i > 0) break;
        format::seal(seed_, is_header ? format::Unit::kChunk : format::Unit::kInode, bytes + i);
      }
    }
  }

  /// Some bytes of a block, so that what makes it known stays and its contents are nonsense.
  void scramble(std::byte* bytes, Random& random, bool whole) {
    const uint64_t from = whole ? 0 : 32 + random.below(kBlockSize - 64);
    const uint64_t to = whole ? kBlockSize : std::min<uint64_t>(kBlockSize, from + 1 + random.below(512));
    for (uint64_t i = from; i < to; ++i) bytes[i] = static_cast<std::byte>(random.below(256));
  }

  Case flip(Random& random) {
    Case c;
    const uint64_t block = pick(random);
    note(c, block);
    const uint64_t byte = random.below(kBlockSize);
    raw(block)[byte] ^= static_cast<std::byte>(1U << random.below(8));
    return c;
  }

  Case corrupt(Random& random) {
    Case c;
    c.what = static_cast<What>(1 + random.below(4));
    c.is_resealed = random.one_in(2);
    const uint64_t block = pick(random);
    note(c, block);
    uint64_t other = pick(random);
    while (other == block) other = pick(random);
    switch (c.what) {
      case What::kRandom: scramble(raw(block), random, !c.is_resealed); break;
      case What::kZeroes: std::memset(raw(block), 0, kBlockSize); break;
      case What::kCopy: std::memcpy(raw(block), raw(other), kBlockSize); break;
      default:
        std::swap_ranges(raw(block), raw(block) + kBlockSize, raw(other));
        note(c, other);
        if (c.is_resealed) reseal(other);
    }
    if (c.is_resealed) reseal(block);
    return c;
  }

  using Bytes = std::vector<std::pair<uint64_t, std::byte>>;

  /// Where something was and something else is now, and what.
  [[nodiscard]] Bytes damage_of(const Case& c) {
    Bytes found;
    for (const uint64_t block : c.blocks) {
      for (uint64_t i = 0; i < kBlockSize; ++i) {
        const bool is_damaged = raw(block)[i] != image().medium->at(block * kBlockSize)[i];
        if (is_damaged && image().carries(block, i)) found.emplace_back(block * kBlockSize + i, raw(block)[i]);
      }
    }
    return found;
  }
  /// Recovery has stored over all of it.
  [[nodiscard]] bool is_gone(const Bytes& damage) {
    return std::all_of(damage.begin(), damage.end(), [this](const auto& one) {
      const auto& [offset, byte] = one;
      return medium_->at(offset)[0] != byte || byte == image().recovered(offset / kBlockSize, offset % kBlockSize);
    });
  }

  void judge(const Case& c, Row& row) {
    ++row.cases;
    const Bytes damage = damage_of(c);
    bool is_seen = false;
    bool loses_nothing = false;
    std::string why;
    {
      auto mounted = fs::Filesystem::mount(medium_, {}, &why);
      if (!mounted) {
        ++row.refused;
        is_seen = true;
      } else {
        const Look look = look_at(**mounted, image().tree, c.owners, c.hits_journal);
        if (look.errors > 0) ++row.told;
        if (look.shows_data) ++row.data;
        is_seen = look.errors > 0 || look.shows_data;
        loses_nothing = look_at(**mounted, image().tree, c.owners, false).wrong.empty();
        if (!look.wrong.empty()) {
          ++row.differs;
          if (!c.is_resealed && !is_control_) {
            ADD_FAILURE() << kNames[static_cast<int>(c.what)] << " in block " << c.blocks.front()
                          << " shows, without an error: " << look.wrong.front() << " and " << look.wrong.size() - 1
                          << " more";
          }
        }
        static_cast<void>((*mounted)->unmount());
      }
    }
    const auto first = check_pool(static_cast<const media::Medium&>(*medium_), {}, &why);
    if (!first || !first->clean()) ++row.found;
    is_seen = is_seen || !first || !first->clean();
    // What the records say has been applied already, if not flushed: without any of them all may be there.
    const bool is_idle = is_gone(damage) || (c.hits_journal && loses_nothing);
    if (!is_seen && is_idle) ++row.idle;
    if (!is_seen && !is_idle) {
      ++row.unseen;
      // The journal's last record, torn by a crash, would look the same.
      const bool is_end = damage.front().first / kBlockSize == image().last_journal_block();
      if (!c.is_resealed && !is_control_ && !is_end) {
        ADD_FAILURE() << "nobody sees the damage from byte " << damage.front().first << " on";
      }
    }
    if (!first) {
      // Neither the superblock nor its replica: nothing to start from.
      EXPECT_TRUE(c.is_resealed || c.blocks.size() > 1) << why;
      return;
    }
    CheckOptions repair;
    repair.mode = CheckOptions::kRepairAll;
    const auto repaired = check_pool(static_cast<media::Medium&>(*medium_), repair, &why);
    ASSERT_TRUE(repaired) << why;
    EXPECT_TRUE(repaired->all_repaired()) << repaired->problems.front().what;
    const auto second = check_pool(static_cast<const media::Medium&>(*medium_), {}, &why);
    ASSERT_TRUE(second) << why;
    if (!second->clean()) {
      ++row.unclean;
      ADD_FAILURE() << second->problems.front().what;
    }
  }

  void run(const char* title, bool flips, uint64_t first_seed) {
    const char* const chosen = std::getenv("UDAX_SEED");
    const bool full = std::getenv("UDAX_FULL") != nullptr;
    const uint64_t count = full ? 1000 : 100;
    std::map<std::string, Row>& rows = rows_;
    rows.clear();
    uint64_t slowest_ms = 0;
    for (uint64_t i = 0; i < count && !HasFatalFailure(); ++i) {
      const uint64_t seed = chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : first_seed + i;
      SCOPED_TRACE("UDAX_SEED=" + std::to_string(seed));
      medium_->restore();
      Random random(seed);
      const auto start = std::chrono::steady_clock::now();
      const Case c = flips ? flip(random) : corrupt(random);
      const char* const place = c.hits_metadata ? "metadata" : c.hits_journal ? "journal" : "data";
      const char* const seal = flips ? "" : c.is_resealed ? ", resealed" : ", as is";
      judge(c, rows[std::string(kNames[static_cast<int>(c.what)]) + seal + ", in " + place]);
      const auto took = std::chrono::steady_clock::now() - start;
      slowest_ms = std::max(slowest_ms, static_cast<uint64_t>(took / std::chrono::milliseconds(1)));
      if (chosen != nullptr) break;
    }
    std::printf("%s; %s\n%-42s %6s %8s %6s %6s %6s %6s %7s %8s %8s\n", title, full ? "in full" : "a subset", "",
                "cases", "refused", "errors", "fsck", "data", "idle", "unseen", "differs", "unclean");
    for (const auto& [name, r] : rows) {
      std::printf("%-42s %6" PRIu64 " %8" PRIu64 " %6" PRIu64 " %6" PRIu64 " %6" PRIu64 " %6" PRIu64 " %7" PRIu64
                  " %8" PRIu64 " %8" PRIu64 "\n",
                  name.c_str(), r.cases, r.refused, r.told, r.found, r.data, r.idle, r.unseen, r.differs,
                  r.unclean);
    }
    std::printf("slowest: %" PRIu64 " ms\n", slowest_ms);
  }

  std::shared_ptr<test::CowMedium> medium_;
  uint32_t seed_ = 0;
  bool is_control_ = false;  // what is shown may be wrong
  std::map<std::string, Row> rows_;
};

TEST_F(Campaign, TheImageItselfIsSound) {
  auto mounted = fs::Filesystem::mount(medium_, {}, nullptr);
  ASSERT_TRUE(mounted);
  const Look look = look_at(**mounted, image().tree, {}, false);
  EXPECT_EQ(look.errors, 0U);
  EXPECT_TRUE(look.wrong.empty()) << look.wrong.front();
  ASSERT_TRUE((*mounted)->unmount());
  EXPECT_TRUE(check_pool(static_cast<const media::Medium&>(*medium_), {})->clean());
}

TEST_F(Campaign, SingleBitFlips) { run("single bits flipped", true, 1); }

/// The control: with inodes and blocks taken as they come, flipped bits show.
TEST_F(Campaign, WithoutChecksumsWhatIsWrongShows) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "built without knobs";
  const sync_point::ScopedKnob inodes("inode.skip_inode_checksum");
  const sync_point::ScopedKnob blocks("journal.skip_block_checksum");
  is_control_ = true;
  run("control: single bits flipped, no checksums", true, 1);
  uint64_t differs = 0;
  for (const auto& [name, row] : rows_) differs += row.differs;
  EXPECT_GT(differs, 0U);
}

TEST_F(Campaign, Blocks) { run("blocks damaged", false, 1'000'001); }

}  // namespace
}  // namespace udax::check
