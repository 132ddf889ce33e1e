// SPDX-License-Identifier: BSD-3-Clause
//
// A client's life: handshake, requests, end.
//
// Its end is one of
//   DETACH                   nothing is mapped any more, and it lives on
//   exit, exec, kill         the kernel takes the memory before the descriptors: at the end of file it is gone
//   broken off               it broke the protocol, or did not answer: SIGKILL. No thread of it runs its program's code any
//                            more; its memory goes when its last thread leaves the kernel
#include "direct/client.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <new>
#include <system_error>

#include "base/log.h"
#include "direct/page_scan.h"
#include "udax/ioctl.h"

namespace udax::direct {
namespace {

constexpr std::chrono::milliseconds kEndPatience{2000};
constexpr time_t kHandshakeSeconds = 5;
constexpr long kProcMagic = 0x9fa0;  // PROC_SUPER_MAGIC

void set_time_out(int socket, int option, time_t seconds) {
  const timeval time{seconds, 0};
  (void)::setsockopt(socket, SOL_SOCKET, option, &time, sizeof(time));
}

struct Pair {
  OwnedFd ours;
  OwnedFd theirs;
};

Result<Pair> make_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) return from_errno(errno);
  return Pair{OwnedFd(ends[0]), OwnedFd(ends[1])};
}

uint32_t granularity_of(const media::Medium& medium) {
  switch (medium.granularity()) {
    case media::Granularity::kByte: return UDAX_GRANULARITY_BYTE;
    case media::Granularity::kCacheLine: return UDAX_GRANULARITY_CACHE_LINE;
    case media::Granularity::kPage: return UDAX_GRANULARITY_PAGE;
  }
  return UDAX_GRANULARITY_PAGE;
}

bool is_of_proc(int fd) {
  struct statfs info {};
  return ::fstatfs(fd, &info) == 0 && info.f_type == kProcMagic;
}

}  // namespace

Client::Client(Shared& shared, OwnedFd control, Peer peer)
    : shared_(shared),
      control_(std::move(control)),
      peer_(std::move(peer)),
      kick_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  count(shared_.counters.clients);
}

Client::~Client() { shared_.counters.clients.fetch_sub(1); }

void Client::serve() noexcept {
  set_time_out(control_.get(), SO_RCVTIMEO, kHandshakeSeconds);
  set_time_out(control_.get(), SO_SNDTIMEO, kHandshakeSeconds);
  try {
    if (const Status done = handshake(); !done) {
      log::debug("direct: process {} of user {} did not get in: {}", peer_.pid, peer_.uid,
                 to_string(done.error()));
    } else {
      set_time_out(control_.get(), SO_RCVTIMEO, 0);
      while (serve_request()) {
      }
    }
  } catch (const std::bad_alloc&) {
    break_off("took the last memory");
  }
  take_down();
}

Status Client::reply(const Request& to, const Reply& reply, std::span<const int> descriptors) {
  Reply out = reply;
  out.type = to.type;
  out.id = to.id;
  out.descriptors = static_cast<uint32_t>(descriptors.size());
  return send_packet(control_.get(), std::as_bytes(std::span(&out, 1)), descriptors);
}

Status Client::handshake() {
  Request request;
  const auto refuse = [&](int error) -> Error {
    Reply out;
    out.error = static_cast<uint32_t>(error);
    (void)reply(request, out);
    return from_errno(error);
  };
  const auto next = [&](RequestType type) -> Result<std::vector<OwnedFd>> {
    UDAX_TRY(auto descriptors, receive_packet(control_.get(), std::as_writable_bytes(std::span(&request, 1))));
    if (request.type != static_cast<uint32_t>(type)) return refuse(EPROTO);
    return descriptors;
  };
  UDAX_TRY(const auto none, next(RequestType::kHello));
  if (!none.empty()) return refuse(EPROTO);
  if (const Status done = hello(request); !done) return refuse(to_errno(done.error()));
  UDAX_TRY(auto descriptors, next(RequestType::kSetup));
  if (const Status done = set_up(request, std::move(descriptors)); !done) return refuse(to_errno(done.error()));
  return {};
}

Status Client::hello(const Request& request) {
  if (request.version < kProtocolVersion) return Error::kNotSupported;
  // One that this process may not end could keep everyone waiting.
  if (::syscall(SYS_pidfd_send_signal, peer_.pidfd.get(), 0, nullptr, 0) != 0) return Error::kPermission;
  UDAX_TRY(Pair stream, make_pair());
  UDAX_TRY(Pair life, make_pair());
  stream_for_setup_ = std::move(stream.ours);
  life_ = std::move(life.ours);
  Reply out;
  out.value[kWelcomePoolSize] = shared_.fs.medium().size();
  out.value[kWelcomeGranularity] = granularity_of(shared_.fs.medium());
  out.value[kWelcomeMappingsMax] = shared_.mappings_max;
  out.value[kWelcomeReservationMax] = kReservationMax;
  out.value[kWelcomeVersion] = kProtocolVersion;
  if (shared_.fs.read_only()) out.value[kWelcomeFlags] |= kWelcomeReadOnly;
  if (shared_.can_track) out.value[kWelcomeFlags] |= kWelcomeTracks;
  if (shared_.uffd_device >= 0) out.value[kWelcomeFlags] |= kWelcomeHasUffdDevice;
  const std::array<int, 3> descriptors{stream.theirs.get(), life.theirs.get(), shared_.uffd_device};
  return reply(request, out, std::span(descriptors).first(shared_.uffd_device >= 0 ? 3 : 2));
}

Status Client::set_up(const Request& request, std::vector<OwnedFd> descriptors) {
  const bool has_tracking = (request.flags & kSetupNoTracking) == 0;
  if ((request.flags & ~(kSetupNoTracking | kSetupBoard)) != 0 || descriptors.size() != (has_tracking ? 3U : 2U)) {
    return Error::kInvalid;
  }
  const auto fits = [&](uint64_t start) {
    constexpr uint64_t kTop = uint64_t{1} << 47;  // of what user space can have
    return start != 0 && start % kReservationAlign == 0 && start < kTop && request.length <= kTop - start;
  };
  base_ = request.offset;
  staging_ = request.file_offset;
  size_ = request.length;
  if (size_ == 0 || size_ > kReservationMax || size_ % kReservationAlign != 0) return Error::kInvalid;
  if (!fits(base_) || !fits(staging_)) return Error::kInvalid;
  if (base_ < staging_ + size_ && staging_ < base_ + size_) return Error::kInvalid;
  UDAX_TRY(FaultDescriptor faults, FaultDescriptor::take(std::move(descriptors[0])));
  if (!is_of_proc(descriptors[1].get()) || ask_memory(descriptors[1].get()) == MemoryState::kUnknown) {
    return Error::kInvalid;
  }
  pagemap_ = std::move(descriptors[1]);
  is_tracking_ = has_tracking && shared_.can_track;
  faults_ = std::make_unique<FaultQueue>(std::move(faults), kick_.get());
  stream_ = std::make_unique<OpStream>(std::move(stream_for_setup_), *faults_);
  UDAX_CHECK(make_board(request));
  UDAX_CHECK(start_worker());
  is_set_up_.store(true, std::memory_order_release);
  const std::array<int, 2> given{shared_.fs.medium().fd(), board_ != nullptr ? board_->fd() : -1};
  return reply(request, Reply{}, std::span(given).first(board_ != nullptr ? 2 : 1));
}

Status Client::start_worker() try {
  worker_ = std::thread([this] { work(); });
  return {};
} catch (const std::system_error&) {
  return Error::kNoMemory;
}

bool Client::is_gone() const { return faults_ == nullptr || ask_memory(pagemap_.get()) == MemoryState::kGone; }

bool Client::wait_gone(std::chrono::milliseconds patience) const {
  const auto deadline = OpStream::Clock::now() + patience;
  while (!is_gone()) {
    if (OpStream::Clock::now() >= deadline) return false;
    constexpr auto kStep = std::chrono::microseconds(200);
    std::this_thread::sleep_for(kStep);
  }
  return true;
}

// Any thread, with any lock: kills, and lets who waits go. The control thread does the rest.
void Client::break_off(std::string_view why) noexcept {
  if (broken_.exchange(true)) return;
  if (!is_gone()) {
    (void)::syscall(SYS_pidfd_send_signal, peer_.pidfd.get(), SIGKILL, nullptr, 0);
    killed_.store(true);
    count(shared_.counters.cut_offs);
    log::warning("direct: process {} of user {} {}: it was killed, since it has the pool mapped", peer_.pid,
                 peer_.uid, why);
  }
  if (stream_ != nullptr) stream_->shut();
  (void)::shutdown(control_.get(), SHUT_RDWR);
}

void Client::stop() {
  // The control thread sees an end of file.
  (void)::shutdown(control_.get(), SHUT_RD);
}

void Client::take_down() noexcept {
  if (is_set_up_.load() && !is_gone()) {
    retire_board();
    // It lives. What it has is taken back; if it does not let go, it is killed.
    if (const Status done = unmap({0, size_}); !done) break_off("kept its mappings at its end");
    if (broken_.load() && !wait_gone(kEndPatience)) {
      log::error("direct: process {} was killed and has not ended yet; blocks that are freed wait for it",
                 peer_.pid);
    }
  }
  ending_.store(true);
  kick();
  if (worker_.joinable()) worker_.join();
  settle_handovers();
  handovers_.clear();
  broken_.store(true);
  RegionTable::Handles files;
  {
    const LockGuard guard(mutex_);
    (void)drop_views({0, size_});
    regions_.clear(files);
    count_regions();
  }
  settle_dropped(~uint64_t{0});
  tell_of_open();
  files.clear();
  handles_.clear();
  (void)::shutdown(control_.get(), SHUT_RDWR);
  life_.reset();
  if (stream_ != nullptr) stream_->shut();
}

}  // namespace udax::direct
