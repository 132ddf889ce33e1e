// SPDX-License-Identifier: BSD-3-Clause
//
// The kernel's page cache, played by a notifier: which pages are dropped, and what becomes of a look that nobody answers.
#include "fuse/kernel_pages.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/pool.h"
#include "tests/unit/fuse/wire_harness.h"

namespace udax::fuse::test {
namespace {

using udax::test::bytes;

/// Pages of one file, of 4 KiB each. Answers on another thread, as the kernel's do.
class Kernel final : public Notifier {
 public:
  bool notify(int32_t code, std::span<const iovec> pieces) override {
    if (code == FUSE_NOTIFY_RETRIEVE) return retrieve(at<fuse_notify_retrieve_out>(pieces));
    const auto inval = at<fuse_notify_inval_inode_out>(pieces);
    EXPECT_EQ(code, FUSE_NOTIFY_INVAL_INODE);
    EXPECT_EQ(inval.len, static_cast<int64_t>(kBlockSize));
    dropped.push_back(static_cast<uint64_t>(inval.off) / kBlockSize);
    return true;
  }
  bool is_connected() override { return connected; }

  RetrievalTaker* taker = nullptr;
  std::map<uint64_t, std::string> pages;
  std::vector<uint64_t> dropped;
  uint64_t looks = 0;
  bool knows_inode = true;
  bool connected = true;

 private:
  template <typename T>
  static T at(std::span<const iovec> pieces) {
    T out{};
    EXPECT_EQ(pieces.size(), 1U);
    EXPECT_EQ(pieces[0].iov_len, sizeof(T));
    std::memcpy(&out, pieces[0].iov_base, sizeof(T));
    return out;
  }
  bool retrieve(const fuse_notify_retrieve_out& ask) {
    ++looks;
    EXPECT_EQ(ask.nodeid, 7U);
    if (!knows_inode) return false;
    if (!connected) return true;  // taken, and lost
    const auto page = pages.find(ask.offset / kBlockSize);
    const std::string found = page == pages.end() ? "" : page->second.substr(ask.offset % kBlockSize, ask.size);
    std::thread([this, ask, found] {
      taker->take_retrieved(ask.notify_unique + 1, bytes("another's"));
      taker->take_retrieved(ask.notify_unique, bytes(found));
      taker->take_retrieved(ask.notify_unique, bytes("once more"));
    }).join();
    return true;
  }
};

class KernelPagesTest : public ::testing::Test {
 protected:
  KernelPagesTest() { kernel_.taker = &pages_; }
  std::vector<uint64_t> dropped_unlike(uint64_t offset, const std::string& expected) {
    kernel_.dropped.clear();
    pages_.drop_copies_unlike(Ino(7), offset, bytes(expected));
    return kernel_.dropped;
  }

  Kernel kernel_;
  KernelPages pages_{kernel_};
};

using Pages = std::vector<uint64_t>;

TEST_F(KernelPagesTest, OnlyPagesThatDifferAreDropped) {
  kernel_.pages[0] = std::string(100, '.') + "written" + std::string(kBlockSize - 107, '.');
  EXPECT_EQ(dropped_unlike(100, "written"), Pages{});
  EXPECT_EQ(dropped_unlike(100, "Written"), Pages{0});
  EXPECT_EQ(dropped_unlike(101, "written"), Pages{0});
  EXPECT_EQ(kernel_.looks, 3U);
}

TEST_F(KernelPagesTest, EachPageIsLookedAtByItself) {
  for (uint64_t page = 0; page < 4; ++page) kernel_.pages[page] = std::string(kBlockSize, 'w');
  kernel_.pages[1][500] = 'o';
  kernel_.pages.erase(2);
  EXPECT_EQ(dropped_unlike(4000, std::string(96 + 2 * kBlockSize + 10, 'w')), Pages{1});
  EXPECT_EQ(kernel_.looks, 4U);
  kernel_.pages[3][9] = 'o';
  EXPECT_EQ(dropped_unlike(4000, std::string(96 + 2 * kBlockSize + 10, 'w')), (Pages{1, 3}));
}

TEST_F(KernelPagesTest, WhatIsNotThereIsLeftAlone) {
  EXPECT_EQ(dropped_unlike(0, "written"), Pages{});
  kernel_.pages[0] = "wri";  // the kernel knows of no more of the file
  EXPECT_EQ(dropped_unlike(0, "written"), Pages{});
  kernel_.knows_inode = false;
  EXPECT_EQ(dropped_unlike(0, "written"), Pages{});
  EXPECT_EQ(dropped_unlike(0, ""), Pages{});
}

TEST_F(KernelPagesTest, AMountThatGoesEndsTheWait) {
  kernel_.connected = false;
  EXPECT_EQ(dropped_unlike(0, "written"), Pages{});
  // What nobody waits for any more.
  pages_.take_retrieved(1, bytes("late"));
}

// The answer as it comes by the wire, through the dispatcher; a malformed one harms nobody.
class RetrievalTest : public Harness, public RetrievalTaker {
 protected:
  RetrievalTest() { dispatcher.set_retrieval_taker(this); }
  void take_retrieved(uint64_t id, std::span<const std::byte> found) override {
    taken.emplace_back(id, std::string(reinterpret_cast<const char*>(found.data()), found.size()));
  }
  std::vector<std::pair<uint64_t, std::string>> taken;
};

TEST_F(RetrievalTest, AnswersAreDecoded) {
  fuse_notify_retrieve_in in{};
  in.offset = 100;
  in.size = 5;
  send(FUSE_NOTIFY_REPLY, 7, Body().add(in).raw("bytes").bytes());
  ASSERT_EQ(taken.size(), 1U);
  EXPECT_EQ(taken[0].second, "bytes");
  send(FUSE_NOTIFY_REPLY, 7, Body().add(in).raw("byt").bytes());
  send(FUSE_NOTIFY_REPLY, 7, Body().raw("nothing").bytes());
  EXPECT_EQ(taken.size(), 1U);
}

}  // namespace
}  // namespace udax::fuse::test
