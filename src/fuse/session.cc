// SPDX-License-Identifier: BSD-3-Clause
#include "fuse/session.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "base/sync_point.h"

namespace udax::fuse {

Session::Session(fs::Filesystem& fs, std::unique_ptr<KernelMount> kernel, const SessionOptions& options)
    : fs_(fs),
      kernel_(std::move(kernel)),
      dispatcher_(fs, options.dispatcher),
      pages_(*this),
      recalls_(dispatcher_, "fuse-recall", 1),
      mends_(dispatcher_, "fuse-mend", 1),
      readers_(kernel_->fd(), dispatcher_, options.threads) {
  dispatcher_.set_notifier(this);
  dispatcher_.set_retrieval_taker(&pages_);
  dispatcher_.set_deferrers(&recalls_, &mends_);
}

Result<std::unique_ptr<Session>> Session::mount(fs::Filesystem& fs, const SessionOptions& options,
                                                std::string* why) {
  UDAX_TRY(auto kernel, KernelMount::mount(options.mountpoint, options.mount_options, why));
  std::unique_ptr<Session> session(new Session(fs, std::move(kernel), options));
  std::string ignored;
  if (why == nullptr) why = &ignored;
  UDAX_CHECK(session->make_rings(options.transport, why));
  UDAX_CHECK(session->start(why));
  fs.mappers().add(&session->pages_);
  session->registered_ = true;
  return session;
}

Status Session::make_rings(Transport transport, std::string* why) {
  if (transport == Transport::kDevice) return {};
  std::string reason;
  auto rings = RingPool::create(kernel_->fd(), dispatcher_, fs_.medium(), &reason);
  if (rings) {
    rings_ = std::move(*rings);
    dispatcher_.offer_rings();
    return {};
  }
  if (transport == Transport::kUring) {
    *why = "FUSE over io_uring cannot be had: " + reason;
    return rings.error();
  }
  transport_note_ += ", FUSE over io_uring cannot be had: " + reason;
  return {};
}

Status Session::start(std::string* why) {
  if (const Status started = readers_.start(); !started) {
    *why = started.error() == Error::kNotSupported
               ? "the kernel's FUSE protocol is too old: Linux 5.4 is needed"
               : "cannot serve the mount: " + std::string(to_string(started.error()));
    return started;
  }
  pages_.set_returns_late(dispatcher_.kernel_minor() < wire::kMinorOfLinux616 &&
                          !UDAX_KNOB("fuse.nothing_returns_late"));
  if (rings_ == nullptr) return {};
  if (!dispatcher_.uses_rings()) {
    transport_note_ += ": the kernel did not agree to FUSE over io_uring";
    rings_.reset();
    return {};
  }
  if (const Status started = rings_->start(); !started) {
    *why = "the threads of the rings cannot be started: " + std::string(to_string(started.error()));
    return started;
  }
  readers_.throttle();
  transport_note_ = "requests come by io_uring";
  return {};
}

Session::~Session() { end(); }

bool Session::wait_ended(int timeout_ms) const {
  pollfd poll_ended{readers_.ended_fd(), POLLIN, 0};
  return ::poll(&poll_ended, 1, timeout_ms) == 1;
}

bool Session::unmount() {
  constexpr int kPatienceMs = 2000;  // the kernel ends the connection when the last file is closed
  if (wait_ended(0)) return true;
  if (kernel_->unmount(false)) return wait_ended(kPatienceMs);
  // Somebody has files open. Their dirty pages are written back, by the readers, while that is still possible.
  const int root = ::open(kernel_->mountpoint().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const Status detached = kernel_->unmount(true);
  if (root >= 0) {
    (void)::syncfs(root);
    ::close(root);
  }
  if (!detached) {
    log::error("{} cannot be unmounted: {}", kernel_->mountpoint(), to_string(detached.error()));
    return wait_ended(0);
  }
  return wait_ended(kPatienceMs);
}

void Session::end() {
  if (kernel_ == nullptr) return;
  recalls_.stop();  // while readers serve what they wait for
  mends_.stop();
  // Queues first: what their threads wait for ends with the mount, or when they are told so.
  rings_.reset();
  readers_.stop();
  if (registered_) fs_.mappers().remove(&pages_);
  registered_ = false;
  kernel_.reset();
  dispatcher_.close_all();
}

bool Session::notify(int32_t code, std::span<const iovec> pieces) {
  std::array<iovec, 4> all{};
  if (pieces.size() >= all.size()) return false;
  fuse_out_header header{sizeof(fuse_out_header), code, 0};
  all[0] = {&header, sizeof(header)};
  size_t count = 1;
  for (const iovec& piece : pieces) {
    all[count++] = piece;
    header.len += static_cast<uint32_t>(piece.iov_len);
  }
  if (::writev(kernel_->fd(), all.data(), static_cast<int>(count)) >= 0) return true;
  // ENOENT: the kernel has nothing cached of it.
  if (errno != ENOENT && errno != ENODEV) log::warning("fuse: notification {}: {}", code, std::strerror(errno));
  return false;
}

}  // namespace udax::fuse
