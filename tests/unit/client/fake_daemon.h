// SPDX-License-Identifier: BSD-3-Clause
//
// A daemon for the client's tests, on threads of the test itself: it knows one file, whose byte N is the pool's byte N, and
// whose pages are mapped one by one when they are touched. It can misbehave.
//
// Locks: mutex_ over a connection's views and stream; never held while the reservation is touched, which it never is.
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <udax/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "direct/protocol.h"

namespace udax::client_test {

using direct::Op;
using direct::OpType;
using direct::Reply;
using direct::Request;
using direct::RequestType;

inline constexpr uint64_t kPageSize = 4096;
inline constexpr uint64_t kPoolSize = 64ULL << 20;
inline constexpr uint32_t kHandle = 3;  // of every file

inline constexpr uint32_t kSlot = 5;
inline constexpr size_t kBoardBytes = direct::kBoardSlots * sizeof(direct::BoardSlot);

/// Why there can be no client of it here; null: there can be.
inline const char* why_no_client() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return "the sanitizer's own memory would lie in the library's reservation";
#else
  const auto fd = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  if (fd < 0) return "this user may not have a userfaultfd of kernel faults";
  ::close(fd);
  return nullptr;
#endif
}

/// What it does wrong, or says no to.
struct Faults {
  int hello_error = 0;
  int open_error = 0;
  int map_error = 0;
  uint32_t reply_id_off = 0;       // added to each reply's id
  bool forget_descriptor = false;  // SETUP's reply says that it has one, and has none
  bool silent_faults = false;      // page faults are read, and never answered
  uint64_t slot = kSlot;           // of the file, on the board
  bool hands_over_first =
      false;  // all is handed over when the next SYNC or PROTECT comes, before that is looked at
};

class FakeDaemon {
 public:
  FakeDaemon() {
    board_ = ::memfd_create("board", MFD_CLOEXEC);
    if (::ftruncate(board_, kBoardBytes) != 0) std::abort();
    slots_ = static_cast<direct::BoardSlot*>(
        ::mmap(nullptr, kBoardBytes, PROT_READ | PROT_WRITE, MAP_SHARED, board_, 0));
    pool_ = ::memfd_create("pool", MFD_CLOEXEC);
    if (::ftruncate(pool_, kPoolSize) != 0) std::abort();
    bytes_ = static_cast<char*>(::mmap(nullptr, kPoolSize, PROT_READ | PROT_WRITE, MAP_SHARED, pool_, 0));
    listener_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    address_.sun_family = AF_UNIX;
    socklen_t size = sizeof(sa_family_t);  // autobind: an abstract address that nobody has
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address_), size) != 0) std::abort();
    size = sizeof address_;
    if (::getsockname(listener_, reinterpret_cast<sockaddr*>(&address_), &size) != 0) std::abort();
    address_length_ = size - static_cast<socklen_t>(offsetof(sockaddr_un, sun_path));
    if (::listen(listener_, 8) != 0) std::abort();
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~FakeDaemon() {
    die();
    acceptor_.join();
    for (auto& c : connections_) {
      for (std::thread& t : c->threads) t.join();
      for (const int fd : {c->fault, c->control, c->stream, c->life}) ::close(fd);
    }
    ::close(listener_);
    ::close(pool_);
    ::close(board_);
    ::munmap(slots_, kBoardBytes);
    ::munmap(bytes_, kPoolSize);
  }
  FakeDaemon(const FakeDaemon&) = delete;
  FakeDaemon& operator=(const FakeDaemon&) = delete;

  /// As a killed process would: all its descriptors go.
  void die() {
    if (dead_.exchange(true)) return;
    ::shutdown(listener_, SHUT_RDWR);
    const std::lock_guard lock(mutex_);
    for (auto& c : connections_) {
      for (const int fd : {c->control, c->stream, c->life}) ::shutdown(fd, SHUT_RDWR);
    }
  }
  /// All of the range's pages are taken back from every client, and mapped again when they are touched.
  void take_back(uint64_t file_offset, uint64_t length) {
    const std::lock_guard lock(mutex_);
    for (auto& c : connections_) {
      for (const auto& [offset, view] : c->views) {
        const uint64_t begin = std::max(file_offset, view.file_offset);
        const uint64_t end = std::min(file_offset + length, view.file_offset + view.length);
        if (begin >= end) continue;
        tell(*c, OpType::kHole, offset + begin - view.file_offset, end - begin, view.prot, 0);
        for (uint64_t p = begin; p < end; p += kPageSize) c->mapped.erase(offset + p - view.file_offset);
      }
    }
  }
  /// The views that begin in the range become the kernel's, as if the file were no DAX file any more.
  void hand_over(uint64_t file_offset, uint64_t length) {
    const std::lock_guard lock(mutex_);
    for (auto& c : connections_) hand_over(*c, file_offset, length);
  }
  void leave(udax_ioc_direct* out) const {
    *out = {};
    out->version = direct::kProtocolVersion;
    out->pid = static_cast<uint32_t>(::getpid());
    out->uid = uid;
    out->address_length = address_length_;
    std::memcpy(out->address, address_.sun_path, address_length_);
    out->cookie[0] = 7;
    out->pool[0] = reinterpret_cast<uint64_t>(this);
  }
  [[nodiscard]] char* bytes() { return bytes_; }
  /// The file's, on every client's board.
  [[nodiscard]] direct::BoardSlot& slot() { return slots_[kSlot]; }
  /// The file's pages that are holes: reads give zeroes, and the first store to one fills it.
  void make_hole(uint64_t file_offset) {
    const std::lock_guard lock(mutex_);
    holes_.insert(file_offset);
  }
  [[nodiscard]] size_t connections() {
    const std::lock_guard lock(mutex_);
    return connections_.size();
  }

  Faults faults;  // set while nobody asks
  uint32_t uid = ::getuid();
  std::atomic<int> opens{0}, closes{0}, maps{0}, unmaps{0}, syncs{0}, faults_seen{0};
  std::atomic<uint32_t> ack_error{0};  // the last that came

 private:
  struct View {
    uint64_t length;
    uint64_t file_offset;
    uint32_t prot;
  };
  struct Connection {
    int control = -1, stream = -1, life = -1, fault = -1;
    uint64_t base = 0, size = 0, sequence = 0;
    std::map<uint64_t, View> views;  // by offset
    std::set<uint64_t> mapped;       // offsets of pages
    std::mutex queue_mutex;
    std::condition_variable queued;
    std::deque<uffd_msg> queue;
    std::vector<std::thread> threads;
  };

  void accept_all() {
    for (;;) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      const std::lock_guard lock(mutex_);
      connections_.push_back(std::make_unique<Connection>());
      Connection& c = *connections_.back();
      c.control = fd;
      c.threads.emplace_back([this, &c] { serve(c); });
    }
  }

  // Sends an op and waits for its acknowledgement. REQUIRES: mutex_. Faults are read meanwhile by their own thread.
  void tell(Connection& c, OpType type, uint64_t offset, uint64_t length, uint32_t prot, uint64_t device,
            bool wait = true) {
    Op op;
    op.type = static_cast<uint16_t>(type);
    op.flags = wait ? direct::kOpAck : 0;
    op.prot = prot;
    op.sequence = ++c.sequence;
    op.offset = offset;
    op.length = length;
    op.device = device;
    if (type == OpType::kKernel) op.handle = kHandle;
    if (::send(c.stream, &op, sizeof op, MSG_NOSIGNAL) != sizeof op) return;
    direct::Ack ack;
    while (wait && ::recv(c.stream, &ack, sizeof ack, 0) == sizeof ack) {
      if (ack.error != 0) ack_error = ack.error;
      if (ack.error == 0 && ack.sequence >= op.sequence) return;
    }
  }
  void hand_over(Connection& c, uint64_t file_offset, uint64_t length) {
    for (auto it = c.views.begin(); it != c.views.end();) {
      const auto [offset, view] = *it;
      ++it;
      if (view.file_offset < file_offset || view.file_offset >= file_offset + length) continue;
      cut(c, offset, view.length);
      it = c.views.upper_bound(offset);
      tell(c, OpType::kKernel, offset, view.length, view.prot, view.file_offset);
    }
  }
  static bool covers(const Connection& c, uint64_t offset, uint64_t length) {
    uint64_t at = offset;
    for (const auto& [begin, view] : c.views) {
      if (begin <= at && at < begin + view.length) at = begin + view.length;
    }
    return at >= offset + length;
  }

  static int receive(int fd, Request* request, int* given) {
    iovec part{request, sizeof *request};
    alignas(cmsghdr) char space[CMSG_SPACE(4 * sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = space;
    message.msg_controllen = sizeof space;
    if (::recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != sizeof *request) return -1;
    const cmsghdr* const header = CMSG_FIRSTHDR(&message);
    if (header == nullptr) return 0;
    const auto count = static_cast<int>((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    std::memcpy(given, CMSG_DATA(header), static_cast<size_t>(count) * sizeof(int));
    return count;
  }
  static void answer(int fd, const Reply& reply, const std::vector<int>& passed) {
    Reply copy = reply;
    iovec part{&copy, sizeof copy};
    alignas(cmsghdr) char space[CMSG_SPACE(4 * sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!passed.empty()) {
      message.msg_control = space;
      message.msg_controllen = CMSG_SPACE(passed.size() * sizeof(int));
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(passed.size() * sizeof(int));
      std::memcpy(CMSG_DATA(header), passed.data(), passed.size() * sizeof(int));
    }
    static_cast<void>(::sendmsg(fd, &message, MSG_NOSIGNAL));
  }

  void serve(Connection& c) {
    for (;;) {
      Request request;
      int given[4] = {-1, -1, -1, -1};
      if (receive(c.control, &request, given) < 0) break;
      Reply reply;
      reply.type = request.type;
      reply.id = request.id + faults.reply_id_off;
      std::vector<int> passed;
      std::vector<int> after;  // to close once they are passed
      {
        const std::lock_guard lock(mutex_);
        handle(c, request, given, &reply, &passed, &after);
      }
      reply.descriptors = static_cast<uint32_t>(passed.size());
      if (faults.forget_descriptor && request.type == static_cast<uint32_t>(RequestType::kSetup)) passed.clear();
      answer(c.control, reply, passed);
      for (const int fd : after) ::close(fd);
    }
    for (const int fd : {c.control, c.stream, c.life}) ::shutdown(fd, SHUT_RDWR);
  }

  void handle(Connection& c, const Request& r, const int* given, Reply* reply, std::vector<int>* passed,
              std::vector<int>* after) {
    switch (static_cast<RequestType>(r.type)) {
      case RequestType::kHello: {
        reply->error = static_cast<uint32_t>(faults.hello_error);
        if (reply->error != 0) return;
        int stream[2];
        int life[2];
        if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, stream) != 0 ||
            ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, life) != 0) {
          std::abort();
        }
        c.stream = stream[0];
        c.life = life[0];
        *passed = {stream[1], life[1]};
        *after = *passed;
        reply->value[direct::kWelcomePoolSize] = kPoolSize;
        reply->value[direct::kWelcomeVersion] = direct::kProtocolVersion;
        reply->value[direct::kWelcomeMappingsMax] = 1000;
        reply->value[direct::kWelcomeReservationMax] = direct::kReservationMax;
        return;
      }
      case RequestType::kSetup:
        c.base = r.offset;
        c.size = r.length;
        c.fault = given[0];
        for (int i = 1; i < 4; ++i) {
          if (given[i] >= 0) after->push_back(given[i]);
        }
        *passed = {pool_};
        if ((r.flags & direct::kSetupBoard) != 0) passed->push_back(board_);
        c.threads.emplace_back([this, &c] { read_faults(c); });
        c.threads.emplace_back([this, &c] { answer_faults(c); });
        return;
      case RequestType::kOpen:
        ++opens;
        reply->error = static_cast<uint32_t>(r.cookie[0] == 7 ? faults.open_error : EACCES);
        reply->value[0] = kHandle;
        reply->value[1] = direct::kOpenReadable | direct::kOpenWritable;
        reply->value[2] = (r.flags & direct::kOpenOnBoard) != 0 ? faults.slot : 0;
        return;
      case RequestType::kClose: ++closes; return;
      case RequestType::kMap:
        ++maps;
        reply->error = static_cast<uint32_t>(faults.map_error);
        if (reply->error != 0) return;
        c.views[r.offset] = {r.length, r.file_offset, r.prot};
        tell(c, OpType::kProt, r.offset, r.length, r.prot, 0);
        return;
      case RequestType::kUnmap:
        ++unmaps;
        cut(c, r.offset, r.length);
        tell(c, OpType::kUnmap, r.offset, r.length, 0, 0);
        return;
      case RequestType::kRemap: {
        const View old = c.views.at(r.offset);
        cut(c, r.offset, r.length);
        if (r.new_offset != r.offset) tell(c, OpType::kUnmap, r.offset, r.length, 0, 0);
        c.views[r.new_offset] = {r.new_length, old.file_offset, old.prot};
        tell(c, OpType::kHole, r.new_offset, r.new_length, old.prot, 0);
        return;
      }
      case RequestType::kProtect:
        if (!is_covered(c, r, reply)) return;
        cut(c, r.offset, r.length, &r.prot);
        tell(c, OpType::kHole, r.offset, r.length, r.prot, 0);
        return;
      case RequestType::kSync:
        if (!is_covered(c, r, reply)) return;
        ++syncs;
        tell(c, OpType::kSync, 0, 0, 0, 0);
        return;
      case RequestType::kQuery: reply->value[0] = c.mapped.size() * kPageSize; return;
      default: return;
    }
  }

  bool is_covered(Connection& c, const Request& r, Reply* reply) {
    if (faults.hands_over_first) hand_over(c, 0, kPoolSize);
    if (!covers(c, r.offset, r.length)) reply->error = ENOMEM;
    return reply->error == 0;
  }
  // Takes the range out of the views, or gives it another protection.
  static void cut(Connection& c, uint64_t offset, uint64_t length, const uint32_t* prot = nullptr) {
    std::map<uint64_t, View> kept;
    for (const auto& [at, view] : c.views) {
      const uint64_t begin = std::max(at, offset);
      const uint64_t end = std::min(at + view.length, offset + length);
      if (begin >= end) {
        kept[at] = view;
        continue;
      }
      if (begin > at) kept[at] = {begin - at, view.file_offset, view.prot};
      if (prot != nullptr) kept[begin] = {end - begin, view.file_offset + begin - at, *prot};
      if (end < at + view.length) kept[end] = {at + view.length - end, view.file_offset + end - at, view.prot};
    }
    c.views = std::move(kept);
    c.mapped.erase(c.mapped.lower_bound(offset), c.mapped.lower_bound(offset + length));
  }

  // Reads at once, whoever has the mutex: a HOLE waits until its event has been read.
  void read_faults(Connection& c) {
    while (!dead_) {
      pollfd entry{c.fault, POLLIN, 0};
      if (::poll(&entry, 1, 20) <= 0) continue;
      uffd_msg message{};
      if (dead_ || ::read(c.fault, &message, sizeof message) != sizeof message) continue;
      if (message.event != UFFD_EVENT_PAGEFAULT) continue;
      ++faults_seen;
      if (faults.silent_faults) continue;
      const std::lock_guard lock(c.queue_mutex);
      c.queue.push_back(message);
      c.queued.notify_one();
    }
    c.queued.notify_one();
  }
  void answer_faults(Connection& c) {
    for (;;) {
      uffd_msg message{};
      {
        std::unique_lock lock(c.queue_mutex);
        c.queued.wait_for(lock, std::chrono::milliseconds(20), [&] { return !c.queue.empty() || dead_; });
        if (dead_) return;
        if (c.queue.empty()) continue;
        message = c.queue.front();
        c.queue.pop_front();
      }
      const std::lock_guard lock(mutex_);
      answer_fault(c, (message.arg.pagefault.address & ~(kPageSize - 1)) - c.base,
                   (message.arg.pagefault.flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)) != 0);
    }
  }
  void answer_fault(Connection& c, uint64_t offset, bool write) {
    auto it = c.views.upper_bound(offset);
    if (it == c.views.begin()) return tell(c, OpType::kWake, offset, kPageSize, 0, 0, false);
    --it;
    const uint64_t file_offset = it->second.file_offset + offset - it->first;
    if (it->first + it->second.length <= offset || c.mapped.contains(offset)) {
      return tell(c, OpType::kWake, offset, kPageSize, 0, 0, false);
    }
    if (file_offset >= kPoolSize) return tell(c, OpType::kBus, offset, kPageSize, 0, 0, false);
    if (!write && holes_.contains(file_offset)) {
      return tell(c, OpType::kZero, offset, kPageSize, 0, 0, false);
    }
    holes_.erase(file_offset);
    c.mapped.insert(offset);
    tell(c, OpType::kMap, offset, kPageSize, it->second.prot, file_offset, false);
  }

  int board_ = -1;
  direct::BoardSlot* slots_ = nullptr;
  int pool_ = -1;
  int listener_ = -1;
  char* bytes_ = nullptr;
  sockaddr_un address_{};
  socklen_t address_length_ = 0;
  std::thread acceptor_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::set<uint64_t> holes_;
  std::atomic<bool> dead_{false};
};

/// That which leave is given for, by the ioctl(2) of the tests.
inline FakeDaemon* g_daemon = nullptr;

}  // namespace udax::client_test
