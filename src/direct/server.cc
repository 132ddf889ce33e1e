// SPDX-License-Identifier: BSD-3-Clause
#include "direct/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <new>
#include <system_error>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/sync_point.h"
#include "direct/page_scan.h"
#include "format/format.h"
#include "media/superblock.h"

namespace udax::direct {
namespace {

constexpr uint64_t kCookieLifetimeNs = uint64_t{UDAX_DIRECT_COOKIE_SECONDS} * 1'000'000'000;
constexpr int kReapMs = 50;  // how often a killed client is looked after
constexpr std::chrono::milliseconds kAckDeadline{kAckDeadlineMs};
constexpr int kPeerPidfd = 77;  // SO_PEERPIDFD; its name is missing in older headers

/// Half of what the kernel lets a process have; the other half is the program's.
uint64_t mappings_max() {
  constexpr uint64_t kDefault = 65530;
  constexpr uint64_t kMost = 1U << 20;
  uint64_t limit = kDefault;
  if (std::FILE* const file = std::fopen("/proc/sys/vm/max_map_count", "re"); file != nullptr) {
    std::array<char, 32> text{};
    if (std::fgets(text.data(), static_cast<int>(text.size()), file) != nullptr) {
      const uint64_t value = std::strtoull(text.data(), nullptr, 10);
      if (value > 0) limit = value;
    }
    std::fclose(file);
  }
  return std::min(limit, kMost) / 2;
}

Result<Peer> peer_of(int socket) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return from_errno(errno);
  int pidfd = -1;
  size = sizeof(pidfd);
  if (::getsockopt(socket, SOL_SOCKET, kPeerPidfd, &pidfd, &size) != 0) {
    // Older kernels: by number, which is its own as long as it has not hung up.
    pidfd = static_cast<int>(::syscall(SYS_pidfd_open, credentials.pid, 0));
    pollfd hung_up{socket, 0, 0};
    if (pidfd >= 0 && (::poll(&hung_up, 1, 0) != 0)) {
      ::close(pidfd);
      pidfd = -1;
    }
  }
  if (pidfd < 0) return Error::kPermission;
  return Peer{credentials.uid, credentials.pid, OwnedFd(pidfd)};
}

/// See Shared::unit. 0: nothing can be mapped.
uint64_t mapping_unit(int fd) {
  for (const uint64_t unit : {uint64_t{kBlockSize}, uint64_t{kHugeSize}}) {
    void* const got = ::mmap(nullptr, unit, PROT_READ, MAP_SHARED, fd, 0);
    if (got == MAP_FAILED) continue;
    ::munmap(got, unit);
    return unit;
  }
  return 0;
}

// Killed, and not gone yet: a thread of it may be in a system call with pages of the pool in its hands.
bool is_zombie(const Client& client) { return client.is_killed() && !client.is_gone(); }

}  // namespace

Server::Server(fs::Filesystem& fs, const Policy& policy)
    : fs_(fs),
      policy_(policy),
      uid_(::geteuid()),
      cookies_(kCookieLifetimeNs),
      uffd_device_(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Result<std::unique_ptr<Server>> Server::start(fs::Filesystem& fs, const Policy& policy, std::string* why) try {
  std::unique_ptr<Server> server(new Server(fs, policy));
  UDAX_TRY(const media::LoadedSuperblock super, media::load_superblock(fs.medium(), why));
  std::copy(std::begin(super.raw.uuid), std::end(super.raw.uuid), server->pool_uuid_.begin());
  const uint64_t unit = mapping_unit(fs.medium().fd());
  if (unit == 0) {
    *why = "the pool cannot be mapped by 2 MiB, nor by less";
    return Error::kNotSupported;
  }
  UDAX_CHECK(server->listen(why));
  server->shared_.reset(new Shared{
      fs, server->cookies_, server->counters_, server->uffd_device_.get(), mappings_max(),
      !fs.read_only() && can_track(fs.medium().fd(), offset_of(format::kHolderBlock)), &server->holds_, unit});
  server->late_ = std::make_unique<LateViews>(fs, [raw = server.get()] { raw->look_after_clients(); });
  fs.mappers().add(server.get());
  server->registered_ = true;
  server->acceptor_ = std::thread([raw = server.get()] { raw->accept_all(); });
  return server;
} catch (const std::bad_alloc&) {
  return Error::kNoMemory;
} catch (const std::system_error&) {
  *why = "no thread can be started for direct mapping";
  return Error::kNoMemory;
}

Server::~Server() { stop(); }

Status Server::listen(std::string* why) {
  const auto fail = [&](const char* what) -> Error {
    const Error error = from_errno(errno);
    *why = std::string("the socket of direct mapping: ") + what + ": " + std::strerror(errno);
    return error;
  };
  listener_ = OwnedFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_.is_open()) return fail("socket");
  if (!wake_.is_open()) return fail("eventfd");
  uint64_t number = 0;
  fill_random(&number, sizeof(number));
  std::array<char, 32> name{};
  (void)std::snprintf(name.data(), name.size(), "udaxfs-%016llx", static_cast<unsigned long long>(number));
  address_ = std::string(1, '\0') + name.data();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, address_.data(), address_.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) return fail("bind");
  constexpr int kBacklog = 128;
  if (::listen(listener_.get(), kBacklog) != 0) return fail("listen");
  return {};
}

void Server::accept_all() noexcept {
  while (!stopping_.load()) {
    bool has_zombies = false;
    {
      const LockGuard guard(slots_lock_);
      has_zombies = std::any_of(slots_.begin(), slots_.end(), [](const Slot& s) {
        return s.client != nullptr && (s.is_ended || s.client->is_killed());
      });
    }
    std::array<pollfd, 2> fds{{{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
    if (::poll(fds.data(), fds.size(), has_zombies ? kReapMs : -1) < 0) continue;
    uint64_t ignored = 0;
    if (fds[1].revents != 0) (void)!::read(wake_.get(), &ignored, sizeof(ignored));
    reap();
    if (fds[0].revents == 0) continue;
    OwnedFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.is_open()) {
      constexpr useconds_t kPauseUs = 10'000;  // out of descriptors, say: not in a busy loop
      if (errno != EAGAIN && errno != ECONNABORTED) (void)::usleep(kPauseUs);
      continue;
    }
    try {
      admit(std::move(socket));
    } catch (const std::exception&) {
      count(counters_.refused);  // no memory, no thread; the socket is closed
    }
  }
}

void Server::refuse(const OwnedFd& socket, int error) {
  count(counters_.refused);
  // What has come is read: an unread packet at the close would hide the answer behind ECONNRESET.
  Request request;
  (void)!::recv(socket.get(), &request, sizeof(request), MSG_DONTWAIT);
  Reply reply;
  reply.type = static_cast<uint32_t>(RequestType::kHello);
  reply.id = request.id;
  reply.error = static_cast<uint32_t>(error);
  (void)!::send(socket.get(), &reply, sizeof(reply), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void Server::admit(OwnedFd socket) {
  auto peer = peer_of(socket.get());
  if (!peer || !policy_.allows(peer->uid, uid_)) return refuse(socket, EPERM);
  const LockGuard guard(slots_lock_);
  const auto slot = std::find_if(slots_.begin(), slots_.end(), [](const Slot& s) { return s.client == nullptr; });
  if (slot == slots_.end()) return refuse(socket, EUSERS);
  count(counters_.connects);
  slot->client = std::make_shared<Client>(*shared_, std::move(socket), std::move(*peer));
  slot->is_ended = false;
  const size_t index = static_cast<size_t>(slot - slots_.begin());
  try {
    slot->thread = std::thread([this, index, client = slot->client.get()] {
      client->serve();
      const LockGuard lock(slots_lock_);
      slots_[index].is_ended = true;
      const uint64_t one = 1;
      (void)!::write(wake_.get(), &one, sizeof(one));
    });
  } catch (const std::system_error&) {
    slot->client.reset();
    throw;
  }
}

// Clients that have ended go; those that were killed, when their memory is gone.
void Server::reap() noexcept {
  for (size_t i = 0; i < kClientsMax; ++i) {
    std::shared_ptr<Client> gone;
    std::thread thread;
    {
      const LockGuard guard(slots_lock_);
      Slot& slot = slots_[i];
      if (slot.client == nullptr) continue;
      if (!slot.is_ended || is_zombie(*slot.client)) continue;
      // Its end waits for threads, and must not come upon somebody with locks.
      if (slot.client.use_count() > 1 || slot.client->is_scanned()) continue;
      gone = std::move(slot.client);
      thread = std::move(slot.thread);
    }
    if (thread.joinable()) thread.join();
  }
  const LockGuard guard(slots_lock_);
  if (!holds_frees_ || !late_->empty()) return;
  for (const Slot& slot : slots_) {
    if (slot.client != nullptr && is_zombie(*slot.client)) return;
  }
  holds_frees_ = false;
  fs_.hold_frees(false);
}

void Server::stop() {
  if (stopping_.exchange(true)) return;
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof(one));
  if (acceptor_.joinable()) acceptor_.join();
  listener_.reset();
  for (size_t i = 0; i < kClientsMax; ++i) {
    const LockGuard guard(slots_lock_);
    if (slots_[i].client != nullptr) slots_[i].client->stop();
  }
  for (size_t i = 0; i < kClientsMax; ++i) {
    std::thread thread;
    {
      const LockGuard guard(slots_lock_);
      thread = std::move(slots_[i].thread);
    }
    if (thread.joinable()) thread.join();
    const LockGuard guard(slots_lock_);
    slots_[i].client.reset();
  }
  if (late_ != nullptr) late_->stop();
  if (registered_) fs_.mappers().remove(this);
  registered_ = false;
}

Result<udax_ioc_direct> Server::give_leave(fs::OpenFile& file, uint32_t uid) {
  if (!policy_.allows(uid, uid_)) return Error::kPermission;
  if (!file.inode().is_reg()) return Error::kInvalid;
  if (!file.dax()) return Error::kNotSupported;
  const Leave leave{file.ino(), file.inode().snapshot().generation, file.flags(), uid};
  UDAX_TRY(const Cookie cookie, cookies_.issue(leave, monotonic_ns()));
  udax_ioc_direct out{};
  out.version = kProtocolVersion;
  out.pid = static_cast<uint32_t>(::getpid());
  out.uid = uid_;
  out.address_length = static_cast<uint32_t>(address_.size());
  std::memcpy(out.cookie, cookie.data(), cookie.size());
  std::memcpy(out.address, address_.data(), address_.size());
  static_assert(sizeof(out.pool) == sizeof(pool_uuid_));
  std::memcpy(out.pool, pool_uuid_.data(), sizeof(out.pool));
  return out;
}

void Server::invalidate(Ino ino, mapping::ByteRange range) { revoke(ino, range, Client::Revoke::kAll); }

void Server::write_protect(Ino ino, mapping::ByteRange range) { revoke(ino, range, Client::Revoke::kWritable); }

void Server::collect(Ino ino, mapping::ByteRange range, mapping::Stored& stored) {
  for (size_t i = 0; i < kClientsMax; ++i) {
    if (const std::shared_ptr<Client> client = client_at(i); client != nullptr)
      client->collect(ino, range, stored);
  }
}

std::shared_ptr<Client> Server::client_at(size_t index) {
  const LockGuard guard(slots_lock_);
  return slots_[index].client;
}

// All are told first, then waited for, so that one that is slow costs its own time only, and all that are, kPatience once.
void Server::revoke(Ino ino, mapping::ByteRange range, Client::Revoke which) {
  std::array<std::shared_ptr<Client>, kClientsMax> told;
  std::array<uint64_t, kClientsMax> sequences{};
  size_t count_told = 0;
  for (size_t i = 0; i < kClientsMax; ++i) {
    std::shared_ptr<Client> client = client_at(i);
    if (client == nullptr) continue;
    const uint64_t sequence = client->begin_revoke(ino, range, which);
    if (sequence == 0) continue;
    sequences[count_told] = sequence;
    told[count_told++] = std::move(client);
  }
  if (count_told == 0) return;
  count(counters_.revocations);
  const auto now = LateViews::Clock::now();
  for (size_t i = 0; i < count_told; ++i) {
    const auto deadline =
        UDAX_KNOB("direct.revoke.no_patience") ? now + kAckDeadline : late_->deadline(*told[i], now);
    if (told[i]->has_revoked(sequences[i], deadline)) {
      if (which == Client::Revoke::kAside) told[i]->settle_dropped(sequences[i]);
      continue;
    }
    count(counters_.late);
    told[i]->close_board(ino);
    told[i]->note_late();
    try {
      late_->add({told[i], sequences[i], now, ino, range});
      hold_frees();
    } catch (const std::bad_alloc&) {
      if (!told[i]->finish_revoke(sequences[i], now + kAckDeadline)) hold_frees();
    }
  }
}

void Server::hold(Ino ino, mapping::ByteRange range, mapping::Patience patience) {
  try {
    holds_.add(ino, range);
  } catch (const std::bad_alloc&) {
    return;
  }
  const auto until = LateViews::Clock::now() + Client::kLongPatience;
  revoke(ino, range, Client::Revoke::kAside);
  // What is stored to a late view from now on would be lost, and its client would not know.
  if (patience == mapping::Patience::kLong && !UDAX_KNOB("direct.hold.is_short"))
    late_->await_none(ino, range, until);
}

void Server::release(Ino ino, mapping::ByteRange range) {
  holds_.remove(ino, range);
  for (size_t i = 0; i < kClientsMax; ++i) {
    if (const std::shared_ptr<Client> client = client_at(i); client != nullptr) client->kick();
  }
}

bool Server::may_hold(Ino ino, mapping::ByteRange range) { return late_->any(ino, range); }

// Before the caller frees what a late client may still store to. reap() ends it.
void Server::hold_frees() {
  const LockGuard guard(slots_lock_);
  if (!holds_frees_) fs_.hold_frees(true);
  holds_frees_ = true;
  look_after_clients();
}

void Server::look_after_clients() {
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof(one));
}

}  // namespace udax::direct
