// SPDX-License-Identifier: BSD-3-Clause
#include "direct/view_table.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <optional>
#include <vector>

#include "base/random.h"

namespace udax::direct {
namespace {

constexpr uint64_t kPage = kBlockSize;
Span pages(uint64_t from, uint64_t to) { return {from * kPage, to * kPage}; }

View data(uint64_t device_page, bool is_writable) {
  return {0, device_page * kPage, View::Kind::kData, is_writable};
}

TEST(ViewTable, ContinuationsBecomeOne) {
  ViewTable table;
  table.put(pages(0, 1), data(10, true));
  table.put(pages(2, 3), data(12, true));
  EXPECT_EQ(table.mappings(), 2U);
  table.put(pages(1, 2), data(11, true));
  EXPECT_EQ(table.mappings(), 1U);
  table.put(pages(3, 4), data(13, false));
  EXPECT_EQ(table.mappings(), 2U) << "another protection";
  table.put(pages(4, 5), data(99, false));
  EXPECT_EQ(table.mappings(), 3U) << "elsewhere on the device";
}

TEST(ViewTable, ErasureTellsTheRange) {
  ViewTable table;
  table.put(pages(2, 6), data(10, true));
  table.put(pages(8, 9), View{});
  EXPECT_TRUE(table.erase(pages(0, 2)).empty());
  const Span gone = table.erase(pages(4, 20));
  EXPECT_EQ(gone.start, 4 * kPage);
  EXPECT_EQ(gone.end, 9 * kPage);
  EXPECT_TRUE(table.has_writable(pages(3, 5)));
  EXPECT_FALSE(table.has_writable(pages(4, 20)));
  EXPECT_EQ(table.find(3 * kPage)->kind, View::Kind::kData);
  EXPECT_EQ(table.find(4 * kPage), nullptr);
}

// Random changes on the table and on an array.
TEST(ViewTable, AgreesWithAnArray) {
  constexpr uint64_t kPages = 48;
  const char* const given = std::getenv("UDAX_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : static_cast<uint64_t>(::getpid());
  std::cout << "UDAX_SEED=" << seed << "\n";
  Random random(seed);
  ViewTable table;
  std::vector<std::optional<View>> model(kPages);
  for (int round = 0; round < 20000; ++round) {
    const uint64_t from = random.below(kPages);
    const uint64_t to = random.between(from + 1, kPages);
    if (random.one_in(3)) {
      const Span gone = table.erase(pages(from, to));
      bool is_any = false;
      for (uint64_t i = from; i < to; ++i) {
        EXPECT_TRUE(!model[i] || (i * kPage >= gone.start && i * kPage < gone.end));
        is_any |= model[i].has_value();
        model[i].reset();
      }
      EXPECT_EQ(is_any, !gone.empty());
    } else {
      View view;
      if (random.one_in(2)) view = data(random.below(4) * 8 + from, random.one_in(2));
      table.put(pages(from, to), view);
      for (uint64_t i = from; i < to; ++i) {
        model[i] = view;
        if (view.kind == View::Kind::kData) model[i]->device += (i - from) * kPage;
      }
    }
    uint64_t mappings = 0;
    for (const auto& [start, view] : table.all()) mappings += view.kind == View::Kind::kData ? 1 : 0;
    ASSERT_EQ(table.mappings(), mappings);
    for (uint64_t i = 0; i < kPages; ++i) {
      const View* const found = table.find(i * kPage);
      ASSERT_EQ(found != nullptr, model[i].has_value()) << "round " << round << ", page " << i;
      if (found == nullptr) continue;
      const uint64_t start = table.from(i * kPage)->first;
      ASSERT_EQ(found->kind, model[i]->kind);
      ASSERT_EQ(found->is_writable, model[i]->is_writable);
      const uint64_t into = found->kind == View::Kind::kData ? i * kPage - start : 0;
      ASSERT_EQ(found->device + into, model[i]->device);
    }
  }
}

struct File {};
using Table = BasicRegionTable<File>;
using Part = BasicRegion<File>;

Part region(uint64_t from, uint64_t to, uint64_t file_page, const std::shared_ptr<File>& file) {
  Part out;
  out.start = from * kPage;
  out.end = to * kPage;
  out.file_offset = file_page * kPage;
  out.prot = 1;
  out.handle = file;
  return out;
}

TEST(Regions, CutJoinedAndRemoved) {
  const auto file = std::make_shared<File>();
  Table table;
  ASSERT_TRUE(table.add(region(4, 12, 100, file)));
  EXPECT_EQ(table.add(region(11, 13, 0, file)).error(), Error::kExists);
  EXPECT_EQ(table.add(region(0, 5, 0, file)).error(), Error::kExists);
  ASSERT_TRUE(table.add(region(12, 13, 0, file)));
  EXPECT_TRUE(table.covers(pages(4, 13)));
  EXPECT_FALSE(table.covers(pages(3, 13)));
  EXPECT_FALSE(table.covers(pages(4, 14)));
  const uint64_t id = table.find(8 * kPage)->id;
  table.cut(pages(6, 8));
  EXPECT_EQ(table.size(), 4U);
  EXPECT_EQ(table.find(8 * kPage)->file_offset, 104 * kPage);
  EXPECT_NE(table.find(8 * kPage)->id, id);
  table.join(pages(6, 8));
  EXPECT_EQ(table.size(), 2U) << "the two that are no continuation stay apart";
  Table::Handles handles;
  table.cut(pages(6, 8));
  table.remove(pages(6, 8), handles);
  EXPECT_EQ(handles.size(), 1U);
  EXPECT_EQ(table.find(6 * kPage), nullptr);
  EXPECT_EQ(table.find(7 * kPage), nullptr);
  EXPECT_NE(table.find(5 * kPage), nullptr);
  EXPECT_NE(table.find(8 * kPage), nullptr);
}

TEST(Regions, ThePartThatShowsARange) {
  const auto file = std::make_shared<File>();
  const Part part = region(4, 12, 100, file);
  EXPECT_TRUE(part_showing(part, {0, 100 * kPage}).empty());
  EXPECT_TRUE(part_showing(part, {108 * kPage, ~uint64_t{0}}).empty());
  const Span all = part_showing(part, {0, ~uint64_t{0}});
  EXPECT_EQ(all.start, 4 * kPage);
  EXPECT_EQ(all.end, 12 * kPage);
  const Span some = part_showing(part, {101 * kPage + 1, 102 * kPage + 1});
  EXPECT_EQ(some.start, 5 * kPage) << "whole pages";
  EXPECT_EQ(some.end, 7 * kPage);
}

}  // namespace
}  // namespace udax::direct
