// SPDX-License-Identifier: BSD-3-Clause
//
// INIT and what concerns the whole mount.
#include <cerrno>

#include "tests/unit/fuse/wire_harness.h"

namespace udax::fuse::test {
namespace {

class SessionTest : public Harness {};

TEST_F(SessionTest, InitAnswersOnlyWhatIsOffered) {
  fuse_init_in in{};
  in.major = 7;
  in.minor = 38;
  in.max_readahead = 131072;
  in.flags = wire::kAsyncRead | wire::kInitExt | wire::kMaxPages | wire::kDontMask;
  const auto out = ask(FUSE_INIT, 0, Body().add(in)).as<fuse_init_out>();
  EXPECT_EQ(out.major, 7U);
  EXPECT_EQ(out.minor, 38U);
  EXPECT_EQ(out.flags, in.flags);
  EXPECT_EQ(out.flags2, 0U);
  EXPECT_EQ(out.max_write, 1U << 20);
  EXPECT_EQ(out.max_pages, 256);
  EXPECT_EQ(out.time_gran, 1U);
}

TEST_F(SessionTest, InitTakesSharedMappingsOfDirectFiles) {
  init();
  EXPECT_NE(dispatcher.negotiated() >> 32 & wire::kDirectIoAllowMmap, 0U);
  // Never: the kernel would answer for sizes, opens or locks itself.
  EXPECT_EQ(dispatcher.negotiated() & (1U << 16 | 1U << 17 | 1U << 1 | 1U << 10), 0U);
  EXPECT_EQ(dispatcher.negotiated() & wire::kAsyncDio, 0U) << "replies would wait for locks of pages of ours";
}

TEST_F(SessionTest, InitWithoutLargeRequests) {
  fuse_init_in in{};
  in.major = 7;
  in.minor = 31;
  const auto out = ask(FUSE_INIT, 0, Body().add(in)).as<fuse_init_out>();
  EXPECT_EQ(out.max_write, 131072U);
  EXPECT_EQ(out.max_pages, 0);
}

TEST_F(SessionTest, ShortInitOfOldKernels) {
  struct {
    uint32_t major = 7, minor = 33, max_readahead = 4096, flags = wire::kAsyncRead;
  } in;
  EXPECT_EQ(ask(FUSE_INIT, 0, Body().add(in)).error, 0);
  EXPECT_TRUE(dispatcher.initialized());
}

TEST_F(SessionTest, InitNegotiatesTheMajorVersion) {
  fuse_init_in in{};
  in.major = 8;
  const auto out = ask(FUSE_INIT, 0, Body().add(in)).as<fuse_init_out>();
  EXPECT_EQ(out.major, 7U);
  EXPECT_FALSE(dispatcher.initialized());
  in.major = 7;
  in.minor = 30;
  EXPECT_EQ(ask(FUSE_INIT, 0, Body().add(in)).error, -EOPNOTSUPP);
  EXPECT_FALSE(dispatcher.initialized());
}

TEST_F(SessionTest, NothingIsServedBeforeInit) {
  EXPECT_EQ(ask(FUSE_GETATTR, 1, Body().add(fuse_getattr_in{})).error, -EIO);
  EXPECT_EQ(ask(999, 1).error, -ENOSYS);
}

TEST_F(SessionTest, Statfs) {
  init();
  const auto out = ask(FUSE_STATFS, 1).as<fuse_statfs_out>();
  EXPECT_EQ(out.st.bsize, 4096U);
  EXPECT_EQ(out.st.frsize, 4096U);
  EXPECT_EQ(out.st.namelen, 255U);
  EXPECT_GT(out.st.blocks, 0U);
  EXPECT_GE(out.st.bfree, out.st.bavail);
}

TEST_F(SessionTest, SyncfsAndDestroy) {
  init();
  const uint64_t before = pool.medium().counters().deep_flushes;
  EXPECT_EQ(ask(FUSE_SYNCFS, 1, Body().add(uint64_t{0})).error, 0);
  EXPECT_EQ(pool.medium().counters().deep_flushes, before + 1);
  EXPECT_EQ(ask(FUSE_DESTROY, 0).error, 0);
}

TEST_F(SessionTest, WhatTheKernelDoesItselfIsNotImplemented) {
  init();
  for (const uint32_t opcode : {FUSE_ACCESS, FUSE_GETLK, FUSE_SETLK, FUSE_SETLKW, FUSE_BMAP, FUSE_POLL,
                                FUSE_SETUPMAPPING, FUSE_REMOVEMAPPING}) {
    EXPECT_EQ(ask(opcode, 1).error, -ENOSYS) << opcode_name(opcode);
  }
}

TEST_F(SessionTest, NoReplyToWhatWantsNone) {
  init();
  send(FUSE_INTERRUPT, 0, Body().add(uint64_t{1}).bytes());
  EXPECT_EQ(channel.sends, 0);
  send(FUSE_FORGET, 17, Body().add(fuse_forget_in{1}).bytes());
  EXPECT_EQ(channel.sends, 0);
  send(FUSE_FORGET, 17, {});
  EXPECT_EQ(channel.sends, 0);
  send(FUSE_BATCH_FORGET, 0, Body().add(fuse_batch_forget_in{1000, 0}).bytes());
  EXPECT_EQ(channel.sends, 0);
  send(FUSE_NOTIFY_REPLY, 0, {});
  EXPECT_EQ(channel.sends, 0);
}

TEST_F(SessionTest, LostReplyIsNotRepeatedForever) {
  init();
  channel.fate = Delivery::kFailed;
  channel.once = false;
  send(FUSE_STATFS, 1, {});
  EXPECT_EQ(channel.sends, 2);  // the reply, and EIO in its place
  channel.fate = Delivery::kGone;
  send(FUSE_STATFS, 1, {});
  EXPECT_EQ(channel.sends, 1);
}

}  // namespace
}  // namespace udax::fuse::test
