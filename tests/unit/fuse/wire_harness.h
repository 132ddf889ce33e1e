// SPDX-License-Identifier: BSD-3-Clause
//
// A dispatcher over a pool in memory, spoken to in raw messages.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/clock.h"
#include "fuse/dispatcher.h"
#include "tests/support/pool.h"

namespace udax::fuse::test {

/// A message's body, put together from structures and strings.
class Body {
 public:
  template <typename T>
  requires std::is_trivially_copyable_v<T> Body& add(const T& value) {
    const auto* at = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), at, at + sizeof(T));
    return *this;
  }
  Body& text(std::string_view s) {  // with its NUL
    const auto* at = reinterpret_cast<const std::byte*>(s.data());
    bytes_.insert(bytes_.end(), at, at + s.size());
    bytes_.push_back(std::byte{0});
    return *this;
  }
  Body& raw(std::string_view s) {
    const auto* at = reinterpret_cast<const std::byte*>(s.data());
    bytes_.insert(bytes_.end(), at, at + s.size());
    return *this;
  }
  [[nodiscard]] const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

struct Answer {
  int32_t error = 0;  // negative errno
  std::vector<std::byte> body;

  template <typename T>
  [[nodiscard]] T as(size_t offset = 0) const {
    T value{};
    EXPECT_GE(body.size(), offset + sizeof(T));
    if (body.size() >= offset + sizeof(T)) std::memcpy(&value, body.data() + offset, sizeof(T));
    return value;
  }
  [[nodiscard]] std::string text() const { return {reinterpret_cast<const char*>(body.data()), body.size()}; }
};

/// Keeps replies, or loses them on request.
class Channel final : public ReplyChannel {
 public:
  [[nodiscard]] std::shared_ptr<ReplyChannel> detach() override { return {std::shared_ptr<void>(), this}; }
  Delivery send(const fuse_out_header& header, std::span<const iovec> pieces) override {
    ++sends;
    if (fate != Delivery::kDelivered) {
      const Delivery what = fate;
      if (once) fate = Delivery::kDelivered;
      return what;
    }
    Answer answer;
    answer.error = header.error;
    for (const iovec& piece : pieces) {
      const auto* at = static_cast<const std::byte*>(piece.iov_base);
      answer.body.insert(answer.body.end(), at, at + piece.iov_len);
    }
    EXPECT_EQ(header.len, sizeof(header) + answer.body.size());
    EXPECT_EQ(header.unique, unique);
    if (header.error != 0) {
      EXPECT_TRUE(answer.body.empty());
      EXPECT_LT(header.error, 0);
      EXPECT_GT(header.error, -512);  // what the kernel takes for an error
    }
    answers.push_back(std::move(answer));
    return Delivery::kDelivered;
  }
  std::deque<Answer> answers;
  int sends = 0;
  uint64_t unique = 0;
  Delivery fate = Delivery::kDelivered;
  bool once = true;
};

struct Notification {
  int32_t code = 0;
  std::vector<std::byte> body;
  size_t replies_before = 0;
};

class Harness : public ::testing::Test, public Notifier {
 protected:
  static constexpr uint64_t kPoolSize = 64U << 20;

  static fs::MountOptions mount_options() {
    fs::MountOptions o;
    o.count_lookups = true;
    return o;
  }

  Harness() : pool(kPoolSize, mount_options()), dispatcher(pool.fs(), {}), scratch(kScratchSize) {
    dispatcher.set_notifier(this);
    stats = *dispatcher.add_stats();
  }
  ~Harness() override { dispatcher.close_all(); }

  bool is_connected() override { return true; }
  bool notify(int32_t code, std::span<const iovec> pieces) override {
    Notification n;
    n.code = code;
    n.replies_before = channel.answers.size();
    for (const iovec& piece : pieces) {
      const auto* at = static_cast<const std::byte*>(piece.iov_base);
      n.body.insert(n.body.end(), at, at + piece.iov_len);
    }
    notifications.push_back(std::move(n));
    return true;
  }

  /// Sends a message; its replies are in channel.answers.
  void send(uint32_t opcode, uint64_t node, const std::vector<std::byte>& body) {
    // Exactly as long as it is, so that the address sanitizer sees a read past it.
    const std::vector<std::byte> exact(body.begin(), body.end());
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof(header) + exact.size());
    header.opcode = opcode;
    header.unique = ++channel.unique;
    header.nodeid = node;
    header.uid = uid;
    header.gid = uid;
    header.pid = 1;
    channel.answers.clear();
    channel.sends = 0;
    Request request;
    request.header = &header;
    request.body = exact;
    request.scratch = scratch;
    request.stats = stats;
    request.started_ns = monotonic_ns();
    dispatcher.handle(request, channel);
  }

  /// Sends, and expects exactly one reply.
  Answer ask(uint32_t opcode, uint64_t node, const Body& body = {}) {
    send(opcode, node, body.bytes());
    EXPECT_EQ(channel.answers.size(), 1U) << opcode_name(opcode);
    return channel.answers.empty() ? Answer{-1, {}} : channel.answers.front();
  }

  void init(uint32_t flags = ~0U, uint32_t flags2 = ~0U) {
    fuse_init_in in{};
    in.major = 7;
    in.minor = 45;
    in.max_readahead = 131072;
    in.flags = flags;
    in.flags2 = flags2;
    ASSERT_EQ(ask(FUSE_INIT, 0, Body().add(in)).error, 0);
    ASSERT_TRUE(dispatcher.initialized());
  }

  struct Opened {
    uint64_t node = 0;
    uint64_t handle = 0;
    uint32_t flags = 0;
  };
  Opened create(uint64_t parent, std::string_view name, uint32_t flags = 2 /* O_RDWR */, uint32_t mode = 0644) {
    const Answer a = ask(FUSE_CREATE, parent, Body().add(fuse_create_in{flags, mode, 022, 0}).text(name));
    EXPECT_EQ(a.error, 0) << name;
    if (a.error != 0) return {};
    const auto open = a.as<fuse_open_out>(sizeof(fuse_entry_out));
    return {a.as<fuse_entry_out>().nodeid, open.fh, open.open_flags};
  }
  uint64_t mkdir(uint64_t parent, std::string_view name) {
    return ask(FUSE_MKDIR, parent, Body().add(fuse_mkdir_in{0755, 022}).text(name)).as<fuse_entry_out>().nodeid;
  }
  Opened open(uint64_t node, uint32_t flags = 2) {
    const Answer a = ask(FUSE_OPEN, node, Body().add(fuse_open_in{flags, 0}));
    EXPECT_EQ(a.error, 0);
    return {node, a.as<fuse_open_out>().fh, a.as<fuse_open_out>().open_flags};
  }
  uint64_t opendir(uint64_t node) {
    return ask(FUSE_OPENDIR, node, Body().add(fuse_open_in{})).as<fuse_open_out>().fh;
  }
  Answer write(const Opened& f, uint64_t offset, std::string_view data, uint32_t write_flags = 0,
               uint32_t flags = 0) {
    fuse_write_in in{};
    in.fh = f.handle;
    in.offset = offset;
    in.size = static_cast<uint32_t>(data.size());
    in.write_flags = write_flags;
    in.flags = flags;
    return ask(FUSE_WRITE, f.node, Body().add(in).raw(data));
  }
  Answer read(const Opened& f, uint64_t offset, uint32_t size) {
    fuse_read_in in{};
    in.fh = f.handle;
    in.offset = offset;
    in.size = size;
    return ask(FUSE_READ, f.node, Body().add(in));
  }
  Answer lookup(uint64_t parent, std::string_view name) { return ask(FUSE_LOOKUP, parent, Body().text(name)); }
  Answer release(const Opened& f) {
    return ask(FUSE_RELEASE, f.node, Body().add(fuse_release_in{f.handle, 0, 0, 0}));
  }
  Answer ioctl(uint64_t node, uint64_t handle, uint32_t cmd, uint32_t out_size, const Body& in = {},
               uint32_t flags = 0) {
    fuse_ioctl_in head{};
    head.fh = handle;
    head.cmd = cmd;
    head.flags = flags;
    head.in_size = static_cast<uint32_t>(in.bytes().size());
    head.out_size = out_size;
    Body body;
    body.add(head);
    body.raw({reinterpret_cast<const char*>(in.bytes().data()), in.bytes().size()});
    return ask(FUSE_IOCTL, node, body);
  }
  [[nodiscard]] uint64_t lookups() { return pool.fs().stats().cache.lookups; }

  udax::test::TestPool pool;
  Dispatcher dispatcher;
  std::vector<std::byte> scratch;
  OpStats* stats = nullptr;
  Channel channel;
  std::vector<Notification> notifications;
  uint32_t uid = 0;
};

}  // namespace udax::fuse::test
