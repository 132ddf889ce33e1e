// SPDX-License-Identifier: BSD-3-Clause
#include "media/deep_flush.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "media/pool_file.h"

namespace udax::media {
namespace {

using testing::HasSubstr;
using State = DeepFlush::State;

/// A folder like a device's in /sys, three levels below its region's.
class DeepFlushTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = testing::TempDir() + "/udax-deep-XXXXXX";
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    region_ = folder;
    device_ = region_ + "/region0/dax0.0/dax0.0";
    std::filesystem::create_directories(device_);
    file_ = region_ + "/region0/deep_flush";
  }
  void TearDown() override { std::filesystem::remove_all(region_); }
  void put(const char* text) const { std::ofstream(file_) << text; }
  [[nodiscard]] std::string content() const {
    std::ifstream in(file_);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  std::string region_;
  std::string device_;
  std::string file_;
};

TEST_F(DeepFlushTest, TheRegionSaysThatThereIsNothingToDo) {
  put("0\n");
  const DeepFlush flush = DeepFlush::find(device_);
  EXPECT_EQ(flush.state(), State::kNotNeeded);
  EXPECT_EQ(flush.note(), "");
  EXPECT_TRUE(flush.flush());
  EXPECT_EQ(content(), "0\n");
}

TEST_F(DeepFlushTest, ItIsDoneByWritingToTheRegion) {
  put("X\n");
  const DeepFlush flush = DeepFlush::find(device_);
  ASSERT_EQ(flush.state(), State::kReady);
  EXPECT_EQ(flush.note(), "");
  EXPECT_TRUE(flush.flush());
  EXPECT_EQ(content(), "1\n");
}

TEST_F(DeepFlushTest, WhoMayNotAskForItIsTold) {
  put("1\n");
  ASSERT_EQ(::chmod(file_.c_str(), 0444), 0);
  ASSERT_EQ(::chmod(region_.c_str(), 0755), 0);
  const uid_t user = ::geteuid();
  // Root may write to everything.
  if (user == 0) {
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const DeepFlush flush = DeepFlush::find(device_);
  if (user == 0) {
    ASSERT_EQ(::seteuid(user), 0);
  }
  EXPECT_EQ(flush.state(), State::kRefused);
  EXPECT_THAT(flush.note(), HasSubstr("deep flushes are left out"));
  EXPECT_TRUE(flush.flush());
}

TEST_F(DeepFlushTest, ARegionThatDoesNotTellIsToldOf) {
  for (const std::string& folder : {device_, region_ + "/none"}) {
    const DeepFlush flush = DeepFlush::find(folder);
    EXPECT_EQ(flush.state(), State::kUnknown);
    EXPECT_THAT(flush.note(), HasSubstr("has no deep_flush"));
    EXPECT_TRUE(flush.flush());
  }
  put("");
  EXPECT_EQ(DeepFlush::find(device_).state(), State::kUnknown);
}

TEST_F(DeepFlushTest, ADeviceThatFailsIsAnError) {
  // A full device takes no byte.
  ASSERT_EQ(::symlink("/dev/full", file_.c_str()), 0);
  const DeepFlush flush = DeepFlush::find(device_);
  ASSERT_EQ(flush.state(), State::kReady);
  ASSERT_FALSE(flush.flush());
  EXPECT_EQ(flush.flush().error(), Error::kIo);
}

TEST(PoolFile, AdviceTellsTheCasesApart) {
  constexpr const char* kPath = "/mnt/pool";
  const FileFacts dax{false, true, true, "pmem0"};
  EXPECT_EQ(advice(dax, Granularity::kCacheLine, kPath), "");
  EXPECT_EQ(advice(dax, Granularity::kByte, kPath), "");
  EXPECT_EQ(advice({true, false, false, ""}, Granularity::kCacheLine, kPath), "");
  EXPECT_EQ(advice({false, false, false, ""}, Granularity::kPage, kPath), "");
  EXPECT_THAT(advice({false, false, false, ""}, Granularity::kCacheLine, kPath),
              HasSubstr("PMEM2_FORCE_GRANULARITY"));
  EXPECT_THAT(advice({false, false, false, "pmem0"}, Granularity::kPage, kPath),
              HasSubstr("not mounted with -o dax"));
  EXPECT_THAT(advice({false, false, false, "pmem0s"}, Granularity::kPage, kPath), HasSubstr("sector mode"));
  EXPECT_THAT(advice({false, true, false, "pmem0"}, Granularity::kPage, kPath), HasSubstr("MAP_SYNC"));
}

TEST(PoolFile, AnOrdinaryFileStaysSparse) {
  std::string path = testing::TempDir() + "/udax-file-XXXXXX";
  const FileDescriptor fd(::mkstemp(path.data()));
  ASSERT_TRUE(fd.is_open());
  EXPECT_TRUE(resize_file(fd.get(), 16 << 20));
  struct stat st {};
  ASSERT_EQ(::fstat(fd.get(), &st), 0);
  EXPECT_EQ(st.st_size, 16 << 20);
  ::unlink(path.c_str());
  if (look_at_file(fd.get()).is_dax) GTEST_SKIP() << "the folder for temporary files is on a DAX filesystem";
  EXPECT_EQ(st.st_blocks, 0);
}

}  // namespace
}  // namespace udax::media
