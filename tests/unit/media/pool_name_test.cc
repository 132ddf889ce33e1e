// SPDX-License-Identifier: BSD-3-Clause
#include "media/pool_name.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>

namespace udax::media {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kNamespaceUuid = "382826a4-759f-423a-bca9-8d6e8d73f340";
constexpr const char* kPoolUuid = "85d1b61f-a4a6-4df6-aa39-92f3e943ffa8";

Platform platform() {
  Region region;
  region.namespaces = {{"namespace0.0", "dax0.0", NamespaceMode::kDevdax, 1 << 30, 2 << 20, kNamespaceUuid, 0, {}},
                       {"namespace1.0", "pmem1", NamespaceMode::kFsdax, 1 << 30, 2 << 20, "", 0, {}}};
  Bus bus;
  bus.regions = {region};
  return {{bus}};
}

const std::vector<KnownPool> kPools = {{"/dev/dax0.0", "scratch", kPoolUuid},
                                       {"/srv/pool", "data", "00000000-0000-0000-0000-000000000001"},
                                       {"/srv/copy", "twin", "00000000-0000-0000-0000-000000000002"},
                                       {"/srv/other", "twin", "00000000-0000-0000-0000-000000000002"}};

std::string choose(const std::string& given, std::string* why = nullptr) {
  auto chosen = choose_pool(given, platform(), kPools, why);
  return chosen ? *chosen : std::string(to_string(chosen.error()));
}

TEST(PoolName, TagsAreToldFromPaths) {
  for (const char* const tag : {"LABEL=x", "UUID=x", "LABEL=", "namespace0.0", "namespace12.34"}) {
    EXPECT_TRUE(is_pool_tag(tag)) << tag;
  }
  for (const char* const path :
       {"", "pool", "./namespace0.0", "namespace", "namespace0", "namespace0.", "namespace.0", "namespace0.0.0",
        "namespace0.x", "/dev/dax0.0", "label=x", " LABEL=x"}) {
    EXPECT_FALSE(is_pool_tag(path)) << path;
    EXPECT_EQ(*resolve_pool(path, nullptr), path);
  }
}

TEST(PoolName, LabelsUuidsAndNamespacesLeadToDevices) {
  EXPECT_EQ(choose("LABEL=scratch"), "/dev/dax0.0");
  EXPECT_EQ(choose("LABEL=data"), "/srv/pool");
  EXPECT_EQ(choose(std::string("UUID=") + kPoolUuid), "/dev/dax0.0");
  EXPECT_EQ(choose("UUID=85D1B61F-A4A6-4DF6-AA39-92F3E943FFA8"), "/dev/dax0.0");
  // Of the namespace, on which there need not be a pool yet.
  EXPECT_EQ(choose(std::string("UUID=") + kNamespaceUuid), "/dev/dax0.0");
  EXPECT_EQ(choose("namespace0.0"), "/dev/dax0.0");
}

TEST(PoolName, WhatCannotBeChosenIsExplained) {
  const std::string not_found(to_string(Error::kNotFound));
  const std::string invalid(to_string(Error::kInvalid));
  std::string why;
  EXPECT_EQ(choose("LABEL=nothing", &why), not_found);
  EXPECT_THAT(why, HasSubstr("udaxctl list"));
  EXPECT_EQ(choose("namespace7.0", &why), not_found);
  EXPECT_THAT(why, HasSubstr("no namespace7.0"));
  EXPECT_EQ(choose("LABEL=twin", &why), invalid);
  EXPECT_THAT(why, testing::AllOf(HasSubstr("/srv/copy"), HasSubstr("/srv/other")));
  EXPECT_EQ(choose("UUID=00000000-0000-0000-0000-000000000002", &why), invalid);
  for (const char* const empty : {"LABEL=", "UUID="}) EXPECT_EQ(choose(empty, &why), invalid) << empty;
  EXPECT_EQ(choose("namespace1.0", &why), invalid);
  EXPECT_THAT(why, HasSubstr("is fsdax"));
  // A label is no name of a namespace, and the other way round.
  EXPECT_EQ(choose("LABEL=namespace0.0", &why), not_found);
  EXPECT_EQ(choose("UUID=scratch", &why), not_found);
}

TEST(PoolName, TablesAreReadForTheirPools) {
  std::string path = testing::TempDir() + "/udax-fstab-XXXXXX";
  const int fd = ::mkstemp(path.data());
  ASSERT_GE(fd, 0);
  const std::string text =
      "# a comment\n"
      "/dev/sda1 / ext4 defaults 0 1\n"
      "/srv/with\\040space /mnt fuse.udaxfs defaults 0 0\n"
      "LABEL=data /mnt2 fuse.udaxfs defaults 0 0\n"
      "/dev/dax0.0 /mnt3 fuse.udaxfs defaults 0 0\n"
      "half a line";
  ASSERT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  ::close(fd);
  EXPECT_THAT(pools_in_table(path), ElementsAre("/srv/with space", "/dev/dax0.0"));
  ::unlink(path.c_str());
  EXPECT_TRUE(pools_in_table(path).empty());
}

}  // namespace
}  // namespace udax::media
