// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace udax::daemon {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

class OptionsTest : public ::testing::Test {
 protected:
  Result<Options> parse(std::vector<const char*> words, bool root = true) {
    words.insert(words.begin(), program);
    why.clear();
    return parse_options(words, root, &why);
  }
  Options good(std::vector<const char*> words, bool root = true) {
    auto options = parse(std::move(words), root);
    EXPECT_TRUE(options) << why;
    return options ? *options : Options{};
  }
  void expect_error(std::vector<const char*> words, const char* part) {
    const auto options = parse(std::move(words));
    EXPECT_FALSE(options);
    EXPECT_THAT(why, HasSubstr(part));
    EXPECT_EQ(why.find('\n'), std::string::npos);
  }
  const char* program = "udaxfs";
  std::string why;
};

TEST_F(OptionsTest, Defaults) {
  const Options o = good({"/pool", "/mnt"});
  EXPECT_EQ(o.action, Options::Action::kMount);
  EXPECT_EQ(o.pool, "/pool");
  EXPECT_EQ(o.mountpoint, "/mnt");
  EXPECT_FALSE(o.fs.read_only);
  EXPECT_TRUE(o.fs.count_lookups);
  EXPECT_EQ(o.fs.dax, fs::DaxMode::kInode);
  EXPECT_EQ(o.fs.atime, fs::AtimeMode::kRelative);
  EXPECT_FALSE(o.foreground);
  EXPECT_EQ(o.threads, 4U);
  EXPECT_EQ(o.entry_timeout_ns, 86'400'000'000'000U);
  EXPECT_THAT(o.mount_options, Contains("default_permissions"));
  EXPECT_THAT(o.mount_options, Contains("subtype=udaxfs"));
  EXPECT_EQ(o.fsname, "");
  EXPECT_THAT(o.mount_options, Contains("allow_other"));
  EXPECT_THAT(o.mount_options, Contains("suid"));
  EXPECT_THAT(o.mount_options, Contains("dev"));
}

TEST_F(OptionsTest, OrdinaryUsers) {
  const Options o = good({"/pool", "/mnt"}, false);
  EXPECT_THAT(o.mount_options, Not(Contains("allow_other")));
  EXPECT_THAT(o.mount_options, Not(Contains("suid")));
  EXPECT_THAT(o.mount_options, Not(Contains("dev")));
  EXPECT_THAT(good({"/pool", "/mnt", "-o", "allow_other"}, false).mount_options, Contains("allow_other"));
}

TEST_F(OptionsTest, AsMountCallsIt) {
  const Options o = good({"/pool", "/mnt", "-o",
                          "rw,nosuid,nodev,noexec,relatime,x-systemd.automount,_netdev,"
                          "user=joe,users,noauto,defaults,sync"});
  EXPECT_THAT(o.mount_options, Contains("nosuid"));
  EXPECT_THAT(o.mount_options, Contains("nodev"));
  EXPECT_THAT(o.mount_options, Contains("noexec"));
  EXPECT_THAT(o.mount_options, Contains("sync"));
  EXPECT_THAT(o.mount_options, Not(Contains("suid")));
}

TEST_F(OptionsTest, AsAMountHelper) {
  program = "/sbin/mount.fuse.udaxfs";
  const Options o = good({"/pool", "/mnt", "-nvs", "-t", "fuse.udaxfs", "-o", "rw,strange", "-o", "dax=never"});
  EXPECT_EQ(o.fs.dax, fs::DaxMode::kNever);
  EXPECT_FALSE(o.foreground);
  EXPECT_EQ(good({"/pool", "/mnt", "-f"}).action, Options::Action::kNothing);
  expect_error({"/pool", "/mnt", "-N", "/proc/1/ns/mnt"}, "-N");
  expect_error({"/pool", "/mnt", "-o", "strange"}, "strange");
}

TEST_F(OptionsTest, EveryOption) {
  const Options o = good({"-f", "-odax=always,ro,noatime", "/pool", "-o",
                          // NOLINTNEXTLINE(bugprone-suspicious-missing-comma): one string of two lines
                          "threads=7,entry_timeout=0,attr_timeout=1.5,negative_timeout=0.25,loglevel=warning,"
                          "fsname=a b,noallow_other,data=inplace,direct=off,subtype=udaxfs,dirsync",
                          "--", "-mnt"});
  EXPECT_TRUE(o.foreground);
  EXPECT_EQ(o.mountpoint, "-mnt");
  EXPECT_TRUE(o.fs.read_only);
  EXPECT_EQ(o.fs.dax, fs::DaxMode::kAlways);
  EXPECT_EQ(o.fs.atime, fs::AtimeMode::kNever);
  EXPECT_EQ(o.threads, 7U);
  EXPECT_EQ(o.entry_timeout_ns, 0U);
  EXPECT_EQ(o.attr_timeout_ns, 1'500'000'000U);
  EXPECT_EQ(o.negative_timeout_ns, 250'000'000U);
  EXPECT_EQ(o.log_level, LogLevel::kWarning);
  EXPECT_EQ(o.fsname, "a b");
  EXPECT_THAT(o.mount_options, Contains("ro"));
  EXPECT_THAT(o.mount_options, Not(Contains("allow_other")));
  EXPECT_EQ(good({"/p", "/m", "-o", "dax"}).fs.dax, fs::DaxMode::kAlways);
  EXPECT_FALSE(good({"/p", "/m", "-o", "ro,rw"}).fs.read_only);
  EXPECT_EQ(good({"/p", "/m", "-o", "strictatime"}).fs.atime, fs::AtimeMode::kStrict);
}

TEST_F(OptionsTest, ErrorsNameWhatIsWrong) {
  expect_error({}, "a pool and a mount point");
  expect_error({"/pool"}, "mount point");
  expect_error({"/pool", "/mnt", "/third"}, "'/third'");
  expect_error({"", "/mnt"}, "empty");
  expect_error({"/pool", "/mnt", "-x"}, "-x");
  expect_error({"/pool", "/mnt", "-t", "x"}, "-t");
  expect_error({"/pool", "/mnt", "--nonsense"}, "'--nonsense'");
  expect_error({"/pool", "/mnt", "-o"}, "-o needs an argument");
  expect_error({"/pool", "/mnt", "-o", "rw,nonsense"}, "'nonsense'");
  expect_error({"/pool", "/mnt", "-o", "nonsense=5"}, "'nonsense=5'");
  expect_error({"/pool", "/mnt", "-o", "ro=5"}, "'ro=5'");
  expect_error({"/pool", "/mnt", "-o", "threads"}, "'threads'");
  for (const char* bad : {"threads=0", "threads=65", "threads=", "threads=2x", "threads=-1"}) {
    expect_error({"/pool", "/mnt", "-o", bad}, bad);
  }
  for (const char* bad :
       {"entry_timeout=", "attr_timeout=-1", "negative_timeout=nan", "entry_timeout=1e99", "attr_timeout=3s"}) {
    expect_error({"/pool", "/mnt", "-o", bad}, bad);
  }
  expect_error({"/pool", "/mnt", "-o", "dax=maybe"}, "dax=inode, dax=always or dax=never");
  expect_error({"/pool", "/mnt", "-o", "data=journal"}, "data=inplace or data=atomic");
  expect_error({"/pool", "/mnt", "-o", "direct=users"}, "direct=uid:N");
  expect_error({"/pool", "/mnt", "-o", "loglevel=loud"}, "loglevel=loud");
  expect_error({"/pool", "/mnt", "-o", "remount,ro"}, "remount");
  expect_error({"/pool", "/mnt", "-o", "allow_root"}, "allow_root");
  expect_error({"/pool", "/mnt", "-o", "subtype=other"}, "subtype");
  expect_error({"/pool", "/mnt", "-o", "fsname="}, "fsname");
}

TEST_F(OptionsTest, HelpAndVersionNeedNothingElse) {
  EXPECT_EQ(good({"-h"}).action, Options::Action::kHelp);
  EXPECT_EQ(good({"--help", "/pool"}).action, Options::Action::kHelp);
  EXPECT_EQ(good({"-V"}).action, Options::Action::kVersion);
  EXPECT_EQ(good({"-d", "/p", "/m"}).log_level, LogLevel::kTrace);
}

}  // namespace
}  // namespace udax::daemon
