// SPDX-License-Identifier: BSD-3-Clause
#include "media/platform.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "media/discovery.h"

namespace udax::media {
namespace {

using testing::HasSubstr;

bool operator==(const LostRange& a, const LostRange& b) { return a.offset == b.offset && a.size == b.size; }

Platform two_namespaces() {
  Namespace dax{"namespace0.0",
                "dax0.0",
                NamespaceMode::kDevdax,
                1 << 30,
                2 << 20,
                "382826a4-759f-423a-bca9-8d6e8d73f340",
                0,
                {}};
  Namespace off{"namespace1.0", "", NamespaceMode::kFsdax, 1 << 30, 2 << 20, "", 0, {}};
  Region region;
  region.namespaces = {dax, off};
  Bus bus;
  bus.regions = {region};
  return {{bus}};
}

TEST(Platform, NamespacesAreFoundByEveryNameTheyHave) {
  const Platform platform = two_namespaces();
  for (const char* const name : {"namespace0.0", "dax0.0", "/dev/dax0.0", "382826a4-759f-423a-bca9-8d6e8d73f340",
                                 "382826A4-759F-423A-BCA9-8D6E8D73F340"}) {
    const Namespace* const found = find_namespace(platform, name);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->device, "dax0.0");
  }
  // One that is disabled has no device, and no empty name finds it.
  for (const char* const name : {"", "/dev/", "namespace0.1", "dax0", "0.0"}) {
    EXPECT_EQ(find_namespace(platform, name), nullptr) << name;
  }
}

TEST(Platform, AdviceIsGivenForAllButDevdax) {
  Namespace ns{"namespace0.0", "pmem0", NamespaceMode::kDevdax, 1 << 30, 0, "", 0, {}};
  EXPECT_EQ(advice(ns), "");
  ns.mode = NamespaceMode::kFsdax;
  EXPECT_THAT(advice(ns), HasSubstr("mount that with -o dax"));
  ns.mode = NamespaceMode::kSector;
  EXPECT_THAT(advice(ns), HasSubstr("atomic sectors"));
  ns.mode = NamespaceMode::kRaw;
  EXPECT_THAT(advice(ns), HasSubstr("-m devdax"));
  ns.mode = NamespaceMode::kSystemRam;
  EXPECT_THAT(advice(ns), HasSubstr("daxctl reconfigure-device"));
  ns.device = "";
  EXPECT_THAT(advice(ns), HasSubstr("enable-namespace namespace0.0"));
}

TEST(Platform, BadRangesAreCutMovedWidenedAndJoined) {
  constexpr uint64_t kStart = 0x1'0000'0000;
  constexpr uint64_t kSize = 1 << 20;
  const std::vector<LostRange> physical = {
      {kStart + 0x8000 + 512, 512},    // a sector: its page
      {kStart + 0x9000, 1024},         // the next page
      {kStart - 4096, 4096 + 100},     // reaches in from before
      {kStart + kSize - 10, 1 << 20},  // reaches out
      {kStart - 4096, 4096},           // just before
      {kStart + kSize, 4096},          // just behind
  };
  const std::vector<LostRange> bad = bad_ranges_within(physical, kStart, kSize, 4096);
  ASSERT_EQ(bad.size(), 3u);
  EXPECT_TRUE(bad[0] == (LostRange{0, 4096}));
  EXPECT_TRUE(bad[1] == (LostRange{0x8000, 8192}));
  EXPECT_TRUE(bad[2] == (LostRange{kSize - 4096, 4096}));
  EXPECT_EQ(bytes_of(bad), 16384u);
}

TEST(Platform, BadRangesOutOfAllProportionDoNoHarm) {
  const std::vector<LostRange> physical = {{UINT64_MAX, UINT64_MAX}, {4096, UINT64_MAX}, {8192, 0}};
  const std::vector<LostRange> bad = bad_ranges_within(physical, 8192, 65536, 4096);
  ASSERT_EQ(bad.size(), 1u);
  EXPECT_TRUE(bad[0] == (LostRange{0, 65536}));
  EXPECT_TRUE(bad_ranges_within({}, 0, 0, 4096).empty());
}

TEST(Platform, IsDiscoveredOnThisMachineWhateverItHas) {
  const auto platform = discover_platform();
  ASSERT_TRUE(platform);
  for (const Bus& bus : platform->buses) {
    EXPECT_FALSE(bus.name.empty());
    for (const Region& region : bus.regions) {
      for (const Namespace& ns : region.namespaces) {
        EXPECT_FALSE(ns.name.empty());
        EXPECT_EQ(find_namespace(*platform, ns.name), &ns);
      }
    }
  }
}

}  // namespace
}  // namespace udax::media
