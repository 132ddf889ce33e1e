// SPDX-License-Identifier: BSD-3-Clause
//
// A client of the server's half, its other half played by the test: a mapper that does nothing but acknowledge, when it is let, and
// the userfaultfd of a process made for it, which touches its memory when it is told to.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "direct/client.h"
#include "media/memory_medium.h"
#include "mkfs/make_pool.h"

namespace udax::direct {

inline constexpr uint64_t kPoolSize = uint64_t{16} << 20;
inline constexpr uint64_t kSize = uint64_t{64} << 20;
inline constexpr uint64_t kBase = 0x7e9000000000;  // the sanitizers leave it to programs

/// A pool in memory with something for a descriptor.
class Medium final : public media::MemoryMedium {
 public:
  Medium() : MemoryMedium(kPoolSize), null_(::open("/dev/null", O_RDWR | O_CLOEXEC)) {}
  [[nodiscard]] int fd() const override { return null_.get(); }

 private:
  OwnedFd null_;
};

inline std::array<OwnedFd, 2> make_pair() {
  std::array<int, 2> ends{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
  return {OwnedFd(ends[0]), OwnedFd(ends[1])};
}

/// A process that has memory, and hands its userfaultfd over.
struct Process {
  pid_t pid = -1;
  OwnedFd faults;
  OwnedFd pagemap;
  OwnedFd orders;
  Process() {
    auto pair = make_pair();
    pid = ::fork();
    if (pid == 0) {
      const int fd = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
      uffdio_api api{};
      api.api = UFFD_API;
      const std::array<std::byte, 1> byte{};
      if (fd >= 0 && ::ioctl(fd, UFFDIO_API, &api) == 0) (void)send_packet(pair[1].get(), byte, std::span(&fd, 1));
      void* const memory = ::mmap(reinterpret_cast<void*>(kBase), kSize, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
      uffdio_register whole{};
      whole.range = {kBase, kSize};
      whole.mode = UFFDIO_REGISTER_MODE_MISSING;
      if (memory == MAP_FAILED || ::ioctl(fd, UFFDIO_REGISTER, &whole) != 0) ::_exit(1);
      uint64_t at = 0;
      while (::recv(pair[1].get(), &at, sizeof(at), 0) == sizeof(at))
        (void)*reinterpret_cast<volatile char*>(kBase + at);
      ::_exit(0);
    }
    std::array<std::byte, 1> byte{};
    auto got = receive_packet(pair[0].get(), byte);
    EXPECT_TRUE(got && got->size() == 1);
    if (got && got->size() == 1) faults = std::move((*got)[0]);
    pagemap = OwnedFd(::open(("/proc/" + std::to_string(pid) + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC));
    orders = std::move(pair[0]);
  }
  /// It touches its memory, and waits until it is woken.
  void touch(uint64_t at) const { EXPECT_EQ(::send(orders.get(), &at, sizeof(at), 0), ssize_t{sizeof(at)}); }
  ~Process() {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
};

class PlayedClient : public ::testing::Test {
 protected:
  explicit PlayedClient(fs::DaxMode dax = fs::DaxMode::kAlways, uint32_t setup_flags = kSetupNoTracking,
                        uint64_t unit = kBlockSize)
      : dax_(dax), setup_flags_(setup_flags), unit_(unit) {}
  void SetUp() override {
    ::signal(SIGPIPE, SIG_IGN);
    mkfs::MakeOptions make;
    ASSERT_TRUE(mkfs::make_pool(*medium_, make));
    fs::MountOptions options;
    options.dax = dax_;
    auto mounted = fs::Filesystem::mount(medium_, options, nullptr);
    ASSERT_TRUE(mounted);
    fs_ = std::move(*mounted);
    auto created = fs_->create(kRootIno, "f", 0100644, O_RDWR, {}, &attr_);
    ASSERT_TRUE(created);
    file_ = std::move(*created);
    ASSERT_TRUE(fs_->set_flags(attr_.ino, format::kFlagDax, format::kFlagDax, {}, fs::Caller{}));
    const std::vector<std::byte> bytes(64 << 10, std::byte{7});
    ASSERT_TRUE(fs_->write(*file_, 0, bytes, false, false));
    shared_ = std::make_unique<Shared>(Shared{*fs_, jar_, counters_, -1, 1000, false, &holds_, unit_});
    auto pair = make_pair();
    control_ = std::move(pair[0]);
    Peer peer;
    peer.pid = process_.pid;
    peer.pidfd = OwnedFd(static_cast<int>(::syscall(SYS_pidfd_open, process_.pid, 0)));
    client_ = std::make_unique<Client>(*shared_, std::move(pair[1]), std::move(peer));
    server_ = std::thread([this] { client_->serve(); });
    shake_hands();
  }
  void TearDown() override {
    let_mapper_go_on();
    control_.reset();
    if (server_.joinable()) server_.join();
    if (mapper_.joinable()) mapper_.join();
    client_.reset();
    file_.reset();
    EXPECT_TRUE(fs_->unmount());
  }

  Reply ask(const Request& request, std::span<const int> descriptors = {}) {
    EXPECT_TRUE(send_packet(control_.get(), std::as_bytes(std::span(&request, 1)), descriptors));
    Reply reply;
    auto got = receive_packet(control_.get(), std::as_writable_bytes(std::span(&reply, 1)));
    if (!got) reply.error = ECONNRESET;
    if (got && request.type == static_cast<uint32_t>(RequestType::kHello)) stream_ = std::move((*got)[0]);
    if (got && got->size() == 2 && request.type == static_cast<uint32_t>(RequestType::kSetup)) {
      board_ = std::move((*got)[1]);
    }
    return reply;
  }
  void shake_hands() {
    Request hello;
    hello.type = static_cast<uint32_t>(RequestType::kHello);
    hello.version = kProtocolVersion;
    ASSERT_EQ(ask(hello).error, 0U);
    mapper_ = std::thread([this] { follow(); });
    Request setup;
    setup.type = static_cast<uint32_t>(RequestType::kSetup);
    setup.offset = kBase;
    setup.length = kSize;
    setup.file_offset = uint64_t{1} << 41;
    setup.flags = setup_flags_;
    const std::array<int, 2> descriptors{process_.faults.get(), process_.pagemap.get()};
    ASSERT_EQ(ask(setup, descriptors).error, 0U);
  }
  Reply open_file(uint32_t flags, uint32_t request_flags = 0) {
    Request request;
    request.flags = request_flags;
    request.type = static_cast<uint32_t>(RequestType::kOpen);
    const auto cookie = jar_.issue({attr_.ino, attr_.generation, flags, 0}, monotonic_ns());
    if (cookie) std::copy(cookie->begin(), cookie->end(), request.cookie);
    return ask(request);
  }
  Reply map(uint64_t handle, uint32_t prot, uint64_t at = 0, uint64_t length = 16 * kBlockSize) {
    Request request;
    request.type = static_cast<uint32_t>(RequestType::kMap);
    request.handle = static_cast<uint32_t>(handle);
    request.offset = at;
    request.file_offset = at;
    request.length = length;
    request.prot = prot;
    return ask(request);
  }

  void follow() {
    std::array<Op, kOpsMax> ops;
    for (;;) {
      const ssize_t n = ::recv(stream_.get(), ops.data(), sizeof(ops), 0);
      if (n <= 0) return;
      for (size_t i = 0; i < static_cast<size_t>(n) / sizeof(Op); ++i) {
        std::unique_lock lock(mutex_);
        ++seen_[ops[i].type % seen_.size()];
        last_[ops[i].type % last_.size()] = ops[i];
        if (ops[i].type == static_cast<uint16_t>(OpType::kUnmap))
          unmapped_.push_back({ops[i].offset, ops[i].length});
        changed_.notify_all();
        changed_.wait(lock, [&] { return !is_held_; });
        const Ack ack{ops[i].sequence};
        if ((ops[i].flags & kOpAck) != 0) (void)!::send(stream_.get(), &ack, sizeof(ack), MSG_NOSIGNAL);
      }
    }
  }
  void hold_mapper() {
    const std::lock_guard lock(mutex_);
    is_held_ = true;
  }
  void let_mapper_go_on() {
    const std::lock_guard lock(mutex_);
    is_held_ = false;
    changed_.notify_all();
  }
  int seen(OpType type) {
    const std::lock_guard lock(mutex_);
    return seen_[static_cast<size_t>(type)];
  }
  Op last(OpType type) {
    const std::lock_guard lock(mutex_);
    return last_[static_cast<size_t>(type)];
  }
  [[nodiscard]] std::vector<std::pair<uint64_t, uint64_t>> unmapped() {
    const std::lock_guard lock(mutex_);
    return unmapped_;
  }
  void wait_for(OpType type) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return seen_[static_cast<size_t>(type)] > 0; });
  }
  /// As the server does it.
  [[nodiscard]] bool revoke() {
    const uint64_t sequence = client_->begin_revoke(attr_.ino, {}, Client::Revoke::kAll);
    if (sequence == 0) return true;
    return client_->finish_revoke(sequence, OpStream::Clock::now() + std::chrono::milliseconds(kAckDeadlineMs));
  }

  const fs::DaxMode dax_;
  const uint32_t setup_flags_;
  const uint64_t unit_;
  Process process_;
  std::shared_ptr<Medium> medium_ = std::make_shared<Medium>();
  std::unique_ptr<fs::Filesystem> fs_;
  fs::OpenFilePtr file_;
  fs::Attr attr_;
  CookieJar jar_{uint64_t{1} << 60};
  Counters counters_;
  HoldList holds_;
  std::unique_ptr<Shared> shared_;
  OwnedFd control_;
  OwnedFd stream_;
  OwnedFd board_;
  std::unique_ptr<Client> client_;
  std::thread server_;
  std::thread mapper_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_held_ = false;
  std::array<int, 10> seen_{};
  std::array<Op, 10> last_{};                            // by type
  std::vector<std::pair<uint64_t, uint64_t>> unmapped_;  // offset, length
};

}  // namespace udax::direct
