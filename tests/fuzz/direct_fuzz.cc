// SPDX-License-Identifier: BSD-3-Clause
//
// Hostile clients of direct mapping: the input is a run of packets on the control socket of one client of a small mounted pool. A
// sound handshake comes first, unless the input's first byte says otherwise; cookies and handles, which it cannot know, are put in. Each
// request is answered, every op that is sent lies within reservation and pool, and the pool is sound at the end.
//
// The client's memory is that of a process that has ended: so nothing is killed, and no fault comes.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "check/check.h"
#include "direct/client.h"
#include "tests/fuzz/seed_pool.h"

namespace udax {
namespace {

using direct::OwnedFd;
using fuzz::must;

constexpr uint64_t kSize = uint64_t{64} << 20;

/// A pool in memory with something for a descriptor.
class Medium final : public media::MemoryMedium {
 public:
  Medium() : MemoryMedium(fuzz::kPoolSize), null_(::open("/dev/null", O_RDWR | O_CLOEXEC)) {}
  void copy(const media::MemoryMedium& from) { std::memcpy(raw(), from.at(0), size()); }
  [[nodiscard]] int fd() const override { return null_.get(); }

 private:
  OwnedFd null_;
};

std::array<OwnedFd, 2> make_pair() {
  std::array<int, 2> ends{};
  must(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
  return {OwnedFd(ends[0]), OwnedFd(ends[1])};
}

/// A userfaultfd and a pagemap of a process that has ended.
struct Orphan {
  OwnedFd faults;
  OwnedFd pagemap;
};

Orphan make_orphan() {
  auto pair = make_pair();
  const pid_t child = ::fork();
  must(child >= 0);
  const std::array<std::byte, 1> byte{};
  if (child == 0) {
    const int fd = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
    uffdio_api api{};
    api.api = UFFD_API;
    const std::array<int, 2> both{fd, ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)};
    const bool done = fd >= 0 && both[1] >= 0 && ::ioctl(fd, UFFDIO_API, &api) == 0;
    if (done) (void)direct::send_packet(pair[1].get(), byte, both);
    ::_exit(done ? 0 : 1);
  }
  int status = 0;
  must(::waitpid(child, &status, 0) == child && status == 0);
  std::array<std::byte, 1> into{};
  auto got = direct::receive_packet(pair[0].get(), into);
  must(got && got->size() == 2);
  return {std::move((*got)[0]), std::move((*got)[1])};
}

/// The client's mapper: looks at each op, and acknowledges.
void follow(int stream) {
  std::array<direct::Op, direct::kOpsMax> ops;
  uint64_t last = 0;
  for (;;) {
    const ssize_t n = ::recv(stream, ops.data(), sizeof(ops), 0);
    if (n <= 0) return;
    must(static_cast<size_t>(n) % sizeof(direct::Op) == 0);
    for (size_t i = 0; i < static_cast<size_t>(n) / sizeof(direct::Op); ++i) {
      const direct::Op& op = ops[i];
      must(op.sequence == ++last && op.type >= 1 && op.type <= 9);
      must(op.offset % kBlockSize == 0 && op.length % kBlockSize == 0);
      must(op.offset <= kSize && op.length <= kSize - op.offset);
      if (op.type == static_cast<uint16_t>(direct::OpType::kMap)) {
        must(op.length > 0 && op.device % kBlockSize == 0 && op.device > 0 && op.device < fuzz::kPoolSize);
        must(op.length <= fuzz::kPoolSize - op.device);
      }
      const direct::Ack ack{op.sequence};
      if ((op.flags & direct::kOpAck) != 0) (void)!::send(stream, &ack, sizeof(ack), MSG_NOSIGNAL);
    }
  }
}

class Run {
 public:
  explicit Run(fs::Filesystem& fs) : jar_(uint64_t{1} << 60), shared_{fs, jar_, counters_, -1, 1000, false} {
    auto pair = make_pair();
    ours_ = std::move(pair[0]);
    direct::Peer peer;
    peer.pid = ::getpid();
    peer.pidfd = OwnedFd(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
    client_ = std::make_unique<direct::Client>(shared_, std::move(pair[1]), std::move(peer));
    server_ = std::thread([this] { client_->serve(); });
    for (int i = 0; i < 2; ++i) {
      fs::Attr attr;
      const char name[2] = {static_cast<char>('a' + i), 0};
      auto file = fs.create(kRootIno, name, 0100644, O_RDWR, {}, &attr);
      must(file.has_value());
      const std::vector<std::byte> bytes(64 << 10, std::byte{7});
      must(fs.write(**file, static_cast<uint64_t>(i) * 40960, bytes, false, false).has_value());
      leaves_.push_back({attr.ino, attr.generation, i == 0 ? uint32_t{O_RDWR} : uint32_t{O_RDONLY}, 0});
    }
  }
  ~Run() {
    ours_.reset();
    server_.join();
    if (follower_.joinable()) follower_.join();
  }

  void shake_hands(const Orphan& orphan) {
    direct::Request hello;
    hello.type = static_cast<uint32_t>(direct::RequestType::kHello);
    hello.version = direct::kProtocolVersion;
    auto got = exchange(std::as_bytes(std::span(&hello, 1)), {});
    must(got.size() == 2);
    stream_ = std::move(got[0]);
    follower_ = std::thread([this] { follow(stream_.get()); });
    direct::Request setup;
    setup.type = static_cast<uint32_t>(direct::RequestType::kSetup);
    setup.offset = uint64_t{1} << 40;
    setup.length = kSize;
    setup.file_offset = uint64_t{1} << 41;
    setup.flags = direct::kSetupNoTracking | direct::kSetupBoard;
    const std::array<int, 2> descriptors{orphan.faults.get(), orphan.pagemap.get()};
    must(exchange(std::as_bytes(std::span(&setup, 1)), descriptors).size() == 2);
  }
  /// Sends, and takes the answer, if the other side still gives one.
  std::vector<OwnedFd> exchange(std::span<const std::byte> packet, std::span<const int> descriptors) {
    if (!direct::send_packet(ours_.get(), packet, descriptors)) return {};
    direct::Reply reply;
    auto got = direct::receive_packet(ours_.get(), std::as_writable_bytes(std::span(&reply, 1)));
    must(!got || reply.descriptors == got->size());
    return got ? std::move(*got) : std::vector<OwnedFd>();
  }
  void make_cookie(direct::Request& request, size_t which) {
    const auto cookie = jar_.issue(leaves_[which % leaves_.size()], monotonic_ns());
    if (cookie) std::copy(cookie->begin(), cookie->end(), request.cookie);
  }

 private:
  direct::CookieJar jar_;
  direct::Counters counters_;
  direct::Shared shared_;
  OwnedFd ours_;
  OwnedFd stream_;
  std::unique_ptr<direct::Client> client_;
  std::thread server_;
  std::thread follower_;
  std::vector<direct::Leave> leaves_;
};

// A packet: a byte of type, a byte of how, then numbers of a byte each, as pages, or the raw bytes of a request.
void play(Run& run, const uint8_t* data, size_t size) {
  constexpr size_t kHead = 8;
  for (int i = 0; i < 64 && size >= kHead; ++i) {
    direct::Request request;
    const uint8_t how = data[1];
    size_t used = kHead;
    if ((how & 128U) != 0) {
      used = std::min(size, sizeof(request));
      std::memcpy(&request, data, used);
      (void)run.exchange(std::as_bytes(std::span(&request, 1)).first((how & 64U) != 0 ? used : sizeof(request)),
                         {});
    } else {
      request.type = 3 + data[0] % 10;
      const auto type = static_cast<direct::RequestType>(request.type);
      using Type = direct::RequestType;
      request.id = static_cast<uint32_t>(i);
      const bool has_range = type != Type::kOpen && type != Type::kClose && type != Type::kDetach;
      if (type == Type::kOpen) run.make_cookie(request, how);
      if (type == Type::kOpen) request.flags = data[5] & 1U;  // kOpenOnBoard
      if (type == Type::kClose || type == Type::kMap) request.handle = how & 3U;
      if (has_range) {
        request.offset = uint64_t{data[2]} * kBlockSize;
        request.length = uint64_t{data[3]} * kBlockSize;
      }
      if (type == Type::kMap) request.file_offset = uint64_t{data[4]} * kBlockSize;
      if (type == Type::kMap) request.flags = data[5] & 3U;
      if (type == Type::kAdvise) request.flags = data[5] & 1U;
      if (type == Type::kMap || type == Type::kProtect) request.prot = (how >> 2U) & 3U;
      if (type == Type::kRemap) {
        request.new_offset = uint64_t{data[4]} * kBlockSize;
        request.new_length = uint64_t{data[5]} * kBlockSize;
      }
      (void)run.exchange(std::as_bytes(std::span(&request, 1)), {});
    }
    data += used;
    size -= used;
  }
}

}  // namespace
}  // namespace udax

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace udax;
  static fuzz::SeedPool seed;
  static auto medium = std::make_shared<Medium>();
  static const Orphan orphan = make_orphan();
  medium->copy(seed.medium);
  fs::MountOptions options;
  options.dax = fs::DaxMode::kAlways;
  auto mounted = fs::Filesystem::mount(medium, options, nullptr);
  must(mounted.has_value());
  if (size > 0) {
    Run run(**mounted);
    if (data[0] != 0xFF) run.shake_hands(orphan);
    play(run, data + 1, size - 1);
  }
  must((*mounted)->unmount().has_value());
  check::CheckOptions check;
  check.problems_max = 10;
  const auto report = check::check_pool(static_cast<const media::Medium&>(*medium), check);
  must(report.has_value() && report->clean());
  return 0;
}
