// SPDX-License-Identifier: BSD-3-Clause
//
// Pages of which somebody holds copies: what is kept when the file changes under them, what is taken of a copy that comes
// back, and when a wave of recalls is over. And a random model of the two sides.
#include "mapping/page_copies.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/sync_point.h"
#include "mapping/entry_tree.h"

namespace udax::mapping {
namespace {

using Page = PageCopies::Page;

constexpr FileBlock kEnd{kFileBlockEnd};

std::span<const std::byte> bytes(std::string_view s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}

/// A file in memory.
class Copies : public testing::Test {
 protected:
  void keep(uint64_t from, uint64_t to) {
    ASSERT_TRUE(copies_.keep(FileBlock(from), FileBlock(to), [&](FileBlock at, Page& page) {
      std::memcpy(page.data(), file_.data() + at.value * kBlockSize, kBlockSize);
      return Status();
    }));
  }
  void direct_write(uint64_t offset, std::string_view data) {
    keep(offset / kBlockSize, blocks_for(offset + data.size()));
    file_.replace(offset, data.size(), data);
  }
  /// A page comes back; gives what was stored, as "offset:bytes ".
  std::string come_back(uint64_t offset, std::string_view data) {
    std::string stored;
    EXPECT_TRUE(copies_.merge(offset, bytes(data), [&](uint64_t at, std::span<const std::byte> part) {
      const std::string text(reinterpret_cast<const char*>(part.data()), part.size());
      stored += std::to_string(at) + ":" + (text.size() > 20 ? std::to_string(text.size()) : text) + " ";
      file_.replace(at, text.size(), text);
      return Status();
    }));
    return stored;
  }
  std::string page(uint64_t at) const { return file_.substr(at * kBlockSize, kBlockSize); }
  [[nodiscard]] bool is_out(uint64_t at) const { return copies_.any(FileBlock(at), FileBlock(at + 1)); }

  std::string file_ = std::string(8 * kBlockSize, 'f');
  PageCopies copies_;
};

TEST_F(Copies, WhatIsOut) {
  EXPECT_TRUE(copies_.empty());
  EXPECT_FALSE(copies_.any(FileBlock(0), kEnd));
  ASSERT_TRUE(copies_.hand_out(FileBlock(510), FileBlock(515)));
  ASSERT_TRUE(copies_.hand_out(FileBlock(1'000'000), FileBlock(1'000'001)));
  EXPECT_FALSE(copies_.empty());
  EXPECT_TRUE(is_out(510) && is_out(511) && is_out(512) && is_out(514) && is_out(1'000'000));
  EXPECT_FALSE(is_out(509) || is_out(515) || is_out(999'999));
  EXPECT_TRUE(copies_.any(FileBlock(0), FileBlock(511)));
  EXPECT_FALSE(copies_.any(FileBlock(515), FileBlock(1'000'000)));
  EXPECT_FALSE(copies_.any(FileBlock(512), FileBlock(512)));
  EXPECT_TRUE(copies_.hand_out_again(FileBlock(510), FileBlock(515)));
  EXPECT_FALSE(copies_.hand_out_again(FileBlock(510), FileBlock(516)));
  copies_.forget(FileBlock(512), FileBlock(1'000'001));
  EXPECT_TRUE(is_out(511));
  EXPECT_FALSE(is_out(512) || is_out(1'000'000));
  copies_.forget(FileBlock(0), kEnd);
  EXPECT_TRUE(copies_.empty());
}

TEST_F(Copies, OfAPageThatDidNotChangeAllIsTaken) {
  ASSERT_TRUE(copies_.hand_out(FileBlock(1), FileBlock(3)));
  EXPECT_EQ(come_back(kBlockSize, std::string(2 * kBlockSize, 'c')), "4096:8192 ");
  EXPECT_EQ(copies_.twins(), 0U);
}

TEST_F(Copies, OfAPageThatChangedOnlyWhatItsHolderChanged) {
  ASSERT_TRUE(copies_.hand_out(FileBlock(1), FileBlock(2)));
  std::string copy = page(1);
  direct_write(kBlockSize + 10, "direct");
  EXPECT_EQ(copies_.twins(), 1U);
  EXPECT_FALSE(copies_.hand_out_again(FileBlock(1), FileBlock(2)));
  copy.replace(100, 6, "stored");
  copy.replace(kBlockSize - 1, 1, "!");
  EXPECT_EQ(come_back(kBlockSize, copy), "4196:stored 8191:! ");
  EXPECT_EQ(file_.substr(kBlockSize + 10, 6), "direct");
  // What came back is what the twin holds now: the same page once more changes nothing.
  EXPECT_EQ(come_back(kBlockSize, copy), "");
  copy.replace(101, 1, "T");
  EXPECT_EQ(come_back(kBlockSize, copy), "4197:T ");
}

TEST_F(Copies, PartsAndNeighboursOfATwin) {
  ASSERT_TRUE(copies_.hand_out(FileBlock(0), FileBlock(3)));
  direct_write(kBlockSize, "d");
  const std::string back(2 * kBlockSize, 'c');
  EXPECT_EQ(come_back(2048, back), "2048:2048 4096:4096 8192:2048 ");
  // The twin's bytes that came back differ from the file's `d` no more than the holder's did.
  EXPECT_EQ(file_[kBlockSize], 'c') << "both stored to the byte: the later wins";
  direct_write(kBlockSize + 8, "later");
  EXPECT_EQ(come_back(kBlockSize + 4, std::string(100, 'c')), "");
}

TEST_F(Copies, PagesThatAreNotOutGetNoTwin) {
  direct_write(0, "x");
  EXPECT_EQ(copies_.twins(), 0U);
  ASSERT_TRUE(copies_.hand_out(FileBlock(1), FileBlock(2)));
  direct_write(kBlockSize - 1, "xyz");
  EXPECT_EQ(copies_.twins(), 1U);
  direct_write(kBlockSize - 1, "abc");
  EXPECT_EQ(copies_.twins(), 1U) << "the first change is what counts";
}

TEST_F(Copies, AnErrorOfTheSourceIsGiven) {
  ASSERT_TRUE(copies_.hand_out(FileBlock(0), FileBlock(1)));
  const Status kept =
      copies_.keep(FileBlock(0), FileBlock(1), [](FileBlock, Page&) -> Status { return Error::kCorrupted; });
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error(), Error::kCorrupted);
  EXPECT_EQ(copies_.twins(), 0U);
  direct_write(5, "x");
  const Status merged =
      copies_.merge(0, bytes(std::string(kBlockSize, 'c')),
                    [](uint64_t, std::span<const std::byte>) -> Status { return Error::kNoSpace; });
  ASSERT_FALSE(merged);
  EXPECT_EQ(merged.error(), Error::kNoSpace);
}

TEST_F(Copies, HandingOutAgainMakesFresh) {
  ASSERT_TRUE(copies_.hand_out(FileBlock(0), FileBlock(2)));
  direct_write(0, "x");
  ASSERT_TRUE(copies_.hand_out(FileBlock(0), FileBlock(1)));
  EXPECT_EQ(copies_.twins(), 0U);
  EXPECT_TRUE(copies_.hand_out_again(FileBlock(0), FileBlock(2)));
}

TEST_F(Copies, WritesThroughTheCacheAreInBoth) {
  ASSERT_TRUE(copies_.hand_out(FileBlock(0), FileBlock(1)));
  std::string copy = page(0);
  direct_write(0, "direct");
  direct_write(100, "both");  // the file's side of a write through the cache
  copies_.overlay(100, bytes("both"));
  copy.replace(100, 4, "both");
  EXPECT_EQ(come_back(0, copy), "");
  EXPECT_EQ(file_.substr(0, 6) + file_.substr(100, 4), "directboth");
  copies_.zero(2000, kBlockSize - 2000);
  copy.replace(2000, kBlockSize - 2000, kBlockSize - 2000, '\0');
  EXPECT_EQ(come_back(0, copy), "");
}

TEST_F(Copies, AWaveForgetsWhatItHasTakenBack) {
  ASSERT_TRUE(copies_.hand_out(FileBlock(0), FileBlock(4)));
  direct_write(kBlockSize, "x");
  const PageCopies::Wave wave = copies_.begin_wave();
  copies_.end_wave(FileBlock(1), FileBlock(2), wave);
  EXPECT_FALSE(is_out(1));
  EXPECT_TRUE(is_out(0) && is_out(2));
  EXPECT_EQ(copies_.twins(), 0U);
}

TEST_F(Copies, AWaveLeavesWhatWasHandedOutSince) {
  ASSERT_TRUE(copies_.hand_out(FileBlock(1), FileBlock(3)));
  direct_write(kBlockSize, std::string(2 * kBlockSize, 'x'));
  const PageCopies::Wave wave = copies_.begin_wave();
  ASSERT_TRUE(copies_.hand_out(FileBlock(1), FileBlock(2)));
  direct_write(kBlockSize, "y");  // under the new copy
  copies_.end_wave(FileBlock(1), FileBlock(3), wave);
  EXPECT_TRUE(is_out(1));
  EXPECT_FALSE(is_out(2));
  EXPECT_EQ(copies_.twins(), 1U) << "that of the new copy";
  EXPECT_FALSE(copies_.hand_out_again(FileBlock(1), FileBlock(2)));
}

TEST_F(Copies, AWaveTakesWhatLiesBetweenPagesHandedOutSince) {
  for (const bool returns_late : {false, true}) {
    ASSERT_TRUE(copies_.hand_out(FileBlock(0), FileBlock(8)));
    const PageCopies::Wave wave = copies_.begin_wave();
    for (const uint64_t at : {6U, 1U, 2U, 6U})
      ASSERT_TRUE(copies_.hand_out_again(FileBlock(at), FileBlock(at + 1)));
    ASSERT_TRUE(copies_.hand_out(FileBlock(100), FileBlock(200)));
    copies_.end_wave(FileBlock(1), FileBlock(8), wave, returns_late);
    for (const uint64_t at : {0U, 1U, 2U, 6U, 100U, 199U}) EXPECT_TRUE(is_out(at)) << at;
    for (const uint64_t at : {3U, 4U, 5U, 7U}) {
      EXPECT_FALSE(is_out(at)) << at;
      EXPECT_EQ(copies_.any_or_late(FileBlock(at), FileBlock(at + 1)), returns_late) << at;
    }
  }
}

TEST_F(Copies, AWaveThatNobodyRemembersTakesNothing) {
  ASSERT_TRUE(copies_.hand_out(FileBlock(0), FileBlock(8)));
  const PageCopies::Wave wave = copies_.begin_wave();
  for (int i = 0; i < 65; ++i) ASSERT_TRUE(copies_.hand_out_again(FileBlock(1), FileBlock(2)));
  copies_.end_wave(FileBlock(0), FileBlock(8), wave);
  EXPECT_TRUE(is_out(1));
  EXPECT_TRUE(is_out(7));
  copies_.end_wave(FileBlock(0), FileBlock(8), copies_.begin_wave());
  EXPECT_FALSE(is_out(1));
}

// --- the two sides -------------------------------------------------------------------------------------------------

/// A file, a holder of copies that stores to them, and one who writes to the file directly. Every other 32 bytes belong to
/// the holder, the others to the writer: nobody's may be lost.
class TwoSides {
 public:
  explicit TwoSides(uint64_t seed) : random_(seed) {}

  /// Empty, or what went wrong.
  std::string run(int steps) {
    for (step_ = 0; step_ < steps && wrong_.empty(); ++step_) {
      switch (random_.below(10)) {
        case 0: fill(); break;
        case 1:
        case 2: holder_stores(); break;
        case 3: come_back(random_.below(kPages)); break;
        case 4:
        case 5:
        case 6: direct_write(); break;
        case 7: begin_recall(); break;
        case 8: end_recall(); break;
        default: write_through(); break;
      }
      check_coherence();
    }
    for (uint64_t p = 0; p < kPages; ++p) drop(p);
    for (uint64_t i = 0; i < kSize && wrong_.empty(); ++i) {
      if (file_[i] != model_[i]) complain("lost", i);
    }
    return wrong_;
  }

 private:
  static constexpr uint64_t kPages = 6;
  static constexpr uint64_t kSize = kPages * kBlockSize;
  static constexpr uint64_t kPart = 32;
  struct Copy {
    Page bytes;
    bool is_dirty = false;
  };
  struct Recall {
    uint64_t from = 0;
    uint64_t to = 0;
    PageCopies::Wave wave;
    bool dropped = false;
  };

  void complain(const char* what, uint64_t offset) {
    wrong_ = std::string(what) + " at page " + std::to_string(offset / kBlockSize) + " byte " +
             std::to_string(offset % kBlockSize) + ", step " + std::to_string(step_);
  }
  static bool is_holders(uint64_t offset) { return offset / kPart % 2 == 0; }
  std::byte any_byte() { return static_cast<std::byte>(random_.below(256)); }
  /// A range within one part of the holder's or the writer's.
  struct Range {
    uint64_t offset = 0;
    uint64_t size = 0;
  };
  Range pick(bool holders) {
    const uint64_t part = random_.below(kSize / kPart / 2) * 2 + (holders ? 0 : 1);
    const uint64_t skip = random_.below(kPart);
    return {part * kPart + skip, random_.between(1, kPart - skip)};
  }

  void keep(uint64_t from, uint64_t to) {
    const Status kept = copies_.keep(FileBlock(from), FileBlock(to), [&](FileBlock at, Page& page) {
      std::copy_n(file_.begin() + static_cast<long>(at.value * kBlockSize), kBlockSize, page.begin());
      return Status();
    });
    EXPECT_TRUE(kept);
  }
  Copy& filled(uint64_t page) {
    if (cache_[page]) return *cache_[page];
    const FileBlock at(page);
    // As Filesystem::fill(): what is out and fresh is handed out without a note.
    const bool is_fresh = copies_.hand_out_again(at, at + 1);
    EXPECT_TRUE(is_fresh || copies_.hand_out(at, at + 1));
    cache_[page] = Copy{};
    std::copy_n(file_.begin() + static_cast<long>(page * kBlockSize), kBlockSize, cache_[page]->bytes.begin());
    return *cache_[page];
  }
  void come_back(uint64_t page) {
    if (!cache_[page] || !cache_[page]->is_dirty) return;
    const Status merged =
        copies_.merge(page * kBlockSize, cache_[page]->bytes, [&](uint64_t at, std::span<const std::byte> part) {
          std::copy(part.begin(), part.end(), file_.begin() + static_cast<long>(at));
          return Status();
        });
    EXPECT_TRUE(merged);
    cache_[page]->is_dirty = false;
  }
  void drop(uint64_t page) {
    come_back(page);
    cache_[page].reset();
  }

  void fill() { filled(random_.below(kPages)); }
  void holder_stores() {
    const Range r = pick(true);
    Copy& copy = filled(r.offset / kBlockSize);
    for (uint64_t i = r.offset; i < r.offset + r.size; ++i) {
      copy.bytes[i % kBlockSize] = model_[i] = any_byte();
    }
    copy.is_dirty = true;
  }
  void direct_write() {
    const Range r = pick(false);
    const uint64_t page = r.offset / kBlockSize;
    const bool copies = copies_.any(FileBlock(page), FileBlock(page + 1));
    if (copies) keep(page, page + 1);
    for (uint64_t i = r.offset; i < r.offset + r.size; ++i) file_[i] = model_[i] = any_byte();
    if (copies) recalls_.push_back({page, page + 1, copies_.begin_wave()});
  }
  void begin_recall() {
    if (recalls_.empty()) return;
    Recall& recall = recalls_[random_.below(recalls_.size())];
    for (uint64_t p = recall.from; p < recall.to; ++p) drop(p);
    recall.dropped = true;
  }
  void end_recall() {
    const auto recall = std::find_if(recalls_.begin(), recalls_.end(), [](const Recall& r) { return r.dropped; });
    if (recall == recalls_.end()) return;
    copies_.end_wave(FileBlock(recall->from), FileBlock(recall->to), recall->wave);
    recalls_.erase(recall);
  }
  /// The holder writes by itself: to the file, and to its copy if it has one, or if it writes all of the page.
  void write_through() {
    const Range r = pick(true);
    const uint64_t page = r.offset / kBlockSize;
    if (copies_.any(FileBlock(page), FileBlock(page + 1))) keep(page, page + 1);
    std::vector<std::byte> data(r.size);
    for (std::byte& b : data) b = any_byte();
    std::copy(data.begin(), data.end(), file_.begin() + static_cast<long>(r.offset));
    std::copy(data.begin(), data.end(), model_.begin() + static_cast<long>(r.offset));
    EXPECT_TRUE(copies_.note_out(FileBlock(page), FileBlock(page + 1)));
    copies_.overlay(r.offset, data);
    if (cache_[page]) std::copy(data.begin(), data.end(), cache_[page]->bytes.begin() + r.offset % kBlockSize);
  }

  /// What is cached and not about to be recalled shows what the writer wrote.
  void check_coherence() {
    for (uint64_t p = 0; p < kPages; ++p) {
      const auto covers = [&](const Recall& r) { return !r.dropped && p >= r.from && p < r.to; };
      if (!cache_[p] || std::any_of(recalls_.begin(), recalls_.end(), covers)) continue;
      for (uint64_t i = 0; i < kBlockSize; ++i) {
        const uint64_t offset = p * kBlockSize + i;
        if (!is_holders(offset) && cache_[p]->bytes[i] != file_[offset]) return complain("stale copy", offset);
      }
    }
  }

  Random random_;
  PageCopies copies_;
  std::vector<std::byte> file_ = std::vector<std::byte>(kSize);
  std::vector<std::byte> model_ = std::vector<std::byte>(kSize);
  std::array<std::optional<Copy>, kPages> cache_;
  std::vector<Recall> recalls_;
  std::string wrong_;
  int step_ = 0;
};

uint64_t first_seed() {
  if (const char* const text = std::getenv("UDAX_SEED")) return std::strtoull(text, nullptr, 10);
  uint64_t seed = 0;
  fill_random(&seed, sizeof seed);
  return seed % 1'000'000;
}

// Regression: a page that was out, fresh, and filled once more while a recall of it was ending was taken for dropped.
TEST_F(Copies, HandedOutOnceMoreDuringARecall) {
  ASSERT_TRUE(copies_.hand_out(FileBlock(1), FileBlock(2)));
  const PageCopies::Wave wave = copies_.begin_wave();
  ASSERT_TRUE(copies_.hand_out_again(FileBlock(1), FileBlock(2)));
  copies_.end_wave(FileBlock(0), FileBlock(8), wave);
  EXPECT_TRUE(is_out(1));
  copies_.end_wave(FileBlock(0), FileBlock(8), copies_.begin_wave());
  EXPECT_FALSE(is_out(1));
}

// Regression: the twin that a page had from before a recall was taken for that of the page which the holder has written whole
// meanwhile, and went with the recall.
TEST_F(Copies, WrittenWholeDuringARecall) {
  ASSERT_TRUE(copies_.hand_out(FileBlock(1), FileBlock(2)));
  direct_write(kBlockSize, "before");
  const PageCopies::Wave wave = copies_.begin_wave();
  // The holder has dropped its copy, and writes the whole page.
  std::string copy(kBlockSize, 'w');
  ASSERT_TRUE(copies_.note_out(FileBlock(1), FileBlock(2)));
  file_.replace(kBlockSize, kBlockSize, copy);
  copies_.overlay(kBlockSize, bytes(copy));
  EXPECT_EQ(copies_.twins(), 1U) << "what was written";
  direct_write(kBlockSize, "direct");
  copies_.end_wave(FileBlock(1), FileBlock(2), wave);
  copy[100] = 's';
  EXPECT_EQ(come_back(kBlockSize, copy), std::to_string(kBlockSize + 100) + ":s ");
  EXPECT_EQ(file_.substr(kBlockSize, 6), "direct");
}

// Regression: the twin of a page that was written whole went, and the page that came back covered what a late client of the pool
// had stored to it since.
TEST_F(Copies, WrittenWholeBesideALateStore) {
  ASSERT_TRUE(copies_.hand_out(FileBlock(1), FileBlock(2)));
  keep(1, 2);
  std::string copy(kBlockSize, 'w');
  ASSERT_TRUE(copies_.note_out(FileBlock(1), FileBlock(2)));
  file_.replace(kBlockSize, kBlockSize, copy);
  copies_.overlay(kBlockSize, bytes(copy));
  file_.replace(kBlockSize + 200, 4, "late");
  copy[100] = 's';
  EXPECT_EQ(come_back(kBlockSize, copy), std::to_string(kBlockSize + 100) + ":s ");
  EXPECT_EQ(file_.substr(kBlockSize + 200, 4), "late");
}

// Of a holder that drops a page without waiting for what it has sent back of it.
TEST_F(Copies, WhatComesBackAfterTheRecall) {
  const auto recall = [&](bool returns_late) {
    copies_.end_wave(FileBlock(0), FileBlock(8), copies_.begin_wave(), returns_late);
  };
  for (const bool returns_late : {true, false}) {
    ASSERT_TRUE(copies_.hand_out(FileBlock(1), FileBlock(2)));
    std::string copy = page(1);
    copy[100] = 's';
    direct_write(kBlockSize, "direct");
    recall(returns_late);
    EXPECT_FALSE(is_out(1));
    EXPECT_EQ(copies_.empty(), !returns_late);
    (void)come_back(kBlockSize, copy);
    EXPECT_EQ(file_[kBlockSize + 100], 's');
    EXPECT_EQ(file_.substr(kBlockSize, 6) == "direct", returns_late) << "control: a holder of the other kind";
    EXPECT_TRUE(copies_.empty()) << "it comes once";
    file_ = std::string(8 * kBlockSize, 'f');
  }
  // Handed out anew: what was late has come.
  ASSERT_TRUE(copies_.hand_out(FileBlock(1), FileBlock(2)));
  direct_write(kBlockSize, "direct");
  recall(true);
  EXPECT_EQ(copies_.twins(), 1U);
  ASSERT_TRUE(copies_.hand_out(FileBlock(1), FileBlock(2)));
  EXPECT_EQ(copies_.twins(), 0U);
  recall(false);
  EXPECT_TRUE(copies_.empty());
}

// A page of which there was no twin when it was recalled: one is made before it gets into a view.
TEST_F(Copies, WhatMayComeBackLateIsKeptForViews) {
  const auto is_late = [&] { return !is_out(1) && copies_.any_or_late(FileBlock(1), FileBlock(2)); };
  ASSERT_TRUE(copies_.hand_out(FileBlock(1), FileBlock(2)));
  std::string copy = page(1);
  copy[100] = 's';
  copies_.end_wave(FileBlock(0), FileBlock(8), copies_.begin_wave(), true);
  EXPECT_TRUE(is_late());
  keep(0, 8);
  EXPECT_EQ(copies_.twins(), 1U);
  EXPECT_FALSE(is_late());
  file_.replace(kBlockSize, 4, "view");
  EXPECT_EQ(come_back(kBlockSize, copy), std::to_string(kBlockSize + 100) + ":s ");
  EXPECT_EQ(file_.substr(kBlockSize, 4), "view");
  EXPECT_TRUE(copies_.empty());
  // One that comes before anybody asks, and pages that were out untold.
  ASSERT_TRUE(copies_.hand_out(FileBlock(1), FileBlock(2)));
  copies_.end_wave(FileBlock(0), FileBlock(8), copies_.begin_wave(), true);
  EXPECT_TRUE(is_late());
  (void)come_back(kBlockSize, copy);
  EXPECT_TRUE(copies_.empty());
  copies_.suspect();
  copies_.trust(true, FileBlock(2));
  EXPECT_TRUE(is_late());
  EXPECT_FALSE(copies_.any_or_late(FileBlock(2), FileBlock(3)));
  copies_.forget(FileBlock(0), kEnd);
  EXPECT_TRUE(copies_.empty());
}

TEST_F(Copies, LateTwinsAreFew) {
  for (uint64_t at = 0; at < 4 * PageCopies::kLateMax; ++at) {
    ASSERT_TRUE(copies_.hand_out(FileBlock(at), FileBlock(at + 1)));
    ASSERT_TRUE(copies_.keep(FileBlock(at), FileBlock(at + 1), [](FileBlock, Page&) { return Status(); }));
    copies_.end_wave(FileBlock(at), FileBlock(at + 1), copies_.begin_wave(), true);
    EXPECT_LE(copies_.twins(), PageCopies::kLateMax);
  }
  EXPECT_GE(copies_.twins(), PageCopies::kLateMax / 2) << "the last ones are kept";
}

TEST_F(Copies, SuspectedPagesAreToldApartUntilTheyAreBack) {
  EXPECT_TRUE(copies_.empty());
  copies_.suspect();
  EXPECT_FALSE(copies_.empty());
  EXPECT_TRUE(is_out(3));
  EXPECT_FALSE(copies_.hand_out_again(FileBlock(3), FileBlock(4)));
  std::string copy = page(3);  // handed out before
  copy[10] = 's';
  direct_write(3 * kBlockSize + 20, "direct");
  EXPECT_EQ(come_back(3 * kBlockSize, copy), std::to_string(3 * kBlockSize + 10) + ":s ");
  EXPECT_EQ(file_.substr(3 * kBlockSize + 20, 6), "direct");
  direct_write(4 * kBlockSize, "kept");
  ASSERT_TRUE(copies_.hand_out(FileBlock(5), FileBlock(6)));
  copies_.suspect();  // somebody else, too
  copies_.trust();
  EXPECT_TRUE(is_out(4));
  copies_.trust();
  EXPECT_FALSE(is_out(4));
  EXPECT_TRUE(is_out(5));
  EXPECT_EQ(copies_.twins(), 0U);
}

TEST(TwoSidesModel, NothingIsLost) {
  const uint64_t first = first_seed();
  std::printf("UDAX_SEED=%llu\n", static_cast<unsigned long long>(first));
  for (uint64_t seed = first; seed < first + 60; ++seed) {
    ASSERT_EQ(TwoSides(seed).run(1500), "") << "UDAX_SEED=" << seed;
  }
}

TEST(TwoSidesModel, ControlWithoutTwinsBytesAreLost) {
  if (!sync_point::kCompiledIn) GTEST_SKIP() << "knobs are not compiled in";
  const sync_point::ScopedKnob knob("mapping.copies.no_twins");
  uint64_t wrong = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) wrong += TwoSides(seed).run(1500).empty() ? 0 : 1;
  EXPECT_EQ(wrong, 10U);
}

}  // namespace
}  // namespace udax::mapping
