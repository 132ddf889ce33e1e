// SPDX-License-Identifier: BSD-3-Clause
//
// The mkfs.udaxfs program itself: what it refuses, what it says, what it exits with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "media/pool_medium.h"
#include "media/superblock.h"
#include "mkfs/make_pool.h"

namespace udax::mkfs {
namespace {

using media::OpenMode;
using media::PoolMedium;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class ToolTest : public testing::Test {
 protected:
  void SetUp() override {
    tool_ = (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "mkfs.udaxfs").string();
    if (!std::filesystem::exists(tool_)) GTEST_SKIP() << tool_ << " is not built";
    std::string name = "/dev/shm/udax-mkfs-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) GTEST_SKIP() << "no place for a pool file";
    directory_ = name;
    pool_ = directory_ + "/pool";
  }
  void TearDown() override {
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }
  /// The exit code; what was printed on both streams is in output_.
  int run(const std::string& arguments) {
    output_.clear();
    FILE* pipe = ::popen((tool_ + " " + arguments + " 2>&1").c_str(), "r");
    if (pipe == nullptr) return -1;
    std::array<char, 512> buffer{};
    while (std::fgets(buffer.data(), static_cast<int>(buffer.size()), pipe) != nullptr) output_ += buffer.data();
    const int status = ::pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  void expect_failure(int code, const std::string& arguments, const std::string& text) {
    EXPECT_EQ(run(arguments), code) << arguments << ": " << output_;
    EXPECT_THAT(output_, AllOf(StartsWith("mkfs.udaxfs: "), HasSubstr(text))) << arguments;
    EXPECT_EQ(std::count(output_.begin(), output_.end(), '\n'), 1) << output_;
  }
  std::unique_ptr<PoolMedium> open(OpenMode mode = OpenMode::kReadOnly) {
    auto opened = PoolMedium::open(pool_, {mode, {}}, nullptr);
    EXPECT_TRUE(opened);
    return opened ? std::move(opened).value() : nullptr;
  }

  std::string tool_;
  std::string directory_;
  std::string pool_;
  std::string output_;
};

TEST_F(ToolTest, MakesAFileAndAPoolOnIt) {
  ASSERT_EQ(run("-s 64M -L data -U 01234567-89AB-cdef-0123-456789abcdef --root-owner 12:34 " + pool_), 0)
      << output_;
  EXPECT_EQ(std::count(output_.begin(), output_.end(), '\n'), 3) << output_;
  EXPECT_THAT(output_, HasSubstr("01234567-89ab-cdef-0123-456789abcdef"));
  EXPECT_EQ(std::filesystem::file_size(pool_), 64U << 20);
  const auto medium = open();
  const auto loaded = media::load_superblock(*medium);
  ASSERT_TRUE(loaded);
  EXPECT_STREQ(reinterpret_cast<const char*>(loaded->raw.label), "data");
  EXPECT_EQ(loaded->raw.uuid[15], 0xEF);
  const auto& root = *medium->as<format::Inode>(offset_of(loaded->geometry.data_start) + format::kInodeSize);
  EXPECT_EQ(root.uid.get(), 12U);
  EXPECT_EQ(root.gid.get(), 34U);
}

TEST_F(ToolTest, QuietSaysNothingAndTheCallerOwnsTheRoot) {
  ASSERT_EQ(run("-q -s 8M " + pool_), 0);
  EXPECT_EQ(output_, "");
  const auto medium = open();
  const auto loaded = media::load_superblock(*medium);
  ASSERT_TRUE(loaded);
  const auto& root = *medium->as<format::Inode>(offset_of(loaded->geometry.data_start) + format::kInodeSize);
  EXPECT_EQ(root.uid.get(), ::getuid());
  EXPECT_EQ(root.gid.get(), ::getgid());
}

TEST_F(ToolTest, WrongUsage) {
  expect_failure(2, "", "POOL is required");
  expect_failure(2, "--no-such-option " + pool_, "--help tells the options");
  expect_failure(2, "-s 12X " + pool_, "is not a size");
  expect_failure(2, "-s 0 " + pool_, "is not a size");
  expect_failure(2, "-s 99999999T " + pool_, "is not a size");
  expect_failure(2, "-U 0123 " + pool_, "is not a UUID");
  expect_failure(2, "-U 00000000-0000-0000-0000-000000000000 " + pool_, "is not a UUID");
  expect_failure(2, "--root-owner me " + pool_, "is not an owner");
  expect_failure(2, "--root-owner 1:4294967295 " + pool_, "is not an owner");
  expect_failure(2, "-L " + std::string(64, 'x') + " " + pool_, "label is too long");
  expect_failure(2, "-s 8M /dev/null", "leave -s out");
  EXPECT_FALSE(std::filesystem::exists(pool_));
  EXPECT_EQ(run("--version"), 0);
  EXPECT_THAT(output_, HasSubstr("format 1.0"));
  EXPECT_EQ(run("--help"), 0);
}

TEST_F(ToolTest, WhatCannotBeDone) {
  expect_failure(1, pool_, "does not exist");
  expect_failure(1, "-s 4M " + pool_, "at least 8 MiB");
  EXPECT_FALSE(std::filesystem::exists(pool_));
  expect_failure(1, directory_, "is a directory");
  expect_failure(1, "-s 8M " + directory_, "is a directory");
  expect_failure(1, "/dev/null", "neither a file nor a devdax device");
}

TEST_F(ToolTest, APoolIsNotOverwrittenUnlessForced) {
  ASSERT_EQ(run("-q -s 16M " + pool_), 0);
  expect_failure(1, pool_, "already holds a udaxfs pool");
  expect_failure(1, "-s 16M " + pool_, "already holds a udaxfs pool");
  expect_failure(1, "-s 32M " + pool_, "-f resizes it");
  EXPECT_EQ(std::filesystem::file_size(pool_), 16U << 20);
  EXPECT_EQ(run("-q -f -s 32M " + pool_), 0) << output_;
  EXPECT_EQ(std::filesystem::file_size(pool_), 32U << 20);
  {
    const auto medium = open(OpenMode::kExclusive);
    medium->store(1000, "x", 1);
    medium->store(medium->size() - 4000, "x", 1);
  }
  expect_failure(1, pool_, "already holds a udaxfs pool, damaged");
}

TEST_F(ToolTest, DataOfOthersIsNotOverwrittenUnlessForced) {
  ASSERT_TRUE(PoolMedium::create_file(pool_, 16 << 20, nullptr));
  {
    const auto medium = open(OpenMode::kExclusive);
    medium->store(4086, "SWAPSPACE2", 10);
    const uint32_t header[] = {1, 4095, 0};  // version, last page, bad pages
    medium->store(1024, header, sizeof header);
  }
  expect_failure(1, pool_, "already holds swap data; -f overwrites it");
  EXPECT_EQ(run("-q -f " + pool_), 0) << output_;
}

TEST_F(ToolTest, APoolInUseIsLeftAloneEvenIfForced) {
  ASSERT_EQ(run("-q -s 16M " + pool_), 0);
  const auto medium = open(OpenMode::kExclusive);
  medium->announce_holder("udaxfs", "/mnt/data");
  const std::string holder = "in use by udaxfs (pid " + std::to_string(::getpid()) + "), mounted on /mnt/data";
  expect_failure(1, pool_, holder);
  expect_failure(1, "-f " + pool_, holder);
  expect_failure(1, "-f -s 32M " + pool_, holder);
  EXPECT_EQ(std::filesystem::file_size(pool_), 16U << 20);
}

}  // namespace
}  // namespace udax::mkfs
