// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/serve.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "base/log.h"
#include "daemon/guard.h"
#include "direct/server.h"
#include "fs/filesystem.h"
#include "fuse/session.h"
#include "media/pool_access.h"

namespace udax::daemon {
namespace {

// The signals that end the daemon, as a descriptor; blocked in this and all later threads.
class EndSignals {
 public:
  EndSignals() {
    (void)::signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    (void)::sigemptyset(&set);
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) (void)::sigaddset(&set, number);
    (void)::sigprocmask(SIG_BLOCK, &set, nullptr);
    fd_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  }
  ~EndSignals() {
    if (fd_ >= 0) ::close(fd_);
  }
  EndSignals(const EndSignals&) = delete;
  EndSignals& operator=(const EndSignals&) = delete;
  [[nodiscard]] int fd() const { return fd_; }
  /// The number of the signal that came; 0 if none.
  [[nodiscard]] int take() const {
    signalfd_siginfo info{};
    return ::read(fd_, &info, sizeof(info)) == sizeof(info) ? static_cast<int>(info.ssi_signo) : 0;
  }

 private:
  int fd_ = -1;
};

void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

int status_of(Error error) { return error == Error::kNoMemory ? kExitSystem : kExitMount; }

std::string sentence_or(const std::string& why, Error error) {
  return why.empty() ? std::string(to_string(error)) : why;
}

// What was stored and is waiting for an fsync that may never come is flushed as often as kernels do it: until then it
// could be lost, and its inodes cannot leave the cache.
constexpr int kFlushIntervalMs = 30'000;

// Until the mount is gone.
void wait_for_end(fuse::Session& session, const EndSignals& signals, const std::string& mountpoint,
                  fs::Filesystem& fs) {
  for (;;) {
    std::array<pollfd, 2> fds{{{session.ended_fd(), POLLIN, 0}, {signals.fd(), POLLIN, 0}}};
    const int ready = ::poll(fds.data(), fds.size(), kFlushIntervalMs);
    if (ready < 0 && errno != EINTR) return;
    if (ready == 0) fs.flush_dirty();
    if (fds[0].revents != 0) return;
    const int signal = fds[1].revents != 0 ? signals.take() : 0;
    if (signal == 0) continue;
    log::info("signal {}: unmounting {}", signal, mountpoint);
    if (!session.unmount()) log::warning("files were still open on {}; they are cut off", mountpoint);
    return;
  }
}

/// What the front door by FUSE knows of the one by direct mapping.
class Offer final : public fuse::DirectOffer {
 public:
  explicit Offer(direct::Server& server) : server_(server) {}
  [[nodiscard]] Result<udax_ioc_direct> give_leave(fs::OpenFile& file, uint32_t uid) override {
    return server_.give_leave(file, uid);
  }
  [[nodiscard]] std::string counters_json() override {
    const direct::CounterValues c = server_.counters();
    return fmt::format(
        R"("clients":{},"regions":{},"connects":{},"refused":{},"cut_offs":{},"faults":{},"maps":{},)"
        R"("holes":{},"buses":{},"zero_pages":{},"revocations":{},"late":{},"handovers":{})",
        c.clients, c.regions, c.connects, c.refused, c.cut_offs, c.faults, c.maps, c.holes, c.buses, c.zero_pages,
        c.revocations, c.late, c.handovers);
  }

 private:
  direct::Server& server_;
};

fuse::SessionOptions session_options(const Options& options) {
  fuse::SessionOptions s;
  s.mountpoint = options.mountpoint;
  s.mount_options = options.mount_options;
  s.mount_options.push_back("fsname=" + (options.fsname.empty() ? options.pool : options.fsname));
  s.threads = options.threads;
  s.transport = options.transport;
  s.dispatcher.entry_timeout_ns = options.entry_timeout_ns;
  s.dispatcher.attr_timeout_ns = options.attr_timeout_ns;
  s.dispatcher.negative_timeout_ns = options.negative_timeout_ns;
  s.dispatcher.pool = options.pool;
  s.dispatcher.mountpoint = options.mountpoint;
  return s;
}

// The filesystem's end. The pool's lock goes with it.
int finish(std::unique_ptr<fs::Filesystem> fs, media::PoolMedium& pool) {
  const Status done = fs->unmount();
  if (!done) log::error("unmounting the pool: {}; the next mount replays its journal", to_string(done.error()));
  if (!fs->read_only()) pool.clear_holder();
  return done ? kExitOk : kExitSystem;
}

}  // namespace

int serve(const Options& options, Background& background) {
  const EndSignals signals;
  if (signals.fd() < 0) return background.fail(kExitSystem, std::string("signalfd: ") + std::strerror(errno));
  raise_file_limit();
  Guard guard;  // before there is any thread
  std::string why;
  // First of all: a mount replays the journal and marks it live; a mount point that is wrong must not lead to that.
  if (const Status fit = fuse::KernelMount::check(options.mountpoint, &why); !fit) {
    return background.fail(status_of(fit.error()), why);
  }
  auto medium = media::open_when_free(
      options.pool, options.fs.read_only ? media::OpenMode::kReadOnlyExclusive : media::OpenMode::kExclusive,
      &why);
  if (!medium) return background.fail(status_of(medium.error()), sentence_or(why, medium.error()));
  media::PoolMedium& pool = **medium;
  auto mounted = fs::Filesystem::mount(std::move(*medium), options.fs, &why);
  if (!mounted) {
    return background.fail(status_of(mounted.error()), options.pool + ": " + sentence_or(why, mounted.error()));
  }
  std::unique_ptr<fs::Filesystem> fs = std::move(*mounted);
  if (!fs->read_only()) pool.announce_holder("udaxfs", options.mountpoint);

  if (!pool.note().empty()) log::warning("{}", pool.note());
  fuse::SessionOptions front = session_options(options);
  std::unique_ptr<direct::Server> server;
  std::unique_ptr<Offer> offer;
  if (!options.direct.is_off()) {
    auto started = direct::Server::start(*fs, options.direct, &why);
    if (!started) {
      (void)finish(std::move(fs), pool);
      return background.fail(status_of(started.error()), sentence_or(why, started.error()));
    }
    server = std::move(*started);
    offer = std::make_unique<Offer>(*server);
    front.dispatcher.direct = offer.get();
  }
  auto session = fuse::Session::mount(*fs, front, &why);
  if (!session) {
    const int status = status_of(session.error());
    server.reset();
    (void)finish(std::move(fs), pool);
    return background.fail(status, sentence_or(why, session.error()));
  }
  guard.watch(options.mountpoint.c_str());
  if (!options.foreground) (void)log_init(options.log_level, LogTarget::kSyslog);
  log::info("{} ({}) mounted on {}", options.pool, pool.kind(), options.mountpoint);
  log::info("{}", (*session)->transport_note());
  background.ready();
  wait_for_end(**session, signals, options.mountpoint, *fs);
  session->reset();  // ends it
  server.reset();    // takes every view back
  const int status = finish(std::move(fs), pool);
  log::info("{} unmounted from {}", options.pool, options.mountpoint);
  return status;
}

}  // namespace udax::daemon
